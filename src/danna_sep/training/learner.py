"""The network of a training and what teaches it: a batch in, gradients; a step, better weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from danna_sep import weights
from danna_sep.convert import check_entries
from danna_sep.errors import ConfigError, UnknownCheckpoint
from danna_sep.models import XUMX, Model, build
from danna_sep.shapes import Mixture
from danna_sep.training.augment import augment
from danna_sep.training.checkpoint import Trained
from danna_sep.training.combinations import combinations_of
from danna_sep.training.excerpts import Excerpt
from danna_sep.training.objective import objective
from danna_sep.training.recipe import Recipe
from danna_sep.training.statistics import fit_statistics
from danna_sep.training.sync_norm import synchronise_batch_norms
from danna_sep.types import SAMPLE_RATE


@dataclass(frozen=True)
class Learner:
    """What is taught.

    Attributes:
        recipe: How.
        accelerator: What exchanges numbers with the other processes.
        trained: What changes, as it is saved.
        network: The same model, as the accelerator wraps it.
        optimiser: Likewise.
    """

    recipe: Recipe
    accelerator: Accelerator
    trained: Trained
    network: nn.Module
    optimiser: torch.optim.Optimizer

    @property
    def judged(self) -> Model:
        """The weights that count: the average, if there is one."""
        return self.trained.average or self.trained.model

    def learn(self, batch: Excerpt, seed: int, *, n_in_step: int, is_last: bool) -> float:
        """Add a batch's gradients to those that wait for a step.

        Args:
            batch: Excerpts of the songs, longer than they are heard by what augmentation may need.
            seed: Of dropout, which then needs no state of its own: what a batch gets follows from where it stands.
            n_in_step: Batches whose gradients make a step.
            is_last: Whether this is the last of these.

        Returns:
            The loss, in the mean of all processes.
        """
        torch.manual_seed(seed)
        n_samples = round(self.recipe.data.excerpt_s * SAMPLE_RATE)
        given = batch.stems.to(self.accelerator.device, non_blocking=True)
        stems = augment(given, cast("Tensor", batch.seed), n_samples, self.recipe.augment)
        known = combinations_of(batch.annotated, batch.has_mixture).to(stems.device)
        with nullcontext() if is_last else self.accelerator.no_sync(self.network):
            parts = objective(self.network, stems, known, self.recipe.loss, self.trained.model.config)
            self.accelerator.backward(parts.loss / n_in_step)
        return float(self.accelerator.reduce(parts.loss.detach(), "mean"))

    def step(self, lr: float, n_done: int) -> bool:
        """Go a step where the gradients point.

        Args:
            lr: Learning rate.
            n_done: Steps before this one; the average follows the first ones closely.

        Returns:
            Whether the gradient is finite; if not, nothing was done. With float16, whose scale of the loss then only
            becomes smaller, always True.
        """
        for settings in self.optimiser.param_groups:
            settings["lr"] = lr
        clip_norm = self.recipe.optimiser.clip_norm or math.inf
        norm = self.accelerator.clip_grad_norm_(self.trained.model.parameters(), clip_norm)
        if self.accelerator.scaler is None and not bool(torch.isfinite(norm)):
            return False
        self.optimiser.step()
        self.optimiser.zero_grad()
        if self.trained.average is not None:
            decay = min(self.recipe.optimiser.ema, (n_done + 1) / (n_done + 11))
            _update_average(self.trained.average, self.trained.model, decay)
        return True


def trained_from(recipe: Recipe, init: Path | None, first: Iterable[Mixture], accelerator: Accelerator) -> Trained:
    """A model as it begins, on the accelerator's device, with its average and its optimiser.

    Args:
        recipe: By which it will be trained.
        init: Weights to start from; they bring their own configuration, of which the recipe changes what it names.
        first: Mixtures by which the input of a new X-UMX is scaled.
        accelerator: Of this process.

    Raises:
        ConfigError: Weights of another kind of model, or changes of their configuration that need other weights.
    """
    model = _model(recipe, init)
    if init is None and isinstance(model, XUMX):
        fit_statistics(model, first)
    if accelerator.num_processes > 1:
        synchronise_batch_norms(model)
    model.to(accelerator.device)
    average = copy.deepcopy(model).requires_grad_(False).eval() if recipe.optimiser.ema else None
    optimiser = torch.optim.Adam(
        model.parameters(),
        recipe.optimiser.lr,
        weight_decay=recipe.optimiser.weight_decay,
        fused=accelerator.device.type in ("cpu", "cuda"),
    )
    return Trained(model, average, optimiser)


def learner_of(recipe: Recipe, trained: Trained, accelerator: Accelerator) -> Learner:
    """What teaches a model that stands where it is to go on from."""
    network = accelerator.prepare_model(trained.model)
    return Learner(recipe, accelerator, trained, network, accelerator.prepare_optimizer(trained.optimiser))


def _model(recipe: Recipe, init: Path | None) -> Model:
    if init is None:
        return build(recipe.model, recipe.config)
    file = weights.read(init)
    if file.model != recipe.model:
        raise ConfigError(f"{init}: weights of {file.model}, but the recipe trains {recipe.model}")
    model = build(file.model, {**file.config, **recipe.config})
    try:
        check_entries(model, file.entries, str(init))
    except UnknownCheckpoint as error:
        if not recipe.config:
            raise
        raise ConfigError(f"config {dict(recipe.config)} needs other weights than {init}") from error
    model.load_state_dict(file.entries)
    return model


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    for mean, now in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - decay)
        else:
            mean.copy_(now)
