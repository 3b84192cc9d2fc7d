"""Every bad input that people are known to meet, each with its right behaviour, through the command line.

Where an input is wrong the call is given a good song as well, which must be done all the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from command_line import STEMS, Outcome, call, run, song, stems_of

Separate = Callable[..., Outcome]


@pytest.fixture
def separate(capfd: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path) -> Separate:
    """Separates its arguments and, behind them, a good song, which must be done; stems go to out/TRACK."""

    def separate(*arguments: object, alone: bool = False) -> Outcome:
        arguments = ("--preset", "unet", "--out", tmp_path / "out", *arguments)
        if alone:
            return call(capfd, *arguments)
        good = song(tmp_path / "good" / "good song.wav", 4410)
        outcome = call(capfd, *arguments, good)
        assert "Traceback" not in outcome.err
        stems = stems_of(tmp_path / "out" / "good song")
        assert {stem.shape for stem in stems.values()} == {(4410, 2)}
        return outcome

    return separate


def refused(separate: Separate, path: Path, *said: str, options: tuple[str, ...] = (), code: int = 2) -> None:
    """One line that names the file and says what is needed, no stems, the exit code; and the good song is done."""
    outcome = separate(*options, path)
    assert outcome.code == code
    line = outcome.complaint()
    assert line.startswith(f"danna-sep: {path}: ")
    for text in said:
        assert text in line
    assert len(outcome.out.splitlines()) == len(STEMS)
    out = path.parent / "out"
    assert [folder.name for folder in out.iterdir()] == ["good song"]


def separated(separate: Separate, path: Path, *options: str, names: tuple[str, ...] = STEMS) -> dict[str, np.ndarray]:
    """The stems (time, channel): written without a word, finite, and of the input's rate, length and channels."""
    outcome = separate(*options, path, alone=True)
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    folder = path.parent / "out" / path.stem
    stems = stems_of(folder, names=names)
    given = soundfile.info(path)
    for name, stem in stems.items():
        written = soundfile.info(folder / f"{name}.wav")
        assert (written.samplerate, written.channels, written.frames) == (
            given.samplerate,
            given.channels,
            given.frames,
        )
        assert np.isfinite(stem).all()
    return stems


def save(path: Path, samples: np.ndarray, rate_hz: int = 44100, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, samples, rate_hz, subtype=subtype)
    return path


def test_empty_file(separate: Separate, tmp_path: Path) -> None:
    """A download that never began."""
    path = tmp_path / "empty.wav"
    path.touch()
    refused(separate, path, "empty")


def test_text_named_wav(separate: Separate, tmp_path: Path) -> None:
    """A file with the wrong ending."""
    path = tmp_path / "text.wav"
    path.write_text("Dear Sir or Madam,\n" * 100)
    refused(separate, path, "not audio")


def test_no_such_file(separate: Separate, tmp_path: Path) -> None:
    """A slip of the finger."""
    refused(separate, tmp_path / "nowhere.wav", "no such file")


def test_folder(separate: Separate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is not searched: that must be said, not passed over."""
    (tmp_path / "Music").mkdir()
    refused(separate, tmp_path / "Music", "folder", "give the audio files")
    monkeypatch.chdir(tmp_path / "Music")
    assert separate("--overwrite", ".").complaint().startswith("danna-sep: .: is a folder")


def test_zero_frames(separate: Separate, tmp_path: Path) -> None:
    """A recording that was stopped before it began."""
    refused(separate, save(tmp_path / "none.wav", np.zeros((0, 2))), "no samples")


@pytest.mark.parametrize("n_frames", [1, 2, 1000, 4095])
def test_shorter_than_a_frame(n_frames: int, separate: Separate, tmp_path: Path) -> None:
    """The transform's frame has 4096 samples; shorter inputs must keep their length all the same."""
    separated(separate, song(tmp_path / "short.wav", n_frames))


def test_header_longer_than_data(separate: Separate, tmp_path: Path) -> None:
    """A recording that was cut off: what is there must be separated, and the user told how much that was."""
    path = song(tmp_path / "cut.wav", 8820)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 4 * 3820])
    outcome = separate(path)
    assert outcome.code == 0
    line = outcome.complaint()
    assert str(path) in line
    assert "8820" in line
    assert "5000" in line
    assert {len(stem) for stem in stems_of(tmp_path / "out" / "cut").values()} == {5000}


@pytest.mark.parametrize("preset", ["unet", "danna"])
def test_silence(preset: str, separate: Separate, tmp_path: Path) -> None:
    """Silence must give exact zeros, and files."""
    path = save(tmp_path / "silence.wav", np.zeros((9000, 2)))
    for stem in separated(separate, path, "--preset", preset).values():
        assert not stem.any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_a_number(value: float, separate: Separate, tmp_path: Path) -> None:
    """Broken samples must be refused with their place, and taken as silence on request only, with a word on it."""
    samples = np.random.default_rng(0).uniform(-0.1, 0.1, (8820, 2))
    samples[4410, 1] = value
    path = save(tmp_path / "broken.wav", samples)
    refused(separate, path, "0.100000 s", "--repair")
    outcome = separate("--repair", "--overwrite", path)
    assert outcome.code == 0
    assert "replaced 1 " in outcome.complaint()
    for stem in stems_of(tmp_path / "out" / "broken").values():
        assert np.isfinite(stem).all()


def test_full_scale_square(separate: Separate, tmp_path: Path) -> None:
    """The loudest of inputs: a stem and the rest must still add up to it exactly."""
    square = np.where(np.arange(20000) // 50 % 2, 1.0, -1.0)[:, None].repeat(2, 1)
    path = save(tmp_path / "square.wav", square)
    names = ("vocals", "accompaniment")
    stems = separated(separate, path, "--two-stems", "vocals", names=names)
    np.testing.assert_allclose(sum(stems.values()), square, atol=1e-6)


def test_integer_stems_do_not_clip(separate: Separate, tmp_path: Path) -> None:
    """Where the accompaniment exceeds full scale, all stems must get one gain, which is told, instead of clipping."""
    square = np.where(np.arange(20000) // 50 % 2, 1.0, -1.0)[:, None] * [1.0, -1.0]
    path = save(tmp_path / "loud.wav", 4 * square)
    names = ("drums", "accompaniment")
    outcome = separate("--bits", "24", "--two-stems", "drums", path, alone=True)
    assert outcome.code == 0
    assert "gain" in outcome.complaint()
    stems = stems_of(tmp_path / "out" / "loud", names=names)
    total = sum(stems.values())
    gain = np.abs(total).max() / 4
    assert 0 < gain < 1
    np.testing.assert_allclose(total, 4 * gain * square, atol=1e-5)


@pytest.mark.parametrize("preset", ["unet", "danna"])
def test_antiphase_and_identical_channels(preset: str, separate: Separate, tmp_path: Path) -> None:
    """The covariance of both is singular; the filter must not divide by that."""
    tone = np.sin(np.arange(12000) / 20)[:, None]
    separated(separate, save(tmp_path / "antiphase.wav", tone * [0.5, -0.5]), "--preset", preset)
    separated(separate, save(tmp_path / "identical.wav", tone * [0.5, 0.5]), "--preset", preset, "--overwrite")


def test_mono(separate: Separate, tmp_path: Path) -> None:
    """One channel in, one channel out."""
    stems = separated(separate, song(tmp_path / "mono.wav", n_channels=1))
    assert any(stem.any() for stem in stems.values())


def test_surround(separate: Separate, tmp_path: Path) -> None:
    """Of 5.1, no channel may be dropped silently: the user chooses."""
    path = song(tmp_path / "surround.wav", n_channels=6)
    refused(separate, path, "6 channels", "--channels pairs|front|downmix")
    stems = separated(separate, path, "--channels", "pairs", "--overwrite")
    assert {stem.shape for stem in stems.values()} == {(8820, 6)}
    for policy in ("front", "downmix"):
        outcome = separate("--channels", policy, "--overwrite", path)
        assert outcome.code == 0
        assert {stem.shape[1] for stem in stems_of(tmp_path / "out" / "surround").values()} == {2}


@pytest.mark.parametrize("rate_hz", [8000, 192000])
def test_extreme_rates(rate_hz: int, separate: Separate, tmp_path: Path) -> None:
    """Telephone and studio: the rate and the exact length must come back."""
    separated(separate, song(tmp_path / "rate.wav", rate_hz // 5 + 1, rate_hz=rate_hz))


@pytest.mark.parametrize("rate_hz", [4000, 384000])
def test_rates_beyond(rate_hz: int, separate: Separate, tmp_path: Path) -> None:
    """Rates that would not be separated well must be refused by name."""
    refused(separate, song(tmp_path / "rate.wav", 2000, rate_hz=rate_hz), str(rate_hz))


def test_damaged_mp3(separate: Separate, tmp_path: Path) -> None:
    """A scratched MP3: the rest must be separated, and something said, rather than nothing done."""
    path = tmp_path / "scratched.mp3"
    time_s = np.arange(44100) / 44100
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 440 * time_s)[:, None].repeat(2, 1), 44100, format="MP3")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 1200] = bytes(1200)
    path.write_bytes(content)
    outcome = separate(path)
    assert outcome.code == 0
    # libmpg123 may say something of its own on stderr, which nobody can stop.
    assert any(line.startswith(f"danna-sep: warning: {path}: damaged") for line in outcome.err.splitlines())
    assert min(len(stem) for stem in stems_of(tmp_path / "out" / "scratched").values()) > 30000


@pytest.mark.skipif(sys.platform == "win32", reason="some of these names cannot exist there")
def test_names(tiny: Path, tmp_path: Path) -> None:
    """Spaces, Unicode, dots, brackets, a leading dash, a very long name: each track has a folder of its very name."""
    names = ["a song", "日本語 ñ", "-dash", "dot.", "[brackets] {braces} %s", "x" * 250]
    for name in names:
        song(tmp_path / f"{name}.wav", 1000)
    given = [f"{name}.wav" for name in names]
    outcome = run("--preset", "unet", "--stems", "drums", "--", *given, cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines() == [f"separated/{name}/drums.wav" for name in names]
    for name in names:
        stems_of(tmp_path / "separated" / name, names=("drums",))


def test_output_folder_is_no_folder(separate: Separate, tmp_path: Path) -> None:
    """A track whose folder cannot be made must fail before it is separated."""
    path = song(tmp_path / "song.wav", 441000)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "song").write_text("in the way")
    outcome = separate(path)
    assert outcome.code == 3
    assert outcome.complaint().startswith(f"danna-sep: {path}: ")
    assert (tmp_path / "out" / "song").read_text() == "in the way"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_output_folder_cannot_be_written(separate: Separate, tmp_path: Path) -> None:
    """Permissions must be found out before the work, not after."""
    path = song(tmp_path / "song.wav", 441000)
    folder = tmp_path / "out" / "song"
    folder.mkdir(parents=True)
    if os.geteuid() == 0:
        # Root may write everywhere, but not over what is immutable; /proc is no place for files even for root.
        folder.rmdir()
        folder.symlink_to("/proc/self", target_is_directory=True)
    else:
        folder.chmod(0o555)
    outcome = separate(path)
    assert outcome.code == 3
    assert outcome.complaint().startswith(f"danna-sep: {path}: ")
    if not folder.is_symlink():
        assert not list(folder.iterdir())


def test_output_over_an_input(
    capfd: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The song itself must never be written over, not even with --overwrite; nothing else is begun either."""
    monkeypatch.chdir(tmp_path)
    path, other = song(Path("drums.wav")), song(Path("other song.wav"))
    before = path.read_bytes()
    options = ("--preset", "unet", "--out", ".", "--name-template", "{stem}.{ext}", "--overwrite", "--stems", "drums")
    outcome = call(capfd, *options, path)
    assert outcome.code == 3
    assert "written over" in outcome.complaint()
    assert call(capfd, *options, other, path).code == 3
    assert path.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir() if file.is_file()) == ["drums.wav", "other song.wav"]


def test_two_inputs_of_one_name(capfd: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path) -> None:
    """The second must not replace the first's stems: refused before anything is computed, with the way out."""
    first, second = song(tmp_path / "a" / "song.wav", 1000), song(tmp_path / "b" / "song.flac", 1000)
    out = tmp_path / "out"
    outcome = call(capfd, "--preset", "unet", "--out", out, first, second)
    assert outcome.code == 3
    for text in (str(first), str(second), "--name-template"):
        assert text in outcome.complaint()
    assert not out.exists()
    assert call(capfd, "--preset", "unet", "--out", out, first, first).code == 3
    assert not out.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system needs to be root on Linux")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_disk_full(capfd: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path, small_disk: Path) -> None:
    """Too small a disk must be found out first, leave nothing, and not keep a shorter song from being done."""
    long, short = song(tmp_path / "long.wav", 88200), song(tmp_path / "short.wav", 1000)
    outcome = call(capfd, "--preset", "unet", "--out", small_disk, long, short)
    assert outcome.code == 3
    assert outcome.complaint().startswith(f"danna-sep: {long}: ")
    assert "space" in outcome.err
    assert [path.name for path in small_disk.iterdir()] == ["short"]
    stems_of(small_disk / "short")
