"""The training loop: excerpts in, better weights out; killed anywhere, it goes on as if nothing had been."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import torch
from accelerate import Accelerator

from danna_sep import weights
from danna_sep.errors import ConfigError
from danna_sep.songs import Song
from danna_sep.training import run_folder
from danna_sep.training.augment import margin
from danna_sep.training.board import Board
from danna_sep.training.checkpoint import load_state
from danna_sep.training.epoch_end import write_weights
from danna_sep.training.events import Event, Started, Stopped, as_json
from danna_sep.training.excerpts import ExcerptDataset
from danna_sep.training.learner import learner_of, trained_from
from danna_sep.training.processes import accelerator_for, arithmetic_on
from danna_sep.training.progress import Progress
from danna_sep.training.recipe import Recipe
from danna_sep.training.running import Options, Running, lost_readers_told
from danna_sep.types import SAMPLE_RATE

_N_HEARD_FIRST: Final = 64
"""Excerpts, the first of the first epoch, by which X-UMX's input is scaled."""


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
        init: Weights to start from; they bring their own configuration of the model, of which the recipe changes what
            it names.
        options: How to do it.
        cancelled: Asked before every batch; the state is saved then.

    Yields:
        What happens.

    Raises:
        ConfigError: Settings that do not fit together, or a folder that holds another training.
        SongsError: Songs that cannot be used; of those to validate on, any whose mixture is not known.
        TrainingFailed: A loss is not finite, or a process that reads songs has died.
        Cancelled: When `cancelled` said so.
    """
    options = options or Options()
    accelerator = accelerator_for(options.device, recipe.precision)
    with lost_readers_told(folder, cancelled):
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
    n_processes = accelerator.num_processes
    if recipe.optimiser.batch_size % n_processes:
        raise ConfigError(f"a batch of {recipe.optimiser.batch_size} cannot be shared by {n_processes} processes")
    for song in valid_songs:
        song.check_mixture()
    if init is not None:
        weights.read_header(init)
    told = run_folder.told(recipe, songs, valid_songs, seed=options.seed, init=init, n_processes=n_processes)
    if accelerator.is_main_process:
        run_folder.check_run(folder, told)
    accelerator.wait_for_everyone()

    excerpts = _excerpts(recipe, songs, options.seed)
    if len(excerpts) < recipe.optimiser.batch_size:
        raise ConfigError(f"an epoch has {len(excerpts)} excerpts, fewer than a batch; raise data.excerpts_per_track")
    torch.manual_seed(options.seed)
    first = (excerpts[number].stems.sum(0) for number in range(min(_N_HEARD_FIRST, len(excerpts))))
    trained = trained_from(recipe, init, first, accelerator)
    config = asdict(trained.model.config)
    replace(recipe, config=config)  # whose checks then hear of what the weights bring
    progress = Progress()
    state = folder / run_folder.STATE
    if state.exists():
        progress = Progress.from_json(load_state(state, trained))
        if accelerator.scaler is not None and progress.scaler is not None:
            accelerator.scaler.load_state_dict(dict(progress.scaler))
    learner = learner_of(recipe, trained, accelerator)
    if accelerator.is_main_process:  # only now: a training that cannot start claims no folder
        run_folder.open_run(folder, {**told, "config": config})
    running = Running(folder, options, learner, excerpts, progress, cancelled)
    board = Board(folder, progress.step, recipe.n_wiener_iterations) if accelerator.is_main_process else None

    precision = arithmetic_on(accelerator.device.type, recipe.precision)
    n_parameters = sum(parameter.numel() for parameter in trained.model.parameters())
    yield Started(progress.epoch, progress.batch, n_parameters, str(accelerator.device), n_processes, precision)
    while progress.epoch < recipe.epochs and not progress.is_stale(recipe):
        for stepped in running.epoch():
            if board is not None:
                board.step(stepped)
            yield stepped
            if running.time_is_up():
                running.save()
                yield Stopped("time is up", False, progress.plateau.best_sdr_db, progress.plateau.best_epoch)
                return
        validated = running.validate(valid_songs)
        if board is not None:
            for name in [run_folder.LAST] + [run_folder.BEST] * validated.is_best:
                write_weights(folder / name, recipe, learner.judged, validated, songs)
            board.epoch(validated, learner.judged, valid_songs)
        progress.next_epoch()
        running.save()
        yield validated

    if board is not None:
        board.close()
    reason = "all epochs are done" if progress.epoch >= recipe.epochs else "no better validation SDR for long"
    yield Stopped(reason, True, progress.plateau.best_sdr_db, progress.plateau.best_epoch)


def _excerpts(recipe: Recipe, songs: Sequence[Song], seed: int) -> ExcerptDataset:
    n_samples = round(recipe.data.excerpt_s * SAMPLE_RATE)
    return ExcerptDataset(
        songs,
        n_samples + margin(n_samples, recipe.augment),
        n_per_song=recipe.data.excerpts_per_track,
        seed=seed,
        mixing=recipe.data.mixing,
        min_level_db=recipe.data.min_level_db if recipe.data.redraw else None,
        p_reject=recipe.data.redraw,
        p_coherent=recipe.data.coherent,
    )
