"""What all rows of a comparison share, and what is shown in place of paintings."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from rissole.config import RissoleError
from rissole.data.photos import split
from rissole.evaluation.lite import LiteNetwork
from rissole.evaluation.network import AnyNetwork, FeatureNetwork
from rissole.evaluation.probe import CoherenceProbe, train_probe
from rissole.experiments.cases import Case
from rissole.models.autoencoder import Codec
from rissole.training.bulk import decode_bytes, training_neighbors
from rissole.training.neighborhoods import codec_digest, read_latents

LITE = "lite2"  # measures as well where its weights are installed


class Instruments(NamedTuple):
    """What a run's pictures are decoded and measured with: rows of others do not compare.

    Attributes:
        codec: decodes what is painted.
        networks: measure; those of the run, and EfficientNet-Lite2 where it is installed.
        names: of the networks, which tell them apart.
        digest: of the codec, its decoder included.
    """

    codec: Codec
    networks: dict[str, AnyNetwork]
    names: dict[str, str]
    digest: str

    @classmethod
    def open(cls, run: Path, size: int, device: str) -> Instruments:
        """Reads those of a run for pictures of `size` pixels.

        Raises:
            RissoleError: when the stage `features` was not run, or what a file holds is no network.
        """
        files = [run / f"{name}.safetensors" for name in ("features", "check")]
        networks: dict[str, AnyNetwork] = {
            p.stem: FeatureNetwork.open(p, device) for p in files if p.exists()
        }
        if "features" not in networks:
            raise RissoleError(f"{run}/features.safetensors is missing: run --stage features first")
        with suppress(RissoleError):  # its package is no requirement
            networks[LITE] = LiteNetwork.measuring(LITE, size).to(device)
        codec = Codec.load(run / "autoencoder")
        names = {name: network.name for name, network in networks.items()}
        return cls(codec.to(device), networks, names, codec_digest(codec))


@dataclass
class Bench:
    """What all cases share: photos, latents, codec, networks that measure."""

    run: Path
    train: Tensor
    held: Tensor
    data: dict[str, Tensor]
    codec: Codec
    networks: dict[str, AnyNetwork]
    probe: CoherenceProbe
    device: str
    samples: int
    seed: int

    @classmethod
    def open(
        cls,
        run: Path,
        photos: Tensor,
        instruments: Instruments,
        *,
        samples: int,
        device: str,
        seed: int,
        probe_steps: int,
    ) -> Bench:
        """Reads a run's latents, and trains the probe."""
        train, held = split(photos)
        data = read_latents(run, photos)
        probe = train_probe(train, steps=probe_steps, seed=seed, device=device)
        codec, networks = instruments.codec, instruments.networks
        return cls(run, train, held, data, codec, networks, probe, device, samples, seed)

    def queries(self) -> Tensor:
        """Numbers (N,) of the training pictures whose neighbors guide the samples."""
        generator = torch.Generator().manual_seed(self.seed)
        count = len(self.data["latents"])
        if self.samples <= count:
            return torch.randperm(count, generator=generator)[: self.samples]
        return torch.randint(count, (self.samples,), generator=generator)

    def neighbors(self, case: Case, k: int | None = None) -> Tensor:
        """Latents (N, k, C, S, S) that a case is shown."""
        return NEIGHBORS[case.neighbors](self, case.k if k is None else k)

    def wanted(self, case: Case) -> Tensor | None:
        """Classes (N,) that a case's pictures should show, those of the queries, if known."""
        if "labels" not in self.data:
            return None
        if case.model in UNPAINTED and UNPAINTED[case.model].held_out:
            return self.data["held_labels"][: len(self.held)]
        return self.data["labels"][self.queries()]


def _nearest(bench: Bench, k: int) -> Tensor:
    """The nearest of the queries."""
    return training_neighbors(bench.data, bench.queries(), k)


def _random(bench: Bench, k: int) -> Tensor:
    """Any pictures."""
    generator = torch.Generator().manual_seed(bench.seed + 1)
    latents = bench.data["latents"]
    return latents[torch.randint(len(latents), (bench.samples, k), generator=generator)]


def _of_class(bench: Bench, k: int) -> Tensor:
    """Any pictures of the queries' classes."""
    generator = torch.Generator().manual_seed(bench.seed + 1)
    labels, shape = bench.data["labels"], (bench.samples, k)
    wanted, picked = labels[bench.queries()], torch.empty(shape).long()
    for kind in wanted.unique():
        members = (labels == kind).nonzero()[:, 0]
        draw = torch.randint(len(members), shape, generator=generator)
        picked[wanted == kind] = members[draw][wanted == kind]
    return bench.data["latents"][picked]


NEIGHBORS: dict[str, Callable[[Bench, int], Tensor]] = {
    "nearest": _nearest,
    "random": _random,
    "class": _of_class,
}


class Unpainted(NamedTuple):
    """Pictures that stand in a table beside painted ones.

    Attributes:
        pictures: makes them, uint8 (N, 3, H, W).
        held_out: whether they are all the held-out photos, however many pictures are asked for.
    """

    pictures: Callable[[Bench, Case], Tensor]
    held_out: bool = False


def _reconstructions(bench: Bench, case: Case) -> Tensor:
    """The queries through the autoencoder."""
    latents = bench.data["latents"][bench.queries() % len(bench.train)]
    return decode_bytes(bench.codec, latents.float())


def _copies(bench: Bench, case: Case) -> Tensor:
    """The nearest neighbor of each query."""
    return decode_bytes(bench.codec, bench.neighbors(case)[:, 0].float())


UNPAINTED = {
    "photos": Unpainted(lambda bench, case: bench.held, held_out=True),
    "reconstructions": Unpainted(_reconstructions),
    "nearest neighbor": Unpainted(_copies),
}
