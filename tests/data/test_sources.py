import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from conftest import picture
from files_of_photos import jpeg, write_parquet

from rissole.config import RissoleError
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
    assert "skipped: " in capsys.readouterr().err
