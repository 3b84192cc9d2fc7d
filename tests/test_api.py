"""Separation from Python: arrays, tensors, files, streams."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch
from torch import Tensor

import danna_sep
from danna_sep import SOURCES, Options, separate, separate_file, stream
from danna_sep.blending import Blend
from danna_sep.errors import (
    AudioError,
    Cancelled,
    ConfigError,
    NonFiniteAudio,
    OutputCollision,
    OutputExists,
    UnsupportedChannels,
    UnsupportedRate,
)

SHARES = torch.tensor([0.1, 0.2, 0.3, 0.4])


class Shares:
    """Gives every source a fixed share of the mixture: any fault on the way in or out shows."""

    sources = SOURCES
    sample_rate = 44100

    def __init__(self) -> None:
        self.heard: list[tuple[int, ...]] = []

    def __call__(self, mixture: Tensor) -> Tensor:
        self.heard.append(tuple(mixture.shape))
        return mixture.unsqueeze(-3) * SHARES[:, None, None]


def tone(n_samples: int, sample_rate: int, n_channels: int = 2) -> npt.NDArray[np.float32]:
    time = np.arange(n_samples) / sample_rate
    channels = [0.5 * np.sin(2 * np.pi * 500 * time + channel) for channel in range(n_channels)]
    return np.stack(channels).astype(np.float32)


@pytest.mark.parametrize("sample_rate", [8000, 44100, 48000, 192000])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_stems_have_the_mixtures_rate_length_and_channels(sample_rate: int, n_channels: int) -> None:
    mixture = tone(sample_rate * 3 + 17, sample_rate, n_channels)
    stems = separate(mixture, sample_rate, Shares(), segment_s=1)
    assert list(stems) == list(SOURCES)
    inner = slice(sample_rate // 10, -sample_rate // 10)
    for share, stem in zip(SHARES.numpy(), stems.values(), strict=True):
        assert stem.shape == mixture.shape
        assert stem.dtype == mixture.dtype
        assert np.abs(stem - share * mixture)[:, inner].max() < 1e-4


@pytest.mark.parametrize("n_samples", [1, 2, 100, 5000])
def test_short_mixtures(n_samples: int) -> None:
    assert separate(tone(n_samples, 8000), 8000, Shares())["bass"].shape == (2, n_samples)


def test_tensors_give_tensors_of_their_kind() -> None:
    mixture = torch.from_numpy(tone(44100, 44100)).double()
    stems = separate(mixture, 44100, Shares())
    assert stems["vocals"].dtype == torch.float64
    assert torch.allclose(stems["vocals"], 0.4 * mixture, atol=1e-6)


def test_the_mixture_is_left_untouched() -> None:
    class Spoiler(Shares):
        def __call__(self, mixture: Tensor) -> Tensor:
            stems = super().__call__(mixture)
            mixture.zero_()
            return stems

    mixture = tone(44100, 44100)
    before = mixture.copy()
    separate(mixture, 44100, Spoiler())
    assert np.array_equal(mixture, before)


@pytest.mark.parametrize("sample_rate", [44100, 32000])
def test_two_stems_add_up_to_the_mixture(sample_rate: int) -> None:
    """The accompaniment is what is left: the two sum to the input to the last bit of float32 rounding."""
    mixture = tone(sample_rate * 2, sample_rate)
    stems = separate(mixture, sample_rate, Shares(), two_stems="vocals", segment_s=1)
    assert list(stems) == ["vocals", "accompaniment"]
    assert np.abs(sum(stems.values()) - mixture).max() < 1e-7


def test_chosen_stems_come_in_the_order_asked_for() -> None:
    mixture = tone(44100, 44100)
    stems = separate(mixture, 44100, Shares(), stems=["vocals", "drums"])
    assert list(stems) == ["vocals", "drums"]
    assert np.allclose(stems["drums"], 0.1 * mixture, atol=1e-6)


def test_stream_is_separate_in_pieces() -> None:
    mixture = tone(5 * 48000, 48000)
    blocks = list(stream(mixture, 48000, Shares(), segment_s=1))
    assert len(blocks) > 4
    whole = separate(mixture, 48000, Shares(), segment_s=1)
    for source in SOURCES:
        assert np.array_equal(np.concatenate([block[source] for block in blocks], 1), whole[source])


def test_whole_hears_the_track_at_once() -> None:
    separator = Shares()
    separate(tone(44100 * 20, 44100), 44100, separator, whole=True)
    assert separator.heard == [(1, 2, 44100 * 20)]


def test_progress_reaches_one() -> None:
    seen: list[float] = []
    separate(tone(44100 * 4, 44100), 44100, Shares(), segment_s=1, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1


def test_more_channels_need_a_choice() -> None:
    mixture = tone(20000, 44100, 6)
    with pytest.raises(UnsupportedChannels, match="--channels"):
        separate(mixture, 44100, Shares())
    pairs = separate(mixture, 44100, Shares(), channels="pairs")
    assert np.allclose(pairs["vocals"], 0.4 * mixture, atol=1e-6)
    assert separate(mixture, 44100, Shares(), channels="downmix")["vocals"].shape == (2, 20000)


@pytest.mark.parametrize(
    ("mixture", "sample_rate", "error"),
    [
        (np.zeros(100, np.float32), 44100, AudioError),
        (np.zeros((2, 0), np.float32), 44100, AudioError),
        (np.zeros((44100, 2), np.float32), 44100, AudioError),
        (np.zeros((2, 100), np.int16), 44100, AudioError),
        (np.full((2, 100), np.nan, np.float32), 44100, NonFiniteAudio),
        (np.full((2, 100), np.inf, np.float32), 44100, NonFiniteAudio),
        (np.zeros((2, 100), np.float32), 4000, UnsupportedRate),
        (np.zeros((2, 100), np.float32), 400_000, UnsupportedRate),
        (np.zeros((2, 100), np.float32), 44100.5, UnsupportedRate),
        (np.zeros((2, 100), np.float32), float("nan"), UnsupportedRate),
        (np.zeros((2, 100), np.float32), float("inf"), UnsupportedRate),
        (np.zeros((2, 100), np.float32), None, UnsupportedRate),
        (np.zeros((2, 100), np.float32), "44100", UnsupportedRate),
        (np.full((2, 100), 1e300), 44100, NonFiniteAudio),
        ([[0.0, 0.0]], 44100, AudioError),
    ],
)
def test_mixtures_that_are_refused(mixture: npt.NDArray[np.float32], sample_rate: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        separate(mixture, sample_rate, Shares())
    with pytest.raises(error):
        stream(mixture, sample_rate, Shares())


@pytest.mark.parametrize("rate", [48000.0, np.float32(48000), np.int32(192000), np.uint16(48000), np.int64(8000)])
def test_rates_are_numbers_of_any_type(rate: float) -> None:
    """What files' readers give as a rate must do: NumPy's own integers overflow in a minute of samples."""
    mixture = tone(3 * int(rate), int(rate))
    stems, expected = (separate(mixture, each, Shares())["bass"] for each in (rate, int(rate)))
    assert np.array_equal(stems, expected)


class AtAnotherRate(Shares):
    sample_rate = 22050


class OfThree(Shares):
    def __call__(self, mixture: Tensor) -> Tensor:
        return super().__call__(mixture)[..., :3, :, :]


class TooShort(Shares):
    def __call__(self, mixture: Tensor) -> Tensor:
        return super().__call__(mixture)[..., 4000:]


class TooLong(Shares):
    def __call__(self, mixture: Tensor) -> Tensor:
        return torch.nn.functional.pad(super().__call__(mixture), (0, 100))


class OfNaN(Shares):
    def __call__(self, mixture: Tensor) -> Tensor:
        return super().__call__(mixture) * torch.nan


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("separator", "error"),
    [
        (AtAnotherRate(), ConfigError),
        (OfThree(), ConfigError),
        (TooShort(), ConfigError),
        (TooLong(), ConfigError),
        (OfNaN(), NonFiniteAudio),
        (Blend({"a": AtAnotherRate()}, {"a": (1, 1, 1, 1)}), ConfigError),
    ],
)
def test_what_a_separator_gives_is_looked_at(separator: Shares, error: type[Exception], whole: bool) -> None:
    """Else stems of the right length would come out that are shifted, of other sources, or not finite."""
    with pytest.raises(error):
        separate(tone(44100 * 20, 44100), 44100, separator, whole=whole)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@pytest.mark.parametrize("before", ["", "separate(mixture, 44100, separator)"])
def test_a_forked_process_can_separate(before: str) -> None:
    """Servers that load first and fork then would hang for ever: the threads of the parent are not there."""
    program = f"""
import multiprocessing, sys
import numpy as np
from danna_sep import load, separate

def again():
    bass = separate(mixture, 44100, separator)["bass"]
    sys.exit(0 if bass.shape == mixture.shape and bass.any() else 3)

mixture = 0.1 * np.random.default_rng(0).standard_normal((2, 3 * 44100)).astype(np.float32)
separator = load("fast", precision="f32")
{before}
child = multiprocessing.get_context("fork").Process(target=again)
child.start()
child.join(120)
code = child.exitcode
child.kill()
sys.exit(9 if code is None else code)
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", program], timeout=300).returncode == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"stems": ["guitar"]},
        {"stems": ["bass", "bass"]},
        {"stems": []},
        {"two_stems": "piano"},
        {"overlap": 0.7},
        {"segment_s": 0.1},
        {"device": "cpu"},
        {"shifts": 2},
        {"colour": "red"},
        {"channels": "some"},
    ],
    ids=str,
)
def test_options_that_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        separate(tone(100, 44100), 44100, Shares(), **changes)
    with pytest.raises(ConfigError):
        stream(tone(100, 44100), 44100, Shares(), **changes)


def test_options_can_be_kept_and_changed() -> None:
    options = Options(stems=("bass",), segment_s=2)
    assert list(separate(tone(100, 44100), 44100, Shares(), options)) == ["bass"]
    assert list(separate(tone(100, 44100), 44100, Shares(), options, stems=("drums",))) == ["drums"]


@pytest.mark.parametrize(("subtype", "expected"), [("PCM_16", "PCM_16"), ("PCM_24", "PCM_24"), ("FLOAT", "FLOAT")])
def test_files_keep_rate_length_width(tmp_path: Path, subtype: str, expected: str) -> None:
    mixture = tone(48000 * 3 + 5, 48000)
    soundfile.write(tmp_path / "song.wav", mixture.T, 48000, subtype)
    seen: list[tuple[float, float | None]] = []
    result = separate_file(
        tmp_path / "song.wav", tmp_path / "out", Shares(), segment_s=1, progress=lambda *at: seen.append(at)
    )
    assert seen[-1] == pytest.approx((3 + 5 / 48000, 3 + 5 / 48000))
    assert result.n_frames == mixture.shape[1]
    for share, source in zip(SHARES.numpy(), SOURCES, strict=True):
        path = tmp_path / "out" / "song" / f"{source}.wav"
        assert result.stems[source] == path
        info = soundfile.info(path)
        assert (info.samplerate, info.frames, info.channels, info.subtype) == (48000, mixture.shape[1], 2, expected)
        inner = slice(4800, -4800)
        assert np.abs(soundfile.read(path)[0].T - share * mixture)[:, inner].max() < 2e-4


@pytest.mark.parametrize("bits", ["16", "24"])
def test_two_stems_in_whole_numbers_add_up_to_the_song(tmp_path: Path, bits: str) -> None:
    """To the last bit: each rounded by itself, they would be a step apart from it now and then."""
    song = 0.4 * np.random.default_rng(1).standard_normal((44100 * 3, 2)).clip(-2, 2)
    soundfile.write(tmp_path / "song.wav", song, 44100, subtype=f"PCM_{bits}")
    result = separate_file(tmp_path / "song.wav", tmp_path / "out", Shares(), two_stems="vocals")
    assert result.gain == 1
    codes = [soundfile.read(path, dtype="int32")[0] for path in (tmp_path / "song.wav", *result.stems.values())]
    assert np.array_equal(codes[0], codes[1] + codes[2])


def test_a_file_that_is_there_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "song.wav", tone(9000, 44100).T, 44100)
    separate_file(tmp_path / "song.wav", tmp_path, Shares())
    before = (tmp_path / "song" / "bass.wav").read_bytes()
    with pytest.raises(OutputExists):
        separate_file(tmp_path / "song.wav", tmp_path, Shares())
    separate_file(tmp_path / "song.wav", tmp_path, Shares(), stems=["bass"], overwrite=True, bits="24")
    assert (tmp_path / "song" / "bass.wav").read_bytes() != before


def test_outputs_of_ones_own_choice(tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    soundfile.write(song, tone(9000, 44100).T, 44100)
    before = song.read_bytes()
    outputs = {source: tmp_path / f"{source}.wav" for source in SOURCES}
    for wrong in ({"drums": song}, {**outputs, "drums": song}, {**outputs, "flute": tmp_path / "flute.wav"}):
        with pytest.raises((ConfigError, OutputCollision)):
            separate_file(song, separator=Shares(), outputs=wrong, overwrite=True)
    assert song.read_bytes() == before
    assert separate_file(song, separator=Shares(), outputs=outputs).stems == outputs
    assert all(path.exists() for path in outputs.values())


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="abacus"):
        danna_sep.load("danna", device="abacus")


def test_cancelling_leaves_nothing_behind(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "song.wav", tone(44100 * 10, 44100).T, 44100)
    separator = Shares()
    with pytest.raises(Cancelled):
        separate_file(
            tmp_path / "song.wav",
            tmp_path / "out",
            separator,
            segment_s=1,
            cancelled=lambda: len(separator.heard) >= 3,
        )
    assert len(separator.heard) == 3
    assert not (tmp_path / "out").exists()


def test_what_is_public_exists() -> None:
    for name in danna_sep.__all__:
        assert getattr(danna_sep, name) is not None
    assert set(danna_sep.__all__) <= set(dir(danna_sep)) | set(danna_sep._HOMES)
    with pytest.raises(AttributeError):
        _ = danna_sep.nothing
