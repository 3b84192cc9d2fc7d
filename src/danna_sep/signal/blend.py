"""Weighted sum of several estimates of the same stems."""

from __future__ import annotations

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor

from danna_sep.shapes import Stems


def blend(estimates: Iterable[Stems], weights: Float[Tensor, "model source"]) -> Stems:
    """Sum over models of weight x estimate, a weight per model and source.

    Estimates are taken one after the other, so that a generator keeps one at a time in memory.

    Raises:
        ValueError: Not one estimate per row of weights.
    """
    total: Stems | None = None
    for estimate, row in zip(estimates, weights, strict=True):
        shares = row.to(estimate)[:, None, None]
        if total is None or total.dtype != estimate.dtype:
            weighted = estimate * shares
            total = weighted if total is None else total + weighted
        else:
            total.addcmul_(estimate, shares)
    if total is None:
        raise ValueError("nothing to blend")
    return total
