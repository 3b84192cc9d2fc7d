"""Mask models over the segments of one track: their networks hear it as one, and only the filter works on segments."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from danna_sep.blending import Blend
from danna_sep.memory import BRIEFLY, Store
from danna_sep.models.mask_stream import open_mask_stream
from danna_sep.recurring import Recurring
from danna_sep.separators import MaskSeparator, Separator
from danna_sep.settled import Settled
from danna_sep.shapes import Mixture, Stems
from danna_sep.signal.overlap_add import SegmentGrid
from danna_sep.signal.stem_sum import StemSum
from danna_sep.types import SOURCES

_TOGETHER = 64
"""Frames whose masks are added at once to those of other networks: all would take as much memory as those."""


def hears_on(separator: MaskSeparator, grid: SegmentGrid) -> bool:
    """Whether segments share enough frames that a network can hear them as one track, without their borders."""
    hop = separator.hop_length
    return (
        not separator.model.training
        and separator.block_frames is None
        and grid.hop % hop == grid.overlap % hop == 0
        and grid.overlap // hop // 2 * hop >= separator.n_fft // 2
    )


@runtime_checkable
class _Asking(Protocol):
    """A separator that asks another."""

    def only_masks(self, grid: SegmentGrid) -> bool:
        """As the function."""


def only_masks(separator: Separator, grid: SegmentGrid) -> bool:
    """Whether stems do not depend on how segments lie, but for rounding.

    What is heard as one track is only masked, not filtered, and what their borders' reflections are heard in is not
    used.
    """
    if isinstance(separator, _Asking):
        return separator.only_masks(grid)
    if isinstance(separator, Recurring):
        return only_masks(separator.separator, grid)
    if isinstance(separator, Blend):
        return all(only_masks(each, grid) for each in separator.active.values())
    return (
        isinstance(separator, MaskSeparator)
        and not separator.n_iterations
        and hears_on(separator, grid)
        and grid.context >= separator.n_fft - separator.hop_length
    )


class MaskSession:
    """The weighted sum of mask separators that hear one spectrum, of which stems are made once.

    Args:
        separators: All of the same `transform`, and of which each `hears_on`.
        shares: For each of them what its sources count; None for one that is alone.
        grid: How segments lie.
        n_together: See `open_mask_stream`.
    """

    def __init__(
        self,
        separators: Sequence[MaskSeparator],
        shares: Sequence[Mapping[str, float]] | None,
        grid: SegmentGrid,
        n_together: int,
    ) -> None:
        first, *others = separators
        self.sources = first.sources
        if others:
            self.sources = tuple(s for s in SOURCES if any(s in separator.sources for separator in separators))
        self.transformer = replace(first, sources=self.sources)
        self.hop, self.overlap = (length // first.hop_length for length in (grid.hop, grid.overlap))
        self.networks = [_Network(separator, grid, n_together) for separator in separators]
        self.shares = [None] * len(separators) if shares is None else [_row(each) for each in shares]
        self.segments: deque[Mixture] = deque()
        self.n_frames: deque[int] = deque()
        self.is_first = True

    def hear(self, segment: Mixture, is_last: bool) -> None:
        """See `sessions.Session`."""
        magnitude = self.transformer.nothing_of(segment).size
        self.segments.append(segment)
        self.n_frames.append(magnitude.shape[-1])
        # The outermost frames hear the segment's border: the segments' frames meet where no window reaches it.
        start = 0 if self.is_first else self.overlap // 2
        end = None if is_last else self.hop + self.overlap // 2
        for network in self.networks:
            network.stream.hear(magnitude[..., start:end], is_last)
        self.is_first = False

    def n_ready(self, most: int) -> int:
        """See `sessions.Session`."""
        for network in self.networks:
            most = network.n_ready(self.n_frames, most)
        return most

    def separate(self, n_segments: int) -> Iterator[Stems]:
        """See `sessions.Session`; of `sources`."""
        for _ in range(n_segments):
            segment, n_frames = self.segments.popleft(), self.n_frames.popleft()
            total = self.transformer.nothing_of(segment)
            for network, shares in zip(self.networks, self.shares, strict=True):
                network.add_to(total, n_frames, shares)
            yield self.transformer.stems_of(total, segment)


class _Network:
    """One of the networks, and what is known of its masks."""

    def __init__(self, separator: MaskSeparator, grid: SegmentGrid, n_together: int) -> None:
        self.hop, self.n_iterations = grid.hop // separator.hop_length, separator.n_iterations
        self.stream = open_mask_stream(separator.model, grid.length // separator.hop_length, n_together)
        self.settled = Settled(self.hop)  # what masks are made of, in frames
        self.store = Store(BRIEFLY)

    def n_ready(self, n_frames: Iterable[int], most: int) -> int:
        """Of how many of the next segments, up to `most`, which have so many frames, all masks are known."""
        n_ready = 0
        for length in islice(n_frames, most):
            while self.settled.length < n_ready * self.hop + length:
                settled = self.stream.settled()
                if settled is None:
                    return n_ready
                self.settled.put(self.store.copy(settled))
            n_ready += 1
        return n_ready

    def add_to(self, total: StemSum, n_frames: int, shares: Float[Tensor, " source"] | None) -> None:
        """Masks of the next segment."""
        settled = self.settled.next_segment(n_frames)
        if self.n_iterations or shares is None or not total.has_masks:
            total.add(self.stream.masks(settled), self.n_iterations, shares, in_place=True)
            return
        for start in range(0, n_frames, _TOGETHER):
            total.add_some(self.stream.masks(settled[..., start : start + _TOGETHER]), start, shares)


def _row(shares: Mapping[str, float]) -> Float[Tensor, " source"]:
    return torch.tensor([shares.get(source, 0.0) for source in SOURCES])
