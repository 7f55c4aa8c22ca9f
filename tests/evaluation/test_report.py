"""All measures together."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from synthetic import smooth_pictures, trained_network
from torch import Tensor

from rissole import RissolePipeline
from rissole.config import RissoleError
from rissole.data.images import save_png, to_pil
from rissole.data.photos import Labelled, to_float
from rissole.evaluation.probe import (
    CoherenceProbe,
)
from rissole.evaluation.report import evaluate, paint_samples


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return trained_network(tmp_path_factory.mktemp("networks") / "features.safetensors")


def test_evaluate_a_folder_against_photos(network, tmp_path):
    for i, picture in enumerate(to_pil(to_float(smooth_pictures(12, seed=4)))):
        save_png(picture, tmp_path / f"{i}.png")
    probe = CoherenceProbe()
    report = evaluate(tmp_path, smooth_pictures(100), network, size=32, probe=probe)
    assert json.loads(json.dumps(report)) == report
    assert (report["n"], report["n_training"], report["n_held_out"]) == (12, 95, 5)
    assert report["features"]["network"] == network.name
    assert set(report["copies"]) == {"pixel", "feature", "block"}
    assert report["photos"]["features"]["n"] == 5
    assert report["seams"]["seam_ratio"] > 0


def test_evaluate_measures_only_what_is_asked_for(network):
    pictures = smooth_pictures(10)
    report = evaluate(pictures, pictures, network, held_out=pictures, parts=["seams"])
    assert set(report) == {"n", "n_training", "n_held_out", "photos", "seams"}
    assert report["seams"]["seam_ratio"] == report["photos"]["seam_ratio"]


@pytest.mark.parametrize(("images", "photos"), [(3, 100), (8, 40), (8, 4)])
def test_evaluate_refuses_too_few(network, images, photos):
    with pytest.raises(RissoleError, match="too few"):
        evaluate(smooth_pictures(images), smooth_pictures(photos), network)


def test_evaluate_refuses_what_it_does_not_know(network, tmp_path):
    pictures = smooth_pictures(100)
    with pytest.raises(RissoleError, match="no measure 'beauty'"):
        evaluate(pictures, pictures, network, parts=["beauty"])
    with pytest.raises(RissoleError, match="no feature network 'nonsense'"):
        evaluate(pictures, pictures, "nonsense")
    with pytest.raises(RissoleError, match="no pictures"):
        evaluate(tmp_path, pictures, network)


def toned(bright: bool, n: int, seed: int) -> Tensor:
    """Pictures of one class: bright ones or dark ones."""
    return smooth_pictures(n, seed=seed) // 3 + (170 if bright else 0)


def of_tones(n: int, seed: int, classes: list[str], swapped: int = 0) -> Labelled:
    """As many pictures of two classes in turn; some are labelled as what they are not."""
    both = torch.stack([toned(False, n, seed), toned(True, n, seed + 1)], dim=1).flatten(0, 1)
    labels = torch.arange(2 * n) % 2
    labels[:swapped] = 1 - labels[:swapped]
    return Labelled(both, labels, classes)


def test_whether_pictures_show_the_class_that_was_asked_for(network):
    photos = of_tones(60, 0, ["bright", "dark"])  # the names are no matter
    asked = of_tones(10, 7, ["bright", "dark"], swapped=5)
    found = evaluate(asked, photos, network, size=32, parts=["classes"])
    assert found["photos"]["classes"] == {"n": 6, "share": 1.0}
    assert found["classes"]["share"] == 15 / 20
    assert (found["classes"]["n"], found["classes"]["classes"]) == (20, 2)
    assert found["classes"]["worst"] == [["dark", 8 / 11], ["bright", 7 / 9]]
    # numbers into another list of names
    reordered = Labelled(asked.photos, 1 - asked.labels, ["dark", "bright"])
    assert evaluate(reordered, photos, network, size=32, parts=["classes"]) == found


def test_agreement_with_classes_needs_classes(network):
    photos, plain = of_tones(20, 0, ["bright", "dark"]), smooth_pictures(20)
    for images, reference, said in (
        (plain, photos, "the images have no classes"),
        (photos, plain, "the reference has no classes"),
        (photos._replace(classes=["bright", "odd"]), photos, "no photo of class 'odd'"),
    ):
        with pytest.raises(RissoleError, match=said):
            evaluate(images, reference, network, held_out=photos, size=32, parts=["classes"])


def test_a_bundle_paints_one_class_after_another(databases, tiny_bundle, pipe):
    moods = RissolePipeline.from_pretrained(tiny_bundle, database=str(databases / "moods"))
    some = paint_samples(moods, 3, seed=0, size=32, by_class=True)
    assert (some.photos.shape, some.classes) == ((3, 3, 32, 32), ["calm", "wild"])
    assert some.labels.tolist() == [0, 1, 0]
    hits = moods.retrieve(label="wild", k=moods.defaults["k"], seed=1)
    assert set(moods.database.labels(hits.ids)) == {"wild"}
    painted = moods(hits, seed=1).images[0].resize((32, 32), Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(painted, int) - some.photos[1].permute(1, 2, 0).numpy()).mean() < 2
    with pytest.raises(RissoleError, match="no classes"):
        paint_samples(pipe, 3, seed=0, size=32, by_class=True)
