"""Random excerpts of songs, read without decoding the rest.

An item follows from (seed, number of the item) alone: it is the same whichever worker reads it, however many there are,
and whether or not training was interrupted before. Numbers go on from epoch to epoch: the dataset has no
state to set, the sampler tells the numbers of an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from danna_sep.errors import ConfigError, SongsError
from danna_sep.songs import Song
from danna_sep.songs.song import MIXTURE
from danna_sep.types import SOURCES

_N_TRIES = 10
_MIXING, _SHUFFLING = 0, 1


class Excerpt(NamedTuple):
    """One item; PyTorch's default collation makes batches of them.

    Attributes:
        stems: Their sum is the mixture: what a song's mixture has besides its annotated stems is in the place of the
            first that is not annotated.
        annotated: Whether a source is known.
        has_mixture: Whether the mixture is known beside them: without, what it has besides is not zero but unknown.
        seed: For what is random about the item from here on.
    """

    stems: Float[Tensor, "source channel time"]
    annotated: Bool[Tensor, " source"]
    has_mixture: Bool[Tensor, ""]
    seed: int


class ExcerptDataset(Dataset[Excerpt]):
    """Excerpts of songs; any number from 0 on is an item, `len` of them are an epoch."""

    def __init__(
        self,
        songs: Sequence[Song],
        n_frames: int,
        *,
        n_per_song: int = 64,
        seed: int = 0,
        mixing: bool = True,
        min_level_db: float | None = None,
        p_reject: float = 0.9,
        p_coherent: float = 0.0,
    ) -> None:
        """Look up the songs' lengths; their samples are read item by item.

        Args:
            songs: Of which excerpts are taken, however long they are; with `mixing` each as often as its `odds` say.
            n_frames: Length of an excerpt, the augmentation's margin included. In a shorter song it begins or ends with
                zeros.
            n_per_song: Items per song and epoch.
            seed: Another seed, another sequence.
            mixing: Stems from independently drawn songs and places, as in the paper, each from a song that annotates
                it. For sources that no song annotates, what a mixture has besides all others, likewise drawn.
                Otherwise all stems of one song from one place, item by item n_per_song of the first song, then of the
                second, and so on.
            min_level_db: Ours, not the paper's: with `mixing`, an excerpt whose root mean square is below this (dB,
                full scale 0) is rejected with `p_reject`, and another is drawn, ten times at most. In small collections
                most of the vocals' excerpts are silent. None: none is rejected.
            p_reject: Probability of that.
            p_coherent: Ours: with `mixing`, probability that an item is nevertheless of one song and place, drawn from
                those songs that annotate as many sources as any: stems that are in tune and in time with each other.

        Raises:
            ConfigError: An option out of range.
            SongsError: No songs, or one without samples or of unknown length; or, with `mixing`, a source that no song
                annotates and that no mixture tells of.
            AudioError: A file that cannot be read.
        """
        if n_frames < 1 or n_per_song < 1:
            raise ConfigError("an excerpt has at least one sample, and a song one excerpt")
        for name, value in (("p_reject", p_reject), ("p_coherent", p_coherent)):
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} is a probability, not {value}")
        self.songs = tuple(songs)
        if not self.songs:
            raise SongsError("no songs to take excerpts of")
        for song in self.songs:
            if song.n_frames < 1:
                raise SongsError(f"{song.name}: has no samples")
            if not 0 < song.odds < np.inf:
                raise ConfigError(f"{song.name}: its odds must be more than 0, not {song.odds}")
        self.n_frames, self.n_per_song, self.seed, self.mixing = n_frames, n_per_song, seed, mixing
        self.min_level_db, self.p_reject, self.p_coherent = min_level_db, p_reject, p_coherent
        self._with = [_Urn([song for song in self.songs if source in song.annotated]) for source in SOURCES]
        absent = [source for source, urn in zip(SOURCES, self._with, strict=True) if not urn.songs]
        n_known = len(SOURCES) - len(absent)
        n_most = max(len(song.annotated) for song in self.songs)
        self._fullest = _Urn([song for song in self.songs if len(song.annotated) == n_most])
        self._with_rest = _Urn([s for s in self.songs if MIXTURE in s.files and len(s.annotated) == n_known])
        if mixing and absent and not self._with_rest.songs:
            raise SongsError(
                f"no song annotates {' or '.join(absent)}, and none has all other stems and a mixture; "
                "without them, mixtures of drawn stems would teach that these are never heard"
            )

    def __len__(self) -> int:
        return self.n_per_song * len(self.songs)

    def __getitem__(self, number: int) -> Excerpt:
        if number < 0:
            raise IndexError(number)
        rng = np.random.default_rng((self.seed, _MIXING, number))
        seed = int(rng.integers(2**62))
        if self.mixing and self.p_coherent and rng.random() < self.p_coherent:
            return self._coherent(self._fullest.draw(rng), rng, seed)
        if self.mixing:
            annotated = [bool(urn.songs) for urn in self._with]
            stems = np.zeros((len(SOURCES), 2, self.n_frames), np.float32)
            for index, urn in enumerate(self._with):
                if urn.songs:
                    stems[index] = self._drawn(urn, SOURCES[index], rng)
            if not all(annotated):
                stems[annotated.index(False)] = self._drawn(self._with_rest, None, rng)
            return _excerpt(stems, annotated, True, seed)
        return self._coherent(self.songs[number % len(self) // self.n_per_song], rng, seed)

    def _drawn(self, urn: _Urn, source: str | None, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """One stem of one of the songs; None: what its mixture has besides its stems."""
        for n_left in reversed(range(_N_TRIES)):
            song = urn.draw(rng)
            start, front = self._place(song, rng)
            if source is None:
                excerpt = song.read(start, self.n_frames)
                stem = excerpt.mixture - excerpt.stems.sum(0)
            else:
                stem = song.read_stem(source, start, self.n_frames)
            rejected = self.min_level_db is not None and rng.random() < self.p_reject
            if not n_left or not rejected or _level_db(stem) >= cast("float", self.min_level_db):
                break
        return _later(stem, front)

    def _coherent(self, song: Song, rng: np.random.Generator, seed: int) -> Excerpt:
        start, front = self._place(song, rng)
        excerpt = song.read(start, self.n_frames)
        stems = excerpt.stems
        annotated = [source in excerpt.annotated for source in SOURCES]
        if not all(annotated):
            stems = stems.copy()
            stems[annotated.index(False)] = excerpt.mixture - stems.sum(0)
        return _excerpt(_later(stems, front), annotated, MIXTURE in song.files, seed)

    def _place(self, song: Song, rng: np.random.Generator) -> tuple[int, int]:
        """Where in the song the excerpt begins, and after how many zeros the song begins in the excerpt."""
        free = song.n_frames - self.n_frames
        place = int(rng.integers(abs(free) + 1))
        return (place, 0) if free >= 0 else (0, place)


class _Urn:
    """Songs, of which one is drawn as often as its odds say."""

    def __init__(self, songs: Sequence[Song]) -> None:
        self.songs = songs
        odds = np.array([song.odds for song in songs], np.float64)
        self.chances = odds / odds.sum() if len(set(odds.tolist())) > 1 else None

    def draw(self, rng: np.random.Generator) -> Song:
        if self.chances is None:
            return self.songs[int(rng.integers(len(self.songs)))]
        return self.songs[int(rng.choice(len(self.songs), p=self.chances))]


class ResumableSampler(Sampler[int]):
    """The numbers of an epoch's items, shuffled, for one of several processes, from any place on.

    All processes shuffle alike and deal the numbers out in turn, equally many to each; the last few that do not go
    round are left out. A process that begins with `n_done` items done gets what one that began with none gets after
    them.
    """

    def __init__(
        self,
        n_items: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        n_done: int = 0,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
    ) -> None:
        """Nothing is drawn yet.

        Args:
            n_items: Of an epoch.
            seed: Another seed, another order.
            epoch: Its items are numbered epoch * n_items and on.
            n_done: Items of this epoch that are done, those of all processes together.
            rank: Which process, from 0.
            world_size: How many there are.
            shuffle: Or in order.

        Raises:
            ConfigError: An option out of range.
        """
        if not 0 <= rank < world_size:
            raise ConfigError(f"process {rank} of {world_size}")
        if n_items < 1 or epoch < 0 or not 0 <= n_done <= n_items:
            raise ConfigError(f"{n_done} of {n_items} items of epoch {epoch}")
        self.n_items, self.seed, self.epoch, self.n_done = n_items, seed, epoch, n_done
        self.rank, self.world_size, self.shuffle = rank, world_size, shuffle

    def __len__(self) -> int:
        return (self.n_items - self.n_done) // self.world_size

    def __iter__(self) -> Iterator[int]:
        order = np.arange(self.n_items)
        if self.shuffle:
            order = np.random.default_rng((self.seed, _SHUFFLING, self.epoch)).permutation(order)
        own = order[self.n_done + self.rank :: self.world_size][: len(self)]
        yield from (own + self.epoch * self.n_items).tolist()


def _excerpt(stems: npt.NDArray[np.float32], annotated: Sequence[bool], has_mixture: bool, seed: int) -> Excerpt:
    return Excerpt(torch.from_numpy(stems), torch.tensor(annotated), torch.tensor(has_mixture), seed)


def _later(samples: npt.NDArray[np.float32], n_zeros: int) -> npt.NDArray[np.float32]:
    """Behind zeros, and as long as before."""
    if not n_zeros:
        return samples
    shifted = np.zeros_like(samples)
    shifted[..., n_zeros:] = samples[..., :-n_zeros]
    return shifted


def _level_db(samples: npt.NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-20))
