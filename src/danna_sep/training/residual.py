"""What the difference between a song's stems and its mixture is."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from danna_sep.songs import Song
from danna_sep.types import SAMPLE_RATE, SOURCES

Samples = npt.NDArray[np.float32]

_ALIGN_FRAMES: Final = 12 * SAMPLE_RATE
_LARGEST_OFFSET: Final = SAMPLE_RATE


def about_residual(song: Song, residual_db: float, loudest: int) -> str:
    """What the difference between stems and mixture is, as far as a delay or a gain explains it."""
    text = f"{song.name}: the stems do not add up to the mixture: {residual_db:.1f} dB of it are left over"
    start = max(0, min(loudest, song.n_frames - _ALIGN_FRAMES))
    excerpt = song.read(start, min(_ALIGN_FRAMES, song.n_frames))
    explained = []
    for name, moved in {"the mixture": excerpt.stems.sum(0), **dict(zip(SOURCES, excerpt.stems, strict=True))}.items():
        target = excerpt.mixture - (excerpt.stems.sum(0) - moved)
        offset = _offset(target, moved)
        left_db = _left_db(target, moved, offset, excerpt.mixture)
        if offset:
            # The stems' sum that comes too late is a mixture that comes too early.
            amount, late = abs(offset), (offset > 0) == (name == "the mixture")
            explained.append((left_db, f"{name} is {amount} samples too {'late' if late else 'early'}"))
    total = excerpt.stems.sum(0)
    gain = float((excerpt.mixture * total).sum() / max(float(np.square(total).sum()), 1e-20))
    if gain > 0:
        left = excerpt.mixture - gain * total
        about = f"the mixture has another level, {20 * np.log10(gain):+.1f} dB"
        explained.append((in_db(np.square(left).sum()) - in_db(np.square(excerpt.mixture).sum()), about))
    if explained and min(explained)[0] < residual_db - 10:
        left_db, about = min(explained)
        text += f"; {about} (but for that, {left_db:.1f} dB)"
    return text


def _offset(target: Samples, moved: Samples) -> int:
    """By how many samples `moved` must be delayed to be most like `target`, by cross-correlation."""
    n_samples = target.shape[1]
    length = 1 << (n_samples + _LARGEST_OFFSET).bit_length()
    spectrum = (np.fft.rfft(target, length) * np.fft.rfft(moved, length).conj()).sum(0)
    correlation = np.fft.irfft(spectrum, length)
    reach = min(_LARGEST_OFFSET, n_samples - 1)
    lags = np.concatenate((np.arange(reach + 1), np.arange(-reach, 0)))
    return int(lags[np.argmax(correlation[lags])])


def _left_db(target: Samples, moved: Samples, offset: int, mixture: Samples) -> float:
    """The residual in relation to the mixture, with `moved` delayed."""
    n_samples = target.shape[1] - abs(offset)
    late, early = max(offset, 0), max(-offset, 0)
    left = target[:, late : late + n_samples] - moved[:, early : early + n_samples]
    return in_db(np.square(left).sum()) - in_db(np.square(mixture[:, late : late + n_samples]).sum())


def in_db(power: float | np.floating[npt.NBitBase]) -> float:
    """10 log10 of a power; -200 dB for none."""
    return float(10 * np.log10(float(power) + 1e-20))
