import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import picture, seeded

import rissole
from rissole.config import RissoleError
from rissole.data.photos import load_photos, split
from rissole.evaluation.network import FeatureNetwork
from rissole.models.autoencoder import Codec, tiny_autoencoder
from rissole.models.denoiser import Denoiser, DenoiserConfig
from rissole.models.interface import State
from rissole.training.autoencoder_stage import AutoencoderTraining, train_autoencoder, train_decoder
from rissole.training.denoiser_stage import DenoiserTraining, Sampler, loss_mask, train_denoiser
from rissole.training.gallery_stage import choose, realism, too_near
from rissole.training.latents_stage import make_latents, neighbor_table, read_latents
from rissole.training.settings import read_settings
from rissole.training.trainer import Budget, infinite_batches, learning_rate, session_seed

SMALL = DenoiserConfig(
    channels=(16, 32), canvas_channels=(16, 32), canvas_layers=2, block_layers=1, head_channels=16
)

TOGETHER = """
import sys, torch
from pathlib import Path
meeting = f"file://{Path('meeting').absolute()}"
torch.distributed.init_process_group("gloo", meeting, rank=int(sys.argv[1]), world_size=2)
from rissole.training.trainer import Budget, Gradients, rank, write_json
layer = torch.nn.Linear(3, 2)
gradients = Gradients([layer])
layer.weight.grad.fill_(rank())
gradients.exchange()
steps = len(list(Budget(steps=25)))
write_json(Path(f"{rank()}.json"), [layer.weight.grad.mean().item(), steps])
"""


@pytest.fixture(scope="module")
def photos():
    return torch.stack([torch.from_numpy(np.array(picture(i))).permute(2, 0, 1) for i in range(48)])


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory) -> Path:
    """A run with a barely trained autoencoder and its latents."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "latents").mkdir()
    settings = AutoencoderTraining(batch_size=4)
    out = folder / "autoencoder"
    train_autoencoder(photos, out, Budget(steps=6), settings=settings, device="cpu")
    make_latents(folder / "autoencoder", photos, folder / "latents", "cpu")
    return folder


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
    batches = infinite_batches(10, 5, torch.Generator().manual_seed(0))
    assert sorted(torch.cat([next(batches), next(batches)]).tolist()) == list(range(10))


def test_a_run_that_goes_on_draws_other_batches(tmp_path):
    weights = tmp_path / "raw.safetensors"
    seeds = [session_seed(3, weights)]
    for content in (b"first", b"second"):
        weights.write_bytes(content)
        assert session_seed(3, weights) == session_seed(3, weights)
        seeds.append(session_seed(3, weights))
    assert seeds[0] == 3
    assert len(set(seeds)) == 3


def test_photos_from_a_folder_with_odd_files(tmp_path, capsys):
    for i in range(3):
        picture(i).save(tmp_path / f"{i}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "broken.png").write_bytes(b"not a picture either")
    assert load_photos(tmp_path, 64).shape == (3, 3, 64, 64)
    assert "skipped: broken.png" in capsys.readouterr().err
    with pytest.raises(RissoleError, match="no pictures"):
        load_photos(tmp_path / "..", 64, limit=0)


def test_split_holds_out_the_same_photos_every_time(photos):
    train, held = split(photos)
    assert len(train) + len(held) == len(photos)
    assert torch.equal(held, split(photos)[1])


def test_split_holds_out_one_of_a_few_photos(photos):
    for count in (2, 3, 19, 20, 39):
        assert len(split(photos[:count])[1]) == 1
    assert torch.equal(split(photos[:3])[1][0], photos[2])


def test_autoencoder_is_a_diffusers_one_that_resumes(run, photos):
    codec = Codec.load(run / "autoencoder")
    latents = codec.encode(photos[:2].float() / 127.5 - 1)
    assert latents.shape == (2, 4, 32, 32)
    assert codec.decode(latents).shape == (2, 3, 128, 128)
    assert (run / "autoencoder" / "raw.safetensors").exists()


def test_sharpening_the_decoder_leaves_the_latents_alone(run, photos, tmp_path):
    out = tmp_path / "autoencoder"
    shutil.copytree(run / "autoencoder", out)
    settings = AutoencoderTraining(batch_size=4)
    train_decoder(
        photos, out, Budget(steps=2), critic=FeatureNetwork(), settings=settings, device="cpu"
    )
    before, after = (Codec.load(folder / "autoencoder") for folder in (run, tmp_path))
    pictures = photos[:2].float() / 127.5 - 1
    latents = before.encode(pictures)
    assert torch.equal(after.encode(pictures), latents)
    assert not torch.equal(after.decode(latents), before.decode(latents))


def test_no_picture_retrieves_itself_or_its_mirror_image_or_a_duplicate():
    vectors = torch.nn.functional.normalize(
        torch.randn(40, 8, generator=torch.Generator().manual_seed(0)), dim=1
    )
    vectors[7] = vectors[3]  # a duplicate of another photo
    table = neighbor_table(vectors, pool=10)
    own = torch.arange(40)[:, None]
    assert not (table % 20 == own % 20).any()
    assert 7 not in table[3].tolist()
    nearest_other = (vectors @ vectors.T)[0].clone()
    nearest_other[[0, 20]] = -2
    assert table[0, 0] == nearest_other.argmax()


def sampler(run, batch=64, **settings):
    from safetensors.torch import load_file

    data = load_file(run / "latents" / "latents.safetensors")
    chosen = DenoiserTraining(batch_size=batch, neighbors=3, **settings)
    draw = torch.Generator().manual_seed(0)
    return Sampler(data["latents"], data["neighbors"], chosen, draw)


def test_states_are_what_the_orders_will_meet(run):
    draws = sampler(run)
    clean = draws.latents[:64].float()
    state, noise, active = draws.state(clean, 4)
    levels = state.levels.flatten(1)
    present = state.present.flatten(1)
    assert (levels[~active & present] == 0).all()  # finished blocks are clean
    assert (levels[~present] == 1).all()
    assert active.any(1).all()  # something is painted in every picture
    kept = ~active & present
    cells = kept.view(64, 4, 4).repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]
    assert torch.equal(state.canvas.where(cells, clean), clean)
    assert (~present).any()
    assert kept.any()
    assert (~state.context).any()


def test_some_pictures_see_no_neighbors_and_numbers_vary(run):
    neighbors, shown = sampler(run, drop=0.3).neighbors(torch.arange(64), 3)
    assert neighbors.shape == (64, 3, 4, 32, 32)
    assert set(shown.sum(1).tolist()) == {0, 1, 2, 3}


def test_loss_counts_cells_of_the_same_level_only():
    levels = torch.full((1, 2, 2), 0.5)
    levels[0, 0, 1] = 0.2
    everywhere = torch.ones(1, 2, 2, dtype=torch.bool)
    state = State(torch.zeros(1, 4, 32, 32), levels, everywhere, torch.tensor([True]))
    mask = loss_mask(state, everywhere.flatten(1), torch.tensor([[0, 1]]), halo=4)
    assert mask.shape == (1, 2, 24, 24)
    assert mask[0, 0, 4:20, 4:20].all()  # the block itself
    assert mask[0, 0, 20:, 4:20].all()  # below it, the same level
    assert not mask[0, 0, :20, 20:].any()  # right of it, another level
    assert not mask[0, 0, :4].any()  # beyond the canvas
    assert mask[0, 1].sum() == 16 * 16  # alone at its level
    alone = state._replace(context=torch.tensor([False]))
    assert loss_mask(alone, everywhere.flatten(1), torch.tensor([[0]]), 4).sum() == 16 * 16


def test_denoiser_learns_and_resumes(run):
    from safetensors.torch import load_file

    data = load_file(run / "latents" / "latents.safetensors")
    settings = DenoiserTraining(batch_size=8, windows=4, neighbors=3, peak_rate=3e-3)
    common = {"config": SMALL, "settings": settings, "device": "cpu"}
    out = run / "denoiser"
    before = train_denoiser(data, out, Budget(steps=1), schedule=(0, 0.01), **common)
    after = train_denoiser(data, out, Budget(steps=60), schedule=(0.01, 1), **common)
    assert after["train_loss_4x4"] < 0.95 * before["train_loss_4x4"]
    assert Denoiser.load(out).config == SMALL
    assert int((out / "ema_step.txt").read_text()) == 1 + 15  # the average moves every fourth step


def test_ctrl_c_keeps_a_denoiser_that_paints(run, tmp_path, capsys):
    class Interrupted(Budget):
        def __iter__(self):
            yield 0, 0.0
            raise KeyboardInterrupt

    settings = DenoiserTraining(batch_size=2, windows=2)
    with pytest.raises(KeyboardInterrupt):
        train_denoiser(
            read_latents(run),
            tmp_path,
            Interrupted(),
            config=SMALL,
            settings=settings,
            device="cpu",
        )
    assert Denoiser.load(tmp_path).config == SMALL
    assert "keeping what was learned" in capsys.readouterr().err


def test_latents_are_made_anew_for_other_photos_and_another_autoencoder(photos, tmp_path):
    codec = Codec(seeded(tiny_autoencoder(16, 4, (1, 1, 1), (1, 1, 1)), 0))

    def make(photos):
        codec.save(tmp_path / "autoencoder")
        made = make_latents(tmp_path / "autoencoder", photos, tmp_path / "latents", "cpu")
        return made["latents"]

    before = make(photos)
    assert torch.equal(read_latents(tmp_path, photos)["latents"], before)
    with pytest.raises(RissoleError, match="not the photos"):
        read_latents(tmp_path, photos[:20])
    assert len(make(photos[:20])) == 2 * 19
    codec.model.decoder.layers[0].weight.mul_(1.5)
    codec.save(tmp_path / "autoencoder")
    read_latents(tmp_path)  # the decoder may be trained on
    codec.model.encoder.layers[0].weight.mul_(1.5)
    codec.save(tmp_path / "autoencoder")
    with pytest.raises(RissoleError, match="run --stage latents --resume"):
        read_latents(tmp_path)
    assert not torch.equal(make(photos), before)


@pytest.mark.parametrize(
    ("stage", "text", "words"),
    [
        ("features", '{"batchsize": 4}', "no setting 'batchsize', there are batch_size, arch"),
        ("autoencoder", '{"batch_size": "x"}', "batch_size must be a value such as 32, not 'x'"),
        ("encoder", '{"batch_size": 0}', "batch_size is too small: 0"),
        ("decoder", '{"adversary": -1.0}', "adversary is too small"),
        ("denoiser", '{"grids": [1, 0]}', "grids must be a list such as"),
        ("denoiser", '{"grids": [0, 0, 0]}', "grids must hold numbers above 0"),
        ("denoiser", '{"model": {"halos": 1}}', "model: no setting 'halos'"),
        ("gallery", '{"photos": 3}', "no setting 'photos'"),
        ("latents", "[]", "must hold one JSON object"),
        ("latents", "{", "is not JSON"),
    ],
)
def test_settings_that_a_stage_cannot_use(stage, text, words, tmp_path):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(RissoleError, match="settings.json") as refusal:
        read_settings(tmp_path / "settings.json", stage)
    assert words in str(refusal.value)


def test_settings_are_read_as_the_stages_take_them(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text('{"grids": [1, 0, 0], "drop": 0, "model": {"halo": 0, "canvas": false}}')
    found = read_settings(path, "denoiser")
    assert found == {"grids": (1, 0, 0), "drop": 0, "model": {"halo": 0, "canvas": False}}
    path.write_text('{"model": {"neighbors": 3, "channels": [32, 32, 32]}}')
    model = read_settings(path, "denoiser", "published")["model"]
    assert model == {"neighbors": 3, "channels": (32, 32, 32)}


def test_realism_is_high_inside_and_low_far_away():
    draw = torch.Generator().manual_seed(0)
    real = torch.randn(200, 4, generator=draw)
    inside, outside = torch.zeros(1, 4), torch.full((1, 4), 9.0)
    score = realism(torch.cat([inside, outside]), real)
    assert score[0] > 1 > score[1]
    assert realism(inside, real[:3]).isfinite().all()  # a class of three photos


def test_choice_is_good_varied_and_allowed():
    features = torch.arange(10.0)[:, None].repeat_interleave(2, 0)  # ten pairs of twins
    score = torch.arange(20.0)
    allowed = torch.ones(20, dtype=torch.bool)
    allowed[19] = False
    chosen = choose(score, features, allowed, 7).tolist()
    assert chosen == [18, 17, 15, 13, 11, 9, 7]  # the better twin of each pair, the best first
    twins = choose(score, torch.zeros(20, 1), torch.ones_like(allowed), 20)  # all alike, all wanted
    assert len(twins) == 20
    with pytest.raises(RissoleError, match="only 19"):
        choose(score, features, allowed, 20)


def test_near_copies_are_flagged_mirrored_ones_too(photos):
    network = FeatureNetwork()
    train, held = split(photos)
    fresh = torch.stack(
        [torch.from_numpy(np.array(picture(i))).permute(2, 0, 1) for i in range(100, 104)]
    )
    images = torch.cat([train[:1], train[1:2].flip(-1), fresh])
    flags = too_near(images, network.extract(images), train, held, network)
    assert flags[:2].all()
    assert not flags[2:].all()
