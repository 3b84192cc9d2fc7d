"""Songs written one after the other, by one process or several, as events that a program can show."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.synchronize import Event as Stop
from pathlib import Path
from typing import Any, Final, TypeAlias

from danna_sep.errors import Cancelled, ConfigError, DannaSepError, OutputError
from danna_sep.training.synthesis import folder
from danna_sep.training.synthesis.origins import Origin
from danna_sep.training.synthesis.song import length_of, produce
from danna_sep.training.synthesis.studio import Studio, open_studio
from danna_sep.workers import interrupts_held, sendable, serve_parent

SHORTEST_S: Final = 4.0
_POLL_S: Final = 0.1
_MOST_FAILURES: Final = 5
"""In a row, after which it is given up."""


@dataclass(frozen=True)
class Order:
    """What is to be made.

    Attributes:
        out: Folder of the songs; those that are there stay, but for the rolling ones.
        recordings: Folder of recordings; None to compute all, without vocals.
        soundfonts: Files; None for those that this machine has in the usual places.
        scores: Folder of MIDI files to play; None to make music up.
        seed: Song number n of a seed is always the same.
        length_s: Least and greatest length of a song in seconds.
        n_songs: Songs that the folder is to have of this seed; with `rolling`, songs to make now. None: no limit.
        minutes: As many songs as have so many minutes together; with `n_songs`, whichever is less.
        rolling: Keep so many songs, and replace the oldest by a new one on and on; None to keep all.
    """

    out: Path
    recordings: Path | None = None
    soundfonts: tuple[Path, ...] | None = None
    scores: Path | None = None
    seed: int = 0
    length_s: tuple[float, float] = (60.0, 150.0)
    n_songs: int | None = None
    minutes: float | None = None
    rolling: int | None = None

    def __post_init__(self) -> None:
        low, high = self.length_s
        if not SHORTEST_S <= low <= high <= 3600:
            raise ConfigError(f"songs last from {SHORTEST_S:g} to 3600 s, not {low:g} to {high:g}")
        if self.rolling is not None and self.rolling < 1:
            raise ConfigError("a rolling folder keeps at least 1 song")
        if self.rolling is None and self.n_songs is None and self.minutes is None:
            raise ConfigError("say how much: --songs, --minutes or --rolling")
        if self.minutes is not None and not 0 <= self.minutes < math.inf:
            raise ConfigError(f"minutes of songs must be a number of them, not {self.minutes:g}")
        if self.seed < 0:
            raise ConfigError(f"a seed is not negative: {self.seed}")


@dataclass(frozen=True)
class Kept:
    """A song that was there already."""

    name: str


@dataclass(frozen=True)
class Written:
    """A song that was made: its folder's name, its length, how long it took, what it was made from."""

    name: str
    length_s: float
    elapsed_s: float
    credits: tuple[Origin, ...]


@dataclass(frozen=True)
class Failed:
    """A song that could not be made."""

    name: str
    error: Exception


Event: TypeAlias = Kept | Written | Failed


@dataclass(frozen=True)
class _Job:
    name: str
    index: int
    length_s: tuple[float, float]


def write_songs(order: Order, processes: int = 1, cancelled: Callable[[], bool] = lambda: False) -> Iterator[Event]:
    """Make songs into a folder; each event as it happens.

    Args:
        order: Which songs, where.
        processes: Songs at the same time; with one, they are made in this process.
        cancelled: Asked often.

    Raises:
        Cancelled: When `cancelled` said so; all songs that are there are whole.
        OutputError: The folder cannot be written.
        SongsError: Recordings or soundfonts that are not there.
        DannaSepError: Too many songs in a row failed, or a process was ended from outside.
    """
    studio = open_studio(order.recordings, order.soundfonts, order.scores)  # what is missing is said before any work
    with folder.held(order.out):
        if order.rolling is not None:
            folder.drop_slots(order.out, order.rolling)
            processes = min(processes, order.rolling)
        folder.note_origins(order.out, ())
        n_failures = 0
        done = _in_this_process if processes <= 1 else _in_processes
        for event in done(order, studio, processes, _jobs(order), cancelled):
            if isinstance(event, Written):
                n_failures = 0
                folder.note_origins(order.out, event.credits)
            yield event
            if isinstance(event, Failed):
                n_failures += 1
                if n_failures >= _MOST_FAILURES or isinstance(event.error, OutputError):
                    raise event.error


def indices_of(order: Order) -> Iterator[int]:
    """Which songs of the seed an order has, one by one: there may be no end, or one that is far away."""
    first = folder.next_index(order.out) if order.rolling is not None else 0
    total_s = 0.0
    for index in itertools.count(first) if order.n_songs is None else range(first, first + order.n_songs):
        if order.minutes is not None:
            if total_s >= order.minutes * 60:
                return
            total_s += length_of(order.seed, _source_of_length(order, index), order.length_s)
        yield index


def _source_of_length(order: Order, index: int) -> int:
    """Whose length a song has: in a rolling folder a slot's songs have one length, which readers may remember."""
    return index if order.rolling is None else index % order.rolling


def _jobs(order: Order) -> Iterator[_Job | Kept]:
    for index in indices_of(order):
        if order.rolling is None:
            name = folder.song_name(order.seed, index)
            yield Kept(name) if (order.out / name).exists() else _Job(name, index, order.length_s)
        else:
            slot = index % order.rolling
            length_s = length_of(order.seed, slot, order.length_s)
            yield _Job(folder.slot_name(slot), index, (length_s, length_s))


def _make(order: Order, studio: Studio, job: _Job, cancelled: Callable[[], bool]) -> Written | Failed:
    started_s = time.monotonic()
    try:
        song = produce(studio, order.seed, job.index, job.length_s, cancelled)
        folder.put(order.out, job.name, song, order.seed, job.index)
    except Cancelled:
        raise
    except Exception as error:
        return Failed(job.name, error)
    return Written(job.name, song.plan.length_s, time.monotonic() - started_s, song.credits)


def _in_this_process(
    order: Order, studio: Studio, processes: int, jobs: Iterable[_Job | Kept], cancelled: Callable[[], bool]
) -> Iterator[Event]:
    for job in jobs:
        if cancelled():
            raise Cancelled("cancelled")
        yield job if isinstance(job, Kept) else _make(order, studio, job, cancelled)


def _in_processes(
    order: Order, studio: Studio, processes: int, jobs: Iterator[_Job | Kept], cancelled: Callable[[], bool]
) -> Iterator[Event]:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    executor = ProcessPoolExecutor(processes, context, _begin, (order, stop))
    running: set[Future[Written | Failed]] = set()
    ends = False
    try:
        while running or not ends:
            while not ends and len(running) < processes:
                job = next(jobs, None)
                if job is None:
                    ends = True
                elif isinstance(job, Kept):
                    yield job
                else:
                    with interrupts_held():  # also while the workers' interpreters start
                        running.add(executor.submit(_work, job))
            done, running = wait(running, _POLL_S, FIRST_COMPLETED)
            if cancelled():
                raise Cancelled("cancelled")
            for future in done:
                yield future.result()
    except BrokenProcessPool:
        raise DannaSepError(
            f"{order.out}: a process was ended from outside, perhaps for lack of memory; try fewer --processes"
        ) from None
    finally:
        stop.set()
        executor.shutdown(cancel_futures=True)


_worker: dict[str, Any] = {}
"""What a worker process was told at its start."""


def _begin(order: Order, stop: Stop) -> None:
    serve_parent()
    _worker.update(order=order, stop=stop, studio=open_studio(order.recordings, order.soundfonts, order.scores))


def _work(job: _Job) -> Written | Failed:
    outcome = _make(_worker["order"], _worker["studio"], job, _worker["stop"].is_set)
    if isinstance(outcome, Failed):
        return Failed(outcome.name, sendable(outcome.error))
    return outcome
