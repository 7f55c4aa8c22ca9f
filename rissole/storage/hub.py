"""The Hugging Face Hub: bundles, databases and the app, fetched and sent.

Only the files that `manifest.json` lists are fetched, all of one commit, each checked
against its size and SHA-256. What is whole in the cache is used without any network.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from tqdm import tqdm

from rissole.config import RissoleError
from rissole.storage.card import complete_card, space_card
from rissole.storage.manifest import (
    LEFT_OUT,
    MANIFEST,
    check_file,
    check_repo_id,
    fingerprint,
    harmless,
    read_manifest,
    verify,
    write_manifest,
)

TIMEOUT = 4.0  # seconds until a Hub that does not answer counts as unreachable
HUB = "the Hugging Face Hub"

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
    cached = _cached(repo)
    if cached is not None and not update:
        with contextlib.suppress(RissoleError):
            return _checked(cached)
    newest = commit(repo)
    folder = _manifest_folder(repo, newest)
    _fetch_files(repo, newest, folder)
    # the client notes which commit the branch is at, for the next start without network
    with contextlib.suppress(RissoleError):  # what was asked for is there
        _get(repo, MANIFEST, repo.revision or "main")
    return _checked(folder)


def commit(repo: Repo) -> str:
    """The commit that the revision is at: one question, answered soon or not at all.

    Raises:
        RissoleError: one line, within some 5 seconds.
    """
    from huggingface_hub import HfApi

    ask = HfApi().dataset_info if repo.kind == "dataset" else HfApi().model_info
    with _one_line(repo):
        info = _within(TIMEOUT, lambda: ask(repo.id, revision=repo.revision, timeout=TIMEOUT))
    if not info.sha:
        raise RissoleError(f"{HUB} names no commit of {repo.id}")
    return info.sha


def commit_of(folder: str | Path) -> str | None:
    """The commit of a folder that `fetch` returned; None for any other folder."""
    folder = Path(folder)
    return folder.name if folder.parent.name == "snapshots" else None


def push(folder: str | Path, repo_id: str, private: bool = False, message: str = "") -> str:
    """Verifies a bundle or database and uploads it: as a model, or as a data set.

    Only what `sendable` names is sent, with a model card that lacks nothing; what an earlier
    version sent beside it is removed. Needs a token (`hf auth login` or `HF_TOKEN`).

    Returns:
        The address of the commit.

    Raises:
        RissoleError: if a file is damaged, the name is not `owner/name`, or the Hub refuses.
    """
    check_repo_id(repo_id)
    folder = Path(folder)
    manifest = verify(folder)
    repo = Repo(repo_id, "dataset" if (folder / "database.json").is_file() else "model")
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary)
        _copy(folder, manifest, copy)
        complete_card(copy, manifest, repo_id)
        manifest = _listed_anew(copy, manifest)
        message = message or f"Upload {manifest['name']} {fingerprint(manifest)}"
        return _upload(repo, copy, [MANIFEST, *manifest["files"]], private, message)


def sendable(manifest: dict[str, Any]) -> dict[str, Any]:
    """The files of a manifest that may leave this machine: all but names of left-out files."""
    files = manifest["files"].items()
    return {path: entry for path, entry in files if PurePosixPath(path).name != LEFT_OUT}


def push_space(
    bundle: str | Path, repo_id: str, private: bool = False, database: str | None = None
) -> str:
    """Uploads the app as a Gradio Space.

    Args:
        bundle: `owner/name` of a model on the Hub, which the Space then loads, or the folder of a
            bundle, which is sent along.
        repo_id: `owner/name` of the Space.
        private: make a private Space.
        database: `owner/name` of a database on the Hub, used in place of the bundle's own.

    Returns:
        The address of the commit.

    Raises:
        RissoleError: when the app's files are not at hand or the Hub refuses.
    """
    check_repo_id(repo_id)
    remote = not Path(bundle).is_dir()
    with tempfile.TemporaryDirectory() as temporary:
        stage = Path(temporary)
        name = _stage_app(stage, None if remote else Path(bundle))
        space_card(stage / "README.md", str(bundle) if remote else None)
        variables = {"RISSOLE_BUNDLE": str(bundle) if remote else name}
        if database is not None:
            variables["RISSOLE_DATABASE"] = database
        link = _upload(Repo(repo_id, "space"), stage, None, private, "Upload the app")
        _set_variables(repo_id, variables)
    return link


# --- fetching -----------------------------------------------------------------------------------


def _cached(repo: Repo) -> Path | None:
    """The folder of the revision's last known commit, without network."""
    from huggingface_hub import try_to_load_from_cache

    with _one_line(repo):
        found = try_to_load_from_cache(
            **repo.options, filename=MANIFEST, revision=repo.revision or "main"
        )
    return Path(found).parent if isinstance(found, str) else None


def _checked(folder: Path) -> Path:
    """The folder, its listed files verified; pictures and texts beside them do no harm."""
    verify(folder, tolerate=harmless, remember=True)
    return folder


def _manifest_folder(repo: Repo, commit: str) -> Path:
    """Downloads the manifest, once more from scratch when it is damaged."""
    return _sound(repo, MANIFEST, commit, lambda path: read_manifest(path.parent)).parent


def _fetch_files(repo: Repo, commit: str, folder: Path) -> None:
    files = read_manifest(folder)["files"]
    total = sum(entry["size"] for entry in files.values())
    title = f"{repo.id} at {commit[:7]}"
    # disable=None: no bar where stderr is no terminal
    with tqdm(desc=title, total=total, unit="B", unit_scale=True, disable=None) as bar:
        for path, expected in sorted(files.items()):
            check = partial(check_file, folder, path, expected)
            _sound(repo, path, commit, lambda _, check=check: check(), bar)


def _sound(
    repo: Repo, path: str, commit: str, check: Callable[[Path], Any], bar: tqdm | None = None
) -> Path:
    """A file that passes its check; what does not is downloaded once more from scratch.

    The client accepts and keeps a damaged file of the right size, and gives up on a short one.
    """
    try:
        found = _get(repo, path, commit, bar=bar)
        check(found)
        return found
    except _Unreachable:
        raise
    except RissoleError:
        pass
    try:
        found = _get(repo, path, commit, force=True)
        check(found)
    except _Unreachable:
        raise
    except RissoleError as error:
        reason = str(error).replace(f"{commit}/", "")
        raise RissoleError(f"{repo.id} on {HUB} is unusable: {reason}") from error
    return found


class _Unreachable(RissoleError):
    """Asking again would not help."""


def _get(
    repo: Repo, path: str, revision: str, force: bool = False, bar: tqdm | None = None
) -> Path:
    """Path of one file in the cache, downloaded if need be."""
    from huggingface_hub import hf_hub_download

    with _one_line(repo, path):
        found = hf_hub_download(
            **repo.options,
            filename=path,
            revision=revision,
            force_download=force,
            etag_timeout=TIMEOUT,
            tqdm_class=_forwarding(bar),
        )
    return Path(found)


def _forwarding(bar: tqdm | None) -> type[tqdm]:
    """A progress bar for one file that is not shown and counts into the bar of all files."""

    class Forwarding(tqdm):
        def __init__(self, *args: Any, **options: Any):
            options.pop("name", None)
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            if bar is not None:
                bar.update(n)

    return Forwarding


def _within(seconds: float, call: Callable[[], Result]) -> Result:
    """Result of a call, or TimeoutError: looking up a name, or one dead address after another,
    takes as long as it likes whatever time-out the client is given."""
    done: list[tuple[Result | None, Exception | None]] = []

    def work() -> None:
        try:
            done.append((call(), None))
        except Exception as error:
            done.append((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds + 0.5)
    if not done:
        raise TimeoutError("no answer")
    result, error = done[0]
    if error is not None:
        raise error
    return result


# --- sending ------------------------------------------------------------------------------------


def _copy(folder: Path, manifest: dict[str, Any], copy: Path) -> None:
    """Puts the files that may be sent into a folder, linked where the file system can."""
    for path in sendable(manifest):
        target = copy / path
        target.parent.mkdir(parents=True, exist_ok=True)
        _link((folder / path).resolve(), target)


def _listed_anew(copy: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Writes the manifest of a copy, which keeps all else that the first one says."""
    extra = {k: v for k, v in manifest.items() if k not in ("format", "name", "files")}
    return write_manifest(copy, manifest["name"], **extra)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)


def _stage_app(stage: Path, bundle: Path | None) -> str:
    """Puts the app's files, and a bundle's, into a folder; returns the bundle's name."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "app.py").is_file():
        raise RissoleError("a Space is made from a checkout of the project, with its app.py")
    for name in ("app.py", "requirements.txt", "README.md", "LICENSE"):
        shutil.copyfile(root / name, stage / name)
    hidden = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("rissole", "assets"):
        shutil.copytree(root / name, stage / name, ignore=hidden)
    if bundle is None:
        return ""
    manifest = verify(bundle)
    copy = stage / "checkpoints" / manifest["name"]
    _copy(bundle, manifest, copy)
    return _listed_anew(copy, manifest)["name"]


def _upload(
    repo: Repo, folder: Path, patterns: list[str] | None, private: bool, message: str
) -> str:
    from huggingface_hub import HfApi

    api, sdk = HfApi(), "gradio" if repo.kind == "space" else None
    with _one_line(repo, sending=True):
        api.create_repo(**repo.options, private=private, exist_ok=True, space_sdk=sdk)
        return str(
            api.upload_folder(
                **repo.options,
                folder_path=folder,
                allow_patterns=patterns,
                delete_patterns=[LEFT_OUT, f"*/{LEFT_OUT}"],  # fnmatch: a star spans folders
                commit_message=message,
            )
        )


def _set_variables(repo_id: str, variables: dict[str, str]) -> None:
    from huggingface_hub import HfApi

    with _one_line(Repo(repo_id, "space"), sending=True):
        for name, value in variables.items():
            HfApi().add_space_variable(repo_id, name, value)


# --- errors -------------------------------------------------------------------------------------


@contextlib.contextmanager
def _one_line(repo: Repo, path: str | None = None, sending: bool = False) -> Iterator[None]:
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


def _fault(repo: Repo, path: str | None, error: Exception, sending: bool) -> str:
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
