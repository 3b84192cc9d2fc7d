"""A separator over the segments of one track, one after the other.

Most hear each segment by itself. A mask model's network hears them as one track, and only the Wiener filter works on
segments. A blend waits for the one of its separators that hears furthest ahead; one that would gain by longer segments
gets them meanwhile.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol, runtime_checkable

import torch

from danna_sep.blending import Blend
from danna_sep.cascade import Cascade
from danna_sep.mask_session import MaskSession, hears_on
from danna_sep.memory import apart
from danna_sep.recurring import Recurring
from danna_sep.recurring_session import RecurringSession
from danna_sep.separators import MaskSeparator, Separator, WaveformSeparator
from danna_sep.settled import Settled
from danna_sep.shapes import Mixture, Stems
from danna_sep.signal.blend import Weighted
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
    if grid and isinstance(separator, Recurring):
        return RecurringSession(separator, open_session(separator.separator, grid, n_together), grid, n_together)
    if grid and isinstance(separator, Blend):
        return _open_blended(separator, grid, n_together)
    if grid and isinstance(separator, Cascade) and separator.left:
        first, rest = (open_session(each, grid, n_together) for each in (separator.first, separator.rest))
        if not (isinstance(first, _Apart) and isinstance(rest, _Apart)):
            return _Cascaded(separator, first, rest, n_together)
    if grid and isinstance(separator, MaskSeparator) and hears_on(separator, grid):
        return MaskSession([separator], None, grid, n_together)
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
        self.settled = Settled(grid.hop)
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


def _open_blended(blend: Blend, grid: SegmentGrid, n_together: int) -> Session:
    """A session for each of a blend's separators, but one for all mask separators that hear the same spectrum."""
    alike: defaultdict[object, dict[str, MaskSeparator]] = defaultdict(dict)
    sessions: dict[str, Session] = {}
    for name, each in blend.active.items():
        if isinstance(each, MaskSeparator) and hears_on(each, grid):
            alike[each.transform, each.device][name] = each
        else:
            sessions[name] = open_session(each, grid, n_together)
    if not alike and all(isinstance(session, _Apart) for session in sessions.values()):
        return _Apart(blend, n_together)
    masking = [
        MaskSession(list(some.values()), [blend.shares(name) for name in some], grid, n_together)
        for some in alike.values()
    ]
    return _Blended(blend, masking, {name: _in_long(session, grid) for name, session in sessions.items()})


class _Blended:
    """The sessions of a blend.

    Args:
        blend: Of which they are.
        masking: Those whose stems are weighted sums already.
        sessions: The others, by their separators' names.
    """

    def __init__(self, blend: Blend, masking: Sequence[MaskSession], sessions: Mapping[str, Session]) -> None:
        self.blend, self.masking, self.sessions = blend, masking, sessions
        # A session hears no more than what it is asked for depends on: mixtures wait in less memory than what it would
        # make of them until those that hear farther ahead are ready.
        self.unheard: list[tuple[Session, deque[tuple[Mixture, bool]]]] = [
            (session, deque()) for session in (*masking, *sessions.values())
        ]

    def hear(self, segment: Mixture, is_last: bool) -> None:
        for _, waiting in self.unheard:
            waiting.append((segment, is_last))

    def n_ready(self, most: int) -> int:
        for session, waiting in self.unheard:
            while (n_ready := session.n_ready(most)) < most and waiting:
                session.hear(*waiting.popleft())
            most = n_ready
        return most

    def separate(self, n_segments: int) -> Iterator[Stems]:
        for _ in range(n_segments):
            yield self.blend.total(self._weighted())

    def _weighted(self) -> Iterator[Weighted]:
        """Of one segment, one after the other."""
        for masking in self.masking:
            for stems in masking.separate(1):
                yield self.blend.placed(stems, masking.sources)
        for name, session in self.sessions.items():
            for stems in session.separate(1):
                yield self.blend.weighted(name, stems)


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
