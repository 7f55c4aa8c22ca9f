"""Training of denoisers, whatever the method, and the block denoiser's own method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from rissole.blocks import crop_windows, per_cell
from rissole.config import RissoleError
from rissole.models.denoiser import Denoiser
from rissole.models.interface import BlockDenoiser
from rissole.models.saving import SavedNetwork
from rissole.models.scheduler import PREDICTIONS, default_scheduler
from rissole.sampling import network_calls
from rissole.training.bulk import Painting, paint_many
from rissole.training.checkpoint import write_json
from rissole.training.hyperparameters import DenoiserTraining
from rissole.training.learner import Average, Trained
from rissole.training.method import METHODS, Loss, Method
from rissole.training.situations import Sampler, loss_mask, make_sampler, take
from rissole.training.snapshots import Snapshots
from rissole.training.stage import state_folder
from rissole.training.teaching import grown, ungrown
from rissole.training.together import rank
from rissole.training.trainer import Budget, History, Trainer, generator_for, seeded


def train_denoiser(
    data: dict[str, Tensor],
    out: Path,
    budget: Budget,
    *,
    method: Method | None = None,
    start: Denoiser | None = None,
    model: Mapping[str, Any] | None = None,
    settings: DenoiserTraining | None = None,
    schedule: tuple[float, float] = (0.0, 1.0),
    device: str = "cuda",
    seed: int = 0,
) -> dict[str, float]:
    """Trains on the latents of `make_latents` and writes the averaged weights to `out`.

    Args:
        data: of `make_latents`.
        out, budget: folder of the network, where a training goes on; of this session.
        method: what to train; the block denoiser by default.
        start: a trained block denoiser to go on from, made for latents of the same autoencoder.
        model: changes to the network's settings; with `start`, its own stay.
        settings: of the stage.
        schedule: the part of the learning-rate schedule this budget covers.
        device, seed: where to train; seed of weights, batches and noise.

    Returns:
        Losses on training and held-out latents; they compare within a method only.
    """
    method, settings = method or Rissole(), settings or DenoiserTraining()
    build = partial(untrained, method, start, data, model or {}, settings)
    network: Any = seeded(build, seed).to(device).requires_grad_(True)
    generator = generator_for(seed + int(1000 * schedule[0]), device)
    sampler = make_sampler(data, "", settings, generator, device)
    average = Average(tuple(decay**4 for decay in settings.averages), every=4)
    how = Trained(network, settings.peak_rate, weight_decay=settings.weight_decay, average=average)
    trainer = Trainer({"model": how}, generator, state_folder(out), schedule=schedule, seed=seed)
    Snapshots(trainer, out, settings.averages, settings.snapshots)

    def keep(history: History) -> None:
        network.save(out)
        write_json(out / "minutes.json", {"minutes": trainer.minutes})

    losses = [partial(_learn, loss) for loss in method.losses(network, sampler).values()]
    shares, title = method.shares(settings), out.name
    history = trainer.fit(losses, sampler.batches, budget, keep, shares=shares, title=title)
    result = validate(method, network, data, settings, device)
    if rank() == 0:
        write_json(out / f"training-{schedule[1]:g}.json", {**result, "history": history})
    return result


def untrained(
    method: Method,
    start: Denoiser | None,
    data: Mapping[str, Tensor],
    model: Mapping[str, Any],
    settings: DenoiserTraining,
) -> SavedNetwork:
    """A new network for the latents, or a trained one with what else it will be told.

    Raises:
        RissoleError: when the trained one paints latents of another shape.
    """
    latents, inputs = data["latents"], method.inputs(settings, data)
    if start is None:
        return method.build(latents, model, inputs)
    config = start.config
    if (config.latent_channels, config.latent_size) != tuple(latents.shape[1:3]):
        sides = f"{config.latent_channels} x {config.latent_size} x {config.latent_size}"
        found = " x ".join(map(str, latents.shape[1:]))
        raise RissoleError(f"the network to start as paints latents of {sides}, not of {found}")
    return grown(ungrown(start), **inputs).train()


def _learn(loss: Loss, index: Tensor) -> dict[str, Tensor]:
    """Adds the gradients of a loss."""
    value = loss(index)
    value.backward()
    return {"loss": value.detach()}


@torch.no_grad()
def validate(
    method: Method,
    model: Any,
    data: dict[str, Tensor],
    settings: DenoiserTraining,
    device: str,
) -> dict[str, float]:
    """Losses on training and on held-out latents, the same noise for both.

    Of pictures as they are painted by default: not changed, nothing told, no neighbors of blocks.
    """
    model.eval()
    result = {}
    settings = replace(settings, own=0.0, told=0.0, blinkered=0.0, plain=1.0)
    for prefix, shown in (("", "train_"), ("held_", "held_")):
        generator = torch.Generator(device)
        sampler = make_sampler(data, prefix, settings, generator, device)
        for name, loss in method.losses(model, sampler).items():
            generator.manual_seed(1)
            count = min(len(sampler.latents), 4 * settings.batch_size)
            parts = torch.arange(count, device=device).split(settings.batch_size)
            losses = torch.stack([loss(part) for part in parts])
            result[f"{shown}{name}"] = losses.mean().item()
    return result


@METHODS.register
class Rissole(Method):
    """The block denoiser."""

    name = "rissole"
    network = Denoiser
    grids: ClassVar[Sequence[int]] = (4, 2, 1)
    # what it is told follows from how it is trained; flow maps have a stage of their own
    fixed = Method.fixed | {"strength", "augmentation", "flow_map"}

    def inputs(self, settings: DenoiserTraining, data: Mapping[str, Tensor]) -> dict[str, Any]:
        """The strength of neighbors, and how pictures were changed, where they are told."""
        strength = {"strength": True} if settings.told else {}
        return strength | self.told_changes(settings, data)

    def losses(self, model: Any, sampler: Sampler) -> dict[str, Loss]:
        """A kind for every grid."""
        return {f"loss_{g}x{g}": partial(prediction_loss, model, sampler, g) for g in self.grids}

    def shares(self, settings: DenoiserTraining) -> Sequence[float]:
        """Of the grids."""
        return settings.grids

    def paint(self, model: Any, neighbors: Tensor, how: Painting, seed: int) -> Tensor:
        """Block by block, as a pipeline does."""
        return paint_many(model, neighbors, how, seed)

    def network_calls(self, how: Painting) -> int:
        """One for all blocks, or one for each; two where guidance looks twice."""
        scale = how.guidance_scale if how.k else 1.0
        return network_calls(default_scheduler(), how.num_inference_steps, scale, how.groups)


@METHODS.register
class Small(Rissole):
    """The same in 4.9 million parameters, half as many."""

    name = "rissole-small"
    changes = {"channels": (64, 128), "canvas_channels": (64, 128)}


class FewSteps(Rissole):
    """The same as a flow map: no preset, since stages of their own make it of another network."""

    name = "few-steps"

    def network_calls(self, how: Painting) -> int:
        """One for all blocks, or one for each: it knows guidance without a second look."""
        return how.num_inference_steps * how.groups


@METHODS.register
class NoHalo(Rissole):
    """Blocks see nothing of those beside them, but for the coarse canvas."""

    name = "no-halo"
    changes = {"halo": 0}


@METHODS.register
class NoCanvas(Rissole):
    """Blocks see their halo alone."""

    name = "no-canvas"
    changes = {"canvas": False}


def prediction_loss(model: BlockDenoiser, sampler: Sampler, grid: int, index: Tensor) -> Tensor:
    """The mean squared error of what the model predicts for one batch of pictures (B,)."""
    batch = sampler.batch(index, grid)
    clean = batch.clean
    state, noise, active = sampler.state(clean, grid)
    count = {1: 1, 2: 4, 4: sampler.settings.windows}[grid]
    blocks = sampler.blocks(active, batch.own, count)
    device = clean.device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        features = model.encode_neighbors(batch.neighbors)
        output, _ = model(state._replace(aims=batch.aims), features, batch.visible, blocks)
    halo = model.config.halo
    mask = loss_mask(state, active, blocks, halo)
    level = per_cell(state.levels, clean.shape[-1])[:, None]
    wanted = PREDICTIONS[model.prediction_type].target(clean, noise, 1 - level, level)
    target = take(crop_windows(wanted, grid, halo), blocks)
    error = (output.float() - target).square().mean(2) * mask
    return error.sum() / mask.sum().clamp(min=1)
