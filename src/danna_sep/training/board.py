"""What TensorBoard shows of a training: losses, learning rate, throughput, SDR, and audio of one song."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from danna_sep.models import Model
from danna_sep.songs import Song
from danna_sep.training.events import Stepped, Validated
from danna_sep.training.validate import separator_of
from danna_sep.types import SAMPLE_RATE, SOURCES

_EXCERPT_S = 8


class Board:
    """Writes to `tensorboard/` in the run's folder.

    Args:
        folder: The run's.
        step: Steps done: what was written after it, by a run that was killed, is forgotten.
        n_wiener_iterations: See `Recipe`.
    """

    def __init__(self, folder: Path, step: int, n_wiener_iterations: int = 1) -> None:
        self._n_wiener_iterations = n_wiener_iterations
        self._writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=step)
        self._step = step

    def step(self, stepped: Stepped) -> None:
        """After a step of the optimiser."""
        self._step = stepped.step
        self._writer.add_scalar("train/loss", stepped.loss, stepped.step)
        self._writer.add_scalar("train/learning rate", stepped.lr, stepped.step)
        self._writer.add_scalar("speed/audio seconds per second", stepped.rate, stepped.step)
        self._writer.add_scalar("speed/share of time waiting for data", stepped.waited, stepped.step)

    def epoch(self, validated: Validated, model: Model, songs: Sequence[Song]) -> None:
        """After an epoch; audio only where it is the best so far."""
        self._writer.add_scalar("valid/SDR mean", validated.scores.mean_db, self._step)
        for source, sdr_db in zip(SOURCES, validated.scores.per_source_db, strict=True):
            if sdr_db == sdr_db:
                self._writer.add_scalar(f"valid/SDR {source}", sdr_db, self._step)
        if validated.is_best and songs:
            self._audio(model, songs[0])
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()

    @torch.no_grad()
    def _audio(self, model: Model, song: Song) -> None:
        n_frames = min(song.n_frames, _EXCERPT_S * SAMPLE_RATE)
        mixture = torch.from_numpy(song.read((song.n_frames - n_frames) // 2, n_frames).mixture)
        device = next(model.parameters()).device
        stems = separator_of(model, self._n_wiener_iterations)(mixture.to(device)).cpu()
        for source, stem in zip(SOURCES, stems, strict=True):
            self._writer.add_audio(source, stem.mean(0).clamp(-1, 1), self._step, SAMPLE_RATE)
