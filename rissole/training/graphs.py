"""Training steps replayed as CUDA graphs.

A step of a compact network is some thousand small kernels; launching them one by one from Python
takes several times as long as running them. A graph records the launches once and replays them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class Replay:
    """A function of tensors whose kernels are recorded at the first call and replayed afterwards.

    Elsewhere than on CUDA it is the function itself.

    Args:
        function: takes tensors of fixed shapes, returns a dict of tensors; it may change others in
            place (gradients, buffers), must not read values back, and draws random numbers from
            `generator` or torch's own only.
        generator: on the function's device.
        pool: memory that it shares with others of which one runs at a time.
    """

    def __init__(
        self,
        function: Callable[..., dict[str, Tensor]],
        generator: torch.Generator,
        pool: Any = None,
    ):
        self.function, self.generator, self.pool = function, generator, pool
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: Tensor) -> dict[str, Tensor]:
        """The function's results; the next call of any that share memory overwrites them."""
        if self.generator.device.type != "cuda":
            return self.function(*inputs)
        if self.graph is None:
            self._record(inputs)
        for kept, new in zip(self.inputs, inputs, strict=True):
            kept.copy_(new)
        assert self.graph is not None
        self.graph.replay()
        return self.outputs

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        """Runs the function a few times, so that libraries choose their kernels, and records it.

        Random numbers go on as if it had not: who resumes a training records once more.
        """
        device = self.generator.device
        self.inputs = [tensor.clone() for tensor in inputs]
        drawn, own = self.generator.get_state(), torch.cuda.get_rng_state(device)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.function(*self.inputs)
        torch.cuda.current_stream().wait_stream(side)
        self.generator.set_state(drawn)
        torch.cuda.set_rng_state(own, device)
        self.graph = torch.cuda.CUDAGraph()
        self.graph.register_generator_state(self.generator)
        # NCCL's own thread asks for events now and then, which would spoil a "global" recording
        mode = "thread_local" if torch.distributed.is_initialized() else "global"
        with torch.cuda.graph(self.graph, pool=self.pool, capture_error_mode=mode):
            self.outputs = self.function(*self.inputs)


def replays(
    functions: Sequence[Callable[..., dict[str, Tensor]]], generator: torch.Generator
) -> list[Replay]:
    """A replay of each function; they share memory, so only one runs at a time."""
    pool = torch.cuda.graph_pool_handle() if generator.device.type == "cuda" else None
    return [Replay(function, generator, pool) for function in functions]
