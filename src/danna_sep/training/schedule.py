"""The learning rate as a function of how far the training is: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from danna_sep.training.recipe import Recipe


@dataclass(frozen=True)
class Plateau:
    """What has been seen of the validation SDR.

    Attributes:
        best_sdr_db: The highest; None before the first validation.
        best_epoch: When.
        n_bad: Epochs since then, or since the rate fell last.
        n_drops: How often the rate fell.
    """

    best_sdr_db: float | None = None
    best_epoch: int = -1
    n_bad: int = 0
    n_drops: int = 0

    def after(self, epoch: int, sdr_db: float, patience: int) -> Plateau:
        """After another epoch; the rate falls when more than `patience` in a row were no better."""
        if self.best_sdr_db is None or sdr_db > self.best_sdr_db:
            return replace(self, best_sdr_db=sdr_db, best_epoch=epoch, n_bad=0)
        if self.n_bad + 1 > patience:
            return replace(self, n_bad=0, n_drops=self.n_drops + 1)
        return replace(self, n_bad=self.n_bad + 1)


def learning_rate(recipe: Recipe, epoch: int, step: int, n_steps: int, plateau: Plateau) -> float:
    """The rate for one step of the optimiser.

    Args:
        recipe: Whose `schedule` and `optimiser` count.
        epoch: From 0.
        step: Steps made before this one, in all.
        n_steps: Steps of the whole training.
        plateau: As it is at the start of the epoch.
    """
    schedule = recipe.schedule
    rate = recipe.optimiser.lr
    if step < schedule.warmup_steps:
        rate *= (step + 1) / schedule.warmup_steps
    if schedule.kind == "step" and epoch >= schedule.epoch:
        rate *= schedule.factor
    elif schedule.kind == "plateau":
        rate *= schedule.factor**plateau.n_drops
    elif schedule.kind == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, n_steps))))
    return rate
