"""The state of a training in one file: safetensors, without pickle, whole or not there at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from torch import Tensor, optim

from danna_sep import weights
from danna_sep.errors import CorruptWeights
from danna_sep.models import Model

_KIND: Final = "training state"


@dataclass(frozen=True)
class Trained:
    """What a training changes as it goes on.

    Attributes:
        model: The network.
        average: Running average of its weights, or None.
        optimiser: Adam.
    """

    model: Model
    average: Model | None
    optimiser: optim.Optimizer


def save_state(path: Path, trained: Trained, progress: Mapping[str, Any]) -> None:
    """Write all that going on needs.

    Args:
        path: The file; it changes as a whole.
        trained: Whose numbers to keep.
        progress: Where the training is, in the types of JSON.

    Raises:
        WriteFailed: The folder cannot be written, or the disk is full.
        CorruptWeights: A number is not finite.
    """
    entries: dict[str, Tensor] = {f"model.{name}": value for name, value in trained.model.state_dict().items()}
    if trained.average is not None:
        entries |= {f"average.{name}": value for name, value in trained.average.state_dict().items()}
    for index, values in trained.optimiser.state_dict()["state"].items():
        entries |= {f"optimiser.{index}.{name}": value for name, value in values.items()}
    weights.write(path, model=_KIND, config=progress, entries=entries, metadata={})


def load_state(path: Path, trained: Trained) -> dict[str, Any]:
    """Put the numbers of a state back, and tell where the training was.

    Raises:
        CorruptWeights: Not a state, damaged, or of another network.
    """
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimiser": {}}
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118 (not a mapping)
                part, _, rest = name.partition(".")
                parts[part][rest] = file.get_tensor(name).clone()
        if header.get("model") != _KIND:
            raise CorruptWeights(f"{path}: not the state of a training")
        progress: dict[str, Any] = json.loads(header["config"])
        trained.model.load_state_dict(parts["model"])
        if trained.average is not None:
            trained.average.load_state_dict(parts["average"])
        trained.optimiser.load_state_dict({"state": _by_index(parts["optimiser"]), "param_groups": _groups(trained)})
    except (SafetensorError, KeyError, ValueError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CorruptWeights(f"{path}: cannot be gone on from ({reason}); delete it to start anew") from error
    return progress


def _by_index(entries: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in entries.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    return state


def _groups(trained: Trained) -> list[dict[str, Any]]:
    """The optimiser's own settings: they follow from the recipe."""
    groups: list[dict[str, Any]] = trained.optimiser.state_dict()["param_groups"]
    return groups
