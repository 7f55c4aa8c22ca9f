"""A network of few steps learns to look like the photos, not only like its teacher.

What it paints at the end of a picture is decoded and judged by a projected discriminator, which
sees whole faces and so whether two eyes match (adversarial distillation, arXiv 2311.17042). Where
it leads otherwise is held: it shall reach in one step what it reached before in two halves.

Judged are pictures that are painted from noise in one call and in two, and the last steps of finer
schedules: whole ones, of which all blocks are there. Where people have graded pictures, what was
learned of clear defects joins the discriminator.
"""

from __future__ import annotations

from copy import copy, deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rissole.evaluation.augmentation import chance, enlarged, jitter_colors
from rissole.evaluation.lite import LiteNetwork
from rissole.models.autoencoder import Codec
from rissole.models.denoiser import Denoiser, NeighborFeatures
from rissole.models.interface import State
from rissole.models.scheduler import flow_map_levels
from rissole.training.defects import DefectJudges
from rissole.training.detail import detail_distance
from rissole.training.discriminator import ProjectedDiscriminator
from rissole.training.hyperparameters import PolishTraining
from rissole.training.lessons import KINDS, Lessons, Maps, drawing, fit_flow_map, pseudo_huber
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
        defects: knows clear defects, if anybody graded pictures.
    """

    def __init__(
        self,
        codec: Codec,
        network: LiteNetwork,
        discriminator: ProjectedDiscriminator,
        generator: torch.Generator,
        recolored: float,
        enlarged: float,
        defects: DefectJudges | None = None,
    ):
        self.codec, self.network = codec, network
        self.discriminator, self.generator = discriminator, generator
        self.recolored, self.enlarged, self.defects = recolored, enlarged, defects

    def images(self, latents: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) of latents (B, C, S, S), moved at random."""
        return shifted(self.codec.decode(latents), self.generator)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Features of pictures, of which some are recolored and enlarged."""
        chosen = chance(len(images), self.recolored, self.generator)[:, None, None, None]
        images = torch.where(chosen, jitter_colors(images, self.generator), images)
        if self.enlarged:
            images = enlarged(images, self.enlarged, self.generator)
        return self.network.maps(images)


class Task(NamedTuple):
    """Pictures to be painted.

    Attributes:
        clean: (B, C, S, S), the photos whose neighbors they have.
        state: where they begin.
        ids: (B, K) numbers of the neighbors.
        scene: the rest of what they are painted by.
        last: (B,), where the last step begins.
    """

    clean: Tensor
    state: State
    ids: Tensor
    scene: Scene
    last: Tensor


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
        self.judged_samplers = {kind: self.without_gaps(kind) for kind in KINDS}
        self.last = torch.tensor(
            [float(flow_map_levels(calls)[-2]) for calls in settings.judged_calls],
            device=self.device,
        )
        self.alone = torch.tensor(
            [calls <= ALONE for calls in settings.judged_calls], device=self.device
        )

    def without_gaps(self, kind: str) -> Sampler:
        """Draws what is judged, for steps of a kind.

        Never pictures some of whose blocks are still to come: in their places is noise, by which
        any judge would know what is painted from a photo. Nor blocks that do not see each other,
        whose seams cannot be helped.
        """
        sampler = copy(self.samplers[kind])
        parallel, _, repaint, mixed, _ = sampler.settings.situations
        shares = (parallel, 0.0, repaint, mixed, 0.0)
        if not any(shares):
            shares = (1.0, 0.0, 0.0, 0.0, 0.0)
        sampler.settings = replace(sampler.settings, situations=shares)
        return sampler

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
        task = self.task(kind, index[: self.settings.judged])
        losses: dict[str, Tensor] = {}
        with self.half():
            painted = self.painted(task, self.student)
            images = self.judge.images(painted)
        real = self.photos(task)
        if self.settings.discriminator:
            losses |= self.fool(images, real)
        losses["loss"] = held = self.loss(kind, index)
        if self.settings.discriminator:
            self.weigh(held)
        held.backward()
        if self.settings.detail:
            losses |= self.strengthen(images, real)
        if self.judge.defects:
            losses |= self.avoid(task, painted, images)
        return {name: value.detach() for name, value in losses.items()}

    @torch.no_grad()
    def photos(self, task: Task) -> Tensor:
        """What painted pictures are compared with (B, 3, H, W); nothing where nothing does that."""
        if not (self.settings.discriminator or self.settings.detail):
            return task.clean[:0]
        with self.half():
            return self.judge.images(task.clean)

    def fool(self, images: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Adds the gradients of the discriminator, of pictures (B, 3, H, W) and its own."""
        judge, seen = self.judge, images.detach().requires_grad_()
        with self.half():
            maps = judge.maps(seen)
            fool = judge.discriminator.fool(maps)
        (pull,) = torch.autograd.grad(fool, seen)
        more = self.settings.detail > 0 or judge.defects is not None  # go the same way back
        images.backward(pull, retain_graph=more)
        with self.half():
            with torch.no_grad():
                wanted = judge.maps(real)
            told = judge.discriminator.teach(wanted, maps)
        return {"fool": fool, "discriminator": told}

    def strengthen(self, images: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Adds the gradients of fine detail as strong as in photos, of pictures (B, 3, H, W)."""
        seen = images.detach().requires_grad_()
        apart = detail_distance(seen, real)
        (pull,) = torch.autograd.grad(apart, seen)
        more = self.judge.defects is not None
        images.backward(self.settings.detail * pull, retain_graph=more)
        return {"detail": apart}

    def avoid(self, task: Task, painted: Tensor, images: Tensor) -> dict[str, Tensor]:
        """Adds the gradients of defects, and of what else changed with them.

        Args:
            task: what was painted.
            painted: latents (B, C, S, S), and `images` (B, 3, H, W) of them.
        """
        judge, seen = self.judge.defects, images.detach().requires_grad_()
        assert judge is not None
        with self.half():
            likely = judge.avoided(seen, self.judge.generator)
            with torch.no_grad():
                former = self.painted(task, self.before)
        (pull,) = torch.autograd.grad(likely, seen)
        changed = ((painted - former).square() * judge.elsewhere(painted)).mean((1, 2, 3))
        kept = pseudo_huber(changed).mean()
        strengths = self.settings.defects * pull, torch.full_like(kept, self.settings.kept)
        torch.autograd.backward([images, kept], strengths)
        return {"defects": likely, "kept": kept}

    def weigh(self, held: Tensor) -> None:
        """Scales the judge's gradients, which are there, to the size of another loss's.

        Sizes are compared at the student's last layer, where the other loss's are soon found; those
        of the discriminator have gone a long way, through decoder and features.
        """
        last = self.student.block.head.weight
        wanted = torch.autograd.grad(held, last, retain_graph=True)[0].norm()
        assert last.grad is not None
        scale = self.strength() * (wanted / last.grad.norm().clamp(min=1e-12)).clamp(max=1e4)
        for weights in self.student.parameters():
            if weights.grad is not None:
                weights.grad.mul_(scale)

    def strength(self) -> Tensor:
        """How much of the discriminator is felt, which rises as it learns."""
        return self.settings.discriminator * self.judge.discriminator.weight()

    def task(self, kind: str, index: Tensor) -> Task:
        """What shall be painted for pictures (B,), from noise or at the start of a last step."""
        sampler, grid = self.judged_samplers[kind], KINDS[kind]
        chosen = sampler.choice(self.settings.judged_shares, len(index))
        last, alone = self.last[chosen], self.alone[chosen]
        begin = torch.where(alone, torch.ones_like(last), last)
        clean = sampler.latents[index].float()
        state, _, active = sampler.state(clean, grid, begin[:, None])
        ids, scene = self.scene(kind, index, active)
        return Task(clean, state, ids, scene, last)

    def painted(self, task: Task, model: Denoiser) -> Tensor:
        """Latents (B, C, S, S) that a network paints, through which gradients flow."""
        state, features = task.state, self.maps.features(model, task.ids)
        for stop in (task.last, torch.zeros_like(task.last)):
            velocity = self.velocity(state, features, task.scene, stop, model)
            state = moved(state, task.scene, stop, velocity)
        return state.canvas


def polish_flow_map(
    before: Denoiser,
    codec: Codec,
    data: dict[str, Tensor],
    out: Path,
    budget: Budget,
    *,
    network: LiteNetwork | None = None,
    defects: DefectJudges | None = None,
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
        defects: what was learned of clear defects, if anything.
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
    judge = new_judge(codec, network, sampler.latents, generator, settings, seed, defects)
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
    defects: DefectJudges | None = None,
) -> Judge:
    """A judge that has learned nothing but how far features of photos (N, C, S, S) spread."""
    codec, device = codec.to(latents.device), latents.device
    images = codec.decode(latents[:64].float())
    side = min(RESOLUTION, 4 * images.shape[-1])
    network = judging_network(network or LiteNetwork.pretrained("lite0", BLOCKS, side), str(device))
    discriminator = new_discriminator(network.maps(images), seed, settings.whole)
    changes = settings.recolored, settings.enlarged
    return Judge(codec, network, discriminator, generator, *changes, defects)
