"""Whether a block follows a neighbor that is given to it alone."""

import json
from dataclasses import dataclass

import pytest
import torch
from conftest import picture

from rissole.blocks import crop_windows
from rissole.cli import main
from rissole.config import RissoleError
from rissole.data.images import to_tensor
from rissole.evaluation.following import following
from rissole.loading import write_bundle
from rissole.models.autoencoder import Codec, PixelSpace
from rissole.models.interface import DENOISERS, BlockDenoiser
from rissole.models.scheduler import default_scheduler
from rissole.pipeline import RissolePipeline
from rissole.retrieval.contents import build_database
from rissole.retrieval.embedding import LatentEmbedding
from rissole.storage.manifest import write_manifest


@dataclass(frozen=True)
class Shape:
    latent_channels: int = 3
    latent_size: int = 32
    halo: int = 4


@DENOISERS.register
class MeanOfVisible(BlockDenoiser):
    """Paints every block as the mean of the neighbors that it sees: what is measured is known."""

    name, config_class = "mean-of-visible", Shape

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.weight = torch.nn.Parameter(torch.ones(1))

    def encode_neighbors(self, latents):
        return latents * self.weight

    def forward(self, state, features, visible, index, weights=False):
        side = features.shape[-1] // visible.shape[1]
        seen = visible.movedim(-1, 1).repeat_interleave(side, 2).repeat_interleave(side, 3)
        mean = (features * seen[:, :, None]).sum(1) / seen.sum(1)[:, None].clamp(min=1)
        time = state.levels.amax((1, 2))[:, None, None, None].clamp(min=1e-3)
        windows = crop_windows(
            (state.canvas - mean) / time, state.levels.shape[-1], self.config.halo
        )
        windows = windows.take_along_dim(index[..., None, None, None], dim=1)
        (b, n, _, w, _), k = windows.shape, visible.shape[-1]
        return windows, torch.full((b, n, k, w // 2, w // 2), 1 / k)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Pixels of pale pictures, so that nothing leaves their range."""
    folder = tmp_path_factory.mktemp("bundles") / "means"
    pictures = [picture(i).resize((32, 32)).point(lambda x: 96 + x // 4) for i in range(24)]
    images = to_tensor(pictures)
    codec = Codec(PixelSpace.fit((images + 1).mul(127.5).byte()))
    latents = codec.encode(images)
    embedding = LatentEmbedding.fit(latents)
    build_database(folder / "database", pictures, codec, embedding, "colors", latents)
    defaults = {"order": "parallel", "grid": 4, "num_inference_steps": 2, "guidance_scale": 1.0,
                "k": 4}  # fmt: skip
    config = {"name": "means", "image_size": 32, "defaults": defaults}
    painter = MeanOfVisible(Shape())
    write_bundle(folder, codec, painter, default_scheduler(), embedding, config)
    write_manifest(folder, "means")
    return folder


def test_how_far_a_block_went_is_what_is_known_of_its_network(bundle):
    pipe = RissolePipeline.from_pretrained(bundle, torch_dtype=torch.float32)
    found = following(pipe, pairs=6, strengths=(0.0, 1.0, 2.0), seed=2)
    not_at_all, there, beyond = (found["strengths"][name] for name in ("0", "1", "2"))
    assert not_at_all["share"] == pytest.approx(0, abs=0.01)
    assert there["share"] == pytest.approx(1, abs=0.05)  # the neighbors are WebP pictures
    assert beyond["share"] > 1.5
    assert max(one["around"] for one in found["strengths"].values()) < 0.02
    assert not_at_all["seam_ratio"] == pytest.approx(found["seam_ratio"], abs=0.01)
    assert there["seam_ratio"] != pytest.approx(found["seam_ratio"], abs=0.01)


def test_the_same_seed_measures_the_same(pipe):
    found = following(pipe, pairs=2, strengths=(2.0,), seed=1)
    assert found == following(pipe, pairs=2, strengths=(2.0,), seed=1)
    assert found != following(pipe, pairs=2, strengths=(2.0,), seed=5)


def test_one_block_has_nobody_around_it(bundle):
    whole = RissolePipeline.from_pretrained(bundle)
    whole.config["defaults"]["grid"] = 1
    with pytest.raises(RissoleError, match="paints one"):
        following(whole, pairs=1)


def test_the_command_measures_a_bundle_alone(bundle, tmp_path, capsys):
    command = ["evaluate", str(bundle), "--reference", str(tmp_path), "--measure", "influence"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["influence"]
    assert (found["pairs"], list(found["strengths"])) == (64, ["0", "1", "2"])
    (tmp_path / "pictures").mkdir()
    assert main(["evaluate", str(tmp_path / "pictures"), *command[2:]]) == 2
    assert "measured of a bundle" in capsys.readouterr().err
