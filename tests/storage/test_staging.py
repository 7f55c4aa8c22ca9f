import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from loopback_hub import ROOT
from small_bundle import fails, make_bundle

from rissole.config import RissoleError
from rissole.storage import manifest as bundle
from rissole.storage import staging
from rissole.storage.resolve import resolve
from rissole.storage.staging import aside, make_room, staged


def test_staged_folder_appears_whole(tmp_path):
    target = tmp_path / "deep" / "new"
    with staged(target) as stage:
        make_bundle(stage / "x").rename(stage / "y")
        (stage / "config.json").write_text("1")
        assert not target.exists()
    assert (target / "config.json").read_text() == "1"
    assert [path.name for path in target.parent.iterdir()] == ["new"]


def test_staged_replaces_bundles_only(folder, tmp_path):
    with staged(folder) as stage:
        (stage / "config.json").write_text("new")
        bundle.write_manifest(stage, "tiny")
    assert list(bundle.verify(folder)["files"]) == ["config.json"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"precious")
    for target in (tmp_path / "photos", tmp_path, tmp_path / "photos" / "cat.jpg"):
        with pytest.raises(RissoleError), staged(target):
            raise AssertionError("must not start")
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"precious"


@pytest.mark.parametrize(
    "more",
    ["notes.txt", "denoiser/mine.safetensors", ".git/HEAD", "manifest.json"],
)
def test_what_is_not_ours_is_not_replaced(folder, more):
    (folder / ".DS_Store").write_bytes(b"a file manager was here")
    (folder / "Thumbs.db").write_bytes(b"and another one")
    with staged(folder) as stage:
        make_bundle(stage / "x")
        for path in (stage / "x").iterdir():
            path.rename(stage / path.name)
        (stage / "x").rmdir()
    (folder / more).parent.mkdir(exist_ok=True)
    # a browser's extension has a manifest of that name, too
    (folder / more).write_text('{"manifest_version": 3, "name": "tiny", "version": "1"}')
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(RissoleError, match="not overwritten"), staged(folder):
        raise AssertionError("must not start")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    make_room(folder)  # where the name is ours, so is whatever is there
    assert not folder.exists()


def test_the_current_folder_is_told_from_one_of_ours(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"precious")
    monkeypatch.chdir(tmp_path / "photos")
    fails(lambda: staging.check_replaceable("."), "is not empty and no bundle")


def test_failure_keeps_what_was_there(folder):
    before = bundle.verify(folder)
    with pytest.raises(ZeroDivisionError), staged(folder) as stage:
        (stage / "half").write_text("written")
        raise ZeroDivisionError
    assert bundle.verify(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_killed_build_leaves_the_old_bundle_and_is_cleared(folder):
    code = (
        "import sys, time; from rissole.storage.staging import staged\n"
        "with staged(sys.argv[1]) as stage:\n"
        "    (stage / 'half').write_text('x'); print('ready', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    bundle.verify(folder)
    assert len(list(folder.parent.iterdir())) == 2
    with staged(folder) as stage:
        (stage / "config.json").write_text("new")
        bundle.write_manifest(stage, "tiny")
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_replacement_cut_short_between_renames_is_undone(folder):
    before = bundle.verify(folder)
    folder.rename(aside(folder))
    with pytest.raises(ZeroDivisionError), staged(folder):
        raise ZeroDivisionError
    assert bundle.verify(folder) == before


def test_a_stage_of_a_killed_process_of_the_same_number_is_cleared(folder):
    """In a container every start may have the number that the last one had."""
    stale = folder.with_name(f".tiny.stage-{os.getpid()}-1000000000")
    older = folder.with_name(f".tiny.stage-{os.getpid()}")  # as earlier versions called it
    for left in (stale, older):
        left.mkdir()
        (left / "half").write_text("x")
    with staged(folder) as stage:
        (stage / "config.json").write_text("new")
        with staged(folder) as other:  # as in another thread
            assert other != stage
            (other / "config.json").write_text("newer")
            bundle.write_manifest(other, "tiny")
        assert (stage / "config.json").read_text() == "new"
        bundle.write_manifest(stage, "tiny")
    assert (folder / "config.json").read_text() == "new"
    assert not stale.exists()


def test_names_that_are_patterns_are_names(folder, tmp_path):
    for name in ("my [photos]", "**", "*"):
        gone = tmp_path / f".{name}.stage-{2**22 + 1}"
        gone.mkdir()
        other = tmp_path / f".other.stage-{2**22 + 1}"
        other.mkdir(exist_ok=True)
        with staged(tmp_path / name) as stage:
            (stage / "config.json").write_text("{}")
        assert not gone.exists()
        assert other.exists()


def test_what_a_link_points_to_is_replaced_time_and_again(folder, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(folder, target_is_directory=True)
    for n in range(3):
        with staged(link) as stage:
            (stage / "config.json").write_text(str(n))
            bundle.write_manifest(stage, "tiny")
        assert link.is_symlink()
        assert (folder / "config.json").read_text() == str(n)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "tiny"]


def test_unwritable_target_is_one_line(tmp_path):
    (tmp_path / "file").write_text("no folder")

    def build():
        with staged(tmp_path / "file" / "new"):
            raise AssertionError("must not start")

    fails(build, "cannot write")


@pytest.fixture(params=[errno.EXDEV, errno.EBUSY], ids=["layer of a container", "mount"])
def immovable(request, folder, monkeypatch):
    """A bundle whose folder cannot be moved, though everything in it can be written."""
    replace = Path.replace

    def refused(self, target):
        if self == folder.resolve():
            raise OSError(request.param, os.strerror(request.param), str(self))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refused)
    return folder


def test_a_folder_that_cannot_be_moved_is_filled_anew(immovable):
    for text in ("new", "newer"):
        with staged(immovable) as stage:
            (stage / "config.json").write_text(text)
            bundle.write_manifest(stage, "tiny")
        assert list(bundle.verify(immovable)["files"]) == ["config.json"]
        assert (immovable / "config.json").read_text() == text
        assert [path.name for path in immovable.parent.iterdir()] == ["tiny"]


def test_an_interrupted_filling_leaves_the_old_bundle(immovable, monkeypatch):
    before = bundle.verify(immovable)

    def publish() -> None:
        with staged(immovable) as stage:
            (stage / "config.json").write_text("new")
            bundle.write_manifest(stage, "tiny")

    def full_disk(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(RissoleError, match="No space left"):
        patch.setattr(staging, "copy_files", full_disk)
        publish()
    assert bundle.verify(resolve(immovable)) == before
    publish()
    assert (resolve(immovable) / "config.json").read_text() == "new"
    assert [path.name for path in immovable.parent.iterdir()] == ["tiny"]
