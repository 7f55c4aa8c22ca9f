"""A way to paint: a network, its loss, its painting and its count of calls, in one place.

`train --stage denoiser --preset NAME` trains one, `compare` measures all that were trained. A class
that registers itself is both:

    @METHODS.register
    class Mine(Method):
        name = "mine"
        network = MyNetwork
        ...
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from rissole.config import RissoleError
from rissole.models.saving import SavedNetwork
from rissole.registry import Registry
from rissole.training.bulk import Painting
from rissole.training.hyperparameters import DenoiserTraining
from rissole.training.settings import checked
from rissole.training.situations import Sampler

Loss = Callable[[Tensor], Tensor]  # of the numbers of the pictures in a batch


class Method(ABC):
    """A way to paint.

    Attributes:
        name: of the preset.
        network: what is trained.
        changes: settings of the network that make it this one.
        fixed: settings that follow from the data, or the method.
    """

    name: ClassVar[str]
    network: ClassVar[type[SavedNetwork]]
    changes: ClassVar[Mapping[str, Any]] = {}
    fixed: ClassVar[frozenset[str]] = frozenset({"latent_channels", "latent_size"})

    def config(self, model: Mapping[str, Any]) -> Any:
        """Settings of the network, from those a user gave.

        Raises:
            RissoleError: for what is no setting of it.
        """
        found: Any = checked(model, self.network.config_class, "model", self.fixed)
        return replace(found, **self.changes)

    def inputs(self, settings: DenoiserTraining, data: Mapping[str, Tensor]) -> dict[str, Any]:
        """Settings of the network that follow from how, and on which latents, it is trained."""
        return {}

    def build(
        self,
        latents: Tensor,
        model: Mapping[str, Any],
        inputs: Mapping[str, Any] | None = None,
    ) -> SavedNetwork:
        """A new network for latents (N, C, S, S).

        Args:
            latents: what it will work on.
            model: settings that a user gave.
            inputs: of `inputs`.

        Raises:
            RissoleError: for settings that no network can have.
        """
        channels, size = latents.shape[1:3]
        config = replace(
            self.config(model), latent_channels=channels, latent_size=size, **(inputs or {})
        )
        try:
            network = self.network(config)
            if not all(weights.numel() for weights in network.parameters()):
                raise ValueError("a layer would have no weights")
            return network
        except (RuntimeError, ValueError, IndexError, ZeroDivisionError) as error:
            reason = " ".join(str(error).split())[:200]
            raise RissoleError(f"no network has these settings: {reason}") from error

    @staticmethod
    def told_changes(settings: DenoiserTraining, data: Mapping[str, Tensor]) -> dict[str, Any]:
        """Of `inputs`, how pictures were changed, where they are: settings of networks that ask."""
        changed = settings.plain < 1 and "ways" in data
        return {"augmentation": data["ways"].shape[1]} if changed else {}

    @abstractmethod
    def losses(self, model: SavedNetwork, sampler: Sampler) -> dict[str, Loss]:
        """Kinds of training steps by name; each draws from the sampler."""

    def shares(self, settings: DenoiserTraining) -> Sequence[float]:
        """How often each kind is taken."""
        return (1.0,)

    @abstractmethod
    def paint(self, model: SavedNetwork, neighbors: Tensor, how: Painting, seed: int) -> Tensor:
        """Paints a picture for each row of neighbors.

        Args:
            model: of this method.
            neighbors: (N, K, C, S, S) latents, nearest first.
            how: order, steps and the like.
            seed: picture i has the noise of seed + i.

        Returns:
            Latents (N, C, S, S), float32 on the CPU.
        """

    @abstractmethod
    def network_calls(self, how: Painting) -> int:
        """Evaluations of the network for one picture."""

    def neighbors_shown(self, model: SavedNetwork, k: int) -> int:
        """How many neighbors to hand it; some look at a fixed number or at none."""
        return k


METHODS: Registry[type[Method]] = Registry("--preset")
