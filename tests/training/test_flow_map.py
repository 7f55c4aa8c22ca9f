"""A flow map is taught, and paints."""

from dataclasses import replace

import pytest
import torch
from conftest import TINY, seeded

from rissole.config import RissoleError
from rissole.models.denoiser import Denoiser
from rissole.models.interface import Aims
from rissole.training.few_steps_stage import FewStepsSettings
from rissole.training.flow_map import Distiller, train_flow_map
from rissole.training.hyperparameters import FewStepsTraining
from rissole.training.lessons import KINDS, Maps, Segments, drawing
from rissole.training.neighborhoods import block_tables, neighbor_table
from rissole.training.settings import read_settings
from rissole.training.situations import make_sampler
from rissole.training.teaching import Teacher, grown, recordable, ungrown
from rissole.training.trainer import Budget

SETTINGS = FewStepsTraining(batch_size=4, neighbors=3)


@pytest.fixture(scope="module")
def data():
    """Smooth latents of 24 pictures and their mirror images, with all tables."""
    draw = torch.Generator().manual_seed(0)
    latents = torch.randn(24, 4, 4, 4, generator=draw)
    latents = torch.nn.functional.interpolate(latents, size=32, mode="bicubic")
    latents = torch.cat([latents, latents.flip(-1)])
    vectors = torch.nn.functional.normalize(latents.flatten(1), dim=1)
    return {
        "latents": latents.half(),
        "neighbors": neighbor_table(vectors, pool=10),
        "block_neighbors": block_tables(latents, pool=6),
    }


@pytest.fixture(scope="module")
def teacher():
    return seeded(Denoiser(replace(TINY, strength=True)), 3)


def distiller(teacher, data, settings=SETTINGS):
    student = recordable(grown(teacher, flow_map=True))
    student.requires_grad_(True).neighbors.requires_grad_(False)
    draw = torch.Generator().manual_seed(0)
    sampler = make_sampler(data, "", drawing(settings), draw, "cpu")
    maps = Maps(teacher, sampler.latents)
    return Distiller(Teacher(teacher, settings.negative), student, sampler, maps, settings)


def test_segments_are_those_of_the_schedules():
    segments = Segments(SETTINGS, "cpu")
    start, end = segments.draw(torch.rand(200, generator=torch.Generator().manual_seed(0)))
    assert (start > end).all()
    found = {(round(a, 2), round(b, 2)) for a, b in zip(start.tolist(), end.tolist(), strict=True)}
    assert {(1.0, 0.55), (0.55, 0.0), (1.0, 0.0)} <= found
    segments.follow(1.0)
    assert segments.table[-1] == pytest.approx(1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("negative", ["blind", "both"])
def test_every_kind_of_step_has_a_loss(teacher, data, kind, negative):
    work = distiller(teacher, data, replace(SETTINGS, negative=negative))
    loss = work.loss(kind, torch.arange(4))
    loss.backward()
    assert 0 < loss.item() < 10
    assert work.student.asked.step[-1].weight.grad.abs().max() > 0


def test_steps_of_the_teacher_become_shorter(teacher, data):
    work = distiller(teacher, data)
    gaps = []
    for progress in (0.0, 0.2, 0.45, 1.0):
        work.follow(progress)
        gaps.append(work.gap.item())
    assert gaps == sorted(gaps, reverse=True)
    assert (gaps[0], gaps[-1]) == pytest.approx((0.16, 0.05))


def test_a_student_learns_guidance_and_goes_on(teacher, data, tmp_path):
    """With segments shorter than the teacher's step, the guided teacher alone is the target."""
    settings = replace(
        SETTINGS, calls=(20,), early=(1.0,), late=(1.0,), guidance=(2.5, 2.5), decay=0.9,
        kinds=(1.0, 0.0, 0.0, 0.0), peak_rate=1e-2,  # it only warms up here
    )  # fmt: skip

    def error(student):
        work = distiller(teacher, data, settings)
        work.student.load_state_dict(student.state_dict())
        with torch.no_grad():
            return sum(work.loss("4x4", torch.arange(4 * i, 4 * i + 4)) for i in range(4)).item()

    def train(steps, *schedule):
        return train_flow_map(
            teacher, data, tmp_path / "few-steps", Budget(steps=steps), settings=settings,
            schedule=schedule, device="cpu",
        )  # fmt: skip

    before = error(grown(teacher, flow_map=True))
    train(20, 0.0, 0.1)
    assert error(train(10, 0.1, 0.2)) < 0.95 * before
    assert Denoiser.load(tmp_path / "few-steps").flow_map


@pytest.mark.parametrize("more", [{}, {"strength": True, "augmentation": 8}], ids=str)
def test_a_flow_map_without_length_and_guidance_is_a_denoiser(data, more):
    mapped = seeded(Denoiser(replace(TINY, flow_map=True, **more)), 5)
    sampler = make_sampler(data, "", drawing(SETTINGS), torch.Generator().manual_seed(0), "cpu")
    state, _, _ = sampler.state(sampler.latents[:2].float(), 4)
    features = mapped.encode_neighbors(sampler.latents[2:8].float().view(2, 3, 4, 32, 32))
    told = (features, torch.ones(2, 4, 4, 3, dtype=torch.bool), torch.arange(16).expand(2, -1))
    plain, _ = ungrown(mapped)(state, *told)
    still = state._replace(aims=Aims(state.levels, torch.ones(2)))
    ahead = state._replace(aims=Aims(state.levels * 0, torch.ones(2)))
    assert torch.allclose(plain, mapped(still, *told)[0], atol=1e-5)
    assert not torch.allclose(plain, mapped(ahead, *told)[0], atol=1e-3)


def test_a_smaller_student_learns_of_a_larger_teacher(teacher, data, tmp_path):
    small = seeded(Denoiser(replace(TINY, canvas_channels=(8, 16), head_channels=8)), 4)
    settings = replace(SETTINGS, negative="both")
    train_flow_map(
        teacher, data, tmp_path / "few-steps", Budget(steps=2), start=small, settings=settings,
        device="cpu",
    )  # fmt: skip
    student = Denoiser.load(tmp_path / "few-steps")
    assert student.config == replace(small.config, flow_map=True)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"calls": [1]}, "calls, early and late"),
        ({"negative": "none"}, "negative"),
        ({"kinds": [0, 0, 0, 0]}, "kinds must hold"),
        ({"gap": [0.1, 0]}, "gap and gap_until"),
        ({"schedule": [1, 0]}, "--schedule must rise"),
    ],
)
def test_settings_that_cannot_work_are_refused(given, match):
    with pytest.raises(RissoleError, match=match):
        read_settings(None, FewStepsSettings, given)
