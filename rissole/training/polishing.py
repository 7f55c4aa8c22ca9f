"""A network of few steps learns to look like the photos, not only like its teacher.

What it paints at the end of a picture is decoded and judged by a projected discriminator, which
sees whole faces and so whether two eyes match (adversarial distillation, arXiv 2311.17042). Where
it leads otherwise is held: it shall reach in one step what it reached before in two halves.

Judged are pictures that are painted from noise in one call and in two, and the last steps of finer
schedules.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rissole.evaluation.augmentation import chance, enlarged, jitter_colors
from rissole.evaluation.lite import LiteNetwork
from rissole.models.autoencoder import Codec
from rissole.models.denoiser import Denoiser, NeighborFeatures
from rissole.models.interface import State
from rissole.models.scheduler import flow_map_levels
from rissole.training.discriminator import ProjectedDiscriminator
from rissole.training.hyperparameters import PolishTraining
from rissole.training.lessons import KINDS, Lessons, Maps, drawing, fit_flow_map
from rissole.training.reconstruction import RESOLUTION, judging_network, shifted
from rissole.training.sharpening import discriminator_training, new_discriminator
from rissole.training.situations import Sampler, make_sampler
from rissole.training.teaching import Scene, moved, recordable
from rissole.training.trainer import Budget, generator_for

BLOCKS = 16  # of EfficientNet-Lite0: all but its head; faces are judged as a whole
ALONE = 2  # calls up to which a picture that is judged is painted from noise


class Judge:
    """Tells painted pictures from decoded photos, and gets better at it.

    Args:
        codec: decodes both, so that nothing of the decoder gives a picture away.
        network: whose features are judged.
        discriminator: judges them.
        generator: of how pictures are moved and recolored.
        recolored: share of pictures with other colors.
        enlarged: share of pictures of which it sees a quarter, twice as large.
    """

    def __init__(
        self,
        codec: Codec,
        network: LiteNetwork,
        discriminator: ProjectedDiscriminator,
        generator: torch.Generator,
        recolored: float,
        enlarged: float,
    ):
        self.codec, self.network = codec, network
        self.discriminator, self.generator = discriminator, generator
        self.recolored, self.enlarged = recolored, enlarged

    def maps(self, latents: Tensor) -> list[Tensor]:
        """Features of latents (B, C, S, S), decoded, and moved and recolored at random."""
        images = shifted(self.codec.decode(latents), self.generator)
        chosen = chance(len(images), self.recolored, self.generator)[:, None, None, None]
        images = torch.where(chosen, jitter_colors(images, self.generator), images)
        if self.enlarged:
            images = enlarged(images, self.enlarged, self.generator)
        return self.network.maps(images)


class Polisher(Lessons):
    """What the network did before, and what the judge makes of it now.

    Args:
        before: the network as it was, in the precision it works in.
        student: the same, to be trained.
        sampler, maps, settings: see `Lessons`.
        judge: of its pictures.
    """

    settings: PolishTraining

    def __init__(
        self,
        before: Denoiser,
        student: Denoiser,
        sampler: Sampler,
        maps: Maps,
        settings: PolishTraining,
        judge: Judge,
    ):
        super().__init__(student, sampler, maps, settings)
        self.before, self.judge = before, judge
        self.last = torch.tensor(
            [float(flow_map_levels(calls)[-2]) for calls in settings.judged_calls],
            device=self.device,
        )
        self.alone = torch.tensor(
            [calls <= ALONE for calls in settings.judged_calls], device=self.device
        )

    def between(self, start: Tensor, end: Tensor) -> Tensor:
        """Half of the way."""
        return (start + end) / 2

    @torch.no_grad()
    def target(
        self,
        state: State,
        known: NeighborFeatures,
        ids: Tensor,
        scene: Scene,
        level: Tensor,
        end: Tensor,
    ) -> Tensor:
        """The canvas (B, C, S, S) that the network reached before in two steps."""
        features = self.maps.features(self.before, ids)
        for stop in (level, end):
            step = self.velocity(state, features, scene, stop, self.before)
            state = moved(state, scene, stop, step)
        return state.canvas

    def learn(self, kind: str, index: Tensor) -> dict[str, Tensor]:
        """Adds the gradients of a batch (B,), of which some are judged."""
        held = self.loss(kind, index)
        some = index[: self.settings.judged]
        with self.half():
            maps = self.judge.maps(self.painted(kind, some))
            fool = self.judge.discriminator.fool(maps)
        ratio = self.felt(held) / self.felt(fool).clamp(min=1e-12)
        (held + self.strength() * ratio.clamp(max=1e4) * fool).backward()
        with self.half():
            with torch.no_grad():
                real = self.judge.maps(self.samplers[kind].latents[some].float())
            told = self.judge.discriminator.teach(real, maps)
        losses = {"loss": held, "fool": fool, "discriminator": told}
        return {name: value.detach() for name, value in losses.items()}

    def felt(self, loss: Tensor) -> Tensor:
        """Size of a loss's gradient at the student's last layer."""
        last = self.student.block.head.weight
        return torch.autograd.grad(loss, last, retain_graph=True)[0].norm()

    def strength(self) -> Tensor:
        """How much of the judge is felt, which rises as it learns."""
        return self.settings.discriminator * self.judge.discriminator.weight()

    def painted(self, kind: str, index: Tensor) -> Tensor:
        """Latents (B, C, S, S) at the end of their last step, through which gradients flow."""
        sampler, grid = self.samplers[kind], KINDS[kind]
        chosen = sampler.choice(self.settings.judged_shares, len(index))
        last, alone = self.last[chosen], self.alone[chosen]
        begin = torch.where(alone, torch.ones_like(last), last)
        clean = sampler.latents[index].float()
        state, _, active = sampler.state(clean, grid, begin[:, None])
        ids, scene = self.scene(kind, index, active)
        features = self.maps.features(self.student, ids)
        for stop in (last, torch.zeros_like(last)):
            state = moved(state, scene, stop, self.velocity(state, features, scene, stop))
        return state.canvas


def polish_flow_map(
    before: Denoiser,
    codec: Codec,
    data: dict[str, Tensor],
    out: Path,
    budget: Budget,
    *,
    network: LiteNetwork | None = None,
    settings: PolishTraining | None = None,
    schedule: tuple[float, float] = (0.0, 1.0),
    device: str = "cuda",
    seed: int = 0,
) -> Denoiser:
    """Makes a flow map paint more like the photos and writes it to `out`.

    Run again on the same folder, it goes on where it stopped.

    Args:
        before: the flow map.
        codec: decodes what it paints.
        data: of `make_latents`.
        out: folder of the network.
        budget: of this session.
        network: whose features are judged; EfficientNet-Lite0 by default.
        settings: of the stage.
        schedule: the part of the learning-rate schedule that the budget covers.
        device: where to train.
        seed: of the discriminator, batches and noise.

    Raises:
        RissoleError: when the weights of the default network are not installed.
    """
    settings = settings or PolishTraining()
    generator = generator_for(seed + int(1000 * schedule[0]), device)
    sampler = make_sampler(data, "", drawing(settings), generator, device)
    student: Any = recordable(deepcopy(before)).to(device)
    student.requires_grad_(True).neighbors.requires_grad_(False)
    judge = new_judge(codec, network, sampler.latents, generator, settings, seed)
    half = torch.bfloat16 if device.startswith("cuda") else torch.float32
    held = recordable(deepcopy(before)).requires_grad_(False).to(device, half)
    maps = Maps(student, sampler.latents)
    work = Polisher(held, student, sampler, maps, settings, judge)
    trained = {"discriminator": discriminator_training(judge.discriminator)}
    return fit_flow_map(work, out, budget, schedule, seed, trained)


@torch.no_grad()
def new_judge(
    codec: Codec,
    network: LiteNetwork | None,
    latents: Tensor,
    generator: torch.Generator,
    settings: PolishTraining,
    seed: int,
) -> Judge:
    """A judge that has learned nothing but how far features of photos (N, C, S, S) spread."""
    codec, device = codec.to(latents.device), latents.device
    images = codec.decode(latents[:64].float())
    side = min(RESOLUTION, 4 * images.shape[-1])
    network = judging_network(network or LiteNetwork.pretrained("lite0", BLOCKS, side), str(device))
    discriminator = new_discriminator(network.maps(images), seed, settings.whole)
    changes = settings.recolored, settings.enlarged
    return Judge(codec, network, discriminator, generator, *changes)
