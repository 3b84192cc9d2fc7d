"""Segments on a fixed grid, and their results joined by cross-fades.

A segment shares `overlap` samples with the next. The outer eighth of that on either side is context that a
model only hears; over the three quarters in between, one result fades linearly into the other. Weights of all
segments sum to one at every sample, so joining undoes cutting; the grid depends on nothing but the two lengths.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class SegmentGrid:
    """Segment k covers samples k * hop to k * hop + length, or to the end of the signal.

    Attributes:
        length: Samples that a segment holds.
        overlap: Samples that it shares with the next; at most half of `length`.
    """

    length: int
    overlap: int

    def __post_init__(self) -> None:
        if not 0 <= 2 * self.overlap <= self.length or self.length < 1:
            raise ValueError(f"overlap {self.overlap} must be from 0 to half of length {self.length}")

    @property
    def hop(self) -> int:
        """Samples from segment to segment."""
        return self.length - self.overlap

    @property
    def context(self) -> int:
        """Samples at an inner border that carry no weight."""
        return self.overlap // 8

    @property
    def fade(self) -> int:
        """Samples over which two segments cross-fade."""
        return self.overlap - 2 * self.context

    def n_segments(self, n_samples: int) -> int:
        """Segments that cover a signal; the last is longer than the overlap."""
        return max(1, -(-(n_samples - self.overlap) // self.hop))


def cut(
    blocks: Iterable[Float[Tensor, "*axes _time"]], grid: SegmentGrid
) -> Iterator[tuple[Float[Tensor, "*axes time"], bool]]:
    """Segments of a signal that comes in blocks of any length, and whether each is the last.

    At most one segment and one block are held.
    """
    held: list[Tensor] = []
    n_held = 0
    for block in blocks:
        held.append(block)
        n_held += block.shape[-1]
        while n_held > grid.length:
            joined = torch.cat(held, -1)
            yield joined[..., : grid.length], False
            held = [joined[..., grid.hop :]]
            n_held -= grid.hop
    if n_held:
        yield torch.cat(held, -1), True


def join(
    segments: Iterable[tuple[Float[Tensor, "*axes _time"], bool]], grid: SegmentGrid
) -> Iterator[Float[Tensor, "*axes _out"]]:
    """What the segments' results add up to, as far as each settles it; the inverse of `cut`."""
    tail: Tensor | None = None
    for segment, is_last in segments:
        start = 0
        if tail is not None:
            start = grid.context
            segment = segment[..., start:]
            rise = _ramp(grid.fade, segment)
            faded = tail + segment[..., : grid.fade] * rise
            segment = torch.cat((faded, segment[..., grid.fade :]), -1)
        if is_last:
            yield segment
            return
        settled = grid.hop + grid.context - start
        yield segment[..., :settled]
        tail = segment[..., settled : settled + grid.fade]
        tail = tail * (1 - _ramp(grid.fade, segment))


def _ramp(n_samples: int, like: Tensor) -> Float[Tensor, " time"]:
    """From just above 0 to just below 1, symmetric."""
    return (torch.arange(n_samples, dtype=like.dtype, device=like.device) + 0.5) / n_samples
