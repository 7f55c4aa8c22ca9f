"""Sends the app to the Hugging Face Hub as a Gradio Space."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from rissole.config import RissoleError
from rissole.storage.card import space_card
from rissole.storage.hub import Repo, check_repo_id, one_line
from rissole.storage.manifest import MANIFEST, PAGE_SUFFIXES, verify
from rissole.storage.push import copy_sendable, list_anew, upload


def push_space(
    bundle: str | Path, repo_id: str, private: bool = False, database: str | None = None
) -> str:
    """Uploads the app as a Gradio Space.

    What an earlier push sent of the bundle is removed; other bundles and files stay.

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
    from huggingface_hub import HfApi

    check_repo_id(repo_id)
    repo, remote = Repo(repo_id, "space"), not Path(bundle).is_dir()
    with tempfile.TemporaryDirectory() as temporary:
        stage = Path(temporary)
        stage_app(stage)
        shown = str(bundle) if remote else stage_bundle(stage, Path(bundle))
        space_card(stage / "README.md", shown if remote else None)
        places = ["", *([] if remote else [f"checkpoints/{shown}/"])]
        variables = {"RISSOLE_BUNDLE": shown}
        if database is not None:
            variables["RISSOLE_DATABASE"] = database
        link = upload(repo, stage, private, "Upload the app", places=places)
    with one_line(repo, sending=True):
        for name, value in variables.items():
            HfApi().add_space_variable(repo_id, name, value)
    return link


def push_static(folder: str | Path, repo_id: str, private: bool = False) -> str:
    """Uploads a page that `rissole export --web` wrote as a static Space, which computes nothing.

    Returns:
        The address of the commit.

    Raises:
        RissoleError: when the folder is something else or damaged, or the Hub refuses.
    """
    check_repo_id(repo_id)
    folder = Path(folder)
    manifest = verify(folder, kinds=PAGE_SUFFIXES)
    if "facts.json" not in manifest["files"]:
        raise RissoleError(f"{folder.name} is no page: `rissole export --web` writes one")
    with tempfile.TemporaryDirectory() as temporary:
        stage = Path(temporary)
        copy_sendable(folder, manifest, stage)
        shutil.copyfile(folder / MANIFEST, stage / MANIFEST)
        return upload(Repo(repo_id, "space"), stage, private, "Upload the page", sdk="static")


def stage_app(stage: Path) -> None:
    """Puts the app's files into a folder.

    Raises:
        RissoleError: where the package is installed without them.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / "app.py").is_file():
        raise RissoleError("a Space is made from a checkout of the project, with its app.py")
    for name in ("app.py", "requirements.txt", "README.md", "LICENSE"):
        shutil.copyfile(root / name, stage / name)
    hidden = shutil.ignore_patterns("__pycache__", ".*", "_bundles")
    for name in ("rissole", "assets"):
        shutil.copytree(root / name, stage / name, ignore=hidden)


def stage_bundle(stage: Path, bundle: Path) -> str:
    """Puts a verified bundle where the app finds it; returns its name."""
    manifest = verify(bundle)
    copy = stage / "checkpoints" / manifest["name"]
    copy_sendable(bundle, manifest, copy)
    list_anew(copy, manifest)
    return manifest["name"]
