"""Stems of instrumental music as a preset hears them, to train on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from danna_sep import separate
from danna_sep.songs import find_songs

PROGRAM = Path(__file__).parent.parent / "bundle" / "pseudo_stems.py"
EXAMPLE = PROGRAM.parent.parent / "examples" / "caesium-excerpt"
pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="the package without its sources")

RATE = 44100


def listed(folder: Path, music: np.ndarray, **entry: object) -> None:
    """A list of one piece, as `instrumentals.py` writes it."""
    folder.mkdir()
    soundfile.write(folder / "piece.flac", music, RATE, subtype="PCM_24")
    piece = {"name": "box/piece.flac", "silent": ["vocals"], "mixture": [str(folder / "piece.flac")], **entry}
    manifest = {"format": "danna-sep songs", "version": 1, "songs": [piece]}
    (folder / "songs.json").write_text(json.dumps(manifest))
    (folder / "origins.json").write_text('[{"bank": "box"}]')


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, PROGRAM, "--of", folder / "music", "--out", folder / "out", "--preset", "fast"]
    return subprocess.run([*map(str, command)], capture_output=True, text=True)


def test_stems_are_those_of_the_preset_and_voices_are_others(tmp_path: Path) -> None:
    parts = [soundfile.read(next(EXAMPLE.glob(f"{name}.*")))[0] for name in ("drums", "bass", "other")]
    length = min(len(part) for part in parts)
    music = 0.5 * np.tile(sum(part[:length] for part in parts), (2, 1))[: 40 * RATE]
    listed(tmp_path / "music", music)
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    (song,) = find_songs(tmp_path / "out")
    # To be drawn from stem by stem: whoever hears it whole would learn the preset's errors.
    assert "vocals" not in song.annotated
    expected = separate(soundfile.read(tmp_path / "music" / "piece.flac", dtype="float32")[0].T, RATE, "fast")
    expected["other"] = expected["other"] + expected.pop("vocals")
    power = np.square(music).mean()
    assert set(song.annotated) == {name for name, stem in expected.items() if np.square(stem).mean() > power / 63.1}
    assert len(song.annotated) > 1
    heard = {name: song.read_stem(name, 0, 40 * RATE) for name in song.annotated}
    gain = np.sqrt(np.square(heard["drums"]).sum() / np.square(expected["drums"]).sum())
    for name, samples in heard.items():
        np.testing.assert_allclose(samples, gain * expected[name], atol=1e-5)
    assert max(np.abs(samples).max() for samples in heard.values()) == pytest.approx(0.8, abs=1e-6)
    assert json.loads((tmp_path / "out" / "origins.json").read_text()) == [{"bank": "box"}]


@pytest.mark.parametrize(
    ("seconds", "level", "entry", "said"),
    [
        (30, 0.1, {}, "is shorter than 35 s: left out"),
        (36, 0.0, {}, "is silent in its middle: left out"),
        (36, 0.1, {"silent": []}, "is not said to be without vocals"),
    ],
)
def test_music_that_teaches_nothing_is_said(
    tmp_path: Path, seconds: int, level: float, entry: dict[str, object], said: str
) -> None:
    listed(tmp_path / "music", np.full((seconds * RATE, 2), level), **entry)
    done = run(tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_stems_whose_origins_nobody_knows_are_not_made(tmp_path: Path) -> None:
    listed(tmp_path / "music", np.full((36 * RATE, 2), 0.1))
    (tmp_path / "music" / "origins.json").unlink()
    done = run(tmp_path)
    assert done.returncode == 2
    assert "origins.json: does not exist" in done.stderr
    assert not (tmp_path / "out").exists()


def test_one_stem_alone_is_no_song(tmp_path: Path) -> None:
    time_s = np.arange(36 * RATE)[:, None] / RATE
    listed(tmp_path / "music", np.repeat(0.3 * np.sin(6.2832 * 60 * time_s), 2, 1))
    done = run(tmp_path)
    assert done.returncode == 2
    assert "found: left out" in done.stderr
