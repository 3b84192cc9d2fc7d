"""Where a training is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from danna_sep.training.recipe import Recipe
from danna_sep.training.schedule import Plateau


@dataclass
class Progress:
    """What is done; survives in the state.

    Attributes:
        epoch, batch: From 0; batches of this epoch.
        step: Steps of the optimiser, of all epochs.
        loss_sum: Over this epoch's batches.
        plateau: What has been seen of the validation SDR.
        scaler: Of float16's gradients, as it saves itself.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    plateau: Plateau = field(default_factory=Plateau)
    scaler: Mapping[str, Any] | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Progress:
        """As `dataclasses.asdict` has taken it apart."""
        return cls(**{**values, "plateau": Plateau(**values["plateau"])})

    def is_stale(self, recipe: Recipe) -> bool:
        """Whether there was no better epoch for as long as the recipe waits."""
        return bool(recipe.early_stop) and self.epoch - 1 - self.plateau.best_epoch >= recipe.early_stop

    def next_epoch(self) -> None:
        """On to the next epoch's first batch."""
        self.epoch, self.batch, self.loss_sum = self.epoch + 1, 0, 0.0
