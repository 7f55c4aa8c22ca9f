"""Wrong input to every command: one clear line, exit code 2, nothing written, no traceback."""

import json

import pytest
from conftest import picture

from rissole import cli

LONG = "x" * 300
WRONG = [
    # what the parser itself refuses
    "nonsense", "sample --no-such-option", "sample --steps", "sample extra", "sheet --columns x",
    "benchmark --runs 1.5", "index", "train", "evaluate", "evaluate photos", "compare", "push",
    "push tiny", "export", "--plugin", "--plugin no_such_module sample",
    "--plugin no.such.module sample", "--plugin .relative sample", "app --port x",
    # sample
    "sample --steps 0", "sample --steps 1e9", "sample --k -3", "sample --guidance-scale inf",
    "sample --guidance-scale two", "sample --seed 1.5", "sample --seed 18446744073709551616",
    "sample --seed 18446744073709551615 --num-images 2", "sample --num-images 10001",
    "sample --out cat", "sample --out .png/", "sample --out file/cat.png",
    "sample --out photos", f"sample --out {LONG}.png", "sample --query photos",
    "sample --query notes.txt", f"sample --query {LONG}", "sample --neighbors ,",
    "sample --neighbors 1;2", "sample --neighbors ²", "sample --neighbors 1,2 --only cat",
    "sample --query photos/0.png --text cat", "sample --bundle notes.txt", "sample --bundle photos",
    f"sample --bundle {LONG}", "sample --bundle ../..", "sample --bundle a/b/c",
    "sample --device moon", "sample --revision main", "sample --bundle no/such --revision a..b",
    # sheet
    "sheet --columns 0", "sheet --out sheet.jpg", "sheet --seed -1", "sheet --out file/a.png",
    # benchmark
    "benchmark --runs 1001", "benchmark --threads 0", "benchmark --index 0 --bundle tiny",
    "benchmark --index -5 --bundle tiny", "benchmark --seed -1",
    "benchmark --runs 1 --index 9 --bundle tiny --seed 18446744073709551615",
    # index
    "index photos", "index photos --out", "index photos --out notes.txt",
    "index photos --out file/db", "index photos --out photos", "index photos --limit 0 --out db",
    "index empty --out db --bundle tiny", "index texts --out db --bundle tiny",
    "index notes.txt --out db", "index photos/0.png --out db", "index archive.zip --out db",
    f"index {LONG} --out db", "index a/b/c --out db", "index photos --split test --out db",
    "index half.parquet --out db", "index photos --only cat --out db --bundle tiny",
    "index nowhere --dry-run",
    # train
    "train --stage nonsense", "train --stage autoencoder", "train --stage features --data nowhere",
    "train --stage features --data photos --minutes 0", "train --stage denoiser --steps 0",
    "train --stage features --data photos --size 7", "train --stage features --data empty --out r",
    "train --stage features --data texts --out r", "train --stage denoiser --preset nonsense",
    "train --stage denoiser --schedule one,two", "train --stage features --preset rissole",
    "train --stage features --data photos --config notes.txt",
    "train --stage features --data photos --config list.json",
    # evaluate
    "evaluate photos --reference nowhere --measure seams", "evaluate photos --reference photos",
    "evaluate photos --reference photos --measure seams", "evaluate photos --reference empty "
    "--measure seams", "evaluate photos --reference photos --measure seams --grid 0",
    "evaluate photos --reference photos --measure seams --size 4",
    "evaluate photos --reference photos --features nowhere.safetensors",
    "evaluate nowhere --reference photos --measure seams --samples 1",
    "evaluate photos --reference photos --measure ,",
    # compare
    "compare nowhere --data photos", "compare photos --data photos --table nonsense",
    "compare photos --data photos --samples 1", "compare photos --data nowhere",
    "compare photos --data photos --steps 0", "compare notes.txt --data photos",
    # push
    "push tiny no-slash", "push tiny a/b/c", "push photos someone/cats --dry-run",
    "push notes.txt someone/cats --dry-run", f"push {LONG} someone/cats", "push tiny ../cats",
    "push tiny someone/cats --space --database nowhere",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tiny_bundle, tmp_path_factory):
    """A folder with photos, and with what is taken for them."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("photos", "empty", "texts"):
        (folder / name).mkdir()
    for i in range(2):
        picture(i).resize((16, 16)).save(folder / "photos" / f"{i}.png")
    (folder / "texts" / "a.png").write_text("no picture")
    (folder / "notes.txt").write_text("no picture")
    (folder / "file").write_text("no folder")
    (folder / "archive.zip").write_bytes(b"PK\3\4")
    (folder / "half.parquet").write_bytes(b"PAR1 and no more")
    (folder / "list.json").write_text("[1]")
    (folder / "tiny").symlink_to(tiny_bundle)
    return folder


@pytest.mark.parametrize("line", WRONG, ids=lambda line: line[:60])
def test_wrong_input_is_one_clear_line(line, place, monkeypatch, capfd):
    monkeypatch.chdir(place)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = sorted(place.rglob("*"))
    try:
        code = cli.main(line.split())
    except SystemExit as left:  # the app's own parser
        code = left.code
    out, err = capfd.readouterr()
    assert code == 2, err
    assert out == ""
    assert "Traceback" not in err
    told = err.splitlines()[-1]
    assert told.partition("error: ")[2].strip()
    assert len(err.splitlines()) == 1 or line.startswith("app")  # argparse adds its usage
    assert len(told) < 420
    if not line.startswith("train"):  # which makes the folder of the run
        assert sorted(place.rglob("*")) == before


def test_names_of_files_may_look_like_templates(tiny_bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("50%discount.png", "100%.png", "{seed}.png", "[a] $b 'c.png", "%s%n.png"):
        args = ["--steps", "1", "--k", "1", "--seed", "0", "--out", name]
        assert cli.main(["sample", "--bundle", str(tiny_bundle), *args]) == 0
        assert (tmp_path / name).is_file()
    assert len(list(tmp_path.iterdir())) == 5


def test_dry_run_names_everything_that_is_left_out(place, monkeypatch, capfd):
    monkeypatch.chdir(place)
    (place / "photos" / "notes").write_text("hello")
    assert cli.main(["index", "photos", "--dry-run"]) == 0
    lines = capfd.readouterr().out.splitlines()
    (place / "photos" / "notes").unlink()
    assert lines == ["notes: text", "2 pictures, 1 left out; nothing written"]


def test_one_picture_and_a_class_of_one_are_enough(tiny_bundle, tmp_path, monkeypatch, capfd, pipe):
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(("cat/a.png", "dog/b.png", "dog/c.png")):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(i).save(tmp_path / "photos" / name)
    bundle = ["--bundle", str(tiny_bundle)]
    assert cli.main(["index", "photos/cat", "--out", "one", *bundle]) == 0
    assert cli.main(["index", "photos", "--out", "few", *bundle]) == 0
    sample = ["sample", *bundle, "--steps", "1", "--seed", "0"]
    for more in (["one"], ["one", "--query", "photos/dog/b.png"], ["one", "--item", "0"],
                 ["few", "--only", "cat"]):  # fmt: skip
        capfd.readouterr()
        assert cli.main([*sample, "--database", *more]) == 0
        assert "neighbors 0 (no more than these, of 4)" in capfd.readouterr().out
    own = pipe.with_pictures([picture(0)])
    for hits in (own.retrieve(), own.retrieve(item=0), own.retrieve(image=picture(3), k=16)):
        assert hits.ids == [0]
        assert own(hits, seed=0, num_inference_steps=1).images
    assert 0 not in pipe.with_database("few").retrieve(item=0, k=8).ids  # itself only if alone
    report = json.loads((tmp_path / "one" / "database.json").read_text())
    assert report["count"] == 1
