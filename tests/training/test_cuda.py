"""What must hold on a GPU, where steps are recorded and replayed; skipped where there is none."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import TINY, seeded
from small_training import Noisy, learn
from synthetic import smooth_pictures

import rissole
from rissole.evaluation.lite import LiteNetwork
from rissole.models.autoencoder import Codec, tiny_autoencoder
from rissole.models.denoiser import Denoiser
from rissole.training.bulk import Painting, decode_bytes, paint_many
from rissole.training.checkpoint import read_state
from rissole.training.defects import WHOLE, DefectJudge, DefectJudges
from rissole.training.denoising import train_denoiser
from rissole.training.flow_map import Distiller, train_flow_map
from rissole.training.graphs import Replay, replays
from rissole.training.hyperparameters import (
    CodecTraining,
    DecoderTraining,
    DenoiserTraining,
    EncoderTraining,
    FeatureTraining,
    FewStepsTraining,
    PolishTraining,
)
from rissole.training.lessons import KINDS, Maps, drawing
from rissole.training.neighbor_learning import train_encoder
from rissole.training.neighborhoods import make_latents
from rissole.training.polishing import polish_flow_map
from rissole.training.reconstruction import train_autoencoder
from rissole.training.representation import train_features
from rissole.training.sharpening import train_decoder
from rissole.training.situations import make_sampler
from rissole.training.teaching import Teacher, grown, recordable
from rissole.training.trainer import Budget

DEVICE = "cuda"
MODEL = {
    name: getattr(TINY, name)
    for name in ("channels", "canvas_channels", "canvas_layers", "block_layers", "head_channels")
}
FEW = FewStepsTraining(batch_size=4, neighbors=3, peak_rate=3e-3)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture(scope="module")
def data(photos, tmp_path_factory):
    """Latents in two ways, with neighbors of blocks, made on the device."""
    folder = tmp_path_factory.mktemp("run")
    Codec(seeded(tiny_autoencoder(16, 4, (1, 1, 1), (1, 1, 1)), 0)).save(folder / "autoencoder")
    common = {"autoencoder": folder / "autoencoder", "photos": photos}
    made = make_latents(**common, out=folder / "a", device=DEVICE, own_blocks=True, ways=2)
    on_cpu = make_latents(**common, out=folder / "b", device="cpu")
    assert torch.allclose(made["latents"].float(), on_cpu["latents"].float(), atol=0.02)
    return made


def step_of(model, draw, scale=1.0):
    """A step that draws from both kinds of random numbers; clears and fills the gradients."""

    def step(index):
        for weights in model.parameters():
            weights.grad.zero_()
        x = torch.randn(len(index), 3, generator=draw, device=DEVICE) + index[:, None]
        loss = scale * model.layers(x).square().mean()
        loss.backward()
        return {"loss": loss.detach()}

    return step


def noisy():
    model, draw = seeded(Noisy(), 0).train().requires_grad_(True), torch.Generator(DEVICE)
    model.to(DEVICE)
    for weights in model.parameters():
        weights.grad = torch.zeros_like(weights)
    torch.cuda.default_generators[0].manual_seed(2)
    return model, draw.manual_seed(1)


def test_replayed_steps_are_the_steps_themselves_and_recording_draws_nothing():
    index = torch.arange(4, device=DEVICE)
    seen = []
    with torch.random.fork_rng():
        for recorded in (False, True):
            model, draw = noisy()
            kinds = [step_of(model, draw), step_of(model, draw, 3.0)]
            if recorded:
                kinds = replays(kinds, draw)
                assert isinstance(kinds[0], Replay)
            values = []
            for kind in (1, 0, 0, 1):
                values.append(kinds[kind](index + kind)["loss"].clone())
                values += [weights.grad.clone() for weights in model.parameters()]
            seen.append((values, draw.get_state()))
    (plain, drawn), (replayed, after) = seen
    assert torch.equal(drawn, after)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(plain, replayed, strict=True))


def test_a_training_that_was_interrupted_ends_as_one_that_was_not(tmp_path):
    whole = learn(tmp_path / "whole", 16, device=DEVICE)
    for _ in range(4):
        learn(tmp_path / "parts", 16, minutes=1e-9, device=DEVICE)
    parts = learn(tmp_path / "parts", 16, device=DEVICE)
    assert read_state(tmp_path / "parts").steps == 16
    for name, value in whole.state_dict().items():
        assert torch.allclose(value, parts.state_dict()[name], atol=1e-5), name
    states = [read_state(tmp_path / name).part("random") for name in ("whole", "parts")]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_a_denoiser_learns_on_all_grids_and_paints_as_on_a_processor(data, tmp_path):
    settings = DenoiserTraining(
        batch_size=8, grids=(0.4, 0.3, 0.3), own=0.5, told=0.5, blinkered=0.2, peak_rate=3e-3
    )
    common = {"model": MODEL, "settings": settings, "device": DEVICE}
    out = tmp_path / "denoiser"
    before = train_denoiser(data, out, Budget(steps=1), schedule=(0, 0.01), **common)
    after = train_denoiser(data, out, Budget(steps=80), schedule=(0.01, 1), **common)
    assert after["train_loss_4x4"] < 0.95 * before["train_loss_4x4"]
    model, neighbors = (
        Denoiser.load(out),
        data["latents"][:6].view(2, 3, *data["latents"].shape[1:]),
    )
    painted = []
    for device in ("cpu", DEVICE):
        for how in (Painting(num_inference_steps=4), Painting("sequential", 2, 2)):
            painted.append(paint_many(model.to(device), neighbors, how, seed=3))
    for one, other in zip(painted[:2], painted[2:], strict=True):
        assert torch.allclose(one, other, atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_a_student_trains_gets_gradients(data, kind):
    """Casts that autocast keeps of the part without gradients must not serve the other part."""
    teacher = recordable(seeded(Denoiser(TINY), 3)).to(DEVICE, torch.bfloat16)
    student = recordable(grown(seeded(Denoiser(TINY), 3), flow_map=True)).to(DEVICE)
    student.requires_grad_(True).neighbors.requires_grad_(False)
    draw = torch.Generator(DEVICE).manual_seed(0)
    sampler = make_sampler(data, "", drawing(FEW), draw, DEVICE)
    maps = Maps(teacher, sampler.latents)
    work = Distiller(Teacher(teacher, "both"), student, sampler, maps, FEW)
    loss = work.loss(kind, torch.arange(4, device=DEVICE))
    loss.backward()
    assert 0 < loss.item() < 10
    trained = [(n, w.grad) for n, w in student.named_parameters() if w.requires_grad]
    without = {name for name, grad in trained if grad is None or not grad.any()}
    # nobody listens to a null token while all neighbors are seen; the rest of `asked` starts at 0
    assert not {name for name in without if "null" not in name and "asked.step.0" not in name}


def test_a_flow_map_learns_and_goes_on(data, tmp_path):
    teacher, out = seeded(Denoiser(TINY), 3), tmp_path / "few-steps"
    for steps in (6, 12):
        minutes = 10 if steps == 12 else 1e-9
        train_flow_map(teacher, data, out, Budget(minutes, 12), settings=FEW, device=DEVICE)
    assert read_state(tmp_path / "state" / "few-steps").steps == 12
    student = Denoiser.load(out).to(DEVICE)
    neighbors = data["latents"][:4].unflatten(0, (2, 2))
    assert paint_many(student, neighbors, Painting(num_inference_steps=2)).isfinite().all()


def test_a_flow_map_is_polished_and_goes_on(data, tmp_path):
    before, out = seeded(Denoiser(replace(TINY, flow_map=True)), 3), tmp_path / "polish"
    codec = Codec(seeded(tiny_autoencoder(16, 4, (1, 1, 1), (1, 1, 1)), 0))
    settings = PolishTraining(
        batch_size=4, neighbors=3, judged=2, peak_rate=3e-3, enlarged=0.5, whole=1, defects=0.1
    )
    network = seeded(LiteNetwork("lite0", blocks=5), 0)
    looks = [torch.ones(24, 1, 1), torch.ones(40, 1, 1)]
    judge = DefectJudge(network, WHOLE, looks, torch.zeros(()), torch.tensor(-9.0)).to(DEVICE)
    defects = DefectJudges([judge])
    for _ in range(2):
        polish_flow_map(
            before, codec, data, out, Budget(steps=6), network=network, defects=defects,
            settings=settings, device=DEVICE,
        )  # fmt: skip
    assert read_state(tmp_path / "state" / "polish").steps == 12
    student = Denoiser.load(out)
    assert not torch.equal(student.block.head.weight, before.block.head.weight)
    neighbors = data["latents"][:4].unflatten(0, (2, 2))
    painted = paint_many(student.to(DEVICE), neighbors, Painting(num_inference_steps=2))
    assert painted.isfinite().all()


def test_an_autoencoder_is_trained_and_sharpened(tmp_path):
    network, photos = seeded(LiteNetwork("lite0", blocks=3), 0), smooth_pictures(24)
    out, common = tmp_path / "autoencoder", {"network": network, "device": DEVICE}
    settings = CodecTraining(batch_size=8, peak_rate=2e-3)
    first = train_autoencoder(photos, out, Budget(steps=2), settings=settings, **common)
    more = train_autoencoder(photos, out, Budget(steps=60), settings=settings, **common)
    assert more["psnr_held_out_db"] > first["psnr_held_out_db"] + 1
    for _ in range(2):
        settings = DecoderTraining(batch_size=8)
        train_decoder(photos, out, Budget(steps=5), settings=settings, **common)
    codec = Codec.load(out)
    latents = codec.encode(photos[:2].float() / 127.5 - 1)
    on_cpu = decode_bytes(codec, latents).float()
    assert (on_cpu - decode_bytes(codec.to(DEVICE), latents).float()).abs().mean() < 1


def test_networks_that_look_at_pictures_are_trained(tmp_path):
    photos = smooth_pictures(24)
    features = train_features(
        photos, tmp_path / "features.safetensors", Budget(steps=3),
        settings=FeatureTraining(batch_size=8), device=DEVICE,
    )  # fmt: skip
    assert features.extract(photos[:4]).isfinite().all()
    settings = EncoderTraining(batch_size=8, width=32)
    found = train_encoder(
        photos, tmp_path / "encoder", Budget(steps=3), settings=settings, device=DEVICE
    )
    assert 0 <= found["views_that_find_their_photo"] <= 1


TOGETHER = """
import sys
from pathlib import Path
from accelerate import PartialState
device = str(PartialState().device)
from small_training import learn
model = learn(Path(sys.argv[1]), 20, device=device)
print([weights.sum().item() for weights in model.parameters()])
"""


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is no second GPU")
def test_two_gpus_end_with_the_same_weights(tmp_path):
    where = [str(Path(rissole.__file__).parents[1]), str(Path(__file__).parents[1])]
    before = os.environ.get("PYTHONPATH")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*where, *([before] if before else [])])}
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    command += ["2", str(script), str(tmp_path / "state")]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    first, second = ended.stdout.strip().splitlines()
    assert first == second
