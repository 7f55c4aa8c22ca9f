"""All measures together."""

import json

import pytest
from synthetic import smooth_pictures, trained_network

from rissole.config import RissoleError
from rissole.data.images import save_png, to_pil
from rissole.data.photos import to_float
from rissole.evaluation.probe import (
    CoherenceProbe,
)
from rissole.evaluation.report import evaluate


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
