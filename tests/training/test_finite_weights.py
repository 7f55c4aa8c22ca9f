"""Training that diverges says so, and leaves the weights of before as they are."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import picture, seeded

from rissole import cli
from rissole.config import RissoleError
from rissole.evaluation.network import FeatureConfig, FeatureNetwork
from rissole.models.autoencoder import Codec, tiny_autoencoder
from rissole.models.denoiser import Denoiser, DenoiserConfig
from rissole.storage.files import save_tensors
from rissole.training.hyperparameters import EncoderTraining
from rissole.training.learner import Average, Trained
from rissole.training.neighbor_learning import train_encoder
from rissole.training.stage import state_folder
from rissole.training.trainer import Batches, Budget, Trainer

SMALL = DenoiserConfig(
    channels=(16, 32), canvas_channels=(16, 32), canvas_layers=2, block_layers=1, head_channels=16
)


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    pictures = [np.array(picture(i).resize((32, 32))) for i in range(16)]
    return torch.stack([torch.from_numpy(one).permute(2, 0, 1) for one in pictures])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def learn(run: Path, rate: float) -> None:
    """A few steps of a tiny network toward zero, as every denoiser is trained."""
    model = seeded(Denoiser(SMALL), 0).train().requires_grad_(True)
    draw, out = torch.Generator(), run / "denoiser"

    def losses(index: torch.Tensor) -> dict[str, torch.Tensor]:
        loss = sum(p.square().mean() for p in model.parameters()) * len(index)
        loss.backward()
        return {"loss": loss.detach()}

    trained = {"model": Trained(model, rate, average=Average((0.9,), every=4))}
    trainer = Trainer(trained, draw, state_folder(out))
    trainer.fit([losses], Batches(2, 2, draw), Budget(steps=3), lambda history: model.save(out))


def test_a_denoiser_that_diverges_leaves_its_folder_alone(tmp_path):
    learn(tmp_path, 1e-4)
    before = contents(tmp_path)
    files = ("manifest.json", "progress.json", "state.safetensors")
    assert set(before) == {
        "denoiser/model.safetensors",
        "state/denoiser/finished.json",
        *(f"state/denoiser/step-00000003/{name}" for name in files),
    }
    with pytest.raises(
        RissoleError, match=r"training diverged: .* of step \d, pictures \d, \d, is"
    ):
        learn(tmp_path, 1e30)
    assert contents(tmp_path) == before
    learn(tmp_path, 1e-4)  # and it goes on from there
    assert contents(tmp_path) != before


def test_an_encoder_that_diverges_leaves_its_folder_alone(photos, tmp_path):
    def learned(rate: float) -> None:
        settings = EncoderTraining(batch_size=8, width=8, peak_rate=rate)
        out = tmp_path / "encoder"
        train_encoder(photos, out, Budget(steps=2), settings=settings, device="cpu")

    learned(1e-4)
    before = contents(tmp_path)
    with pytest.raises(RissoleError, match="training diverged"):
        learned(1e30)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", ["network", "codec", "features", "tensors"])
def test_nothing_that_is_not_finite_replaces_what_is(kind, odd, tmp_path):
    made = {
        "network": lambda: seeded(Denoiser(SMALL), 0),
        "codec": lambda: Codec(seeded(tiny_autoencoder(16, 4, (1, 1, 1), (1, 1, 1)), 0)),
        "features": lambda: FeatureNetwork(FeatureConfig("resnet18", 32, 0)),
        "tensors": lambda: torch.nn.Linear(3, 2),
    }[kind]()
    save = {
        "tensors": lambda: save_tensors(made.state_dict(), tmp_path / "tensors.safetensors"),
        "features": lambda: made.write(tmp_path / "features.safetensors"),
    }.get(kind, lambda: made.save(tmp_path))
    save()
    before = contents(tmp_path)
    next(made.parameters()).data.fill_(odd)
    with pytest.raises(RissoleError, match="not finite"):
        save()
    assert contents(tmp_path) == before


def test_the_command_ends_with_code_2_and_one_line(photos, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for number in range(8):
        picture(number).save(f"photos/{number}.png")
    for name, rate in (("good", 1e-4), ("bad", 1e30)):
        settings = {"batch_size": 4, "peak_rate": rate, "perceptual": 0}
        Path(f"{name}.json").write_text(json.dumps(settings))
    command = ["train", "--stage", "autoencoder", "--data", "photos", "--out", "run", "--size"]
    command += ["64", "--steps", "2", "--device", "cpu", "--config"]
    assert cli.main([*command, "good.json"]) == 0
    before = contents(Path("run"))
    capfd.readouterr()
    assert cli.main([*command, "bad.json", "--resume"]) == 2
    said = capfd.readouterr().err.splitlines()
    assert said[-1].startswith("error: training diverged: ")
    assert "Traceback" not in "".join(said)
    assert contents(Path("run")) == before
