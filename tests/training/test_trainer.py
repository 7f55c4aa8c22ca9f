"""One trainer for all stages."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import rissole
from rissole.config import RissoleError
from rissole.training.checkpoint import read_state
from rissole.training.learner import Average, Trained, learning_rate
from rissole.training.trainer import Batches, Budget, Trainer, seeded

TOGETHER = """
import sys, torch
from pathlib import Path
meeting = f"file://{Path('meeting').absolute()}"
torch.distributed.init_process_group("gloo", meeting, rank=int(sys.argv[1]), world_size=2)
from rissole.training.checkpoint import write_json
from rissole.training.learner import Gradients
from rissole.training.together import rank
from rissole.training.trainer import Budget
layer = torch.nn.Linear(3, 2)
gradients = Gradients([layer])
layer.weight.grad.fill_(rank())
gradients.exchange()
steps = len(list(Budget(steps=25)))
write_json(Path(f"{rank()}.json"), [layer.weight.grad.mean().item(), steps])
"""


def test_budget_ends_by_steps_and_by_time():
    assert [round(p, 2) for _, p in Budget(steps=4)] == [0, 0.25, 0.5, 0.75]
    assert len(list(Budget(minutes=1e-9))) == 0


def test_processes_that_train_together_average_gradients_and_take_as_many_steps(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(Path(rissole.__file__).parents[1])}
    both = [
        subprocess.Popen([sys.executable, "-c", TOGETHER, str(rank)], env=env, cwd=tmp_path)
        for rank in range(2)
    ]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    found = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert found == {f"{rank}.json": [0.5, 25] for rank in range(2)}


def test_learning_rate_rises_then_falls():
    assert learning_rate(0.0, 0, 1.0) < 0.01
    assert learning_rate(0.0, 500, 1.0) == 1.0
    assert learning_rate(1.0, 500, 1.0) == pytest.approx(0.01)


def test_batches_visit_everything_once_per_epoch():
    batches = Batches(10, 5, torch.Generator().manual_seed(0))
    assert sorted(torch.cat([next(batches), next(batches)]).tolist()) == list(range(10))


class Noisy(nn.Module):
    """A network with dropout, which draws from torch's own random numbers."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))


def learn(state: Path, steps: int, schedule: tuple[float, float], broken: bool = False) -> Noisy:
    """Trains two kinds of steps and a second module; the state goes on from a file."""
    model, rival = seeded(Noisy, 3), seeded(Noisy, 4)
    draw = torch.Generator().manual_seed(5)
    trained = {
        "model": Trained(model, 1e-2, average=Average(0.9, every=3)),
        "rival": Trained(rival, 1e-2, steady=True, clip=None),
    }
    trainer = Trainer(trained, draw, state, schedule=schedule, seed=6)

    def losses(index: torch.Tensor, sign: float) -> dict[str, torch.Tensor]:
        x = torch.randn(len(index), 3, generator=draw) + index[:, None]
        loss = (model.layers(x) - sign * rival.layers(x)).square().mean()
        loss = loss * (torch.nan if broken else 1.0)
        loss.backward()
        return {"loss": loss.detach()}

    kinds = [partial(losses, sign=sign) for sign in (1.0, -1.0)]
    kept = []
    trainer.fit(kinds, Batches(7, 3, draw), Budget(steps=steps), kept.append, shares=(0.7, 0.3))
    assert len(kept) == 1
    return model


def test_training_in_sessions_is_training_at_once(tmp_path):
    whole = learn(tmp_path / "whole.safetensors", 16, (0, 1))
    for part in range(4):
        parts = learn(tmp_path / "parts.safetensors", 4, (part / 4, part / 4 + 0.25))
    first, second = (read_state(tmp_path / f"{name}.safetensors") for name in ("whole", "parts"))
    assert first.steps == second.steps == 16
    assert second.minutes > 0
    assert {**whole.state_dict()}.keys() == {**parts.state_dict()}.keys()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name  # the averages
    for part in ("model", "rival", "random"):
        assert first.part(part).keys() == second.part(part).keys()
        for name, value in first.part(part).items():
            assert torch.equal(value, second.part(part)[name]), f"{part} {name}"


def test_averages_are_kept_and_the_state_is_not_averaged(tmp_path):
    model = learn(tmp_path / "state.safetensors", 8, (0, 1))
    raw = read_state(tmp_path / "state.safetensors").part("model")
    assert not torch.equal(raw["weights.layers.0.weight"], model.layers[0].weight)
    assert torch.equal(raw["average.0"], model.layers[0].weight)


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    path = tmp_path / "state.safetensors"
    learn(path, 4, (0, 0.5))
    before = path.read_bytes()
    with pytest.raises(RissoleError, match="training diverged: the weights are not finite"):
        learn(path, 4, (0.5, 1), broken=True)
    assert path.read_bytes() == before


def test_a_damaged_state_is_named(tmp_path):
    path = tmp_path / "state.safetensors"
    path.write_bytes(b"no state")
    with pytest.raises(RissoleError, match="no state of a training"):
        learn(path, 1, (0, 1))


@pytest.mark.parametrize("width", [8, 9])
def test_a_state_of_another_network_is_one_line(tmp_path, width):
    path, other = tmp_path / "model.safetensors", Noisy()
    learn(path, 2, (0.0, 1.0))
    other.layers[0] = nn.Linear(3, width)
    more = {"bias": nn.Linear(1, 1)} if width == 8 else {}  # other shapes, or other names
    module = nn.ModuleDict({"layers": other.layers, **more})
    with pytest.raises(RissoleError, match="state of another network"):
        Trainer({"model": Trained(module, 1e-2)}, torch.Generator(), path)
