"""Weighted sum of several estimates of the same stems."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from danna_sep.shapes import Stems


class Weighted(NamedTuple):
    """An estimate, and what it counts.

    Attributes:
        estimate: Stems.
        row: Their weights; None: 1, and the stems may be used up.
        places: Which of the sum's stems they are part of; None for all of them.
    """

    estimate: Float[Tensor, "*batch _source channel time"]
    row: Float[Tensor, " _source"] | None
    places: Sequence[int] | None = None


def blend(weighted: Iterable[Weighted | tuple[Stems, Float[Tensor, " source"]]], n_sources: int | None = None) -> Stems:
    """Sum over models of weight x estimate, a weight per model and source.

    Args:
        weighted: Estimates with their weights. They are taken one after the other, so that a generator keeps one at a
            time in memory.
        n_sources: Stems of the sum, if the first estimate is of some of them.

    Raises:
        ValueError: There are none.
    """
    total: Stems | None = None
    for estimate, row, places in (Weighted(*each) for each in weighted):
        if total is None and places is None:
            total = estimate if row is None else estimate * row.to(estimate)[:, None, None]
            continue
        if total is None:
            total = estimate.new_zeros(*estimate.shape[:-3], n_sources or estimate.shape[-3], *estimate.shape[-2:])
        kind = torch.promote_types(total.dtype, estimate.dtype)
        total, estimate = total.to(kind), estimate.to(kind)
        shares = torch.ones(estimate.shape[-3]) if row is None else row
        shares = shares.to(estimate)[:, None, None]
        if places is None:
            total.addcmul_(estimate, shares)
        for index, place in enumerate(places or ()):
            total.select(-3, place).addcmul_(estimate.select(-3, index), shares[index])
    if total is None:
        raise ValueError("nothing to blend")
    return total
