"""Weighted sum of several estimates of the same stems."""

from __future__ import annotations

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor

from danna_sep.shapes import Stems


def blend(weighted: Iterable[tuple[Stems, Float[Tensor, " source"]]]) -> Stems:
    """Sum over models of weight x estimate, a weight per model and source.

    Args:
        weighted: Estimates with their weights. They are taken one after the other, so that a generator keeps one at a
            time in memory.

    Raises:
        ValueError: There are none.
    """
    total: Stems | None = None
    for estimate, row in weighted:
        shares = row.to(estimate)[:, None, None]
        if total is None or total.dtype != estimate.dtype:
            share = estimate * shares
            total = share if total is None else total + share
        else:
            total.addcmul_(estimate, shares)
    if total is None:
        raise ValueError("nothing to blend")
    return total
