"""What a training tells of itself as it goes on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from danna_sep.training.run_folder import without_nan
from danna_sep.training.validate import Scores


@dataclass(frozen=True)
class Started:
    """Before the first batch: where it begins.

    Attributes:
        epoch, batch: From 0; that are done.
        precision: "f32", "bf16" or "f16", which may not be the recipe's: see `processes.arithmetic_on`.
    """

    epoch: int
    batch: int
    n_parameters: int
    device: str
    n_processes: int
    precision: str


@dataclass(frozen=True)
class Stepped:
    """After a step of the optimiser.

    Attributes:
        epoch, batch, step: From 0; forward passes in the epoch, and steps in all, that are done.
        n_epochs, n_batches: Of the training, and of an epoch.
        loss: Mean over the step's passes.
        lr: Learning rate of the step.
        rate: Seconds of audio trained on per second, since the last start.
        waited: Share of the time, since then, spent waiting for excerpts.
    """

    epoch: int
    n_epochs: int
    batch: int
    n_batches: int
    step: int
    loss: float
    lr: float
    rate: float
    waited: float


@dataclass(frozen=True)
class Validated:
    """After an epoch."""

    epoch: int
    loss: float
    scores: Scores
    is_best: bool


@dataclass(frozen=True)
class Stopped:
    """At the end of this call: why, and whether the training is over."""

    reason: str
    is_over: bool
    best_sdr_db: float | None
    best_epoch: int


Event: TypeAlias = Started | Stepped | Validated | Stopped


def as_json(event: Event) -> dict[str, Any]:
    """An event in the types of JSON: its kind as "event", and what it says."""
    content: dict[str, Any] = without_nan({"event": type(event).__name__.lower(), **asdict(event)})
    return content
