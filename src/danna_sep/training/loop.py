"""The training loop: excerpts in, better weights out; killed anywhere, it goes on as if nothing had been."""

from __future__ import annotations

import copy
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from danna_sep import weights
from danna_sep.errors import Cancelled, ConfigError, TrainingFailed
from danna_sep.models import XUMX, Model, build
from danna_sep.songs import Song
from danna_sep.training import run_folder
from danna_sep.training.augment import augment, margin
from danna_sep.training.board import Board
from danna_sep.training.checkpoint import Trained, load_state, save_state
from danna_sep.training.epoch_end import scores_on, write_weights
from danna_sep.training.events import Event, Started, Stepped, Stopped, Validated, as_json
from danna_sep.training.excerpts import Excerpt, ExcerptDataset, ResumableSampler
from danna_sep.training.losses import combinations_of
from danna_sep.training.objective import objective
from danna_sep.training.processes import accelerator_for, any_process, arithmetic_on
from danna_sep.training.recipe import Recipe
from danna_sep.training.schedule import Plateau, learning_rate
from danna_sep.training.statistics import fit_statistics
from danna_sep.training.sync_norm import synchronise_batch_norms
from danna_sep.types import SAMPLE_RATE

_N_HEARD_FIRST: Final = 64
"""Excerpts, the first of the first epoch, by which X-UMX's input is scaled."""


@dataclass(frozen=True)
class Options:
    """How a training runs; none of it changes its result, but for `seed`, and `device` by rounding.

    Attributes:
        seed: Of weights, batches, augmentation and dropout.
        device: "auto", "cpu", "cuda" (all GPUs that it sees) or "mps".
        n_workers: Processes that read excerpts, for each process that trains; 0: itself.
        save_every_s: Seconds from state to state; also after every epoch.
        stop_after_s: Save and stop after so long; None: at the end.
    """

    seed: int = 0
    device: str = "auto"
    n_workers: int = 2
    save_every_s: float = 300.0
    stop_after_s: float | None = None


@dataclass
class _Progress:
    """Where the training is; survives in the state."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    plateau: Plateau = field(default_factory=Plateau)
    scaler: Mapping[str, Any] | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> _Progress:
        return cls(**{**values, "plateau": Plateau(**values["plateau"])})


def train(
    recipe: Recipe,
    songs: Sequence[Song],
    valid_songs: Sequence[Song],
    folder: Path,
    *,
    init: Path | None = None,
    options: Options | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Train by a recipe, or go on with what the folder holds.

    In several processes, each calls this with the same arguments.

    Args:
        recipe: What to do.
        songs: To learn from.
        valid_songs: To measure on after every epoch; not learnt from.
        folder: The run's, see `run_folder`.
        init: Weights to start from; they bring their own configuration of the model.
        options: How to do it.
        cancelled: Asked before every batch; the state is saved then.

    Yields:
        What happens.

    Raises:
        ConfigError: Settings that do not fit together, or a folder that holds another training.
        SongsError: Songs that cannot be used.
        TrainingFailed: A loss is not finite.
        Cancelled: When `cancelled` said so.
    """
    options = options or Options()
    accelerator = accelerator_for(options.device, recipe.precision)
    for event in _events(recipe, songs, valid_songs, folder, init, options, cancelled, accelerator):
        if accelerator.is_main_process:
            run_folder.append_log(folder, as_json(event))
        yield event


def _events(
    recipe: Recipe,
    songs: Sequence[Song],
    valid_songs: Sequence[Song],
    folder: Path,
    init: Path | None,
    options: Options,
    cancelled: Callable[[], bool],
    accelerator: Accelerator,
) -> Iterator[Event]:
    """The training itself; see `train`."""
    n_processes, rank = accelerator.num_processes, accelerator.process_index
    if recipe.optimiser.batch_size % n_processes:
        raise ConfigError(f"a batch of {recipe.optimiser.batch_size} cannot be shared by {n_processes} processes")
    if init is not None:
        weights.read_header(init)
    if accelerator.is_main_process:
        run_folder.open_run(folder, recipe, songs, valid_songs, seed=options.seed, init=init, n_processes=n_processes)
    accelerator.wait_for_everyone()

    n_samples = round(recipe.data.excerpt_s * SAMPLE_RATE)
    excerpts = ExcerptDataset(
        songs,
        n_samples + margin(n_samples, recipe.augment),
        n_per_song=recipe.data.excerpts_per_track,
        seed=options.seed,
        mixing=recipe.data.mixing,
        min_level_db=recipe.data.min_level_db if recipe.data.redraw else None,
        p_reject=recipe.data.redraw,
        p_coherent=recipe.data.coherent,
    )
    batch_size = recipe.optimiser.batch_size
    n_batches = len(excerpts) // batch_size
    if not n_batches:
        raise ConfigError(f"an epoch has {len(excerpts)} excerpts, fewer than a batch; raise data.excerpts_per_track")
    accumulate = min(recipe.optimiser.accumulate, n_batches)
    n_steps = recipe.epochs * -(-n_batches // accumulate)

    torch.manual_seed(options.seed)
    model = _model(recipe, init)
    if init is None and isinstance(model, XUMX):
        fit_statistics(model, (excerpts[number].stems.sum(0) for number in range(min(_N_HEARD_FIRST, len(excerpts)))))
    if n_processes > 1:
        synchronise_batch_norms(model)
    model.to(accelerator.device)
    average = copy.deepcopy(model).requires_grad_(False).eval() if recipe.optimiser.ema else None
    optimiser = torch.optim.Adam(
        model.parameters(),
        recipe.optimiser.lr,
        weight_decay=recipe.optimiser.weight_decay,
        fused=accelerator.device.type in ("cpu", "cuda"),
    )
    trained = Trained(model, average, optimiser)
    progress = _Progress()
    state = folder / run_folder.STATE
    if state.exists():
        progress = _Progress.from_json(load_state(state, trained))
        if accelerator.scaler is not None and progress.scaler is not None:
            accelerator.scaler.load_state_dict(dict(progress.scaler))
    network = accelerator.prepare_model(model)
    optimiser = accelerator.prepare_optimizer(optimiser)
    board = Board(folder, progress.step, recipe.n_wiener_iterations) if accelerator.is_main_process else None

    def save() -> None:
        progress.scaler = None if accelerator.scaler is None else accelerator.scaler.state_dict()
        if accelerator.is_main_process:
            save_state(state, trained, asdict(progress))

    precision = arithmetic_on(accelerator.device.type, recipe.precision)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    yield Started(progress.epoch, progress.batch, n_parameters, str(accelerator.device), n_processes, precision)
    began = saved = time.monotonic()
    waiting_s = trained_s = 0.0

    while progress.epoch < recipe.epochs and not _is_stale(recipe, progress):
        sampler = ResumableSampler(
            len(excerpts),
            seed=options.seed,
            epoch=progress.epoch,
            n_done=progress.batch * batch_size,
            rank=rank,
            world_size=n_processes,
        )
        numbers = iter(sampler)
        loader = iter(
            DataLoader(
                excerpts,
                batch_size // n_processes,
                sampler=sampler,
                num_workers=options.n_workers,
                drop_last=True,
                worker_init_fn=_ignore_interrupts,
                pin_memory=accelerator.device.type == "cuda",
            )
        )
        model.train(not recipe.optimiser.still)
        pending = 0.0
        while progress.batch < n_batches:
            first = progress.batch - progress.batch % accumulate
            if progress.batch == first and any_process(cancelled(), accelerator):
                save()
                raise Cancelled(f"{folder}: stopped; the same command goes on from here")
            asked = time.monotonic()
            batch = Excerpt(*next(loader))
            excerpt_numbers = list(islice(numbers, batch_size // n_processes))
            waiting_s += time.monotonic() - asked
            group = min(accumulate, n_batches - first)
            is_last = progress.batch + 1 == first + group
            lr = learning_rate(recipe, progress.epoch, progress.step, n_steps, progress.plateau)
            # Dropout then needs no state of its own: what a batch gets follows from where it stands.
            torch.manual_seed(_mix(options.seed, progress.epoch, progress.batch, rank))

            given = batch.stems.to(accelerator.device, non_blocking=True)
            stems = augment(given, cast("Tensor", batch.seed), n_samples, recipe.augment)
            known = combinations_of(batch.annotated, with_mixture=True).to(stems.device)
            with nullcontext() if is_last else accelerator.no_sync(network):
                parts = objective(network, stems, known, recipe.loss)
                accelerator.backward(parts.loss / group)
            loss = float(accelerator.reduce(parts.loss.detach(), "mean"))
            if not math.isfinite(loss):
                raise TrainingFailed(_not_finite(folder, "loss", progress, excerpt_numbers))
            progress.batch += 1
            progress.loss_sum += loss
            pending += loss / group
            trained_s += batch_size * n_samples / SAMPLE_RATE
            if not is_last:
                continue

            for settings in optimiser.param_groups:
                settings["lr"] = lr
            norm = accelerator.clip_grad_norm_(model.parameters(), recipe.optimiser.clip_norm or math.inf)
            if accelerator.scaler is None and not bool(torch.isfinite(norm)):
                raise TrainingFailed(_not_finite(folder, "gradient", progress, excerpt_numbers))
            optimiser.step()
            optimiser.zero_grad()
            progress.step += 1
            if average is not None:
                _update_average(average, model, min(recipe.optimiser.ema, progress.step / (progress.step + 10)))
            spent_s = time.monotonic() - began
            stepped = Stepped(
                progress.epoch,
                recipe.epochs,
                progress.batch,
                n_batches,
                progress.step,
                pending,
                lr,
                trained_s / spent_s,
                waiting_s / spent_s,
            )
            pending = 0.0
            if board is not None:
                board.step(stepped)
            yield stepped
            if options.stop_after_s is not None and any_process(spent_s > options.stop_after_s, accelerator):
                save()
                yield Stopped("time is up", False, progress.plateau.best_sdr_db, progress.plateau.best_epoch)
                return
            if time.monotonic() - saved > options.save_every_s:
                save()
                saved = time.monotonic()

        scores = scores_on(recipe, accelerator, average or model, valid_songs)
        mean_db, best_db = scores.mean_db, progress.plateau.best_sdr_db
        is_best = best_db is None or mean_db > best_db
        validated = Validated(progress.epoch, progress.loss_sum / n_batches, scores, is_best)
        progress.plateau = progress.plateau.after(progress.epoch, mean_db, recipe.schedule.patience)
        if accelerator.is_main_process and board is not None:
            kept = [run_folder.LAST] + [run_folder.BEST] * validated.is_best
            for name in kept:
                write_weights(folder / name, recipe, average or model, validated, songs)
            board.epoch(validated, average or model, valid_songs)
        progress = _Progress(progress.epoch + 1, 0, progress.step, 0.0, progress.plateau)
        save()
        saved = time.monotonic()
        yield validated

    if board is not None:
        board.close()
    reason = "all epochs are done" if progress.epoch >= recipe.epochs else "no better validation SDR for long"
    yield Stopped(reason, True, progress.plateau.best_sdr_db, progress.plateau.best_epoch)


def _model(recipe: Recipe, init: Path | None) -> Model:
    if init is None:
        return build(recipe.model, recipe.config)
    file = weights.read(init)
    if file.model != recipe.model:
        raise ConfigError(f"{init}: weights of {file.model}, but the recipe trains {recipe.model}")
    model = build(file.model, file.config)
    model.load_state_dict(file.entries)
    return model


def _not_finite(folder: Path, what: str, progress: _Progress, excerpts: list[int]) -> str:
    return (
        f"{folder}: the {what} is not finite in epoch {progress.epoch}, batch {progress.batch} "
        f"(excerpts {', '.join(map(str, excerpts))}); try a lower optimiser.lr or optimiser.clip_norm"
    )


def _is_stale(recipe: Recipe, progress: _Progress) -> bool:
    return bool(recipe.early_stop) and progress.epoch - 1 - progress.plateau.best_epoch >= recipe.early_stop


def _ignore_interrupts(_: int) -> None:
    """For the processes that read: a Ctrl-C is meant for the one that trains, which ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _mix(*numbers: int) -> int:
    """One seed out of several numbers, different for different ones."""
    mixed = 0
    for number in numbers:
        mixed = (mixed * 1_000_003 + number + 0x9E3779B9) % 2**63
    return mixed


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    for mean, now in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - decay)
        else:
            mean.copy_(now)
