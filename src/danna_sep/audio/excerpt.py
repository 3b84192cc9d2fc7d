"""A part of a file, without decoding what lies before it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import numpy as np

from danna_sep.audio.info import Block
from danna_sep.audio.read import AudioReader
from danna_sep.audio.resample import StreamResampler

_MARGIN_FRAMES: Final = 4096  # more than the resampling filter reaches


def read_excerpt(path: Path | str, start: int, n_frames: int, rate_hz: int, *, stream: int = 0) -> Block:
    """Frames of a file as if all of it had been converted to another rate; zeros beyond its end.

    Args:
        path: The file.
        start: First frame, at `rate_hz`.
        n_frames: Frames at `rate_hz`.
        rate_hz: Sample rate of the result, Hz.
        stream: Which of the file's audio streams.

    Returns:
        Samples (channel, time), float32, with the file's channels.

    Raises:
        AudioError: As `AudioReader`.
    """
    with AudioReader(path, stream=stream) as reader:
        own_hz = reader.info.sample_rate
        common = math.gcd(own_hz, rate_hz)
        own_step, step = own_hz // common, rate_hz // common
        # Both rates meet every own_step frames of the file: from such a place on, the grid is that of the whole file.
        margin = 0 if own_hz == rate_hz else -(-_MARGIN_FRAMES // own_step)
        first_step = max(0, start // step - margin)
        reader.seek(first_step * own_step)
        ahead = start - first_step * step
        n_own = -(-(ahead + n_frames) * own_step // step) + margin * own_step
        resampler = StreamResampler(own_hz, rate_hz, reader.info.n_channels)
        pieces = []
        if n_own:
            block = next(reader.blocks(n_own), None)
            pieces = [resampler.push(block)] if block is not None else []
    if not pieces:
        return np.zeros((resampler.n_channels, n_frames), dtype=np.float32)
    converted = np.concatenate([*pieces, resampler.finish()], 1)[:, ahead : ahead + n_frames]
    return np.pad(converted, ((0, 0), (0, n_frames - converted.shape[1])))
