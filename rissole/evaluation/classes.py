"""Whether images show what they were asked to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rissole.config import RissoleError
from rissole.data.photos import Labelled
from rissole.evaluation.network import FeatureNetwork


class LinearClassifier(NamedTuple):
    """Least squares from features to classes.

    Attributes:
        weight: (D + 1, classes), the last row a constant; float64.
    """

    weight: Tensor

    @classmethod
    def fit(cls, features: Tensor, labels: Tensor, ridge: float = 1e-2) -> LinearClassifier:
        """Fits to features (N, D) and labels (N,); those of -1 are left out.

        Args:
            features: Of photos.
            labels: Their classes.
            ridge: Weight of the penalty, in units of the features' mean variance.
        """
        known = labels >= 0
        x, y = cls._padded(features[known]), F.one_hot(labels[known]).double()
        penalty = ridge * len(x) * features.double().var(dim=0).mean()
        gram = x.T @ x + penalty * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        return cls(torch.linalg.solve(gram, x.T @ y))

    def predict(self, features: Tensor) -> Tensor:
        """The class (N,) of each of features (N, D)."""
        return (self._padded(features) @ self.weight).argmax(dim=1)

    def margin(self, features: Tensor, wanted: Tensor) -> Tensor:
        """By how much (N,) features (N, D) look like their wanted class (N,), not the next best."""
        score = self._padded(features) @ self.weight
        own = score.gather(1, wanted[:, None])
        return (own - score.scatter(1, wanted[:, None], -torch.inf).amax(1, keepdim=True))[:, 0]

    @staticmethod
    def _padded(features: Tensor) -> Tensor:
        return F.pad(features.double(), (0, 1), value=1.0)


def class_agreement(
    images: Labelled, training: Labelled, held_out: Labelled, network: FeatureNetwork
) -> tuple[dict[str, Any], dict[str, Any]]:
    """How often a linear classifier of photos sees in an image the class that was asked for.

    Args:
        images: with the class each was asked for.
        training: photos with their classes, which the classifier is fitted to.
        held_out: photos with their classes that it has not seen: as far as it can be right.
        network: gives the features.

    Returns:
        For the images, then for the held-out photos: `n`, and the `share` it is right about; of
        the images also the number of `classes`, and `worst`, up to five of the classes with
        the lowest shares, as [name, share].

    Raises:
        RissoleError: without classes, or with one that no training photo has.
    """
    check_classes([], training.classes)
    classifier = LinearClassifier.fit(network.extract(training.photos), training.labels)

    def right(some: Labelled) -> tuple[Tensor, Tensor]:
        wanted = _numbered(some, training.classes)
        known = wanted >= 0
        guessed = classifier.predict(network.extract(some.photos[known]))
        return (guessed == wanted[known]).double(), wanted[known]

    hits, wanted = right(images)
    if not len(hits):
        raise RissoleError("the images have no classes to measure: one folder for each is needed")
    shares = sorted((hits[wanted == n].mean().item(), n) for n in wanted.unique().tolist())
    worst = [[training.classes[n], share] for share, n in shares[:5]]
    figures = {"n": len(hits), "share": hits.mean().item(), "classes": len(shares), "worst": worst}
    floor, _ = right(held_out)
    return figures, {"n": len(floor), "share": floor.mean().item() if len(floor) else None}


def check_classes(asked: Iterable[str], classes: Sequence[str]) -> None:
    """Raises RissoleError for classes that the reference has none of, or where it has none."""
    if not classes:
        raise RissoleError("the reference has no classes: a folder for each, or a column of labels")
    if missing := sorted(set(asked) - set(classes)):
        raise RissoleError(f"the reference has no photo of class {missing[0]!r}")


def _numbered(some: Labelled, classes: list[str]) -> Tensor:
    """Labels (N,) as numbers into other classes; -1 stays."""
    check_classes(some.classes, classes)
    numbers = torch.tensor([classes.index(name) for name in some.classes] + [-1])
    return numbers[some.labels]
