"""SDR of a network in training on songs that it does not learn from, separated as users separate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from danna_sep.evaluation.metrics import mdx_of_blocks
from danna_sep.models import Demucs, Model
from danna_sep.separators import Separator, WaveformSeparator, mask_separator
from danna_sep.songs import Song, SongExcerpt
from danna_sep.streaming import segment_grid, stream
from danna_sep.types import SAMPLE_RATE, SOURCES

_BLOCK = 2**18


@dataclass(frozen=True)
class Scores:
    """Validation SDR.

    Attributes:
        per_source_db: MDX SDR of each source, mean over the songs that have it; nan where none has.
        mean_db: Mean over the sources that any song has.
    """

    per_source_db: tuple[float, ...]
    mean_db: float


def separator_of(model: Model, n_wiener_iterations: int = 1) -> Separator:
    """What users separate with, around a network."""
    return WaveformSeparator(model) if isinstance(model, Demucs) else mask_separator(model, n_wiener_iterations)


def song_sdr_db(separator: Separator, song: Song, valid_s: float = 0.0) -> Tensor:
    """SDR of MDX 2021 of each source, (source,) in double precision; nan where not annotated, or silent (`is_silent`).

    Args:
        separator: Gives all sources.
        song: What to separate.
        valid_s: Seconds from its middle; 0 for all.

    Raises:
        SongsError: The song's mixture is not known.
    """
    song.check_mixture()
    waiting: list[Tensor] = []

    def mixtures() -> Iterator[Tensor]:
        for excerpt in _excerpts(song, valid_s):
            waiting.append(torch.from_numpy(excerpt.stems))
            yield torch.from_numpy(excerpt.mixture)

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        for estimate in stream(mixtures(), separator, segment_grid()):
            references = torch.cat(waiting, -1)
            length = estimate.shape[-1]
            waiting[:] = [references[..., length:]]
            yield references[..., :length], estimate

    sdr_db, silent = mdx_of_blocks(blocks())
    known = torch.tensor([source in song.annotated for source in SOURCES])
    return torch.where(known & ~silent, sdr_db, torch.nan)


def scores_of(sdr_db: Tensor) -> Scores:
    """Means over songs, then over sources, of (song, source)."""
    per_source = sdr_db.nanmean(0)
    return Scores(tuple(per_source.tolist()), float(per_source.nanmean()))


def _excerpts(song: Song, valid_s: float) -> Iterator[SongExcerpt]:
    n_frames = min(song.n_frames, round(valid_s * SAMPLE_RATE))
    if not n_frames:
        yield from song.blocks(_BLOCK)
        return
    start = (song.n_frames - n_frames) // 2
    for first in range(start, start + n_frames, _BLOCK):
        yield song.read(first, min(_BLOCK, start + n_frames - first))
