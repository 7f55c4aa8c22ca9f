import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from conftest import picture
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value
from files_of_photos import jpeg, write_parquet
from loopback_hub import environment

from rissole.config import RissoleError
from rissole.data.images import OWN_FILES
from rissole.data.photos import load_labelled
from rissole.data.sources import open_source


def test_parquet_is_read_from_any_row_on(tmp_path):
    write_parquet(tmp_path / "a.parquet", 10)
    write_parquet(tmp_path / "b.parquet", 5, first=10)
    source = open_source(tmp_path)
    everything = list(source.items())
    assert source.total == len(everything) == 15
    assert [item.label for item in everything[:3]] == ["cat", "dog", "cat"]
    for start in (1, 4, 9, 10, 13, 15):
        assert list(source.items(start)) == everything[start:]
    identity = source.identity
    write_parquet(tmp_path / "b.parquet", 4, first=10)
    assert open_source(tmp_path).identity != identity


def test_what_is_no_source_is_one_line(tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    parquet.write_table(pa.table({"text": ["no picture"]}), tmp_path / "text.parquet")
    for name, words in (("nowhere", "no folder"), ("bad.parquet", "no readable parquet"),
                        ("text.parquet", "no column named image")):  # fmt: skip
        with pytest.raises(RissoleError, match=words):
            open_source(tmp_path / name)


def test_rows_without_a_picture_are_skipped_and_named(tmp_path, capsys):
    rows = [{"image": {"bytes": jpeg(picture(0)), "path": None}}, {"image": None}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "photos.parquet")
    found = load_labelled(tmp_path / "photos.parquet", 32)
    assert found.photos.shape == (1, 3, 32, 32)
    assert "1 x holds no picture (photos.parquet row 1)" in capsys.readouterr().err


# What the `datasets` library writes


def photo(number: int = 0) -> bytes:
    return jpeg(picture(number).resize((16, 16)))


def taken(source) -> list[tuple[bytes, str | None]]:
    """Bytes and classes of what a source holds."""
    return [
        (item.data.read_bytes() if isinstance(item.data, Path) else item.data, item.label)
        for item in source.items()
    ]


@pytest.mark.parametrize(
    "column",
    ["image", "img", "images", "Image", "image_bytes", "jpeg", "jpg", "png", "whatever"],
)
@pytest.mark.parametrize("struct", [True, False])
def test_columns_of_pictures_by_type_and_name(tmp_path, column, struct):
    value = {"bytes": photo(), "path": "a.jpg"} if struct else photo()
    table = pa.table({"caption": ["hello"], column: [value], "Label": ["cat"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert taken(open_source(tmp_path / "a.parquet")) == [(photo(), "cat")]


def test_several_pictures_in_a_row(tmp_path):
    pictures = [[{"bytes": photo(i)} for i in range(n)] for n in (2, 0, 1)]
    parquet.write_table(pa.table({"images": pictures, "label": [0.0, 1.0, 2.0]}), tmp_path / "a")
    source = open_source(tmp_path / "a")
    assert taken(source) == [(photo(0), "0"), (photo(1), "0"), (None, "1"), (photo(0), "2")]
    everything = list(source.items())
    assert [list(source.items(n)) for n in range(5)] == [everything[n:] for n in range(5)]


@pytest.mark.parametrize(
    ("label", "name"),
    [(b"cat", "cat"), ("cat", "cat"), (0.0, "0"), (2.5, "2.5"), (float("nan"), None), (-1, None),
     ([0, 1], "0, 1"), ([7], "7"), ([], None), (None, None), (True, "True"), ("", None),
     ("two\nlines", "two?lines"), (b"\xff", "\ufffd")],
)  # fmt: skip
def test_classes_however_they_are_stored(tmp_path, label, name):
    parquet.write_table(pa.table({"image": [photo()], "label": [label]}), tmp_path / "a.parquet")
    assert taken(open_source(tmp_path / "a.parquet")) == [(photo(), name)]


def test_names_of_classes_are_those_of_the_schema(tmp_path):
    features = Features({"image": Image(), "label": List(ClassLabel(names=["cat", "dog"]))})
    rows = {"image": [{"bytes": photo(), "path": None}], "label": [[0, 1]]}
    Dataset.from_dict(rows, features).to_parquet(tmp_path / "a.parquet")
    assert taken(open_source(tmp_path / "a.parquet")) == [(photo(), "cat, dog")]


def test_paths_in_place_of_bytes_lead_to_files_beside_the_table(tmp_path):
    (tmp_path / "pictures").mkdir()
    for i in range(3):
        (tmp_path / "pictures" / f"{i}.jpg").write_bytes(photo(i))
    paths = ["pictures/0.jpg", str(tmp_path / "pictures" / "1.jpg"), "/elsewhere/pictures/2.jpg",
             "gone.jpg", "x" * 300, "https://example.org/a.jpg"]  # fmt: skip
    rows = [{"image": {"bytes": None, "path": path}} for path in paths]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "pictures" / "a.parquet")
    (tmp_path / "pictures" / "a.parquet").rename(tmp_path / "a.parquet")
    (tmp_path / "2.jpg").write_bytes(photo(2))
    found = load_labelled(tmp_path / "a.parquet", 16)
    assert len(found.photos) == 3
    table = pa.table({"file_name": paths[:2]})
    parquet.write_table(table, tmp_path / "b.parquet")
    assert taken(open_source(tmp_path / "b.parquet")) == [(photo(0), None), (photo(1), None)]


def test_a_copy_of_a_data_set_of_the_hub(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    (tmp_path / ".gitattributes").write_text("*.parquet filter=lfs\n")
    write_parquet(tmp_path / "data" / "train-00000-of-00001.parquet", 4)
    write_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", 2, first=4)
    (tmp_path / "preview.jpg").write_bytes(photo())
    source = open_source(tmp_path)
    assert (source.total, len(list(source.items()))) == (6, 6)
    assert dict(source.left_out) == {
        ".gitattributes": "hidden, or of the system",
        "README.md": "text",
        "preview.jpg": "beside tables that hold more pictures",
    }
    assert open_source(tmp_path, "test").total == 2
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    for path in (tmp_path / "data").iterdir():
        path.write_text(pointer)
    (tmp_path / "preview.jpg").unlink()
    with pytest.raises(RissoleError, match="2 x a pointer of Git LFS, git lfs pull"):
        load_labelled(tmp_path, 16)
    with pytest.raises(RissoleError, match=r"of-00001.parquet is a pointer of Git LFS, git lfs"):
        open_source(tmp_path / "data" / "test-00000-of-00001.parquet")


def test_tables_with_different_columns_and_some_that_are_odd(tmp_path):
    parquet.write_table(pa.table({"image": [photo(0)], "label": ["cat"]}), tmp_path / "a.parquet")
    parquet.write_table(pa.table({"jpeg": [photo(1)], "more": [1]}), tmp_path / "b.parquet")
    parquet.write_table(pa.table({"text": ["no picture"]}), tmp_path / "c.parquet")
    (tmp_path / "d.parquet").write_bytes(b"PAR1 no")
    source = open_source(tmp_path)
    assert taken(source) == [(photo(0), "cat"), (photo(1), None)]
    assert [name for name, _ in source.left_out] == ["c.parquet", "d.parquet"]


def test_metadata_beside_photos_is_not_taken_for_them(tmp_path):
    for i in range(2):
        (tmp_path / f"{i}.jpg").write_bytes(photo(i))
    features = Features({"file_name": Value("string"), "label": ClassLabel(names=["cat", "dog"])})
    rows = {"file_name": ["0.jpg", "1.jpg"], "label": [1, 0]}
    Dataset.from_dict(rows, features).to_parquet(tmp_path / "metadata.parquet")
    source = open_source(tmp_path)
    assert taken(source) == [(photo(0), "dog"), (photo(1), "cat")]
    assert source.left_out == []


@pytest.mark.parametrize("many", [False, True])
def test_what_save_to_disk_wrote(tmp_path, many):
    kind = List(Image()) if many else Image()
    features = Features({"image": kind, "label": ClassLabel(names=["cat", "dog"])})

    def rows(*numbers: int) -> Dataset:
        stored = [{"bytes": photo(i), "path": None} for i in numbers]
        stored = [[value] for value in stored] if many else stored
        labels = [i % 2 for i in numbers]
        return Dataset.from_dict({"image": stored, "label": labels}, features)

    rows(0, 1, 2).save_to_disk(tmp_path / "one")
    DatasetDict({"train": rows(0, 1), "test": rows(2)}).save_to_disk(tmp_path / "parts")
    everything = [(photo(0), "cat"), (photo(1), "dog"), (photo(2), "cat")]
    for folder in ("one", "parts"):
        source = open_source(tmp_path / folder)
        assert taken(source) == everything
        assert [item.label for item in source.items(1)] == ["dog", "cat"]
    assert taken(open_source(tmp_path / "parts", "test")) == everything[2:]
    with pytest.raises(RissoleError, match="no part named 'val', it has train, test"):
        open_source(tmp_path / "parts", "val")
    (tmp_path / "one" / "state.json").write_text("{}")
    with pytest.raises(RissoleError, match="cannot read the data set one"):
        open_source(tmp_path / "one")


@pytest.mark.parametrize("name", ["state.json", "dataset_info.json"])
def test_photos_beside_a_file_that_a_data_set_has_too_are_photos(tmp_path, name):
    (tmp_path / "a.jpg").write_bytes(photo())
    (tmp_path / name).write_text("{}")
    source = open_source(tmp_path)
    assert taken(source) == [(photo(), None)]
    assert [left.name for left in source.left_out] == [name]


def test_files_that_are_given_in_place_of_a_folder(tmp_path):
    (tmp_path / "a.jpg").write_bytes(photo())
    (tmp_path / "b.zip").write_bytes(b"PK\3\4")
    for name, words in (("a.jpg", "a picture, give its folder"), ("b.zip", "unpack it first"),
                        ("x" * 300, "cannot read"), ("", "no folder")):  # fmt: skip
        with pytest.raises(RissoleError, match=words) as error:
            open_source(tmp_path / name if name else "")
        assert len(str(error.value).splitlines()) == 1


READ = """
import json, sys
from rissole.data.rows import _data

for path in json.load(sys.stdin):
    data = _data({"path": path, "bytes": None}, None)
    print(json.dumps(None if data is None else [len(data), data[:9].decode()]))
"""


def test_paths_of_strangers_lead_to_the_hub_and_nowhere_else(hub, cache, tmp_path):
    (tmp_path / "secret.txt").write_text("a secret")
    with zipfile.ZipFile(tmp_path / "secret.zip", "w") as archive:
        archive.writestr("secret.txt", "a secret")
    there = hub.root / "dataset" / "a" / "b"
    there.mkdir(parents=True)
    hub.repos["dataset", "a/b"] = there
    (there / "a.png").write_text("a picture")
    with zipfile.ZipFile(there / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", "in archive")
        archive.writestr("bomb.png", "0" * (OWN_FILES.bytes + 9))
    secret, home = tmp_path / "secret.txt", "hf://datasets/a/b"
    good = [f"{home}/a.png", f"zip://a.png::{home}/all.zip", f"zip://bomb.png::{home}/all.zip"]
    bad = [str(secret), f"file://{secret}", f"{secret}::{home}", f"file://{secret}::{home}/a.png",
           f"local://{secret}::{home}", f"simplecache::file://{secret}::{home}/a.png",
           f"zip://secret.txt::{tmp_path}/secret.zip::{home}/a.png",
           f"zip://secret.txt::file://{tmp_path}/secret.zip", f"{home}/a.png::{secret}",
           f"zip://secret.txt::{tmp_path}/secret.zip", f"{hub.url}/datasets/a/b"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", READ],
        env=environment(cache, hub.url),
        input=json.dumps([*good, *bad]),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    most = [OWN_FILES.bytes + 1, "0" * 9]
    assert found == [[9, "a picture"], [10, "in archiv"], most, *[None] * len(bad)]
