"""A separator over the segments of one track, one after the other.

Most hear each segment by itself. A mask model's network hears them as one track, and only the Wiener filter works on
segments. A blend waits for the one of its separators that hears furthest ahead; one that would gain by longer segments
gets them meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final, Protocol, runtime_checkable

import torch
from torch import Tensor

from danna_sep.allocator import apart
from danna_sep.blending import Blend
from danna_sep.cascade import Cascade
from danna_sep.models.mask_stream import open_mask_stream
from danna_sep.separators import MaskSeparator, Separator, WaveformSeparator
from danna_sep.shapes import Mixture, Stems
from danna_sep.signal.overlap_add import Cutter, Joiner, SegmentGrid

_N_IN_LONG: Final = 3
"""Segments that are heard as one: of each more, all that an encoder gives would have to be held."""


@runtime_checkable
class Session(Protocol):
    """Hears segments, and gives their stems in the same order."""

    def hear(self, segment: Mixture, is_last: bool) -> None:
        """Take the next segment, on the separator's device."""

    def n_ready(self, most: int) -> int:
        """How many segments, up to `most`, can be separated now."""

    def separate(self, n_segments: int) -> Iterator[Stems]:
        """Stems of so many segments, no more than are ready; on the separator's device."""


@runtime_checkable
class _Opening(Protocol):
    """A separator that opens its sessions itself."""

    def session(self, grid: SegmentGrid | None, n_together: int) -> Session:
        """As `open_session`."""


def open_session(separator: Separator, grid: SegmentGrid | None, n_together: int) -> Session:
    """The session for a separator.

    Args:
        separator: Computes without gradients where its caller says so. One that has a method `session` opens its own.
        grid: How segments lie; None for one segment that is the whole track.
        n_together: Segments that it hears together, where it hears them apart. Where its device has no memory
            for them it hears half as many, and so on from there.
    """
    if isinstance(separator, _Opening):
        return separator.session(grid, n_together)
    if grid and isinstance(separator, Blend):
        sessions = {name: open_session(each, grid, n_together) for name, each in separator.active.items()}
        if any(not isinstance(session, _Apart) for session in sessions.values()):
            return _Blended(separator, {name: _in_long(session, grid) for name, session in sessions.items()})
    if grid and isinstance(separator, Cascade) and separator.left:
        first, rest = (open_session(each, grid, n_together) for each in (separator.first, separator.rest))
        if not (isinstance(first, _Apart) and isinstance(rest, _Apart)):
            return _Cascaded(separator, first, rest, n_together)
    if grid and isinstance(separator, MaskSeparator) and _hears_on(separator, grid):
        return _HeardOn(separator, grid, n_together)
    return _Apart(separator, n_together)


class _Apart:
    """Each segment by itself, though several together.

    Attributes:
        most: So many.
    """

    def __init__(self, separator: Separator, most: int) -> None:
        self.separator, self.most = separator, most
        self.segments: deque[Mixture] = deque()

    def hear(self, segment: Mixture, is_last: bool) -> None:
        self.segments.append(segment)

    def n_ready(self, most: int) -> int:
        return min(most, len(self.segments))

    def separate(self, n_segments: int) -> Iterator[Stems]:
        asked = [self.segments.popleft() for _ in range(n_segments)]
        while asked:
            # The last segment may be shorter than the others, so it goes by itself.
            some = [each for each in asked[: self.most] if each.shape == asked[0].shape]
            try:
                stems = [self.separator(some[0])] if len(some) == 1 else self.separator(torch.stack(some))
            except torch.cuda.OutOfMemoryError:
                if len(some) == 1:
                    raise
                self.most = len(some) // 2
            else:
                yield from stems
                del asked[: len(some)]
                continue
            torch.cuda.empty_cache()


class _Settled:
    """What is known of a track, from where the next segment begins."""

    def __init__(self, hop: int) -> None:
        self.hop, self.length = hop, 0
        self.parts: deque[Tensor] = deque()

    def put(self, part: Tensor) -> None:
        """What follows; in memory of its own, if it may stay long."""
        self.parts.append(part)
        self.length += part.shape[-1]

    def next_segment(self, length: int) -> Tensor:
        """Of the next segment. What lies before the one after it is forgotten."""
        taken: list[Tensor] = []
        n_missing = length
        for part in self.parts:
            taken.append(part[..., :n_missing])
            n_missing -= taken[-1].shape[-1]
        n_gone = self.hop
        while self.parts and n_gone:
            part = self.parts.popleft()
            if part.shape[-1] > n_gone:
                self.parts.appendleft(part[..., n_gone:])
            n_gone -= min(n_gone, part.shape[-1])
        self.length -= self.hop - n_gone
        return torch.cat(taken, -1)


class _InLong:
    """Several segments as one long one, heard when the first of them is asked for.

    For a blend, which waits for another separator that hears farther ahead.
    """

    def __init__(self, separator: WaveformSeparator, grid: SegmentGrid) -> None:
        self.separator, self.grid = separator, grid
        self.long = SegmentGrid(_N_IN_LONG * grid.hop + grid.overlap, grid.overlap, grid.context)
        self.cutter, self.joiner = Cutter(self.long), Joiner(self.long)
        self.waiting: deque[tuple[Mixture, bool]] = deque()
        self.lengths: deque[int] = deque()
        self.settled = _Settled(grid.hop)
        self.is_first = True

    def hear(self, segment: Mixture, is_last: bool) -> None:
        self.lengths.append(segment.shape[-1])
        new = segment if self.is_first else segment[..., self.grid.overlap :]
        self.is_first = False
        self.waiting.extend((apart(long), False) for long in self.cutter.push(new))
        if is_last:
            self.waiting.extend((long, True) for long in self.cutter.finish())

    def n_ready(self, most: int) -> int:
        if any(is_last for _, is_last in self.waiting):
            return min(most, len(self.lengths))
        # Known when all that waits was heard; what the first long one settles besides is not counted.
        n_known = self.settled.length + len(self.waiting) * self.long.hop
        starts = range(0, n_known + 1, self.grid.hop)
        n_ready = sum(start + length <= n_known for start, length in zip(starts, self.lengths, strict=False))
        return min(most, n_ready)

    def separate(self, n_segments: int) -> Iterator[Stems]:
        for _ in range(n_segments):
            length = self.lengths.popleft()
            while self.settled.length < length:
                long, is_last = self.waiting.popleft()
                self.settled.put(self.joiner.push(self.separator.in_windows(long, self.grid.length // 2), is_last))
            yield self.settled.next_segment(length)


def _in_long(session: Session, grid: SegmentGrid) -> Session:
    """The same for a separator that can hear long segments in windows."""
    if (
        isinstance(session, _Apart)
        and isinstance(session.separator, WaveformSeparator)
        and session.separator.has_windows
    ):
        return _InLong(session.separator, grid)
    return session


class _HeardOn:
    """Masks of the whole track, filtered by segments."""

    def __init__(self, separator: MaskSeparator, grid: SegmentGrid, n_together: int) -> None:
        self.separator = separator
        self.hop, self.overlap = (length // separator.hop_length for length in (grid.hop, grid.overlap))
        self.stream = open_mask_stream(separator.model, grid.length // separator.hop_length, n_together)
        self.segments: deque[Mixture] = deque()
        self.n_frames: deque[int] = deque()
        self.settled = _Settled(self.hop)  # what their masks are made of, in frames
        self.is_first = True

    def hear(self, segment: Mixture, is_last: bool) -> None:
        magnitude = self.separator.spectrum(segment).abs()
        self.segments.append(segment)
        self.n_frames.append(magnitude.shape[-1])
        # The outermost frames hear the segment's border: the segments' frames meet where no window reaches it.
        start = 0 if self.is_first else self.overlap // 2
        end = None if is_last else self.hop + self.overlap // 2
        self.stream.hear(magnitude[..., start:end], is_last)
        self.is_first = False

    def n_ready(self, most: int) -> int:
        for index, n_frames in enumerate(self.n_frames):
            if index == most:
                return most
            while self.settled.length < index * self.hop + n_frames:
                settled = self.stream.settled()
                if settled is None:
                    return index
                self.settled.put(apart(settled))
        return len(self.n_frames)

    def separate(self, n_segments: int) -> Iterator[Stems]:
        for _ in range(n_segments):
            segment, n_frames = self.segments.popleft(), self.n_frames.popleft()
            masks = self.stream.masks(self.settled.next_segment(n_frames))
            yield self.separator.filtered(segment, self.separator.spectrum(segment), masks, in_place=True)


class _Blended:
    """Each separator of a blend in a session of its own."""

    def __init__(self, blend: Blend, sessions: Mapping[str, Session]) -> None:
        self.blend, self.sessions = blend, sessions

    def hear(self, segment: Mixture, is_last: bool) -> None:
        for session in self.sessions.values():
            session.hear(segment, is_last)

    def n_ready(self, most: int) -> int:
        for session in self.sessions.values():
            most = session.n_ready(most)
        return most

    def separate(self, n_segments: int) -> Iterator[Stems]:
        for _ in range(n_segments):
            # One after the other, stems not spectra: to add up spectra would spare transforms, and hold twice as much.
            yield self.blend.blended(
                (name, stems) for name, session in self.sessions.items() for stems in session.separate(1)
            )


class _Cascaded:
    """What the first of two leaves of each segment goes to the second as soon as it is known."""

    def __init__(self, cascade: Cascade, first: Session, rest: Session, n_together: int) -> None:
        self.cascade, self.first, self.rest, self.n_together = cascade, first, rest, n_together
        self.segments: deque[tuple[Mixture, bool]] = deque()  # that the second has not heard
        self.taken: deque[Stems] = deque()  # of those that it has

    def hear(self, segment: Mixture, is_last: bool) -> None:
        self.first.hear(segment, is_last)
        self.segments.append((segment, is_last))

    def n_ready(self, most: int) -> int:
        while n_ready := self.first.n_ready(self.n_together):
            for taken in self.first.separate(n_ready):
                segment, is_last = self.segments.popleft()
                self.rest.hear(segment - taken.sum(-3), is_last)
                self.taken.append(taken)
        return self.rest.n_ready(most)

    def separate(self, n_segments: int) -> Iterator[Stems]:
        for rest in self.rest.separate(n_segments):
            yield self.cascade.joined(self.taken.popleft(), rest)


def _hears_on(separator: MaskSeparator, grid: SegmentGrid) -> bool:
    """Whether segments share enough frames that a network can hear them as one track, without their borders."""
    hop = separator.hop_length
    return (
        not separator.model.training
        and separator.block_frames is None
        and grid.hop % hop == grid.overlap % hop == 0
        and grid.overlap >= separator.n_fft
    )
