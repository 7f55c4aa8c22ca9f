"""Checkpoints: whole or not at all, damaged ones named, and a training cut into days the same."""

import json
import os
import resource
import shutil
import signal
from pathlib import Path

import pytest
import torch
from small_training import learn

from rissole.config import RissoleError
from rissole.storage.manifest import verify, write_manifest
from rissole.training.budget import Interval
from rissole.training.checkpoint import Checkpoints, State, read_state
from rissole.training.stage import checkpoints_in
from rissole.training.trainer import check_space
from rissole.training.watch import Diverged

EACH = Interval(steps=1)


def same(one: State, other: State) -> None:
    """Fails where states differ in a bit."""
    assert one.steps == other.steps
    assert one.parts.keys() == other.parts.keys()
    for part, tensors in one.parts.items():
        assert tensors.keys() == other.part(part).keys()
        for name, value in tensors.items():
            assert torch.equal(value, other.part(part)[name]), f"{part} {name}"


def interrupt(*numbers: int):
    """What sends signals to this process."""

    def send(loss):
        for number in numbers:
            os.kill(os.getpid(), number)

    return send


def names(folder: Path) -> list[str]:
    return [path.name for path in checkpoints_in(folder)]


def test_the_last_two_are_kept(tmp_path):
    learn(tmp_path / "state", 5, saved=Interval(steps=2))
    assert names(tmp_path / "state") == ["step-00000005", "step-00000004"]
    for folder in checkpoints_in(tmp_path / "state"):
        verify(folder)
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == [
        "finished.json", "step-00000004", "step-00000005",
    ]  # fmt: skip


def test_a_training_cut_into_days_is_the_same_to_the_last_bit(tmp_path, capsys):
    learn(tmp_path / "whole", 12)
    days = []
    for _ in range(12):
        learn(tmp_path / "days", 12, minutes=1e-9, out=days)
    same(read_state(tmp_path / "whole"), read_state(tmp_path / "days"))
    assert [row["step"] for row in days[-1]] == []  # a mean is over 100 steps
    said = capsys.readouterr().err
    assert "resumed noisy at step 11 of 12 (92 %) after" in said
    assert "saved at step 11 of 12 (92 %) after" in said
    assert "the same command with --resume goes on" in said


@pytest.mark.parametrize(
    ("signals", "ended", "kept"),
    [
        ([signal.SIGINT], KeyboardInterrupt, True),
        ([signal.SIGINT] * 2, KeyboardInterrupt, False),
        ([signal.SIGTERM], SystemExit, False),
        ([signal.SIGHUP], SystemExit, False),
    ],
)
def test_a_signal_ends_after_the_step_and_loses_nothing(signals, ended, kept, tmp_path, capfd):
    learn(tmp_path / "whole", 8)
    out = []
    with pytest.raises(ended):
        learn(tmp_path / "state", 8, at={4: interrupt(*signals)}, out=out)
    assert read_state(tmp_path / "state").steps == 5
    assert bool(out) == kept  # what the stage is for needs time
    assert "saved at step 5 of 8 (62 %)" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    learn(tmp_path / "state", 8)
    same(read_state(tmp_path / "whole"), read_state(tmp_path / "state"))


def test_a_third_signal_ends_at_once(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "state", 8, saved=EACH, at={4: interrupt(*[signal.SIGINT] * 3)})
    assert names(tmp_path / "state") == ["step-00000004", "step-00000003"]


def test_what_is_finished_is_left_alone_unless_more_is_asked_for(tmp_path):
    learn(tmp_path / "state", 4)
    out = []
    learn(tmp_path / "state", None, minutes=10, asked=False, out=out)
    assert (out, read_state(tmp_path / "state").steps) == ([], 4)
    (tmp_path / "state" / "finished.json").write_text("{")  # as after a kill before it was written
    learn(tmp_path / "state", 4, out=out)
    assert (len(out), read_state(tmp_path / "state").steps) == (1, 4)
    learn(tmp_path / "state", 4, out=out)
    assert (len(out), read_state(tmp_path / "state").steps) == (2, 8)


def cut(folder: Path) -> None:
    os.truncate(folder / "state.safetensors", 100)


def flip(folder: Path) -> None:
    data = bytearray((folder / "state.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "state.safetensors").write_bytes(data)


def rename_keys(folder: Path) -> None:
    """Whole, but of something else."""
    state = read_state(folder.parent)
    strange = {"model": state.part("rival"), "rival": state.part("model")}
    other = Checkpoints(folder.parent.with_name("other"))
    other.write(State(state.steps, parts={**state.parts, **strange}))
    shutil.rmtree(folder)
    (other.folder / folder.name).rename(folder)


def strange_progress(folder: Path) -> None:
    (folder / "progress.json").write_text(json.dumps({"steps": "many"}))
    write_manifest(folder, folder.name)


DAMAGE = {
    "cut": (cut, r"step-00000004/state.safetensors is damaged: 100 bytes"),
    "a bit flipped": (flip, r"step-00000004/state.safetensors is damaged: its sha256"),
    "missing": (lambda f: (f / "progress.json").unlink(), r"step-00000004/progress.json is miss"),
    "empty": (lambda f: os.truncate(f / "manifest.json", 0), r"manifest.json is damaged"),
    "wrong keys": (rename_keys, r"step 4 is of another network or other settings"),
    "wrong facts": (strange_progress, r"step-00000004 is no checkpoint of a training"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(kind, tmp_path, capsys):
    damage, said = DAMAGE[kind]
    learn(tmp_path / "whole", 6)
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "state", 6, saved=EACH, at={3: interrupt(signal.SIGINT)})
    damage(tmp_path / "state" / "step-00000004")
    capsys.readouterr()
    learn(tmp_path / "state", 6, saved=Interval(steps=2))
    (note,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note")]
    assert pytest.RaisesExc(RissoleError, match=said).matches(RissoleError(note))
    same(read_state(tmp_path / "whole"), read_state(tmp_path / "state"))
    assert names(tmp_path / "state") == ["step-00000006", "step-00000005"]


def test_a_checkpoint_of_a_damaged_manifest_is_written_anew(tmp_path):
    learn(tmp_path / "whole", 4)
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "state", 4, saved=EACH, at={3: interrupt(signal.SIGINT)})
    os.truncate(tmp_path / "state" / "step-00000004" / "manifest.json", 0)
    learn(tmp_path / "state", 4, saved=EACH)
    same(read_state(tmp_path / "whole"), read_state(tmp_path / "state"))


def test_when_none_is_whole_that_is_one_line(tmp_path):
    learn(tmp_path / "state", 2, saved=EACH)
    for folder in checkpoints_in(tmp_path / "state"):
        cut(folder)
    with pytest.raises(
        RissoleError, match="no checkpoint in .* delete it to start anew: step-"
    ) as one:
        learn(tmp_path / "state", 4)
    assert "\n" not in str(one.value)


def test_a_state_of_another_network_is_one_line(tmp_path):
    learn(tmp_path / "state", 2)
    with pytest.raises(RissoleError, match="step 2 is of another network or other settings"):
        learn(tmp_path / "state", 2, width=9)


@pytest.mark.parametrize(
    ("odd", "name"),
    [
        (lambda loss: loss * torch.nan, "loss"),
        (lambda loss: loss * torch.inf, "loss"),
        (lambda loss: loss + (loss * 0).sqrt(), "the gradient of model"),  # itself it is finite
    ],
)
def test_the_step_and_the_pictures_of_what_is_not_finite_are_named(odd, name, tmp_path):
    out = []
    with pytest.raises(Diverged, match=f"training diverged: {name} of step 5, pictures ") as error:
        learn(tmp_path / "state", 9, saved=Interval(steps=2), at={5: odd}, out=out)
    assert len(str(error.value).split("pictures ")[1].split(", is")[0].split(", ")) == 3
    assert names(tmp_path / "state") == ["step-00000004", "step-00000002"]
    assert out == []


def test_a_full_disk_is_told_and_the_checkpoint_before_stays(tmp_path, capsys):
    """A limit on the size of files stands for it: what cannot be written fails the same way."""
    before, out = resource.getrlimit(resource.RLIMIT_FSIZE), []

    def fill(loss):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))

    try:
        with pytest.raises(RissoleError, match="cannot write .*step-00000005.*: File too large"):
            learn(tmp_path / "state", 5, saved=EACH, at={3: fill}, out=out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "note: not saved, the checkpoint before stays: cannot write" in capsys.readouterr().err
    assert names(tmp_path / "state") == ["step-00000003", "step-00000002"]
    assert len(out) == 1  # smaller than a checkpoint, and worth a try
    learn(tmp_path / "state", 5)
    assert read_state(tmp_path / "state").steps == 5


def test_space_is_asked_for_before_work(tmp_path):
    check_space(tmp_path / "new" / "state", 1)
    with pytest.raises(RissoleError, match="no space for the checkpoints in .*new"):
        check_space(tmp_path / "new" / "state", 2**80)
