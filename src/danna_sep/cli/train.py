"""`danna-sep train` and `danna-sep recipes`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danna_sep import allocator, weights
from danna_sep.cli.failures import OK, complain, message
from danna_sep.cli.interrupt import Interrupt
from danna_sep.cli.render import json_line, say, table
from danna_sep.errors import Cancelled, ConfigError
from danna_sep.extras import how_to_install
from danna_sep.types import SOURCES

if TYPE_CHECKING:
    from danna_sep.songs import Song
    from danna_sep.training.events import Event, Stepped, Validated
    from danna_sep.training.recipe import Recipe


@dataclass(frozen=True)
class Request:
    """The command line's arguments, as given."""

    recipe: str
    data: list[Path]
    shares: list[float]
    split: str | None
    valid: Path | None
    out: Path | None
    init: str | None
    settings: list[str]
    seed: int
    device: str
    n_workers: int
    threads: int | None
    save_every_s: float
    stop_after_min: float | None
    as_json: bool


@dataclass(frozen=True)
class ReproduceRequest:
    """The command line's arguments, as given."""

    data: Path | None
    out: Path
    tiny: bool
    seed: int
    device: str
    n_workers: int
    jobs: int
    as_json: bool


def reproduce(request: ReproduceRequest) -> int:
    """Make the paper's table, or go on with it; gives the exit code."""
    if request.data is None and not request.tiny:
        raise ConfigError(
            "the table needs MUSDB18-HQ: give its folder as --data; "
            "to try the whole chain on made-up songs there is --tiny"
        )
    _loop()
    allocator.keep_freed_memory()
    return _until_interrupted(lambda interrupt: _reproduce(request, interrupt))


def _reproduce(request: ReproduceRequest, interrupt: Interrupt) -> None:
    from danna_sep.training import made_up, running
    from danna_sep.training.events import Validated, as_json
    from danna_sep.training.reproduce import Measured, Settings, Trains, tiny_changes
    from danna_sep.training.reproduce import reproduce as run_all

    training = running.Options(seed=request.seed, device=request.device, n_workers=request.n_workers)
    settings = Settings(tiny_changes() if request.tiny else {}, training, request.jobs)
    data = request.out / "songs" if request.data is None else request.data
    rows: list[Measured] = []
    if request.data is None:
        made_up.write_songs(data)
    for event in run_all(data, request.out, settings, cancelled=interrupt):
        if isinstance(event, Measured):
            rows.append(event)
            if request.as_json:
                row = event.row
                json_line({"event": "row", "name": row.name, "paper_db": row.paper_db, "sdr_db": event.sdr_db})
            else:
                say(f"{event.row.name}: {_decibels(event.sdr_db[-1])} dB; the paper {event.row.paper_db[-1]:.2f}")
        elif isinstance(event, Trains) and request.as_json:
            json_line({"recipe": event.recipe, **as_json(event.event)})
        elif isinstance(event.event, Validated):
            say(f"{event.recipe}, {_scores(event.event)}")
    if not request.as_json:
        say("")
        heads = [f"{name}{whose}" for name in (*SOURCES, "mean") for whose in ("", " (paper)")]
        table([("SDR, dB", *heads), *[_table_row(row.row.name, row.sdr_db, row.row.paper_db) for row in rows]])


def _table_row(name: str, ours: Sequence[float | None], paper: Sequence[float]) -> tuple[str, ...]:
    pairs = [(_decibels(mine), _decibels(theirs)) for mine, theirs in zip(ours, paper, strict=True)]
    return (name, *(cell for pair in pairs for cell in pair))


def _decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def list_recipes() -> None:
    """Name, what it starts from, what it is."""
    from danna_sep.training.recipes import RECIPES

    rows = [("RECIPE", "STARTS FROM", "WHAT IT IS")]
    rows += [(name, recipe.init or "nothing", recipe.summary) for name, recipe in RECIPES.items()]
    table(rows)


def run(request: Request) -> int:
    """Train, or go on; gives the exit code."""
    from danna_sep.training.recipe import with_settings
    from danna_sep.training.recipes import find_recipe

    recipe = find_recipe(request.recipe)
    if request.init is not None:  # weights bring the rest
        recipe = replace(recipe, config={})
    recipe = with_settings(recipe, request.settings)
    folder = request.out or Path("runs") / request.recipe
    if recipe.init and request.init is None:
        raise ConfigError(
            f"{request.recipe} starts from trained weights: give those of `danna-sep train {recipe.init}` as "
            f"--init runs/{recipe.init}/best.safetensors"
        )
    init = None if request.init is None else _weights(request.init)
    songs, valid_songs = _songs(request)
    return _until_interrupted(lambda interrupt: _train(request, recipe, songs, valid_songs, folder, init, interrupt))


def _train(
    request: Request,
    recipe: Recipe,
    songs: list[Song],
    valid_songs: list[Song],
    folder: Path,
    init: Path | None,
    interrupt: Interrupt,
) -> None:
    with interrupt.anywhere():
        loop = _loop()
        allocator.keep_freed_memory()
        import torch

        from danna_sep.training import running
        from danna_sep.training.events import as_json

        if request.threads is not None:
            torch.set_num_threads(request.threads)
    options = running.Options(
        seed=request.seed,
        device=request.device,
        n_workers=request.n_workers,
        save_every_s=request.save_every_s,
        stop_after_s=None if request.stop_after_min is None else 60 * request.stop_after_min,
    )
    events = loop.train(recipe, songs, valid_songs, folder, init=init, options=options, cancelled=interrupt)
    if int(os.environ.get("RANK", "0")):  # another process speaks
        for _ in events:
            pass
    elif request.as_json:
        for event in events:
            json_line(as_json(event))
    else:
        _show(events, folder, len(songs), len(valid_songs))


def _until_interrupted(work: Callable[[Interrupt], None]) -> int:
    """Do it, or as much as a signal lets; gives the exit code."""
    with Interrupt() as interrupt:
        try:
            work(interrupt)
        except Cancelled as error:
            if interrupt.signal is None:
                raise
            complain(message(error))
            return interrupt.exit_code
    return OK


def _loop() -> Any:
    try:
        from danna_sep.training import loop
    except ImportError as error:
        if error.name in ("accelerate", "tensorboard"):
            raise ConfigError(f"training needs more packages; install with `{how_to_install('train')}`") from error
        raise
    return loop


def _weights(named: str) -> Path:
    """A file's path, or the weights that are registered under that name."""
    path = Path(named)
    return path if path.exists() or path.suffix else weights.find(named)


def _songs(request: Request) -> tuple[list[Song], list[Song]]:
    """Songs to train on, and to validate on."""
    from danna_sep.training.choice import choose_songs

    choice = choose_songs(request.data, request.shares, request.split, request.valid)
    if choice.held_out:
        complain(f"warning: no songs for validation; held out: {', '.join(song.name for song in choice.valid_songs)}")
    elif choice.valid_songs == choice.songs:
        complain("warning: too few songs to hold one out: validation is on the songs that are trained on")
    return choice.songs, choice.valid_songs


def _show(events: Iterable[Event], folder: Path, n_songs: int, n_valid: int) -> None:
    from danna_sep.training.events import Started, Stepped, Stopped, Validated

    bar = _Bar() if sys.stderr.isatty() else None
    try:
        for event in events:
            if isinstance(event, Started):
                place = (
                    f"goes on at epoch {event.epoch}, batch {event.batch}" if event.epoch or event.batch else "begins"
                )
                say(
                    f"{folder}: {place}; {event.n_parameters / 1e6:.2f} M parameters, {n_songs} songs, {n_valid} to "
                    f"validate on, {event.n_processes} x {event.device}, {event.precision}"
                )
            elif isinstance(event, Stepped):
                if bar:
                    bar.step(event)
            elif isinstance(event, Validated):
                if bar:
                    bar.stop()
                say(_scores(event))
            elif isinstance(event, Stopped):
                best = (
                    ""
                    if event.best_sdr_db is None
                    else f"; best {event.best_sdr_db:.2f} dB in epoch {event.best_epoch}"
                )
                say(f"{folder}: {event.reason}{best}")
    except Cancelled:
        raise
    finally:
        if bar:
            bar.stop()


def _scores(event: Validated) -> str:
    per_source = "  ".join(
        f"{source} {value:.2f}" if value == value else f"{source} -"
        for source, value in zip(SOURCES, event.scores.per_source_db, strict=True)
    )
    best = "  (best)" if event.is_best else ""
    return f"epoch {event.epoch}: loss {event.loss:.4g}, SDR {event.scores.mean_db:.2f} dB: {per_source}{best}"


class _Bar:
    """A bar for the epoch at work, on the terminal behind stderr."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None

    def step(self, stepped: Stepped) -> None:
        """Move it."""
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[status]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(
                f"epoch {stepped.epoch}/{stepped.n_epochs}", total=stepped.n_batches, status=""
            )
            self._bar.start()
        status = f"loss {stepped.loss:.4g}, {stepped.rate:.1f} s of audio/s, {stepped.waited:.0%} waiting for data"
        self._bar.update(self._task, completed=stepped.batch, status=status)

    def stop(self) -> None:
        """Take it away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
