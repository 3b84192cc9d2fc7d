"""Songs packed by `pack.py`, unpacked into the memory of the device, and batches drawn from them there."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from unpacking import LEVEL_HOP, STEP

from danna_sep.songs.song import MIXTURE
from danna_sep.types import SAMPLE_RATE, SOURCES

TOGETHER = ""
"""In the place of a stem's name: all four, of one song and place."""
QUIET_DB = -60.0
P_REDRAW = 0.85
"""Chance that a stem quieter than that (RMS, dB of full scale) is drawn again."""
P_COHERENT = 0.25
"""Share of a batch's items that are of one song and place."""
P_ACCOMPANIED = 0.1875
"""Share of a batch's items that are vocals over an accompaniment, where there are any."""
P_ABSENT = 0.1
"""Chance of a source to be silent in a mixture of stems of any songs."""
N_TRIES = 10


def n_coherent(batch_size: int) -> int:
    """Items of a batch that are of one song and place."""
    return round(P_COHERENT * batch_size)


class Drawn(NamedTuple):
    """A batch.

    Attributes:
        stems: Axes batch, source, channel, time.
        annotated: Which of them are known; the others are one sound, in the place of the first of them.
        seeds: For each item's augmentation.
    """

    stems: Tensor
    annotated: Tensor
    seeds: Tensor


@dataclass
class Stem:
    """A stem in the device's memory, int16 (channel, time), and the energy up to each hop."""

    samples: Tensor
    energy: npt.NDArray[np.float64]


@dataclass
class PooledSong:
    """A song, its stems by source, None where it is silent; or under "mixture" an accompaniment.

    `odds` say how often it is drawn, by these names and under "" for all of its stems together.
    """

    odds: Mapping[str, float]
    n_frames: int
    stems: dict[str, Stem | None]


class Pool:
    """Songs in the device's memory, of which batches are drawn."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.folder, self.device = folder, device
        self.songs: list[PooledSong] = []
        self.taken: set[Path] = set()
        self.chances: dict[str, tuple[list[PooledSong], npt.NDArray[np.float64]]] = {}
        self.rng = np.random.default_rng(int(time.time()))

    def take_in(self) -> None:
        """Archives that have not been taken in yet; not from several threads at once."""
        for path in sorted(set(self.folder.glob("*.tar")) - self.taken):
            self.taken.add(path)
            began = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                program = [sys.executable, str(Path(__file__).parent / "unpacking.py"), str(path), folder]
                done = subprocess.run(program, capture_output=True, text=True)
                if done.returncode:
                    reason = done.stderr.strip().rpartition("\n")[2] or f"ended with {done.returncode}"
                    advice = f"if it is damaged, send it again; it needs room in {folder} for all its samples"
                    raise SystemExit(f"{path}: cannot be unpacked ({reason}): {advice}")
                about = json.loads(Path(folder, "songs.json").read_text("utf-8"))
                songs = [self._held(Path(folder, str(number)), song) for number, song in enumerate(about)]
            self.songs = self.songs + songs
            self.chances = {name: self._chances(name) for name in (*SOURCES, MIXTURE, TOGETHER)}
            minutes = sum(song.n_frames for song in self.songs) / SAMPLE_RATE / 60
            print(f"{path.name}: {len(songs)} songs in {time.monotonic() - began:.1f} s; {minutes:.0f} min", flush=True)

    def _held(self, files: Path, about: Mapping[str, Any]) -> PooledSong:
        """A song in the device's memory, whose files' names begin as given."""
        stems: dict[str, Stem | None] = {}
        for source, n_samples in about["stems"].items():
            stems[source] = None
            if n_samples is not None:
                path = Path(f"{files}-{source}.raw")
                given = torch.from_file(str(path), shared=False, size=2 * n_samples, dtype=torch.int16)
                samples = given.reshape(2, -1).to(self.device, copy=True)
                path.unlink()
                stems[source] = Stem(samples, np.load(f"{files}-{source}.npy"))
        odds = dict(about["odds"])
        if all(source in stems for source in SOURCES):
            odds[TOGETHER] = min(odds.get(source, 0) for source in SOURCES)
        return PooledSong(odds, about["n_frames"], stems)

    def _chances(self, name: str) -> tuple[list[PooledSong], npt.NDArray[np.float64]]:
        """Songs that have a stem, or all of them, and how often each is drawn, summed up."""
        some = [song for song in self.songs if (name == TOGETHER or name in song.stems) and song.odds.get(name, 0) > 0]
        odds = np.array([song.odds[name] for song in some])
        return some, odds.cumsum() / max(1e-20, odds.sum())

    @property
    def lacks(self) -> list[str]:
        """Sources that no song has a share of, so far."""
        return [source for source in SOURCES if source not in self.chances or not self.chances[source][0]]

    def _song(self, name: str) -> PooledSong:
        songs, chances = self.chances[name]
        return songs[min(int(np.searchsorted(chances, self.rng.random())), len(songs) - 1)]

    def _excerpt(self, stem: Stem | None, start: int, n_frames: int) -> Tensor:
        """Samples, zeros beyond the end."""
        out = torch.zeros(2, n_frames, dtype=torch.int16, device=self.device)
        if stem is not None:
            some = stem.samples[:, start : start + n_frames]
            out[:, : some.shape[1]] = some
        return out

    def _is_quiet(self, stem: Stem | None, start: int, n_frames: int) -> bool:
        if stem is None:
            return True
        last = len(stem.energy) - 1
        first, end = min(start // LEVEL_HOP, last), min((start + n_frames) // LEVEL_HOP, last)
        mean = (stem.energy[end] - stem.energy[first]) * LEVEL_HOP / n_frames
        return bool(10 * np.log10(mean + 1e-20) < QUIET_DB)

    def _sounding(self, name: str, n_frames: int) -> Tensor:
        """An excerpt of one of the songs that have such a stem, seldom one where it is silent."""
        for _ in range(N_TRIES):
            song = self._song(name)
            start = self._place(song, n_frames)
            if self.rng.random() >= P_REDRAW or not self._is_quiet(song.stems[name], start, n_frames):
                break
        return self._excerpt(song.stems[name], start, n_frames)

    def _place(self, song: PooledSong, n_frames: int) -> int:
        return int(self.rng.integers(max(1, song.n_frames - n_frames)))

    def draw(self, batch_size: int, n_frames: int) -> Drawn:
        """A batch: first stems of one song each, last vocals over accompaniments, in between stems of any songs."""
        n_last = round(P_ACCOMPANIED * batch_size) if self.chances[MIXTURE][0] else 0
        rows = []
        for item in range(batch_size):
            if item < n_coherent(batch_size) and self.chances[TOGETHER][0]:
                song = self._song(TOGETHER)
                start = self._place(song, n_frames)
                rows += [self._excerpt(song.stems[source], start, n_frames) for source in SOURCES]
            elif item >= batch_size - n_last:
                accompaniment, vocals = self._sounding(MIXTURE, n_frames), self._sounding("vocals", n_frames)
                silence = torch.zeros_like(vocals)
                rows += [accompaniment, silence, silence, vocals]
            else:
                is_there = self.rng.random(len(SOURCES)) >= P_ABSENT
                rows += [
                    self._sounding(source, n_frames) if there else self._excerpt(None, 0, n_frames)
                    for source, there in zip(SOURCES, is_there, strict=True)
                ]
        stems = torch.stack(rows).float().div_(STEP).unflatten(0, (batch_size, len(SOURCES)))
        annotated = torch.ones(batch_size, len(SOURCES), dtype=torch.bool)
        annotated[batch_size - n_last :, : SOURCES.index("vocals")] = False
        seeds = torch.from_numpy(self.rng.integers(2**62, size=batch_size))
        return Drawn(stems, annotated, seeds)
