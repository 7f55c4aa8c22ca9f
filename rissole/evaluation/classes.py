"""Whether images show what they were asked to."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


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
