"""The networks of a bundle as ONNX graphs: one for each thing that a painter asks of them.

Shapes: one picture, K neighbors (1 to 16), n blocks; C channels, S cells a side, g blocks a side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rissole.config import GRIDS, MAX_NEIGHBORS
from rissole.models.autoencoder import Codec
from rissole.models.denoiser import Denoiser, NeighborFeatures
from rissole.models.interface import Aims, State
from rissole.retrieval.encoders import QueryEncoder

OPSET = 20
FEATURES = ("aligned", "tokens", "canvas")
ASKED = ("ends", "guidance", "strength")  # what a network may have inputs for, see `Aims`


@dataclass(frozen=True)
class Graph:
    """A network with an example of what it is given.

    Attributes:
        network: takes tensors, gives tensors.
        inputs: an example of each, by name, in order.
        outputs: names.
        dynamic: for each input the axes that may have another length: 3 for "k" says that the
            input's axis 3 has as many entries as there are neighbors.
    """

    network: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    dynamic: dict[str, dict[int, str]] = field(default_factory=dict)


class Call(nn.Module):
    """A function of tensors as a module; the networks that it uses are its parts."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, *tensors: Tensor) -> Any:
        """What the function returns."""
        return self.function(*tensors)


def graphs_of(codec: Codec, denoiser: Denoiser, encoder: QueryEncoder) -> dict[str, Graph]:
    """All graphs of a bundle, by name.

    Args:
        codec: makes `encoder` and `decoder`.
        denoiser: makes `neighbors`, a `step` for each grid, and `blind` (see `sampling`).
        encoder: what pictures are compared by, makes `embed`.
    """
    c, size, _ = denoiser.latent_shape
    pixels = torch.zeros(1, 3, size * codec.vae_scale_factor, size * codec.vae_scale_factor)
    latents = torch.zeros(1, c, size, size)
    network = {"codec": codec}
    graphs = {
        "encoder": Graph(Call(codec.encode, **network), {"pixels": pixels}, ("latents",)),
        "decoder": Graph(Call(codec.decode, **network), {"latents": latents}, ("pixels",)),
        "embed": Graph(
            Call(encoder, **({"encoder": encoder} if isinstance(encoder, nn.Module) else {})),
            {"pixels": pixels, "latents": latents},
            ("vector",),
        ),
        "neighbors": Graph(
            Call(lambda latents: tuple(denoiser.encode_neighbors(latents)), denoiser=denoiser),
            {"latents": torch.zeros(1, 3, c, size, size)},
            FEATURES,
            {"latents": {1: "k"}},
        ),
        "blind": blind_graph(denoiser),
    }
    return graphs | {f"step{grid}": step_graph(denoiser, grid) for grid in GRIDS}


def step_graph(denoiser: Denoiser, grid: int) -> Graph:
    """One evaluation of the windows of some blocks, whatever the order.

    Inputs as in `State`, the flags as float32, and of `ASKED` what the network knows.
    """
    c, size, _ = denoiser.latent_shape
    asked = asked_of(denoiser)
    blocks, k = min(grid**2, 3), 3
    with torch.no_grad():
        features = denoiser.encode_neighbors(torch.zeros(1, k, c, size, size))
    cells = torch.ones(1, grid, grid)
    inputs = {
        "sample": torch.zeros(1, c, size, size),
        "levels": cells,
        "present": cells.clone(),
        "context": torch.ones(1),
        "visible": torch.ones(1, grid, grid, k, dtype=torch.bool),
        "index": torch.arange(blocks),
        **dict(zip(FEATURES, features, strict=True)),
        **{name: torch.ones(1) if name == "guidance" else cells.clone() for name in asked},
    }

    def evaluate(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        given = dict(zip(inputs, tensors, strict=True))
        aims = Aims(**{name: given[name] for name in asked})
        flags = given["present"] > 0.5, given["context"] > 0.5
        state = State(given["sample"], given["levels"], *flags, aims=aims)
        near = NeighborFeatures(*(given[name] for name in FEATURES))
        windows, share = denoiser(state, near, given["visible"], given["index"][None], weights=True)
        assert share is not None
        return windows[0], share[0]

    axes: dict[str, dict[int, str]] = {name: {3: "k"} for name in ("visible", *FEATURES)}
    if grid > 1:
        axes["index"] = {0: "n"}
    return Graph(Call(evaluate, denoiser=denoiser), inputs, ("windows", "share"), axes)


def blind_graph(denoiser: Denoiser) -> Graph:
    """What guides: the canvas as one block that sees neither a coarse view nor neighbors."""
    c, size, _ = denoiser.latent_shape
    with torch.no_grad():
        shapes = [f.shape for f in denoiser.encode_neighbors(torch.zeros(1, 1, c, size, size))]

    def evaluate(sample: Tensor, level: Tensor) -> Tensor:
        cells = level.view(1, 1, 1)
        state = State(sample, cells, cells >= 0, torch.zeros(1, dtype=torch.bool))
        near = NeighborFeatures(*(sample.new_zeros(shape) for shape in shapes))
        nobody = torch.zeros(1, 1, 1, 1, dtype=torch.bool)
        windows, _ = denoiser(state, near, nobody, torch.zeros(1, 1, dtype=torch.long))
        return windows[:, 0]

    inputs = {"sample": torch.zeros(1, c, size, size), "level": torch.ones(1)}
    return Graph(Call(evaluate, denoiser=denoiser), inputs, ("answer",))


def asked_of(denoiser: Denoiser) -> list[str]:
    """Those of `ASKED` that a denoiser has an input for."""
    knows = denoiser.config
    return [*(ASKED[:2] if knows.flow_map else ()), *(ASKED[2:] if knows.strength else ())]


def record(graph: Graph, path: Path) -> None:
    """Writes a graph with its weights inside."""
    lengths = {"k": MAX_NEIGHBORS, "n": max(GRIDS) ** 2}
    dims = {name: torch.export.Dim(name, min=1, max=most) for name, most in lengths.items()}
    shapes = tuple(
        {axis: dims[length] for axis, length in graph.dynamic.get(name, {}).items()}
        for name in graph.inputs
    )
    example = tuple(graph.inputs.values())
    with torch.no_grad():
        # in two steps: in one, what cannot be recorded for all lengths is recorded for one of them
        traced = torch.export.export(graph.network.eval(), example, dynamic_shapes=(shapes,))
        program = torch.onnx.export(
            traced,
            dynamo=True,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    program.save(str(path), external_data=False)
