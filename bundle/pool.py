"""Songs packed by `pack.py`, unpacked into the memory of the device, and batches drawn from them there."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch import Tensor

from danna_sep.types import SAMPLE_RATE, SOURCES

LOUDEST = 1.99
"""What `pack.py` keeps within full scale, coding may leave a little above it."""
STEP = 2**14
"""Of int16, for full scale."""
LEVEL_HOP = 4410
QUIET_DB = -60.0
P_REDRAW = 0.85
"""Chance that a stem quieter than that (RMS, dB of full scale) is drawn again."""
P_COHERENT = 0.25
"""Share of a batch's items that are of one song and place."""
N_TRIES = 10


def n_coherent(batch_size: int) -> int:
    """Items of a batch that are of one song and place."""
    return round(P_COHERENT * batch_size)


@dataclass
class Stem:
    """A stem in the device's memory, int16 (channel, time), and the energy up to each hop."""

    samples: Tensor
    energy: npt.NDArray[np.float64]


@dataclass
class PooledSong:
    """A song, its stems by source; None where it is silent."""

    odds: float
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
        self.executor = ThreadPoolExecutor()

    def take_in(self) -> None:
        """Archives that have not been taken in yet; not from several threads at once."""
        for path in sorted(set(self.folder.glob("*.tar")) - self.taken):
            self.taken.add(path)
            began = time.monotonic()
            folders: dict[str, dict[str, bytes]] = {}
            try:
                with tarfile.open(path) as archive:
                    for entry in archive:
                        folder, _, name = entry.name.partition("/")
                        content = archive.extractfile(entry)
                        folders.setdefault(folder, {})[name] = content.read() if content else b""
                songs = list(self.executor.map(self._decoded, folders.values()))
            except (OSError, tarfile.TarError, ValueError, KeyError) as error:
                raise SystemExit(f"{path}: not one of pack.py's archives, or damaged; send it again") from error
            self.songs = self.songs + songs
            self.chances = {source: self._chances(source) for source in (*SOURCES, "")}
            minutes = sum(song.n_frames for song in self.songs) / SAMPLE_RATE / 60
            print(f"{path.name}: {len(songs)} songs in {time.monotonic() - began:.1f} s; {minutes:.0f} min", flush=True)

    def _decoded(self, files: Mapping[str, bytes]) -> PooledSong:
        about = json.loads(files["manifest.json"])
        stems: dict[str, Stem | None] = dict.fromkeys(about["silent"])
        for source in SOURCES:
            if f"{source}.opus" not in files:
                continue
            samples, _ = soundfile.read(io.BytesIO(files[f"{source}.opus"]), dtype="float32", always_2d=True)
            whole = samples[: len(samples) // LEVEL_HOP * LEVEL_HOP].reshape(-1, 2 * LEVEL_HOP)
            energy = np.concatenate(([0.0], np.square(whole, dtype=np.float64).mean(1).cumsum()))
            numbers = np.ascontiguousarray((samples.T.clip(-LOUDEST, LOUDEST) * STEP).astype(np.int16))
            stems[source] = Stem(torch.from_numpy(numbers).to(self.device), energy)
        return PooledSong(about["odds"], about["n_frames"], stems)

    def _chances(self, source: str) -> tuple[list[PooledSong], npt.NDArray[np.float64]]:
        """Songs that tell of a source, or for "" of all four."""
        some = [song for song in self.songs if (source in song.stems if source else len(song.stems) == len(SOURCES))]
        if not some and source:
            raise SystemExit(f"{self.folder}: no song has {source}")
        odds = np.array([song.odds for song in some])
        return some, odds.cumsum() / max(1e-20, odds.sum())

    def _song(self, source: str) -> PooledSong:
        songs, chances = self.chances[source]
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

    def draw(self, batch_size: int, n_frames: int) -> tuple[Tensor, Tensor]:
        """Stems (batch, source, channel, time), those of one song each first, and seeds for their augmentation."""
        rows = []
        for item in range(batch_size):
            if item < n_coherent(batch_size) and self.chances[""][0]:
                song = self._song("")
                start = int(self.rng.integers(max(1, song.n_frames - n_frames)))
                rows += [self._excerpt(song.stems[source], start, n_frames) for source in SOURCES]
                continue
            for source in SOURCES:
                for _ in range(N_TRIES):
                    song = self._song(source)
                    start = int(self.rng.integers(max(1, song.n_frames - n_frames)))
                    if self.rng.random() >= P_REDRAW or not self._is_quiet(song.stems[source], start, n_frames):
                        break
                rows.append(self._excerpt(song.stems[source], start, n_frames))
        stems = torch.stack(rows).float().div_(STEP).unflatten(0, (batch_size, len(SOURCES)))
        return stems, torch.from_numpy(self.rng.integers(2**62, size=batch_size))
