import pytest
from small_bundle import fails, make_bundle

from rissole.storage import resolve as names
from rissole.storage.resolve import bundled_names, resolve


def test_resolve_finds_folders_and_names(folder, monkeypatch, tmp_path):
    assert resolve(folder) == folder
    assert resolve(str(folder)) == folder
    fails(lambda: resolve("tiny"), "unknown bundle 'tiny'")
    monkeypatch.setenv("RISSOLE_BUNDLES", str(tmp_path))
    assert resolve("tiny") == folder
    assert "tiny" in bundled_names()
    fails(lambda: resolve("tinny"), "tiny")
    # A stray folder of that name in the working directory does not hide the bundle.
    (tmp_path / "elsewhere" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert resolve("tiny") == folder
    fails(lambda: resolve(tmp_path / "elsewhere" / "tiny"), "no manifest.json")


@pytest.mark.parametrize(
    "name", ["", "../tiny", "no such bundle", "a/b/c", "\0", "x" * 300, "x/" * 3000]
)
def test_unknown_names_get_one_line(name, tmp_path, monkeypatch):
    monkeypatch.setenv("RISSOLE_BUNDLES", str(tmp_path / "bundles"))
    make_bundle(tmp_path / "tiny")
    fails(lambda: resolve(name), "unknown bundle")


def test_revision_needs_a_repository(folder):
    fails(lambda: resolve(str(folder), revision="main"), "a revision needs a Hub repository")


def test_bundles_are_found_in_a_source_tree_and_in_an_installed_package(monkeypatch, tmp_path):
    monkeypatch.delenv("RISSOLE_BUNDLES", raising=False)
    monkeypatch.setattr(names, "PACKAGE", tmp_path / "site-packages" / "rissole")
    assert bundled_names() == []
    shipped = make_bundle(tmp_path / "site-packages" / "rissole" / "_bundles" / "tiny")
    assert (bundled_names(), resolve("tiny")) == (["tiny"], shipped)
    # a checkout's own comes first, and what is configured before both
    checkout = make_bundle(tmp_path / "site-packages" / "checkpoints" / "tiny")
    assert resolve("tiny") == checkout
    monkeypatch.setenv("RISSOLE_BUNDLES", str(tmp_path / "mine"))
    assert resolve("tiny") == checkout
    assert resolve("tiny") != make_bundle(tmp_path / "mine" / "tiny") == resolve("tiny")
