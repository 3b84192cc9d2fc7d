"""Validation: what it measures is what evaluation of the same song says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from danna_sep.errors import SongsError
from danna_sep.evaluation.metrics import mdx_sdr_db
from danna_sep.songs import Song, StemFile
from danna_sep.training import loop, running
from danna_sep.training.recipes import find_recipe
from danna_sep.training.validate import song_sdr_db
from danna_sep.types import SAMPLE_RATE, SOURCES

N_FRAMES = 100_000


class Quarters:
    """Gives each source a quarter of the mixture."""

    sources = SOURCES
    sample_rate = SAMPLE_RATE

    def __call__(self, mixture: Tensor) -> Tensor:
        return (mixture / 4).expand(4, *mixture.shape).movedim(0, -3).clone()


def noise(seed: int, level_db: float) -> np.ndarray:
    return 10 ** (level_db / 20) * np.random.default_rng(seed).standard_normal((N_FRAMES, 2))


def song(folder: Path, **files: np.ndarray) -> Song:
    folder.mkdir()
    for name, samples in files.items():
        soundfile.write(folder / f"{name}.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    return Song("song", {name: (StemFile(folder / f"{name}.wav"),) for name in files})


@pytest.mark.parametrize(("level_db", "counts"), [(-59, True), (-61, False)])
def test_what_evaluation_counts_as_silent_is_not_validated_on(level_db: float, counts: bool, tmp_path: Path) -> None:
    """If it failed, a stem of rounding noise would choose the best epoch."""
    stems = {source: noise(place, level_db if source == "vocals" else -20) for place, source in enumerate(SOURCES)}
    sdr_db = song_sdr_db(Quarters(), song(tmp_path / "song", **stems))
    assert sdr_db[:3].isfinite().all()
    assert bool(sdr_db[3].isfinite()) is counts


@pytest.mark.parametrize("valid_s", [0.0, 1.0])
def test_the_mixture_that_is_heard_is_the_one_of_the_file(valid_s: float, tmp_path: Path) -> None:
    stems = {source: noise(place, -20) for place, source in enumerate(SOURCES)}
    mixture = sum(stems.values()) + noise(9, -10)
    sdr_db = song_sdr_db(Quarters(), song(tmp_path / "song", **stems, mixture=mixture), valid_s)
    start = (N_FRAMES - SAMPLE_RATE) // 2 if valid_s else 0
    part = slice(start, start + SAMPLE_RATE if valid_s else None)
    truth = torch.from_numpy(np.stack([stems[source][part].T for source in SOURCES]))
    expected = mdx_sdr_db(truth, Quarters()(torch.from_numpy(mixture[part].T)))
    torch.testing.assert_close(sdr_db, expected, rtol=0, atol=1e-4)


def test_a_song_whose_mixture_is_not_known_is_refused_before_any_training(tmp_path: Path) -> None:
    """If it failed, the sum of the stems that there are would be heard for a song."""
    part = song(tmp_path / "song", drums=noise(0, -20), vocals=noise(3, -20))
    whole = song(tmp_path / "whole", **{source: noise(place, -20) for place, source in enumerate(SOURCES)})
    with pytest.raises(SongsError, match="bass, other not annotated and no mixture file"):
        song_sdr_db(Quarters(), part)
    options = running.Options(device="cpu", n_workers=0)
    training = loop.train(find_recipe("small-unet"), [whole], [whole, part], tmp_path / "run", options=options)
    with pytest.raises(SongsError, match="bass, other not annotated and no mixture file"):
        next(training)
    assert not (tmp_path / "run").exists()
