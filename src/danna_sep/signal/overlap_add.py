"""Segments on a fixed grid, and their results joined by cross-fades.

A segment shares `overlap` samples with the next. Some of that on either side is context that a model only hears; over
what is in between, one result fades linearly into the other. Weights of all segments sum to one at every sample, so
joining undoes cutting; the grid depends on nothing but its lengths.
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
        context: Samples at an inner border that carry no weight; by default an eighth of `overlap`.
    """

    length: int
    overlap: int
    context: int = -1

    def __post_init__(self) -> None:
        if self.context < 0:
            object.__setattr__(self, "context", self.overlap // 8)
        if not 0 <= 2 * self.overlap <= self.length or self.length < 1:
            raise ValueError(f"overlap {self.overlap} must be from 0 to half of length {self.length}")

    @property
    def hop(self) -> int:
        """Samples from segment to segment."""
        return self.length - self.overlap

    @property
    def fade(self) -> int:
        """Samples over which two segments cross-fade."""
        return self.overlap - 2 * self.context

    def n_segments(self, n_samples: int) -> int:
        """Segments that cover a signal; the last is longer than the overlap."""
        return max(1, -(-(n_samples - self.overlap) // self.hop))


class Cutter:
    """Cuts segments out of a signal that comes in blocks of any length; holds less than a segment and a block."""

    def __init__(self, grid: SegmentGrid) -> None:
        self.grid = grid
        self._held: list[Tensor] = []
        self._n_held = 0

    def push(self, block: Float[Tensor, "*axes _time"]) -> Iterator[Float[Tensor, "*axes _segment"]]:
        """Segments that are complete with a block, but never the last of the signal."""
        self._held.append(block)
        self._n_held += block.shape[-1]
        while self._n_held > self.grid.length:
            joined = torch.cat(self._held, -1)
            self._held = [joined[..., self.grid.hop :]]
            self._n_held -= self.grid.hop
            yield joined[..., : self.grid.length]

    def finish(self) -> Iterator[Float[Tensor, "*axes _segment"]]:
        """The last segment, unless there was no signal."""
        if self._n_held:
            yield torch.cat(self._held, -1)


class Joiner:
    """Adds up what segments' results give, each from where the one before it left off."""

    def __init__(self, grid: SegmentGrid) -> None:
        self.grid = grid
        self._tail: Tensor | None = None

    def push(self, segment: Float[Tensor, "*axes _time"], is_last: bool) -> Float[Tensor, "*axes _settled"]:
        """What the next segment's result settles."""
        grid, start = self.grid, 0
        if self._tail is not None:
            start = grid.context
            segment = segment[..., start:]
            faded = self._tail + segment[..., : grid.fade] * _ramp(grid.fade, segment)
            segment = torch.cat((faded, segment[..., grid.fade :]), -1)
        if is_last:
            return segment
        settled = grid.hop + grid.context - start
        tail = segment[..., settled : settled + grid.fade]
        self._tail = tail * (1 - _ramp(grid.fade, segment))
        return segment[..., :settled]


def cut(
    blocks: Iterable[Float[Tensor, "*axes _time"]], grid: SegmentGrid
) -> Iterator[tuple[Float[Tensor, "*axes time"], bool]]:
    """Segments of a signal that comes in blocks of any length, and whether each is the last."""
    cutter = Cutter(grid)
    for block in blocks:
        for segment in cutter.push(block):
            yield segment, False
    for segment in cutter.finish():
        yield segment, True


def join(
    segments: Iterable[tuple[Float[Tensor, "*axes _time"], bool]], grid: SegmentGrid
) -> Iterator[Float[Tensor, "*axes _out"]]:
    """What the segments' results add up to, as far as each settles it; the inverse of `cut`.

    Keeps no result while the next one is made.
    """
    joiner = Joiner(grid)
    for segment, is_last in segments:
        settled = joiner.push(segment, is_last)
        del segment
        yield settled
        del settled


def _ramp(n_samples: int, like: Tensor) -> Float[Tensor, " time"]:
    """From just above 0 to just below 1, symmetric."""
    return (torch.arange(n_samples, dtype=like.dtype, device=like.device) + 0.5) / n_samples
