"""One trainer for all stages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_training import learn
from torch.overrides import TorchFunctionMode

import rissole
from rissole.training.budget import Session, session_of
from rissole.training.checkpoint import read_state
from rissole.training.learner import Learner, Trained, learning_rate
from rissole.training.trainer import Batches, Budget

TOGETHER = """
import sys, torch
from pathlib import Path
meeting = f"file://{Path('meeting').absolute()}"
torch.distributed.init_process_group("gloo", meeting, rank=int(sys.argv[1]), world_size=2)
from rissole.training.checkpoint import write_json
from rissole.training.learner import Gradients
from rissole.training.together import rank
from rissole.training.budget import Budget, session_of
layer = torch.nn.Linear(3, 2)
gradients = Gradients([layer])
layer.weight.grad.fill_(rank())
gradients.exchange()
session = session_of(Budget(steps=25), (0, 1), None)
while not session.over:
    session.advance()
write_json(Path(f"{rank()}.json"), [layer.weight.grad.mean().item(), session.step])
"""


def steps_of(session: Session) -> list[float]:
    """The progress before each step until the session is over."""
    seen = []
    while not session.over:
        seen.append(session.progress)
        session.advance()
    return seen


def test_steps_are_followed_whatever_the_clock_says():
    session = session_of(Budget(steps=4), (0, 1), None)
    assert steps_of(session) == [0, 0.25, 0.5, 0.75]
    short = Budget(minutes=1e-9, steps=4)  # a step a day
    session, days = None, []
    for _ in range(4):
        session = session_of(short, (0, 1), session)
        days += [steps_of(session)]
    assert days == [[0], [0.25], [0.5], [0.75]]
    assert steps_of(session_of(Budget(minutes=1e-9), (0, 1), None)) == [0]
    assert session_of(Budget(steps=8), (0.5, 1), session).step == 0  # of another part


def test_what_nobody_asked_for_gives_way_to_what_was_begun():
    begun = Session((0, 1), None, 8, step=2)
    assert session_of(Budget(10, asked=False), (0, 1), begun).steps == 8
    assert session_of(Budget(steps=6), (0, 1), begun).progress == 2 / 6


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


def test_a_batch_larger_than_the_photos_is_drawn_at_once():
    joined: list[int] = []

    class Watching(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func is torch.cat:
                joined.append(len(args[0]))
            return func(*args, **(kwargs or {}))

    draw = torch.Generator().manual_seed(0)
    epochs = torch.cat([torch.randperm(3, generator=draw) for _ in range(334)])
    batches = Batches(3, 1000, torch.Generator().manual_seed(0))
    with Watching():
        first = next(batches)
    assert torch.equal(first, epochs[:1000])  # what one epoch after another gives
    assert torch.equal(batches.pool, epochs[1000:])
    assert joined == [335]  # each number is copied once, not once for every epoch
    assert len(next(batches)) == 1000


def test_training_in_sessions_is_training_at_once(tmp_path):
    whole = learn(tmp_path / "whole", 16, (0, 1))
    for part in range(4):
        parts = learn(tmp_path / "parts", 4, (part / 4, part / 4 + 0.25))
    first, second = (read_state(tmp_path / name) for name in ("whole", "parts"))
    assert first.steps == second.steps == 16
    assert second.minutes > 0
    assert {**whole.state_dict()}.keys() == {**parts.state_dict()}.keys()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name  # the averages
    for part in ("model", "rival", "random"):
        assert first.part(part).keys() == second.part(part).keys()
        for name, value in first.part(part).items():
            assert torch.equal(value, second.part(part)[name]), f"{part} {name}"


def test_norms_biases_and_tokens_do_not_decay():
    layer = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3))
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    learner = Learner(Trained(layer, 0.1, steady=True, weight_decay=0.5))
    learner.update(0, 0, 0)  # without gradients, decay is all there is
    after = layer.state_dict()
    changed = [name for name, value in before.items() if not torch.equal(value, after[name])]
    assert changed == ["0.weight"]


def test_averages_are_kept_and_the_state_is_not_averaged(tmp_path):
    model = learn(tmp_path / "state", 8, (0, 1))
    raw = read_state(tmp_path / "state").part("model")
    assert not torch.equal(raw["weights.layers.0.weight"], model.layers[0].weight)
    assert torch.equal(raw["average.0.0"], model.layers[0].weight)
