"""Training on photos with classes, painted as they are: from a folder to a bundle."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import picture
from files_of_photos import write_parquet
from loopback_hub import environment, running
from safetensors.torch import load_file

from rissole import RissolePipeline
from rissole.cli import main
from rissole.config import RissoleError
from rissole.data.photos import load_labelled, split
from rissole.evaluation.classes import LinearClassifier
from rissole.evaluation.copies import nearest
from rissole.experiments.cases import Case
from rissole.experiments.comparison import compare
from rissole.experiments.sheets import class_sheet
from rissole.experiments.tables import write_report
from rissole.storage.manifest import verify
from rissole.training.bulk import training_neighbors
from rissole.training.gallery import _queries
from rissole.training.neighborhoods import make_latents, neighbor_table
from rissole.training.selection import most

CLASSES = ["dark", "light"]
TINY = {
    "channels": [16, 32], "canvas_channels": [16, 32], "canvas_layers": 2, "block_layers": 1,
    "head_channels": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """48 dark and 48 light pictures in folders of these names."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(96):
        name = CLASSES[number % 2]
        (folder / name).mkdir(exist_ok=True)
        small = picture(number).resize((32, 32))
        small = small.point(lambda v, light=number % 2: v // 2 + 127 * light)
        small.save(folder / name / f"{number:02}.png")
    (folder / "dark" / "broken.png").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """Every stage at its smallest."""
    out = tmp_path_factory.mktemp("runs") / "tones"

    def train(stage, *more, **settings):
        path = out.parent / f"{stage}.json"
        path.write_text(json.dumps(settings))
        arguments = ["train", "--stage", stage, "--data", str(folder), "--out", str(out)]
        arguments += ["--size", "32", "--device", "cpu", "--steps", "1", "--config", str(path)]
        assert main([*arguments, *more]) == 0

    train("autoencoder", "--space", "pixel")
    train("features", batch_size=8, resolution=48)
    train("encoder", batch_size=8, width=32)
    train("latents", same_class=0.5)
    train("denoiser", model=TINY, batch_size=2, windows=2, neighbors=2)
    train("gallery", count=6, candidates=16, num_inference_steps=1, label="tones", near_share=0.0)
    return out


def test_classes_stay_with_their_photos_when_files_are_skipped(folder, capsys):
    photos, labels, classes = load_labelled(folder, 32)
    assert "1 x text (dark/broken.png)" in capsys.readouterr().err
    assert (classes, len(photos)) == (CLASSES, 96)
    assert torch.equal(labels, (photos.float().mean((1, 2, 3)) > 127).long())
    assert load_labelled(folder / "dark", 32).classes == []


def test_a_data_set_of_the_hub_is_read_once_and_trained_on(tmp_path):
    """Laid out as those that the paper trained on; later stages find it on this machine."""
    with running(tmp_path / "hub") as hub:
        served = tmp_path / "served"
        (served / "data").mkdir(parents=True)
        write_parquet(served / "data" / "train-00000-of-00001.parquet", 24)
        hub.repos["dataset", "someone/pets"] = served
        env = environment(tmp_path / "cache", hub.url, HF_DATASETS_CACHE=str(tmp_path / "sets"))
        for more in (["--stage", "autoencoder", "--space", "pixel"], ["--stage", "latents"]):
            done = subprocess.run(
                [sys.executable, "-m", "rissole", "train", "--data", "someone/pets", "--size", "32",
                 "--device", "cpu", "--out", str(tmp_path / "pets"), *more],
                cwd=Path(__file__).parents[2], env=env, capture_output=True, text=True,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
        files = [line for line in hub.requests if "GET" in line and "train-00000" in line]
    assert len(files) == 1
    data = load_file(tmp_path / "pets" / "latents" / "latents.safetensors")
    assert data["latents"].shape == (2 * 23, 3, 32, 32)  # every 20th is held out
    classes = json.loads((tmp_path / "pets" / "latents" / "classes.json").read_text())
    assert classes == ["cat", "dog"]


def unit_vectors(count, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, 6, generator=draw), dim=1)


def test_neighbors_of_the_own_class_come_first_and_the_rest_follows():
    vectors, kinds = unit_vectors(40), torch.arange(40) % 4  # 20 and their mirror images
    table = neighbor_table(vectors, pool=12, unlike=lambda rows: kinds[rows][:, None] != kinds)
    same = kinds[table] == kinds[:, None]
    assert same[:, :8].all()  # ten of a class, less itself and its mirror image
    assert not same[:, 8:].any()
    assert torch.equal(table, neighbor_table(
        vectors, pool=12, unlike=lambda rows: kinds[rows][:, None] != kinds, chunk=7))  # fmt: skip
    scores = (vectors @ vectors.T).gather(1, table)
    assert (scores[:, :8].diff() <= 0).all()
    assert (scores[:, 8:].diff() <= 0).all()


def test_few_neighbors_are_repeated_and_none_is_an_error():
    table = neighbor_table(unit_vectors(6), pool=10)
    own = torch.arange(6)[:, None]
    assert not (table % 3 == own % 3).any()
    assert all(len(set(row)) == 4 for row in table.tolist())
    with pytest.raises(RissoleError, match="too few different photos"):
        neighbor_table(unit_vectors(2))


def test_some_pictures_have_neighbors_of_their_class_and_some_of_all(run, folder, tmp_path):
    photos = load_labelled(folder, 32).photos
    labels = torch.arange(len(photos)) // 3 % 2  # nothing that can be seen
    data = make_latents(
        run / "autoencoder", photos, tmp_path, "cpu", labels=labels, classes=["a", "b"],
        same_class=0.5,
    )  # fmt: skip
    own = data["labels"][:, None]
    bound = (data["labels"][data["neighbors"]] == own)[:, :20].all(1)
    assert 0.3 < bound.float().mean() < 0.7
    assert json.loads((tmp_path / "classes.json").read_text()) == ["a", "b"]
    assert len(data["held_labels"]) == len(data["held_latents"])
    assert torch.equal(data["labels"], split(labels)[0].repeat(2))


def test_queries_with_a_class_are_shown_it_first(run):
    data = load_file(run / "latents" / "latents.safetensors")
    data["neighbors"] = data["neighbors"].flip(1)  # the other class comes first
    shown = training_neighbors(data, torch.arange(len(data["latents"])), 4)
    assert torch.equal((shown.float().mean((1, 2, 3, 4)) > 0).long(), data["labels"])


def test_queries_of_a_small_class_come_again(run):
    data = load_file(run / "latents" / "latents.safetensors")
    queries = _queries(data, 400, 0)
    assert len(queries) == 400
    assert data["labels"][queries].bincount().tolist() == [200, 200]
    assert set(queries.tolist()) == set(range(len(data["latents"])))


def test_bundle_has_classes_and_the_encoder_and_paints_by_class(run):
    verify(run / "bundle")
    pipe = RissolePipeline.from_pretrained(run / "bundle")
    assert pipe.retriever.encoder.name == "learned"
    assert pipe.database.facts.encoder.id == pipe.retriever.encoder.id
    assert pipe.database.label == "tones"
    assert pipe.database.labels(range(6)) == CLASSES * 3
    hits = pipe.retrieve(label="light", k=2, seed=0)
    assert hits.labels == ["light"] * 2
    sheet = class_sheet(pipe, columns=3, num_inference_steps=1)
    assert sheet.height == 2 * (64 + 2)
    again = class_sheet(pipe, columns=3, num_inference_steps=1)
    assert sheet.tobytes() == again.tobytes()
    assert len({np.asarray(sheet)[:, x : x + 64].tobytes() for x in (90, 156, 222)}) == 3


def test_sheet_needs_classes(pipe):
    with pytest.raises(RissoleError, match="knows no classes"):
        class_sheet(pipe)


def test_comparison_tells_how_many_pictures_show_their_class(run, folder):
    cases = [
        Case("photos", "photos"),
        Case("nearest", "nearest neighbor"),
        Case("of the class", num_inference_steps=1, k=2, neighbors="class"),
    ]
    photos = load_labelled(folder, 32).photos
    rows = compare(run, photos, cases, samples=16, device="cpu", probe_steps=1)
    agreement = {name: row["features"]["class_agreement"] for name, row in rows.items()}
    assert set(agreement) == {"photos", "nearest", "of the class"}
    assert agreement["nearest"] == 1.0  # dark and light are easy to tell
    assert "right class" in write_report(run, cases, "classes").read_text()


def test_a_gallery_has_room_for_every_class(run, folder, tmp_path, capsys):
    (tmp_path / "few.json").write_text(json.dumps({"num_inference_steps": 1, "count": 1}))
    arguments = ["train", "--stage", "gallery", "--data", str(folder), "--out", str(run)]
    arguments += ["--size", "32", "--device", "cpu", "--config", str(tmp_path / "few.json")]
    assert main([*arguments, "--resume"]) == 2
    assert "too few for a gallery of 2 classes" in capsys.readouterr().err


def test_gallery_prefers_what_looks_like_its_class():
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(400, 5, generator=draw)
    labels = (features[:, 2] > 0).long()
    classifier = LinearClassifier.fit(features, labels)
    margin = classifier.margin(features, torch.ones(400).long())
    assert ((margin > 0) == (classifier.predict(features) == 1)).all()
    assert (margin[features[:, 2] > 1] > margin[features[:, 2] < -1].max()).all()
    typical = most(margin, 10)
    assert typical.sum() == 200 and margin[typical].min() >= margin[~typical].max()
    assert most(margin, 300).sum() == 300


def test_classifier_learns_what_is_linear_and_leaves_out_the_unknown():
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(200, 5, generator=draw)
    labels = (features[:, 2] > 0).long()
    hidden = labels.clone()
    hidden[::2] = -1
    found = LinearClassifier.fit(features, hidden).predict(features)
    assert (found == labels).float().mean() > 0.9


def test_nearest_photo_is_the_same_in_parts():
    draw = torch.Generator().manual_seed(0)
    queries, photos = torch.randn(1500, 3, generator=draw), torch.randn(40, 3, generator=draw)
    distance, index = nearest((queries,), photos)
    alone, which = nearest((queries[1400:1401],), photos)
    assert index[1400] == which[0]
    assert distance[1400].item() == pytest.approx(alone.item())
