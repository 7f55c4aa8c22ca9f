"""VICReg: a loss of two views that needs neither labels nor negatives (arXiv 2105.04906)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def vicreg(a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """VICReg's three terms (Bardes et al., 2022) with the paper's weights 25, 25, 1.

    Args:
        a: (B, D) projections of one view of B photos.
        b: (B, D) projections of another view of the same photos, in the same order.
    """
    return {
        "invariance": 25 * F.mse_loss(a, b),
        "variance": 25 * (_spread_loss(a) + _spread_loss(b)) / 2,
        "covariance": _covariance_loss(a) + _covariance_loss(b),
    }


def _spread_loss(x: Tensor) -> Tensor:
    return F.relu(1 - (x.var(dim=0) + 1e-4).sqrt()).mean()


def _covariance_loss(x: Tensor) -> Tensor:
    x = x - x.mean(dim=0)
    covariance = x.T @ x / (len(x) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / x.shape[1]
