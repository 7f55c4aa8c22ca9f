"""Schedulers by class name, and what each prediction type means."""

import json
import math

import diffusers
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from rissole import RissolePipeline
from rissole.config import RissoleError
from rissole.models.scheduler import (
    PREDICTIONS,
    SCHEDULERS,
    check_scheduler,
    default_scheduler,
    levels_of,
    load_scheduler,
    prediction_of,
    started,
)

FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
SERVING = [
    default_scheduler(),
    FlowMatchEulerDiscreteScheduler(),
    UniPCMultistepScheduler(**FLOW),
    DDIMScheduler(clip_sample=False),
    DDIMScheduler(clip_sample=False, prediction_type="v_prediction"),
    DDIMScheduler(clip_sample=False, prediction_type="sample"),
    UniPCMultistepScheduler(prediction_type="sample", use_flow_sigmas=True),
    DPMSolverMultistepScheduler(),
]


@pytest.mark.parametrize("scheduler", SERVING, ids=lambda one: type(one).__name__)
def test_a_scheduler_is_loaded_by_its_class_name(scheduler, tmp_path):
    scheduler.save_pretrained(tmp_path)
    loaded = load_scheduler(tmp_path)
    assert type(loaded) is type(scheduler)
    assert prediction_of(loaded) is prediction_of(scheduler)


@pytest.mark.parametrize("scheduler", SERVING, ids=lambda one: type(one).__name__)
def test_the_right_answer_leads_from_noise_to_the_picture(scheduler):
    """Who always knows the clean latent gets it back, whatever is predicted."""
    draw = torch.Generator().manual_seed(0)
    clean, e = (torch.randn(1, 4, 8, 8, generator=draw) for _ in range(2))
    solver, predicted = started(scheduler, 10), prediction_of(scheduler)
    levels = levels_of(solver)
    assert [level.time for level in levels] == sorted((at.time for at in levels), reverse=True)
    noisy = levels[0].signal * clean + levels[0].noise * e
    for timestep, level in zip(solver.timesteps, levels, strict=True):
        now = (noisy - level.signal * clean) / level.noise  # the noise that is in it
        answer = predicted.target(clean, now, level.signal, level.noise)
        torch.testing.assert_close(
            predicted.clean(answer, noisy, level), clean, rtol=1e-3, atol=1e-3
        )
        noisy = solver.step(answer, timestep, noisy).prev_sample
    torch.testing.assert_close(noisy, clean, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    "scheduler",
    [
        DDIMScheduler(prediction_type="odd"),
        DPMSolverMultistepScheduler(prediction_type="epsilon", use_flow_sigmas=True),
    ],
    ids=lambda one: type(one).__name__,
)
def test_one_that_cannot_serve_is_refused_in_one_line(scheduler, tmp_path):
    name = type(scheduler).__name__
    scheduler.save_pretrained(tmp_path)
    with pytest.raises(RissoleError, match=f"the scheduler {name} cannot serve: ") as caught:
        load_scheduler(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "kind",
    [
        diffusers.DDPMScheduler,
        diffusers.EulerAncestralDiscreteScheduler,
        diffusers.HeunDiscreteScheduler,
        diffusers.EulerDiscreteScheduler,
    ],
)
def test_one_from_outside_that_cannot_serve_is_refused_in_one_line(kind, tmp_path, monkeypatch):
    monkeypatch.setitem(SCHEDULERS, kind.__name__, kind)
    kind().save_pretrained(tmp_path)
    with pytest.raises(RissoleError, match=f"the scheduler {kind.__name__} cannot serve: "):
        load_scheduler(tmp_path)


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [
        (DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"), "draws noise of its own"),
        (FlowMatchEulerDiscreteScheduler(stochastic_sampling=True), "draws noise of its own"),
        (diffusers.EulerAncestralDiscreteScheduler(), "is none of DPMSolver"),
        (diffusers.SASolverScheduler(), "is none of DPMSolver"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_one_that_draws_noise_is_refused_in_one_line(scheduler, words, tmp_path):
    scheduler.save_pretrained(tmp_path)
    with pytest.raises(RissoleError, match=f"no usable scheduler in .*{words}"):
        load_scheduler(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"color": "red"}, "unknown 'color'"),
        ({"beta_end": "much"}, "odd beta_end"),
        ({"beta_end": float("inf")}, "odd beta_end"),
        ({"num_train_timesteps": 10**9}, "odd num_train_timesteps"),
        ({"solver_order": 2.5}, "odd solver_order"),
        ({"trained_betas": [0.1] * 20_000}, "odd trained_betas"),
        ({"use_flow_sigmas": 1}, "odd use_flow_sigmas"),
    ],
)
def test_an_odd_setting_is_named(change, words, tmp_path):
    default_scheduler().save_pretrained(tmp_path)
    path = tmp_path / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RissoleError, match=f"no usable scheduler in .*{words}") as caught:
        load_scheduler(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["NoSuchScheduler", "UNet2DModel", "logging"])
def test_an_unknown_class_is_refused_in_one_line(name, tmp_path):
    default_scheduler().save_pretrained(tmp_path)
    path = tmp_path / "scheduler_config.json"
    path.write_text(path.read_text().replace("DPMSolverMultistepScheduler", name))
    with pytest.raises(RissoleError, match=f"class '{name}' is none of DPMSolver"):
        load_scheduler(tmp_path)


def test_trying_a_scheduler_leaves_the_global_seed_alone():
    before = torch.random.get_rng_state()
    check_scheduler(default_scheduler())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_scheduler_that_wants_another_answer_than_the_denoiser_gives_is_refused(pipe):
    parts = (pipe.codec, pipe.denoiser, DDIMScheduler(), pipe.embedding)
    with pytest.raises(RissoleError, match="wants epsilon, the denoiser predicts flow_prediction"):
        RissolePipeline(*parts, pipe.database, pipe.config)


def test_another_flow_scheduler_paints(pipe):
    parts = (pipe.codec, pipe.denoiser, FlowMatchEulerDiscreteScheduler(), pipe.embedding)
    other = RissolePipeline(*parts, pipe.database, pipe.config)
    out = other(neighbors=[1], seed=0, num_inference_steps=3)
    assert math.isfinite(float(out.latents.abs().sum()))
    assert out.images[0].size == (128, 128)


def test_the_words_of_diffusers_name_the_predictions():
    assert PREDICTIONS.names()[:3] == ["flow_prediction", "epsilon", "v_prediction"]
