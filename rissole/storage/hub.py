"""The Hugging Face Hub: bundles and databases fetched, its errors told in one line.

Only the files that `manifest.json` lists are fetched, all of one commit, each checked
against its size and SHA-256. What is whole in the cache is used without any network.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tqdm import tqdm

from rissole.config import RissoleError
from rissole.storage.manifest import MANIFEST, NAME, check_file, harmless, read_manifest, verify

TIMEOUT = 4.0  # seconds until a Hub that does not answer counts as unreachable
HUB = "the Hugging Face Hub"
REPO_ID = re.compile(rf"{NAME.pattern}/{NAME.pattern}")

Result = TypeVar("Result")


class Repo(NamedTuple):
    """What is asked for.

    Attributes:
        id: `owner/name`.
        kind: "model" for a bundle, "dataset" for a database.
        revision: branch, tag or commit; None is the main branch.
    """

    id: str
    kind: str = "model"
    revision: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Arguments that name the repository to the client."""
        return {"repo_id": self.id, "repo_type": self.kind}


def fetch(repo: Repo, update: bool = False) -> Path:
    """Finds a repository's folder in the cache, or downloads what is missing.

    Args:
        repo: a bundle or a database.
        update: ask for the newest commit, even when a whole copy is at hand.

    Returns:
        The folder of one commit; `commit_of` names it.

    Raises:
        RissoleError: one line; without network and copy within some 5 seconds.
    """
    from huggingface_hub import try_to_load_from_cache

    revision = repo.revision or "main"
    with one_line(repo):
        cached = try_to_load_from_cache(**repo.options, filename=MANIFEST, revision=revision)
    if isinstance(cached, str) and not update:
        with contextlib.suppress(RissoleError):
            return _checked(Path(cached).parent)
    newest = commit(repo)
    folder = _sound(repo, MANIFEST, newest)
    files = read_manifest(folder)["files"]
    total = sum(entry["size"] for entry in files.values())
    title = f"{repo.id} at {newest[:7]}"
    # disable=None: no bar where stderr is no terminal
    with tqdm(desc=title, total=total, unit="B", unit_scale=True, disable=None) as bar:
        for path, expected in sorted(files.items()):
            _sound(repo, path, newest, expected, bar)
    # the client notes which commit the branch is at, for the next start without network
    with contextlib.suppress(RissoleError):  # what was asked for is there
        _get(repo, MANIFEST, revision)
    return _checked(folder)


def fetch_files(repo: Repo, names: Sequence[str], told: Callable[[int, int], None]) -> Path:
    """Some files of a repository that is no bundle, such as a model of another library.

    Args:
        repo: where they are.
        names: of the files, at the top.
        told: is called with (bytes that have arrived, bytes in all).

    Returns:
        The folder of one commit; without any network where all are in the cache.

    Raises:
        RissoleError: one line; without network and copy within some 5 seconds.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    revision = repo.revision or "main"
    with one_line(repo):
        known = [
            try_to_load_from_cache(**repo.options, filename=name, revision=revision)
            for name in names
        ]
    if all(isinstance(path, str) for path in known):
        return Path(str(known[0])).parent
    newest = commit(repo)
    api, asked = HfApi(), list(names)
    with one_line(repo):
        found = _within(
            TIMEOUT,
            lambda: api.get_paths_info(repo.id, asked, revision=newest, repo_type=repo.kind),
        )
    sizes = {file.path: getattr(file, "size", 0) for file in found}
    if missing := [name for name in names if name not in sizes]:
        raise RissoleError(f"{repo.id} on {HUB} is unusable: it has no {missing[0]}")
    bar = _Told(sum(sizes.values()), told)
    for name in names:
        path = _get(repo, name, newest, bar=bar)
    with contextlib.suppress(RissoleError):  # see `fetch`
        for name in names:
            _get(repo, name, revision)
    return path.parent


def commit(repo: Repo) -> str:
    """The commit that the revision is at: one question, answered soon or not at all.

    Raises:
        RissoleError: one line, within some 5 seconds.
    """
    from huggingface_hub import HfApi

    ask = HfApi().dataset_info if repo.kind == "dataset" else HfApi().model_info
    with one_line(repo):
        info = _within(TIMEOUT, lambda: ask(repo.id, revision=repo.revision, timeout=TIMEOUT))
    if not info.sha:
        raise RissoleError(f"{HUB} names no commit of {repo.id}")
    return info.sha


def commit_of(folder: str | Path) -> str | None:
    """The commit of a folder that `fetch` returned; None for any other folder."""
    folder = Path(folder)
    return folder.name if folder.parent.name == "snapshots" else None


def check_repo_id(repo_id: str) -> None:
    """Raise RissoleError unless `repo_id` has the form `owner/name`."""
    if not REPO_ID.fullmatch(repo_id):
        raise RissoleError(f"{repo_id!r} is no repository on the Hugging Face Hub (owner/name)")


@contextlib.contextmanager
def one_line(repo: Repo, path: str | None = None, sending: bool = False) -> Iterator[None]:
    """Turns whatever the client raises into one line."""
    try:
        yield
    except RissoleError:
        raise
    # The client raises errors of its HTTP library, which changed twice, beside its own.
    except Exception as error:
        if path is not None and str(error).startswith("Consistency check"):
            raise RissoleError(f"{path} arrived incomplete") from error
        raise _Unreachable(_fault(repo, path, error, sending)) from error


def _checked(folder: Path) -> Path:
    """The folder, its listed files verified; pictures and texts beside them do no harm."""
    verify(folder, tolerate=harmless, remember=True)
    return folder


def _sound(
    repo: Repo,
    path: str,
    commit: str,
    expected: Mapping[str, Any] | None = None,
    bar: tqdm | None = None,
) -> Path:
    """The folder with a file that passes its check; if it does not, it is downloaded once more.

    The client accepts and keeps a damaged file of the right size, and gives up on a short one.

    Args:
        repo: where it is.
        path: the file.
        commit: of the repository.
        expected: its entry in the manifest; None for the manifest itself.
        bar: counts what arrives.
    """

    def attempt(force: bool) -> Path:
        found = _get(repo, path, commit, force=force, bar=None if force else bar)
        folder = found.parents[path.count("/")]
        if expected is None:
            read_manifest(folder)
        else:
            check_file(folder, path, expected)
        return folder

    try:
        return attempt(force=False)
    except _Unreachable:
        raise
    except RissoleError:
        pass
    try:
        return attempt(force=True)
    except _Unreachable:
        raise
    except RissoleError as error:
        reason = str(error).replace(f"{commit}/", "")
        raise RissoleError(f"{repo.id} on {HUB} is unusable: {reason}") from error


class _Unreachable(RissoleError):
    """Asking again would not help."""


def _get(
    repo: Repo, path: str, revision: str, force: bool = False, bar: tqdm | _Told | None = None
) -> Path:
    """Path of one file in the cache, downloaded if need be."""
    from huggingface_hub import hf_hub_download

    with one_line(repo, path):
        found = hf_hub_download(
            **repo.options,
            filename=path,
            revision=revision,
            force_download=force,
            etag_timeout=TIMEOUT,
            tqdm_class=_forwarding(bar),
        )
    return Path(found)


def _forwarding(bar: tqdm | _Told | None) -> type[tqdm]:
    """A progress bar for one file that is not shown and counts into the bar of all files."""

    class Forwarding(tqdm):
        def __init__(self, *args: Any, **options: Any):
            options.pop("name", None)
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            if bar is not None:
                bar.update(n)

    return Forwarding


class _Told:
    """Passes on how much has arrived of several files."""

    def __init__(self, total: int, told: Callable[[int, int], None]):
        self.done, self.total, self.told = 0, total, told
        told(0, total)

    def update(self, n: float | None = 1) -> None:
        self.done += int(n or 0)
        self.told(self.done, self.total)


def _within(seconds: float, call: Callable[[], Result]) -> Result:
    """Result of a call, or TimeoutError.

    Looking up a name, or one dead address after another, takes as long as it likes whatever
    time-out the client is given.
    """
    answer: Future[Result] = Future()

    def work() -> None:
        try:
            answer.set_result(call())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return answer.result(seconds + 0.5)


def _fault(repo: Repo, path: str | None, error: BaseException, sending: bool) -> str:
    """What went wrong, in one line."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # the client's words for any trouble on the way
    if isinstance(error, errors.GatedRepoError):
        return f"{repo.id} is gated: accept its terms on its page and log in with `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError) or _status(error) == 401:
        return (
            f"there is no {repo.kind} {repo.id} on {HUB}, or it is private: then log in with "
            "`hf auth login`"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repo.id} has no revision {repo.revision!r} on {HUB}"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"{repo.id} on {HUB} is unusable: it has no {path}"
    if isinstance(error, errors.HFValidationError):
        return f"{repo.id!r} is no valid name of a {repo.kind} on {HUB}"
    if isinstance(error, errors.LocalTokenNotFoundError):
        return f"no token for {HUB} on this machine: log in with `hf auth login`"
    if _status(error):
        return f"{HUB} refused {f'{path} of ' if path else ''}{repo.id} (status {_status(error)})"
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return f"cannot store {repo.id}: {error.strerror}"
    offline = isinstance(error, errors.OfflineModeIsEnabled)
    reason = "offline mode" if offline else type(error).__name__
    if path is not None and not offline:
        return f"{path} of {repo.id} could not be downloaded from {HUB} ({reason})"
    cached = "" if sending else ", and no whole copy of it is in the cache"
    return f"{HUB} cannot be reached for {repo.id} ({reason}){cached}"


def _status(error: BaseException) -> int | None:
    """Status of the Hub's answer, if it was an answer."""
    return getattr(getattr(error, "response", None), "status_code", None)
