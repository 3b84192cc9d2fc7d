"""Blocks of a mixture in, blocks of its stems out, in memory that does not depend on the length.

Knows separators, and nothing of files. The grid of segments is fixed by their length and overlap: the result
does not depend on how the mixture is cut into blocks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch

from danna_sep import threads
from danna_sep.errors import Cancelled, ConfigError
from danna_sep.mask_session import only_masks
from danna_sep.memory import BRIEFLY, Store
from danna_sep.options import DEFAULT_OVERLAP
from danna_sep.separators import Separator
from danna_sep.sessions import open_session
from danna_sep.shapes import Mixture, Stems
from danna_sep.signal.overlap_add import SegmentGrid, cut, join
from danna_sep.types import SAMPLE_RATE

DEFAULT_SEGMENT_S = 384 * 1024 / SAMPLE_RATE
"""384 frames of the spectrogram models: the full-size system then stays below 3 GB."""

_SHORT_SEGMENT_S = DEFAULT_SEGMENT_S * 9 / 32

_GRID_STEP = 6144
"""Segments begin at whole frames of the spectrogram models, which then see the frames of the whole track: of those with
hops of 1024 samples, of those with 1536 and of those with 2048."""

_REACH = 8192 - 2048
"""Samples next to a segment's border that its reflection is heard in, through the longest windows with these hops."""


def segment_grid(segment_s: float = DEFAULT_SEGMENT_S, overlap: float = DEFAULT_OVERLAP) -> SegmentGrid:
    """The grid for segments of a length in seconds, with a share of it, 0 to 0.5, as overlap.

    Raises:
        ConfigError: Out of range, or a segment of less than a second.
    """
    if not 1 <= segment_s <= 3600:
        raise ConfigError(f"segment must be from 1 to 3600 s, not {segment_s:g}; for all at once there is --whole")
    if not 0 <= overlap <= 0.5:
        raise ConfigError(f"overlap must be from 0 to 0.5 of a segment, not {overlap:g}")
    n_steps = round(segment_s * SAMPLE_RATE / _GRID_STEP)
    n_shared = max(int(n_steps * overlap), overlap > 0)
    grid = SegmentGrid(n_steps * _GRID_STEP, n_shared * _GRID_STEP)
    # Where little is shared, as much of it as can be keeps the border's reflection out; a quarter is left to fade over.
    return replace(grid, context=max(grid.context, min(_REACH, grid.overlap * 3 // 8)))


def default_segment_s(separator: Separator, overlap: float = DEFAULT_OVERLAP) -> float:
    """Seconds of a segment: a quarter or so, held in so much less memory, where more would change nothing.

    Raises:
        ConfigError: An overlap out of range.
    """
    is_short = only_masks(separator, segment_grid(_SHORT_SEGMENT_S, overlap))
    return _SHORT_SEGMENT_S if is_short else DEFAULT_SEGMENT_S


def stream(
    blocks: Iterable[Mixture],
    separator: Separator,
    grid: SegmentGrid | None,
    *,
    batch: int | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Stems]:
    """Stems of a mixture, block by block as they are settled; together as long as the mixture.

    Args:
        blocks: The mixture, float32, in blocks of any length.
        separator: Hears segments on its own device if it has a `device`; stems come back to the CPU.
        grid: How segments lie; None for the whole mixture as one segment, in memory.
        batch: Segments that it hears together. Where its device has no memory for them it hears half as many, and
            so on from there. None: 8 on a CUDA device, one elsewhere.
        cancelled: Asked before every batch.

    Raises:
        Cancelled: When `cancelled` said so.
        ConfigError: A batch of none, a separator at another rate, or one whose stems are not of its sources or not as
            long as what it heard.
    """
    if batch is not None and batch < 1:
        raise ConfigError(f"a batch has at least one segment, not {batch}")
    if separator.sample_rate != SAMPLE_RATE:
        raise ConfigError(f"the separator works at {separator.sample_rate} Hz; {SAMPLE_RATE} is needed")
    threads.survive_forks()
    device = torch.device(getattr(separator, "device", "cpu"))
    most = batch or (8 if device.type == "cuda" else 1)

    def separated() -> Iterator[tuple[Stems, bool]]:
        with torch.inference_mode():
            session = open_session(separator, grid, most)
        n_given, store = 0, Store(BRIEFLY)
        expected: deque[tuple[int, ...]] = deque()
        for n_heard, (segment, is_last) in enumerate(cut(blocks, grid) if grid else _whole(blocks), 1):
            _go_on(cancelled)
            expected.append((*segment.shape[:-2], len(separator.sources), *segment.shape[-2:]))
            with torch.inference_mode():
                session.hear(_sent(segment, device, store), is_last)
            while n_given < n_heard:
                with torch.inference_mode():
                    n_ready = session.n_ready(most)
                if not n_ready or (n_ready < most and not is_last):
                    break
                _go_on(cancelled)
                with torch.inference_mode():
                    done = deque(stems.cpu() for stems in session.separate(n_ready))
                while done:
                    n_given += 1
                    _check_shape(done[0], expected.popleft())
                    # A copy, so that its consumer may do with it what it likes; those of inference mode may not change.
                    yield done.popleft().clone(), is_last and n_given == n_heard

    return join(separated(), grid or SegmentGrid(1, 0))


def _go_on(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise Cancelled("cancelled")


def _check_shape(stems: Stems, expected: tuple[int, ...]) -> None:
    if tuple(stems.shape) != expected:
        raise ConfigError(f"the separator gave stems of shape {tuple(stems.shape)}, not {expected}")


def _sent(segment: Mixture, device: torch.device, store: Store) -> Mixture:
    if device.type != "cuda":
        return store.copy(segment).to(device)
    return segment.pin_memory().to(device, non_blocking=True)


def _whole(blocks: Iterable[Mixture]) -> Iterator[tuple[Mixture, bool]]:
    held = list(blocks)
    if held:
        yield torch.cat(held, -1), True
