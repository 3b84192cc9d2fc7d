"""Voices as WORLD describes them: pitch, spectral envelope and breath by frame; from sound, and back to sound.

pyworld is optional and imported late. Only its compiled module is loaded: its package asks setuptools for its own
version, in a way that setuptools gave up with version 82.

Reference: Morise et al., WORLD, IEICE Trans. E99-D (2016).
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from danna_sep.errors import ConfigError
from danna_sep.types import SAMPLE_RATE

FRAME_S: Final = 0.005
"""Seconds from frame to frame."""

N_BINS: Final = 1025
_N_FFT: Final = 2048
_N_BANDS: Final = 5
"""As many as WORLD keeps of the aperiodicity at 44.1 kHz."""

_LOWEST_HZ: Final = 75.0
_HIGHEST_HZ: Final = 1100.0
_SILENT: Final = -27.0
"""Log power of a silent frame's bins."""

_CHUNK: Final = 256
"""Frames whose envelopes are moved at a time, to save memory."""

_BLEND: Final = 4
"""Frames on either side of a join over which envelopes go from one to the other."""


@functools.cache
def _pyworld() -> ModuleType | None:
    """The compiled part of pyworld; None where it is not installed."""
    package = importlib.util.find_spec("pyworld")
    if package is None or package.submodule_search_locations is None:
        return None
    spec = importlib.machinery.PathFinder.find_spec("pyworld.pyworld", list(package.submodule_search_locations))
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def available() -> bool:
    """Whether voices can be analysed and sung: whether pyworld is installed."""
    return _pyworld() is not None


def _world() -> Any:
    module = _pyworld()
    if module is None:
        raise ConfigError("singing needs pyworld: pip install pyworld")
    return module


@dataclass(frozen=True)
class Voice:
    """A voice by frames of 5 ms.

    Attributes:
        pitch_hz: (frame,), float64; 0 where unvoiced.
        envelope: (frame, bin), float16; natural logarithm of the power, bins from 0 Hz to half the sample rate.
        bands: (frame, band), float32; aperiodicity in WORLD's coded form, dB, at most 0.
    """

    pitch_hz: npt.NDArray[np.float64]
    envelope: npt.NDArray[np.float16]
    bands: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.pitch_hz)

    def take(self, frames: npt.NDArray[np.int64]) -> Voice:
        """These frames, in this order, as often as they are named."""
        return Voice(self.pitch_hz[frames], self.envelope[frames], self.bands[frames])

    def loudness(self) -> npt.NDArray[np.float64]:
        """Mean log power by frame, (frame,)."""
        loudness: npt.NDArray[np.float64] = self.envelope.mean(axis=1, dtype=np.float64)
        return loudness


def silence(n: int) -> Voice:
    """A voice that is silent for `n` frames."""
    return Voice(
        np.zeros(n), np.full((n, N_BINS), _SILENT, dtype=np.float16), np.zeros((n, _N_BANDS), dtype=np.float32)
    )


def analyse(sound: npt.NDArray[np.float32]) -> Voice:
    """What WORLD hears in a sound.

    Args:
        sound: Mono (time,) at 44.1 kHz.

    Returns:
        One frame per 5 ms, the first at the first sample.
    """
    world = _world()
    x = np.ascontiguousarray(sound, dtype=np.float64)
    rough, times = world.dio(x, SAMPLE_RATE, f0_floor=_LOWEST_HZ, f0_ceil=_HIGHEST_HZ, frame_period=1000 * FRAME_S)
    pitch_hz = world.stonemask(x, rough, times, SAMPLE_RATE)
    power = world.cheaptrick(x, pitch_hz, times, SAMPLE_RATE, fft_size=_N_FFT)
    breath = world.d4c(x, pitch_hz, times, SAMPLE_RATE, fft_size=_N_FFT)
    bands = world.code_aperiodicity(breath, SAMPLE_RATE)
    return Voice(
        pitch_hz, np.log(power + np.exp(_SILENT)).astype(np.float16), np.minimum(bands, 0.0).astype(np.float32)
    )


def join(voices: list[Voice]) -> Voice:
    """Voices in a row, their envelopes blended over a few frames at each join; at least one voice."""
    whole = Voice(
        np.concatenate([v.pitch_hz for v in voices]),
        np.concatenate([v.envelope for v in voices]),
        np.concatenate([v.bands for v in voices]),
    )
    at = 0
    for voice in voices[:-1]:
        at += len(voice)
        low, high = max(0, at - _BLEND), min(len(whole), at + _BLEND)
        if high - low > 2:
            mix = np.linspace(0, 1, high - low, dtype=np.float32)[:, None]
            whole.envelope[low:high] = (1 - mix) * whole.envelope[low] + mix * whole.envelope[high - 1]
    return whole


def smooth(x: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    """Running mean over `width` frames of (frame,), the ends repeated outwards."""
    if width < 2 or len(x) == 0:
        return x
    total = np.cumsum(np.pad(x, (width // 2 + 1, (width - 1) // 2), mode="edge"))
    mean: npt.NDArray[np.float64] = (total[width:] - total[:-width]) / width
    return mean


def bridged(pitch_hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Natural log of the pitch, (frame,), with unvoiced gaps bridged and octave errors of up to 4 frames taken out."""
    voiced = np.flatnonzero(pitch_hz > 0)
    if not len(voiced):
        return np.full(len(pitch_hz), np.log(200.0))
    whole = np.interp(np.arange(len(pitch_hz)), voiced, np.log(pitch_hz[voiced]))
    around = np.lib.stride_tricks.sliding_window_view(np.pad(whole, 4, mode="edge"), 9)
    return np.asarray(np.median(around, axis=1), dtype=np.float64)


def synthesise(
    pitch_hz: npt.NDArray[np.float64],
    log_power: npt.NDArray[np.float32],
    bands: npt.NDArray[np.float32],
    formants: float = 1.0,
    airy: float = 0.0,
) -> npt.NDArray[np.float32]:
    """The sound of a voice.

    Args:
        pitch_hz: (frame,); 0 where unvoiced.
        log_power: Envelope (frame, bin), natural logarithm.
        bands: Coded aperiodicity (frame, band), dB.
        formants: What was at 1000 Hz in envelope and aperiodicity comes at 1000 Hz times this.
        airy: From 0 to 1: how far the highs are moved towards breath.

    Returns:
        Mono (time,) at 44.1 kHz, 5 ms for each frame.
    """
    world = _world()
    n_frames = len(pitch_hz)
    power = np.empty((n_frames, N_BINS))
    breath = np.empty((n_frames, N_BINS))
    places = np.arange(N_BINS) / formants
    left = np.minimum(places.astype(np.int64), N_BINS - 2)
    part = np.minimum(places - left, 1.0).astype(np.float32)
    octaves = np.log2(np.maximum(np.arange(N_BINS), 1) * SAMPLE_RATE / _N_FFT / 500)
    airs = airy * np.clip(octaves, 0, 4) / 4
    for first in range(0, n_frames, _CHUNK):
        rows = slice(first, min(first + _CHUNK, n_frames))
        coded = np.ascontiguousarray(bands[rows], dtype=np.float64)
        some = world.decode_aperiodicity(coded, SAMPLE_RATE, _N_FFT)
        some = some[:, left] * (1 - part) + some[:, left + 1] * part
        breath[rows] = (some + (1 - some) * airs).clip(1e-3, 1 - 1e-3)
        near = log_power[rows]
        power[rows] = np.exp(near[:, left] * (1 - part) + near[:, left + 1] * part)
    x: npt.NDArray[np.float64] = world.synthesize(
        np.ascontiguousarray(pitch_hz), power, breath, SAMPLE_RATE, 1000 * FRAME_S
    )
    n = round(n_frames * FRAME_S * SAMPLE_RATE)
    return np.pad(x[:n], (0, max(0, n - len(x)))).astype(np.float32)
