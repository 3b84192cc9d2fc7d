"""Sample rate conversion: exact length, alignment, level, and independence of the block size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danna_sep.audio import StreamResampler, resampled_length

RATES_HZ = st.one_of(
    st.sampled_from([8000, 11025, 16000, 22050, 32000, 44100, 48000, 88200, 96000, 176400, 192000]),
    st.integers(8000, 192000),
)


def convert(
    signal: np.ndarray, source_hz: int, target_hz: int, n_block: int, n_frames: int | None = None
) -> np.ndarray:
    resampler = StreamResampler(source_hz, target_hz, len(signal))
    blocks = [resampler.push(signal[:, start : start + n_block]) for start in range(0, signal.shape[1], n_block)]
    return np.concatenate([*blocks, resampler.finish(n_frames)], axis=1)


@settings(max_examples=60, deadline=None)
@given(rate_hz=RATES_HZ, n_frames=st.integers(1, 5000), n_block=st.integers(1, 5000))
def test_there_and_back_gives_the_same_length(rate_hz: int, n_frames: int, n_block: int) -> None:
    """If it failed, stems would be a sample shorter or longer than the song."""
    signal = np.random.default_rng(0).standard_normal((2, n_frames)).astype(np.float32)
    inside = convert(signal, rate_hz, 44100, max(n_block, n_frames // 50))
    assert inside.shape == (2, resampled_length(n_frames, rate_hz, 44100))
    back = convert(inside, 44100, rate_hz, max(n_block, n_frames // 50), n_frames)
    assert back.shape == signal.shape
    assert back.dtype == np.float32


@settings(max_examples=30, deadline=None)
@given(rate_hz=RATES_HZ, n_frames=st.integers(1, 3000), n_block=st.integers(1, 3000))
def test_result_does_not_depend_on_the_blocks(rate_hz: int, n_frames: int, n_block: int) -> None:
    signal = np.random.default_rng(1).standard_normal((2, n_frames)).astype(np.float32)
    whole = convert(signal, rate_hz, 44100, n_frames)
    np.testing.assert_array_equal(convert(signal, rate_hz, 44100, max(n_block, n_frames // 50)), whole)


@pytest.mark.parametrize("rate_hz", [8000, 22050, 44101, 48000, 96000, 192000])
def test_a_tone_keeps_its_time_and_level(rate_hz: int) -> None:
    """If it failed, stems of a 48 kHz song would not null against it (a sample's shift leaves -20 dB)."""

    def tone(at_hz: int) -> np.ndarray:
        t_s = np.arange(at_hz) / at_hz
        fade = np.sin(np.pi * t_s) ** 2
        return np.stack([fade * np.sin(2 * np.pi * 1000 * t_s), fade * np.cos(2 * np.pi * 3000 * t_s)])

    inside = convert(tone(rate_hz).astype(np.float32), rate_hz, 44100, 1000)
    np.testing.assert_allclose(inside, tone(44100), atol=3e-4)
    back = convert(inside, 44100, rate_hz, 777, rate_hz)
    np.testing.assert_allclose(back, tone(rate_hz), atol=3e-4)


@pytest.mark.parametrize("rate_hz", [48000, 96000])
def test_the_tail_is_not_dropped(rate_hz: int) -> None:
    """If it failed, the last milliseconds of a song would be lost in the filter."""
    signal = np.zeros((1, rate_hz), np.float32)
    t_s = np.arange(-200, 0) / rate_hz
    signal[0, -200:] = np.sin(2 * np.pi * 2000 * t_s) * np.hanning(200)
    back = convert(convert(signal, rate_hz, 44100, 500), 44100, rate_hz, 500, rate_hz)
    np.testing.assert_allclose(back, signal, atol=3e-4)


def test_equal_rates_do_nothing_at_all() -> None:
    resampler = StreamResampler(44100, 44100, 2)
    block = np.ones((2, 100), np.float32)
    assert resampler.push(block) is block
    assert resampler.finish().shape == (2, 0)


def test_loud_and_quiet_signals_scale() -> None:
    signal = np.random.default_rng(0).standard_normal((2, 2000)).astype(np.float32)
    base = convert(signal, 48000, 44100, 500)
    for gain in (1e-4, 100.0):
        np.testing.assert_allclose(convert(signal * np.float32(gain), 48000, 44100, 500) / gain, base, atol=1e-5)


def test_more_frames_than_there_are_are_zeros() -> None:
    assert convert(np.ones((1, 10), np.float32), 44100, 44100, 10, 15).tolist() == [[1.0] * 10 + [0.0] * 5]
    long = convert(np.ones((1, 480), np.float32), 48000, 44100, 10, 20000)
    assert long.shape == (1, 20000)
    assert not long[:, 5000:].any()


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        StreamResampler(0, 44100, 2)
    resampler = StreamResampler(44100, 44100, 2)
    with pytest.raises(ValueError, match="expected"):
        resampler.push(np.zeros((3, 5), np.float32))
    resampler.push(np.zeros((2, 5), np.float32))
    with pytest.raises(ValueError, match="already"):
        resampler.finish(4)
    with pytest.raises(ValueError, match="before"):
        resampler.finish()
    with pytest.raises(ValueError, match="after"):
        resampler.push(np.zeros((2, 5), np.float32))
