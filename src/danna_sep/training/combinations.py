"""The sums of stems that losses look at, and which of them are known where not all stems are.

Songs may lack the truth of some stems. `annotated` says what is known of each item, as a mask of
the sources (batch, source) or of the combinations (batch, combination). Each item averages over the combinations it
knows; an item that knows none adds nothing, and the mean is over all items. A loss reads of the stems only their sums
over known combinations: a song of which only the accompaniment is known has it in the place of any one of drums, bass
and other, and states the combinations {vocals} and {drums, bass, other}.
"""

from __future__ import annotations

from itertools import chain, combinations
from typing import Final, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from danna_sep.shapes import Mixture, Stems
from danna_sep.types import SOURCES

COMBINATIONS: Final = tuple(
    chain.from_iterable(combinations(range(len(SOURCES)), n_members) for n_members in range(1, len(SOURCES)))
)
"""Every proper subset of the sources, as indices into `SOURCES`: each by itself, then pairs, then triples."""

Annotated: TypeAlias = Bool[Tensor, "batch known"]
"""Of each source, or of each combination, whether it is known."""


def membership(like: Tensor) -> Float[Tensor, "combination source"]:
    """One where a source is in a combination, else zero: B of `losses`."""
    rows = [[float(source in members) for source in range(len(SOURCES))] for members in COMBINATIONS]
    return torch.tensor(rows, dtype=like.dtype, device=like.device)


def combinations_of(
    annotated: Bool[Tensor, "*batch source"], with_mixture: bool | Bool[Tensor, "*batch"] = False
) -> Bool[Tensor, "*batch combination"]:
    """Which combinations are known if these sources are: those whose members all are.

    Args:
        annotated: Whether a source is known.
        with_mixture: So is the mixture, of all items or of each, hence what it holds besides: then also those that hold
            all sources that are not annotated. Their sums are right in the stems of `with_remainder`.
    """
    n_missing = (~annotated).sum(-1, keepdim=True)
    member = membership(torch.zeros((), device=annotated.device))
    n_missing_inside = (~annotated).to(member) @ member.T
    has_rest = torch.as_tensor(with_mixture, device=annotated.device).unsqueeze(-1)
    return (n_missing_inside == 0) | ((n_missing_inside == n_missing) & has_rest)


def with_remainder(stems: Stems, mixture: Mixture, annotated: Bool[Tensor, "*batch source"]) -> Stems:
    """The stems, with what they lack of the mixture in the place of the first that is not annotated."""
    known = stems * annotated[..., None, None]
    missing = ~annotated
    first = missing & (missing.cumsum(-1) == 1)
    remainder = mixture - known.sum(-3)
    return known + first[..., None, None] * remainder.unsqueeze(-3)


def known_combinations(annotated: Annotated | None, stems: Stems) -> Bool[Tensor, "batch combination"]:
    """Which combinations of each item's stems are known, however `annotated` tells it.

    Raises:
        ValueError: It has the shape neither of sources nor of combinations, or there are not four stems.
    """
    if stems.shape[1] != len(SOURCES):
        raise ValueError(f"{stems.shape[1]} stems instead of {len(SOURCES)}")
    n_items = stems.shape[0]
    if annotated is None:
        return torch.ones(n_items, len(COMBINATIONS), dtype=torch.bool, device=stems.device)
    if annotated.shape == (n_items, len(SOURCES)):
        return combinations_of(annotated.to(stems.device))
    if annotated.shape == (n_items, len(COMBINATIONS)):
        return annotated.to(stems.device)
    raise ValueError(f"annotated has the shape {tuple(annotated.shape)}: neither of sources nor of combinations")


def shares(known: Bool[Tensor, "batch known"], like: Tensor) -> Float[Tensor, "batch known"]:
    """What each known thing counts in the mean over them: all that an item knows alike, one in sum if it knows any."""
    counts = known.to(like.dtype)
    return counts / counts.sum(1, keepdim=True).clamp(min=1)


def quadratic(known: Bool[Tensor, "batch combination"], like: Tensor) -> Float[Tensor, "batch source source"]:
    """M of `losses`, of the combinations that each item knows."""
    member = membership(like)
    return torch.einsum("ns,bn,nt->bst", member, shares(known, like), member)
