"""Blocks of an input in, blocks of its stems out: at its own rate, with its own channels, in flat memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from danna_sep import audio, presets
from danna_sep.errors import Cancelled, ConfigError, NonFiniteAudio
from danna_sep.options import ACCOMPANIMENT, DEFAULTS, Options
from danna_sep.types import SAMPLE_RATE

if TYPE_CHECKING:
    import torch

    from danna_sep.separators import Separator

Block = npt.NDArray[np.float32]


def stems_of_blocks(
    blocks: Iterable[Block],
    sample_rate: int,
    plan: audio.ChannelPlan,
    separator: Separator,
    options: Options = DEFAULTS,
    *,
    sample_step: float | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[dict[str, Block]]:
    """Blocks of an input (channel, time) to blocks of its stems, at the input's rate and the plan's channels.

    Nothing holds more than a segment and what the resampling filters need. The blocks of all stems that are given
    together are equally long, and all together as long as the input.

    Args:
        blocks: The input's.
        sample_rate: Its rate, Hz.
        plan: What becomes of its channels.
        separator: What separates.
        options: How.
        sample_step: From one sample value to the next where the stems will be written as integers. One stem is then
            rounded before the accompaniment is what is left: two that are rounded by themselves add up to the input
            but for a step here and there.
        cancelled: Asked before a block and before a batch of segments.

    Raises:
        ConfigError: Options out of range, or a separator at another rate; at the call, not at the first block.
        NonFiniteAudio: Stems that are not finite.
        Cancelled: When `cancelled` said so, before a block or a batch of segments.
    """
    from danna_sep.separators import only
    from danna_sep.streaming import default_segment_s, segment_grid, stream

    presets.check_sources(options.computed)
    overlap, segment_s = options.overlap, options.segment_s
    grid = segment_grid(default_segment_s(separator, overlap) if segment_s is None else segment_s, overlap)
    if getattr(separator, "hears_whole_tracks", False) and not options.whole:
        raise ConfigError("this separator was loaded for whole tracks; separate with whole=True, or load it without")
    separator = only(separator, options.computed)
    kept = _Mixture(plan, options.two_stems is not None)
    inward = _Inward(plan, sample_rate)
    outward = _Outward(plan, sample_rate, len(options.computed))

    def mixtures() -> Iterator[torch.Tensor]:
        for block in blocks:
            if cancelled():  # `whole` hears nothing before it has read all
                raise Cancelled("cancelled")
            kept.push(block)
            yield from inward.push(block)
        yield from inward.finish()

    found = stream(mixtures(), separator, None if options.whole else grid, cancelled=cancelled)

    def named() -> Iterator[dict[str, Block]]:
        n_given = 0
        for stems in found:
            _check_finite(stems, n_given)
            n_given += stems.shape[-1]
            yield from _named(outward.push(stems.numpy()), options, kept, sample_step)
            del stems  # the next ones are made meanwhile
        yield from _named(outward.finish(kept.n_frames), options, kept, sample_step)

    return named()


class _Inward:
    """Input blocks -> stereo groups (group, channel, time) at the models' rate."""

    def __init__(self, plan: audio.ChannelPlan, sample_rate: int) -> None:
        self.plan = plan
        self.resampler = audio.StreamResampler(sample_rate, SAMPLE_RATE, 2 * plan.n_groups)

    def push(self, block: Block) -> Iterator[torch.Tensor]:
        groups = self.plan.split(block)
        return self._tensors(self.resampler.push(groups.reshape(-1, block.shape[1])))

    def finish(self) -> Iterator[torch.Tensor]:
        return self._tensors(self.resampler.finish())

    def _tensors(self, rows: Block) -> Iterator[torch.Tensor]:
        import torch

        if rows.shape[1]:
            # A copy: the rows may be the caller's own samples.
            yield torch.from_numpy(rows.reshape(self.plan.n_groups, 2, -1).copy())


class _Outward:
    """Stems (group, source, channel, time) at the models' rate -> (source, channel, time) at the input's."""

    def __init__(self, plan: audio.ChannelPlan, sample_rate: int, n_stems: int) -> None:
        self.plan, self.n_stems = plan, n_stems
        self.resampler = audio.StreamResampler(SAMPLE_RATE, sample_rate, n_stems * plan.n_out)

    def push(self, stems: Block) -> Block:
        joined = np.stack([self.plan.join(stems[:, index]) for index in range(self.n_stems)])
        rows = np.ascontiguousarray(joined.reshape(-1, joined.shape[-1]))
        return self._stems(self.resampler.push(rows))

    def finish(self, n_frames: int) -> Block:
        return self._stems(self.resampler.finish(n_frames))

    def _stems(self, rows: Block) -> Block:
        return rows.reshape(self.n_stems, self.plan.n_out, -1)


class _Mixture:
    """What has been read and not yet given, for the accompaniment; and how much was read."""

    def __init__(self, plan: audio.ChannelPlan, keep: bool) -> None:
        self.plan, self.keep = plan, keep
        self.blocks: deque[Block] = deque()
        self.n_frames = 0

    def push(self, block: Block) -> None:
        self.n_frames += block.shape[1]
        if self.keep:
            self.blocks.append(self.plan.join(self.plan.split(block)))

    def pop(self, n_frames: int) -> Block:
        taken: list[Block] = []
        while n_frames:
            block = self.blocks.popleft()
            if block.shape[1] > n_frames:
                self.blocks.appendleft(block[:, n_frames:])
                block = block[:, :n_frames]
            taken.append(block)
            n_frames -= block.shape[1]
        return np.concatenate(taken, 1)


def _named(stems: Block, options: Options, mixture: _Mixture, sample_step: float | None) -> Iterator[dict[str, Block]]:
    if not stems.shape[-1]:
        return
    named = dict(zip(options.computed, stems, strict=True))
    if options.two_stems:
        stem = named[options.two_stems]
        if sample_step:
            stem = named[options.two_stems] = np.rint(stem / np.float32(sample_step)) * np.float32(sample_step)
        named[ACCOMPANIMENT] = mixture.pop(stems.shape[-1]) - stem
    yield named


def _check_finite(stems: torch.Tensor, n_given: int) -> None:
    """Refuse what would spread over all that follows; behind so many samples at the models' rate."""
    if not bool(stems.isfinite().all()):
        raise NonFiniteAudio(
            f"separation gave NaN or infinite samples after {n_given / SAMPLE_RATE:.3f} s; bring the mixture to a "
            "level near full scale, or try another device, precision or separator"
        )
