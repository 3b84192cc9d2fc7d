"""Songs with stems out of music for trackers: what each instrument plays, in the stem that it belongs to."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from danna_sep.songs import find_songs

PROGRAM = Path(__file__).parent.parent / "bundle" / "modules.py"
pytestmark = [
    pytest.mark.skipif(not PROGRAM.exists(), reason="the package without its sources"),
    pytest.mark.skipif(find_library("openmpt") is None, reason="libopenmpt is not installed"),
]

RATE = 44100
RATE_OF_C_HZ = 8287
"""At which a MOD plays a recording where the note is C 2, of period 428."""
PERIODS = {"C-2": 428, "D-2": 381, "E-2": 339, "G-2": 285, "A-2": 254, "C-3": 214}
ROW_S = 6 * 2.5 / 125
N_ROWS = 64

NOISE, BASS, PIPE = range(3)


def recordings() -> list[NDArray[np.int8]]:
    """A burst of noise, a tone of 65 Hz and one of 520 Hz with overtones, of an even number of samples."""
    time_s = np.arange(4000) / RATE_OF_C_HZ
    noise = np.random.default_rng(0).uniform(-1, 1, 1200) * np.exp(-np.arange(1200) / 300)
    bass = np.sin(2 * np.pi * 65 * time_s) * np.exp(-time_s / 0.3)
    pipe = np.sign(np.sin(2 * np.pi * 520 * time_s)) * 0.5
    return [(100 * samples).astype(np.int8) for samples in (noise, bass, pipe)]


def module_of(played: dict[tuple[int, int], tuple[int, str]], names: tuple[str, str, str] = ("", "", "")) -> bytes:
    """A MOD of one pattern and four channels. Row and channel say where an instrument plays which note."""
    samples = recordings()
    content = b"a song".ljust(20, b"\0")
    for index in range(31):
        known = index < len(samples)
        name = names[index] if known else ""
        length = len(samples[index]) // 2 if known else 0
        content += name.encode().ljust(22, b"\0") + struct.pack(">HBBHH", length, 0, 64 if known else 0, 0, 1)
    content += bytes([1, 127, *[0] * 128]) + b"M.K."
    cells = np.zeros((N_ROWS, 4, 4), np.uint8)
    for (row, channel), (instrument, note) in played.items():
        period, number = PERIODS[note], instrument + 1
        cells[row, channel] = (number & 0xF0) | (period >> 8), period & 0xFF, (number & 0xF) << 4, 0
    return content + cells.tobytes() + b"".join(sample.tobytes() for sample in samples)


def a_song() -> dict[tuple[int, int], tuple[int, str]]:
    notes = list(PERIODS)
    beats = {(row, 0): (NOISE, "C-2") for row in range(0, N_ROWS, 4)}
    basses = {(row, 1): (BASS, notes[row // 8 % 6]) for row in range(0, N_ROWS, 8)}
    return beats | basses | {(row, 2): (PIPE, notes[row // 4 % 6]) for row in range(2, N_ROWS, 4)}


def take_apart(folder: Path, **modules: bytes) -> subprocess.CompletedProcess[str]:
    box = folder / "box"
    box.mkdir()
    for name, content in modules.items():
        (box / f"{name}.mod").write_bytes(content)
    (box / "origin.json").write_text(json.dumps({"bank": "Box", "licence": "CC0-1.0", "attribution": "Nobody"}))
    command = [sys.executable, str(PROGRAM), str(box), "--out", str(folder / "out")]
    return subprocess.run(command, capture_output=True, text=True)


def at_rows(samples: NDArray[np.float32], rows: range) -> NDArray[np.float32]:
    """The second half of the row before each of these, and the first of each itself; axes place, channel, time."""
    half = round(ROW_S / 2 * RATE)
    starts = [round(row * ROW_S * RATE) for row in rows if row]
    return np.stack([samples[:, start - half : start + half] for start in starts])


def test_each_stem_is_what_its_instruments_play(tmp_path: Path) -> None:
    done = take_apart(tmp_path, song=module_of(a_song()))
    assert done.returncode == 0, done.stderr
    (song,) = find_songs(tmp_path / "out")
    assert (song.name, song.silent) == ("box-song.mod", frozenset({"vocals"}))
    drums, bass, other, vocals = song.read().stems
    assert drums.shape[1] == pytest.approx(N_ROWS * ROW_S * RATE, abs=RATE / 10)
    assert not vocals.any()
    places = at_rows(drums, range(0, N_ROWS, 4))
    before, behind = np.split(np.square(places).sum(1), 2, axis=1)
    assert (behind.sum(1) > 1000 * before.sum(1)).all()
    second = np.abs(np.fft.rfft(np.stack([bass.mean(0), other.mean(0)])[:, : RATE // 2]))
    assert 2 * second.argmax(1) == pytest.approx([65, 520], abs=4)
    mixture = song.read().mixture
    assert np.abs(mixture).max() == pytest.approx(0.8, abs=1e-4)
    assert json.loads((tmp_path / "out" / "roles.json").read_text())["box-song.mod"] == {
        "drums": [[NOISE, ""]],
        "bass": [[BASS, ""]],
        "other": [[PIPE, ""]],
    }
    assert json.loads((tmp_path / "out" / "origins.json").read_text())[0]["licence"] == "CC0-1.0"


def test_stems_add_up_to_what_the_module_sounds_like(tmp_path: Path) -> None:
    content = module_of(a_song())
    assert take_apart(tmp_path, song=content).returncode == 0
    sys.path.insert(0, str(PROGRAM.parent))
    try:
        from openmpt import Module
    finally:
        sys.path.remove(str(PROGRAM.parent))
    whole = Module(tmp_path / "box" / "song.mod").played(RATE, 60, separation=50)
    (song,) = find_songs(tmp_path / "out")
    mixture = song.read().mixture
    gain = np.abs(mixture).max() / np.abs(whole[:, : mixture.shape[1]]).max()
    assert np.abs(gain * whole[:, : mixture.shape[1]] - mixture).max() < 1e-4


def test_a_name_counts_more_than_the_sound(tmp_path: Path) -> None:
    done = take_apart(tmp_path, song=module_of(a_song(), ("hihat", "slap bass", "wood perc")))
    assert done.returncode != 0
    assert "song.mod: other not found: left out" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("instrument", "stem"), [(NOISE, "drums"), (BASS, "bass"), (PIPE, "other")], ids=("drums", "bass", "other")
)
def test_songs_without_one_of_the_stems_are_left_out_and_said_so(tmp_path: Path, instrument: int, stem: str) -> None:
    without = {place: event for place, event in a_song().items() if event[0] != instrument}
    done = take_apart(tmp_path, whole=module_of(a_song()), lacking=module_of(without))
    assert done.returncode == 0, done.stderr
    assert f"lacking.mod: {stem} not found: left out" in done.stderr
    assert [song.name for song in find_songs(tmp_path / "out")] == ["box-whole.mod"]


def test_what_is_not_a_module_is_left_out_and_said_so(tmp_path: Path) -> None:
    done = take_apart(tmp_path, song=module_of(a_song()), noise=b"\1\2\3" * 400)
    assert done.returncode == 0, done.stderr
    assert "noise.mod: not a module that libopenmpt reads: left out" in done.stderr


def test_a_folder_must_say_whose_the_music_is(tmp_path: Path) -> None:
    (tmp_path / "song.mod").write_bytes(module_of(a_song()))
    command = [sys.executable, str(PROGRAM), str(tmp_path), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "origin.json: must say whose the music is" in done.stderr


def test_stems_are_files_of_24_bits(tmp_path: Path) -> None:
    assert take_apart(tmp_path, song=module_of(a_song())).returncode == 0
    told = soundfile.info(tmp_path / "out" / "box-song.mod" / "bass.flac")
    assert (told.samplerate, told.channels, told.subtype) == (RATE, 2, "PCM_24")
