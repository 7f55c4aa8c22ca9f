"""A painting with all its steps, kept in files; and the program that paints it again."""

import csv
import json

import numpy as np
import pytest

from rissole.cli import main
from rissole.config import RissoleError
from rissole.runs import as_python, numbers_of, record


@pytest.fixture(scope="module")
def run(pipe):
    hits = pipe.retrieve(item=5, k=3)
    steps = pipe.stream(
        hits,
        order="sequential",
        grid=2,
        num_inference_steps=2,
        seed=1,
        block_neighbors={(0, 1): [9]},
    )
    return record(steps, dict(zip(hits.ids, hits.scores, strict=True)))


def test_a_run_holds_every_step(run, pipe):
    out = run.output
    assert run.latents.shape == (8, *out.latents.shape[1:])
    assert (run.latents[-1] == out.latents[0].numpy()).all()
    assert run.attention.shape[:2] == (8, 4)
    assert run.positions[::2] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    side = run.attention.shape[-1] // 2
    assert not run.attention[0, :, side:].any()  # nothing is painted there yet
    assert (
        numbers_of(out.checked[0], out.latents.shape[1:]) == run.latents.size + run.attention.size
    )
    assert run.calls[-1] == out.network_calls
    assert set(run.scores) == set(out.neighbors) - {9}


def test_its_files_say_the_same(run, tmp_path):
    for kind in ("npz", "json", "csv"):
        run.save(tmp_path / f"run.{kind}")
    with np.load(tmp_path / "run.npz") as arrays:  # noqa: TID251 - ours, and no pickle
        loaded = json.loads((tmp_path / "run.json").read_text())
        assert json.loads(str(arrays["recipe"])) == loaded["recipe"] == run.output.recipe
        for name in set(arrays) - {"recipe"}:
            assert (np.array(loaded[name], arrays[name].dtype) == arrays[name]).all(), name
    lines = list(csv.DictReader((tmp_path / "run.csv").open()))
    assert len(lines) == 4 * 4
    assert sum(float(line["share"]) for line in lines) == pytest.approx(4, abs=1e-4)
    own = next(n for n in lines if (n["row"], n["column"], n["neighbor"]) == ("1", "2", "9"))
    assert (float(own["share"]), own["similarity"]) == (1, "")
    with pytest.raises(RissoleError, match="saved as .npz, .json, .csv"):
        run.save(tmp_path / "run.pkl")


def test_python_paints_the_same_picture(pipe, tiny_bundle, tmp_path, monkeypatch):
    first = pipe(neighbors=[3, 17], num_inference_steps=2, seed=4, guidance_scale=0)
    again = pipe(neighbors=[5], init=first, blocks=[(0, 1), (2, 2)], num_inference_steps=1, seed=0)
    monkeypatch.chdir(tmp_path)
    named: dict = {}
    exec(as_python(again.recipe, str(tiny_bundle)), named)
    assert (np.asarray(named["out"].images[0]) == np.asarray(again.images[0])).all()
    assert named["out"].recipe == again.recipe
    assert (tmp_path / "rissole-0.png").is_file()


def test_the_command_keeps_runs_beside_the_pictures(tiny_bundle, tmp_path, capsys):
    given = ["sample", "--bundle", str(tiny_bundle), "--seed", "3", "--steps", "2", "--item", "5"]
    given += ["--out", str(tmp_path / "cat.png"), "--save-run", "npz", "--save-run", "csv"]
    assert main(given) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cat.csv", "cat.npz", "cat.png"]
    assert main([*given, "--save-run", "pkl"]) == 2
    assert "npz, json, csv, not 'pkl'" in capsys.readouterr().err
