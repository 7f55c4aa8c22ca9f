"""The tiny bundle with what some bundles have: names of classes, and a stored painting."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from rissole.app.showcase import add_showcase
from rissole.retrieval.contents import write_classes
from rissole.storage.database_facts import DatabaseFacts
from rissole.storage.manifest import read_manifest, write_manifest

CLASSES = ("fire lily", "rose", "tiger lily")


def make_rich(bundle: Path, folder: Path) -> Path:
    """Copies a bundle, names its pictures in turn, and paints what it opens with."""
    shutil.copytree(bundle, folder)
    facts = DatabaseFacts.read(folder / "database")
    names = write_classes(
        folder / "database", [CLASSES[i % len(CLASSES)] for i in range(facts.count)]
    )
    replace(facts, classes=tuple(names)).write(folder / "database")
    manifest = read_manifest(folder)
    extra = {key: value for key, value in manifest.items() if key not in ("format", "files")}
    name = extra.pop("name")
    write_manifest(folder, name, **extra)
    add_showcase(folder, item=3)
    return folder
