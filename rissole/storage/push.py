"""Sends a bundle or a database to the Hugging Face Hub."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from rissole.config import RissoleError
from rissole.storage.card import complete_card
from rissole.storage.database_facts import DATABASE_FILE
from rissole.storage.hub import TIMEOUT, Repo, check_repo_id, one_line
from rissole.storage.manifest import (
    LEFT_OUT,
    MANIFEST,
    PAGE_SUFFIXES,
    fingerprint,
    read_manifest,
    verify,
    write_manifest,
)


def push(folder: str | Path, repo_id: str, private: bool = False, message: str = "") -> str:
    """Verifies a bundle or database and uploads it: as a model, or as a data set.

    Only what `sendable` names is sent, with a model card that lacks nothing. What an earlier push
    sent beside it is removed, files of others stay. Needs a token (`hf auth login` or `HF_TOKEN`).

    Returns:
        The address of the commit.

    Raises:
        RissoleError: if a file is damaged, the name is not `owner/name`, or the Hub refuses.
    """
    check_repo_id(repo_id)
    folder = Path(folder)
    manifest = verify(folder)
    repo = Repo(repo_id, "dataset" if (folder / DATABASE_FILE).is_file() else "model")
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary)
        copy_sendable(folder, manifest, copy)
        complete_card(copy, manifest, repo_id)
        manifest = list_anew(copy, manifest)
        message = message or f"Upload {manifest['name']} {fingerprint(manifest)}"
        return upload(repo, copy, private, message)


def sendable(manifest: dict[str, Any]) -> dict[str, Any]:
    """The files of a manifest that may leave this machine: all but names of left-out files."""
    files = manifest["files"].items()
    return {path: entry for path, entry in files if PurePosixPath(path).name != LEFT_OUT}


def copy_sendable(folder: Path, manifest: dict[str, Any], copy: Path) -> None:
    """Puts the files that may be sent into a folder, linked where the file system can."""
    for path in sendable(manifest):
        source, target = (folder / path).resolve(), copy / path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:  # another disk, or a file system without links
            shutil.copyfile(source, target)


def list_anew(copy: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Writes the manifest of a copy, which keeps all else that the first one says."""
    extra = {k: v for k, v in manifest.items() if k not in ("format", "name", "files")}
    return write_manifest(copy, manifest["name"], **extra)


def upload(
    repo: Repo,
    folder: Path,
    private: bool,
    message: str,
    sdk: str = "gradio",
    places: Sequence[str] = ("",),
) -> str:
    """Makes the repository if need be and uploads a folder; returns the address of the commit.

    What an earlier push sent and this one does not is removed in the same go, nothing else.

    Args:
        repo: where to.
        folder: what is sent, all of it.
        private: make a private repository, where it is new.
        message: of the commit.
        sdk: what a new Space runs.
        places: folders there, as "checkpoints/mine/", that have a manifest of what was sent.
    """
    from huggingface_hub import HfApi

    api, runs = HfApi(), sdk if repo.kind == "space" else None
    sent = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    with one_line(repo, sending=True):
        api.create_repo(**repo.options, private=private, exist_ok=True, space_sdk=runs)
        former = {path for place in places for path in sent_before(repo, place)} - sent
        return str(
            api.upload_folder(
                **repo.options,
                folder_path=folder,
                delete_patterns=[LEFT_OUT, f"*/{LEFT_OUT}", *map(glob.escape, sorted(former))],
                commit_message=message,
            )
        )


def sent_before(repo: Repo, place: str) -> list[str]:
    """What an earlier push sent into a folder, by the manifest that came with it."""
    from huggingface_hub import errors, hf_hub_download

    none = (errors.RemoteEntryNotFoundError, RissoleError)  # no manifest, or none of ours
    with tempfile.TemporaryDirectory() as copy, contextlib.suppress(*none):
        file = f"{place}{MANIFEST}"
        hf_hub_download(**repo.options, filename=file, local_dir=copy, etag_timeout=TIMEOUT)
        return [
            f"{place}{path}" for path in read_manifest(Path(copy, place), PAGE_SUFFIXES)["files"]
        ]
    return []
