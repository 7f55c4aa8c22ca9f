"""Settings of stages from files."""

import pytest
import torch

from rissole.config import RissoleError
from rissole.experiments.published import Published
from rissole.models.denoiser import DenoiserConfig
from rissole.storage.database_facts import DatabaseFacts
from rissole.training.denoiser_stage import DenoiserSettings
from rissole.training.denoising import Rissole
from rissole.training.hyperparameters import GallerySettings
from rissole.training.settings import read_settings
from rissole.training.stage import STAGES


@pytest.mark.parametrize(
    ("stage", "text", "words"),
    [
        ("features", '{"batchsize": 4}', "settings.json: no setting 'batchsize', there are batch"),
        ("autoencoder", '{"batch_size": "x"}', "batch_size should be a valid integer, not 'x'"),
        ("encoder", '{"batch_size": 0}', "batch_size should be greater than or equal to 1, not 0"),
        ("encoder", '{"batch_size": true}', "batch_size should be a valid integer, not True"),
        ("encoder", '{"peak_rate": NaN}', "is not JSON"),
        ("autoencoder", '{"recolored": 2}', "recolored should be less than or equal to 1, not 2"),
        ("gallery", '{"near_share": 2}', "near_share should be less than or equal to 1, not 2"),
        ("few-steps", '{"start_share": 2}', "start_share should be less than or equal to 1"),
        ("latents", '{"same_class": 2}', "same_class should be less than or equal to 1"),
        ("denoiser", '{"neighbors": 65}', "neighbors should be less than or equal to 64"),
        ("polish", '{"judged_calls": [1, 2, 201]}', "judged_calls.2 should be less than or equal"),
        ("samples", '{"guidance_scale": 1e300}', "guidance_scale should be less than or equal"),
        ("samples", '{"count": 1000000000000000000000}', "count should be less than or equal to"),
        ("decoder", '{"discriminator": -1.0}', "discriminator is too small: -1.0"),
        ("denoiser", '{"grids": [1, 0]}', "grids.2"),
        ("denoiser", '{"grids": [0, 0, 0]}', "grids must hold numbers above 0"),
        ("gallery", '{"photos": 3}', "no setting 'photos'"),
        ("gallery", '{"order": "spiral"}', "order must be one of"),
        ("gallery", '{"grid": 3}', "grid must be 1, 2 or 4, not 3"),
        ("gallery", '{"num_inference_steps": 1000}', "steps must be from 1 to 200"),
        ("gallery", '{"count": 9, "candidates": 8}', "9 pictures cannot be chosen from 8"),
        ("latents", "[]", "must hold one JSON object"),
        ("latents", "{", "is not JSON"),
        ("latents", "[" * 100_000, "is not JSON, or nested too deep"),
        ("encoder", '{"peak_rate": 1e999}', "peak_rate should be a finite number, not inf"),
    ],
)
def test_settings_that_a_stage_cannot_use(stage, text, words, tmp_path):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(RissoleError) as refusal:
        read_settings(tmp_path / "settings.json", STAGES[stage].settings, {})
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_no_stage_takes_a_batch_that_a_signal_would_wait_for_without_end(tmp_path):
    (tmp_path / "settings.json").write_text('{"batch_size": 1000000000}')
    trained = [stage for stage in STAGES if hasattr(stage.settings, "batch_size")]
    assert len(trained) >= 8
    for stage in trained:
        with pytest.raises(RissoleError, match="batch_size should be less than or equal to 65536"):
            read_settings(tmp_path / "settings.json", stage.settings, {})


def test_a_label_that_no_database_may_have_is_refused_before_painting(tmp_path):
    longest = read_settings(None, GallerySettings, {"label": "x" * 10_000}).label
    DatabaseFacts(count=1, label=longest, image_size=32).write(tmp_path)
    assert DatabaseFacts.read(tmp_path).label == longest
    with pytest.raises(RissoleError, match="label String should have at most 10000 characters"):
        read_settings(None, GallerySettings, {"label": "x" * 10_001})


def test_settings_are_read_as_the_stages_take_them(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text('{"grids": [1, 0, 0], "drop": 0, "model": {"halo": 0, "canvas": false}}')
    found = read_settings(path, DenoiserSettings, {"preset": "no-halo", "schedule": None})
    assert (found.grids, found.drop, found.preset, found.schedule) == (
        (1, 0, 0),
        0,
        "no-halo",
        (0, 1),
    )
    assert Rissole().config(found.model) == DenoiserConfig(halo=0, canvas=False)
    model = Published().config({"neighbors": 3, "channels": [32, 32, 32]})
    assert (model.kind, model.neighbors, model.channels) == ("published", 3, (32, 32, 32))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"halos": 1}, "model: no setting 'halos'"),
        ({"halo": -4}, "halo is too small"),
        ({"latent_size": 16}, "no setting 'latent_size'"),  # the latents tell
    ],
)
def test_settings_that_no_network_has(model, words):
    with pytest.raises(RissoleError, match=words):
        Rissole().config(model)


@pytest.mark.parametrize("method", [Rissole(), Published()])
@pytest.mark.parametrize("channels", [[0, 0], [8]])
def test_a_network_that_cannot_be_built_is_one_line(method, channels):
    with pytest.raises(RissoleError, match="no network has these settings|channels") as refusal:
        method.build(torch.zeros(1, 4, 32, 32), {"channels": channels})
    assert "\n" not in str(refusal.value)
