"""Folders as people have them: what is in a file counts, and nothing is lost without a word."""

import json
import os

import pytest
from conftest import picture
from files_of_photos import jpeg

from rissole.config import RissoleError
from rissole.data import kinds
from rissole.data.items import reasons, summary
from rissole.data.photos import load_labelled
from rissole.data.sources import open_source

PHOTO = jpeg(picture(0).resize((16, 16)))


def fill(folder, *names: str, data: bytes = PHOTO) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def found(folder, **options) -> dict[str, str | None]:
    return {item.name: item.label for item in open_source(folder, **options).items()}


def test_content_decides_not_the_name(tmp_path):
    names = ["a.jfif", "b.jpe", "c.JPG", "d", "e.png", "f.heic", "g.tmp"]
    fill(tmp_path, *names)
    assert list(found(tmp_path)) == names


def test_everything_else_is_left_out_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(kinds, "heif_at_hand", lambda: False)
    fill(tmp_path, "cat.jpg")
    fill(tmp_path, "1.heic", "2.HEIC", "3.jpg", "4.heic", data=b"\0\0\0\x18ftypheic" + b"\0" * 20)
    fill(tmp_path, "notes.txt", data=b"hello")
    fill(tmp_path, "empty.png", data=b"")
    fill(tmp_path, "odd.bin", data=b"\x93\0\xff")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    source = open_source(tmp_path)
    assert [item.name for item in source.items()] == ["cat.jpg"]
    assert dict(source.left_out) == {
        **dict.fromkeys(["1.heic", "2.HEIC", "3.jpg", "4.heic"],
                        "a HEIC picture, pip install pillow-heif makes it readable"),
        "notes.txt": "text",
        "empty.png": "empty (0 bytes)",
        "odd.bin": "not a picture in a known format",
        "gone.png": "a link that leads nowhere",
        "pipe.png": "no regular file",
    }  # fmt: skip
    assert reasons(source.left_out)[0] == (
        "4 x a HEIC picture, pip install pillow-heif makes it readable (1.heic, 2.HEIC, 3.jpg, ...)"
    )
    assert summary(source.left_out, "list.json").startswith("left out: 9, all named by list.json\n")
    assert summary([], "list.json") == ""
    (tmp_path / "cat.jpg").unlink()
    with pytest.raises(RissoleError, match="no pictures found in .*: 4 x a HEIC picture, pip"):
        load_labelled(tmp_path, 16)


def test_hidden_and_service_folders_are_no_classes(tmp_path):
    service = [".ipynb_checkpoints", "@eaDir", "__MACOSX", ".Trash", "$RECYCLE.BIN"]
    fill(tmp_path, "cats/a.jpg", "dogs/b.jpg", *(f"{name}/c.jpg" for name in service))
    fill(tmp_path, "cats/@eaDir/a.jpg", "cats/.a.jpg", "dogs/Thumbs.db", "dogs/desktop.ini")
    fill(tmp_path, ".DS_Store", "._b.jpg")
    assert found(tmp_path) == {"cats/a.jpg": "cats", "dogs/b.jpg": "dogs"}
    source = open_source(tmp_path)
    assert {reason for _, reason in source.left_out} == {"hidden, or of the system"}
    assert len(source.left_out) == len(service) + 6


def test_parts_of_a_data_set_are_no_classes(tmp_path):
    fill(tmp_path / "plain", "train/a.jpg", "test/b.jpg")
    assert found(tmp_path / "plain") == {"test/b.jpg": None, "train/a.jpg": None}
    fill(tmp_path / "deep", "train/cat/a.jpg", "train/dog/b.jpg", "Test/cat/c.jpg")
    assert set(found(tmp_path / "deep").values()) == {"cat", "dog"}
    assert found(tmp_path / "deep", split="train") == {
        "train/cat/a.jpg": "cat",
        "train/dog/b.jpg": "dog",
    }
    with pytest.raises(RissoleError, match="no part named 'val'"):
        open_source(tmp_path / "deep", "val")
    fill(tmp_path / "railway", "train/a.jpg", "bus/b.jpg")
    assert set(found(tmp_path / "railway").values()) == {"train", "bus"}


def test_linked_folders_are_followed_once_and_never_in_circles(tmp_path):
    fill(tmp_path / "elsewhere", "a.jpg")
    fill(tmp_path / "photos", "dogs/b.jpg", "dogs/more/c.jpg")
    (tmp_path / "photos" / "cats").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "again").symlink_to(tmp_path / "photos" / "dogs")
    (tmp_path / "photos" / "dogs" / "up").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "e.jpg").symlink_to(tmp_path / "elsewhere" / "a.jpg")
    (tmp_path / "photos" / "e.jpg").rename(tmp_path / "photos" / "dogs" / "e.jpg")
    assert found(tmp_path / "photos") == {
        "cats/a.jpg": "cats",
        "dogs/b.jpg": "dogs",
        "dogs/e.jpg": "dogs",
        "dogs/more/c.jpg": "dogs",
    }
    left_out = dict(open_source(tmp_path / "photos").left_out)
    assert left_out == dict.fromkeys(
        ["again", "dogs/up"], "a link to a folder that is there already"
    )


def test_a_database_among_photos_is_not_read_as_photos(tmp_path):
    fill(tmp_path, "a.jpg", "mine/picture.jpg")
    fill(tmp_path, "mine/database.json", data=b"{}")
    source = open_source(tmp_path)
    assert [item.name for item in source.items()] == ["a.jpg"]
    assert source.left_out == [("mine", "a database")]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to the superuser")
def test_what_cannot_be_read_is_named(tmp_path):
    fill(tmp_path, "a.jpg", "b.jpg", "closed/c.jpg")
    (tmp_path / "b.jpg").chmod(0)
    (tmp_path / "closed").chmod(0)
    try:
        assert list(found(tmp_path)) == ["a.jpg"]
        names = dict(open_source(tmp_path).left_out)
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert names == dict.fromkeys(["b.jpg", "closed"], "unreadable: Permission denied")


def test_metadata_beside_photos_gives_classes(tmp_path):
    fill(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "metadata.csv").write_text("file_name,label\na.jpg,cat\nb.jpg,dog\n")
    assert found(tmp_path) == {"a.jpg": "cat", "b.jpg": "dog", "c.jpg": None}
    (tmp_path / "metadata.csv").unlink()
    rows = [{"file_name": "c.jpg", "label": "cat"}, {"file_name": "../x.jpg", "label": "dog"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert found(tmp_path) == {"a.jpg": None, "b.jpg": None, "c.jpg": "cat"}
    assert open_source(tmp_path).left_out == []
    (tmp_path / "metadata.jsonl").write_text("{broken")
    assert set(found(tmp_path).values()) == {None}
