"""Who teaches a flow map, and on what: a trained denoiser with guidance."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rissole.blocks import blend_active, per_cell
from rissole.models.asked import step_features
from rissole.models.denoiser import Denoiser, NeighborFeatures
from rissole.models.interface import Aims, State
from rissole.sampling import GUIDANCE_INTERVAL


class Scene(NamedTuple):
    """What a batch of pictures is taught on.

    Attributes:
        visible: bool (B, g, g, K), the neighbors each block sees.
        active: bool (B, g * g), the blocks being painted.
        strength: (B, g, g), how much to follow the neighbors.
        guidance: (B,).
        parallel: whether all blocks of all pictures are painted in step.
    """

    visible: Tensor
    active: Tensor
    strength: Tensor
    guidance: Tensor
    parallel: bool


class Teacher:
    """A trained denoiser with guidance.

    Args:
        model: in the precision it works in.
        negative: what guidance leads away from, what the model would do knowing less:

            * "blind": the canvas as one block, without a coarse view of it and without neighbors;
              where blocks are painted one after another, without neighbors;
            * "unviewed": with its neighbors, but each block sees no farther than its halo;
            * "both": half of each.
    """

    def __init__(self, model: Denoiser, negative: str):
        self.model, self.negative = model, negative
        # a recorded step cannot ask whether anybody sees the canvas: this one never looks
        self.narrow = copy(model)
        self.narrow._modules = {**model._modules, "canvas": None}

    @torch.no_grad()
    def velocity(self, state: State, features: NeighborFeatures, scene: Scene) -> Tensor:
        """The guided velocity (B, C, S, S) at a state; guidance acts at some levels alone."""
        state = state._replace(aims=Aims(strength=scene.strength))
        seeing = canvas_velocity(self.model, state, features, scene)
        less = self.knowing_less(state, features, scene)
        level = state.levels.flatten(1).masked_fill(~scene.active, 0).amax(1)
        low, high = GUIDANCE_INTERVAL
        acts = (level >= low) & (level <= high)
        scale = 1 + (scene.guidance - 1) * acts
        return less + scale[:, None, None, None] * (seeing - less)

    def knowing_less(self, state: State, features: NeighborFeatures, scene: Scene) -> Tensor:
        """The velocity (B, C, S, S) that guidance leads away from."""
        if not scene.parallel:
            hidden = scene._replace(visible=scene.visible & False)
            return canvas_velocity(self.model, state._replace(aims=Aims()), features, hidden)
        negative = self.negative if state.levels.shape[-1] > 1 else "blind"
        found = []
        if negative != "unviewed":
            found.append(self.blind(state, features, scene))
        if negative != "blind":
            found.append(canvas_velocity(self.narrow, state, features, scene))
        return torch.stack(found).mean(0)

    def blind(self, state: State, features: NeighborFeatures, scene: Scene) -> Tensor:
        """The velocity (B, C, S, S) of the canvas as one block."""
        levels, present = (x[:, :1, :1] for x in (state.levels, state.present))
        canvas = state.canvas.to(next(self.model.parameters()).dtype)
        whole = State(canvas, levels, present, state.context & False)
        one = features._replace(
            aligned=features.aligned[..., :1, :], tokens=features.tokens[..., :1, :]
        )
        index = torch.zeros(len(levels), 1, dtype=torch.long, device=levels.device)
        windows, _ = self.narrow(whole, one, scene.visible[:, :1, :1, :1] & False, index)
        return windows[:, 0].float()


def canvas_velocity(
    model: Denoiser, state: State, features: NeighborFeatures, scene: Scene
) -> Tensor:
    """Velocities (B, C, S, S), float32, from the windows of all blocks being painted."""
    grid, weights = state.levels.shape[-1], next(model.parameters())
    index = torch.arange(grid * grid, device=state.canvas.device).expand(len(state.canvas), -1)
    state = state._replace(canvas=state.canvas.to(weights.dtype))
    windows, _ = model(state, features, scene.visible, index)
    return blend_active(windows.float(), scene.active, state.context, grid, model.config.halo)


def moved(state: State, scene: Scene, level: Tensor, velocity: Tensor) -> State:
    """The state after the blocks being painted went along a velocity to a level (B,)."""
    active = scene.active.view_as(state.levels)
    distance = (state.levels - level[:, None, None]) * active
    canvas = state.canvas - per_cell(distance, state.canvas.shape[-1])[:, None] * velocity
    return state._replace(canvas=canvas, levels=state.levels - distance)


def grown(model: Denoiser, **inputs: Any) -> Denoiser:
    """A network of the same weights that takes more inputs and does the same without them.

    Args:
        model: the smaller one.
        inputs: `flow_map`, `strength` or `augmentation` of its config.
    """
    bigger = Denoiser(replace(model.config, **inputs))
    bigger.load_state_dict({**bigger.state_dict(), **model.state_dict()})
    return bigger.train(model.training)


@torch.no_grad()
def ungrown(model: Denoiser) -> Denoiser:
    """The denoiser that a flow map is where its steps have no length, and without guidance.

    What it is told of a step is then always the same: a bias.
    """
    plain = Denoiser(replace(model.config, flow_map=False))
    known = model.state_dict()
    plain.load_state_dict({name: known[name] for name in plain.state_dict()})
    step: Any = model.asked and model.asked.step
    if step is not None:
        level: Any = plain.level[-1]
        level.bias += step(step_features(torch.zeros(1, 1, 1), Aims()).to(level.bias)).flatten()
    return plain.train(model.training)


def recordable(model: Denoiser) -> Denoiser:
    """The network itself without dropout, in the mode in which its steps can be recorded."""
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return model.train()
