"""What an epoch ends with: scores, and weights that tell of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from danna_sep import __version__, weights
from danna_sep.errors import SongsError
from danna_sep.loading import WIENER_ITERATIONS
from danna_sep.models import XUMX, Demucs, Model
from danna_sep.songs import Song
from danna_sep.training import run_folder
from danna_sep.training.events import Validated
from danna_sep.training.recipe import Recipe
from danna_sep.training.validate import Scores, scores_of, separator_of, song_sdr_db
from danna_sep.types import SOURCES


def scores_on(recipe: Recipe, accelerator: Accelerator, model: Model, songs: Sequence[Song]) -> Scores:
    """SDR on songs that are not learnt from, shared out over the processes.

    Raises:
        SongsError: Songs without stems, or silent ones.
    """
    model.eval()
    separator = separator_of(model, recipe.n_wiener_iterations)
    sdr_db: Tensor = torch.zeros(len(songs), len(SOURCES), dtype=torch.float64)
    for index in range(accelerator.process_index, len(songs), accelerator.num_processes):
        sdr_db[index] = song_sdr_db(separator, songs[index], recipe.data.valid_s)
    sdr_db = accelerator.reduce(sdr_db.to(accelerator.device), "sum").cpu()
    scores = scores_of(sdr_db)
    if math.isnan(scores.mean_db):
        raise SongsError("the songs to validate on are silent, or have no stems; give others as --valid")
    return scores


def write_weights(path: Path, recipe: Recipe, model: Model, validated: Validated, songs: Sequence[Song]) -> None:
    """Weights with what made them, and how well they did, in the header.

    Args:
        path: Where to.
        recipe: By which they were trained.
        model: One of ours.
        validated: The epoch's end.
        songs: That they were trained on.
    """
    assert isinstance(model, XUMX | Demucs) or hasattr(model, "config")
    weights.write(
        path,
        model=recipe.model,
        config=asdict(model.config),
        entries=model.state_dict(),
        metadata={
            "made_by": f"danna-sep {__version__}, recipe: {recipe.summary}",
            "epoch": str(validated.epoch),
            WIENER_ITERATIONS: str(recipe.n_wiener_iterations),
            "validation_sdr_db": f"{validated.scores.mean_db:.3f}",
            "songs": run_folder.fingerprint(songs),
            "licence": "as the songs that it was trained on",
        },
    )
