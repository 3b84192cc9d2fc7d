"""The segments of one track, averaged where the track repeats itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from danna_sep.recurring import Recurring
from danna_sep.settled import Settled
from danna_sep.shapes import Mixture, Stems
from danna_sep.signal.overlap_add import Joiner, SegmentGrid
from danna_sep.signal.recurrence import Recurrence

if TYPE_CHECKING:
    from danna_sep.sessions import Session


class RecurringSession:
    """What another session gives is joined, averaged, and given again as the same segments, some seconds later.

    Args:
        separator: Which stems are wanted.
        session: Of the separator whose stems are averaged.
        grid: How segments lie.
        n_together: Segments that it is asked for together.
    """

    def __init__(self, separator: Recurring, session: Session, grid: SegmentGrid, n_together: int) -> None:
        self.separator, self.session, self.n_together = separator, session, n_together
        self.joiner, self.recurrence = Joiner(grid), Recurrence()
        self.grid, self.settled = grid, Settled(grid.hop)
        self.lengths: deque[int] = deque()  # of segments that are heard but not given
        self.unsettled: deque[bool] = deque()  # of those that are not averaged either, whether each is the last

    def hear(self, segment: Mixture, is_last: bool) -> None:
        """See `sessions.Session`."""
        self.lengths.append(segment.shape[-1])
        self.unsettled.append(is_last)
        self.session.hear(segment, is_last)

    def n_ready(self, most: int) -> int:
        """See `sessions.Session`."""
        while (n_ready := self._n_settled(most)) < most and (n_segments := self.session.n_ready(self.n_together)):
            for stems in self.session.separate(n_segments):
                self._settle(stems, self.unsettled.popleft())
        return n_ready

    def separate(self, n_segments: int) -> Iterator[Stems]:
        """See `sessions.Session`."""
        for _ in range(n_segments):
            yield self.settled.next_segment(self.lengths.popleft())

    def _n_settled(self, most: int) -> int:
        starts = range(0, self.settled.length + 1, self.grid.hop)
        ready = (start + length <= self.settled.length for start, length in zip(starts, self.lengths, strict=False))
        return min(most, sum(ready))

    def _settle(self, segment: Stems, is_last: bool) -> None:
        for stems in self.recurrence.push(self.joiner.push(segment, is_last)):
            self.settled.put(self.separator.wanted(stems))
        if is_last:
            for stems in self.recurrence.finish():
                self.settled.put(self.separator.wanted(stems))
