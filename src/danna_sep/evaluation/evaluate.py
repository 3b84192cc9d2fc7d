"""Songs through a system, and what the measures say of its stems.

A song's sources and the estimates of them are spooled to disk, where BSS Eval's two passes find them: memory does not
depend on the length of the song.
"""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from danna_sep import allocator
from danna_sep.errors import Cancelled, DannaSepError, SongsError
from danna_sep.evaluation.bss_eval import bss_eval_of_blocks
from danna_sep.evaluation.metrics import mdx_of_blocks
from danna_sep.evaluation.results import MEASURES, SongResult, finite
from danna_sep.evaluation.spool import Spool
from danna_sep.evaluation.systems import System
from danna_sep.songs import Song
from danna_sep.types import SAMPLE_RATE, SOURCES
from danna_sep.workers import interrupts_held, sendable, serve_parent

Samples = npt.NDArray[np.float32]

_READ = SAMPLE_RATE
_MEASURED = 10 * SAMPLE_RATE
_POLL_S = 0.2


@dataclass(frozen=True)
class Failure:
    """A song that could not be evaluated.

    Attributes:
        name: The song's.
        error: Why.
        where: The traceback.
    """

    name: str
    error: Exception
    where: str = ""


def evaluate_song(
    song: Song, system: System, *, only_mdx: bool = False, cancelled: Callable[[], bool] = lambda: False
) -> SongResult:
    """Measure a system's stems of one song.

    Sources are rounded to 16 bits first, see `bss_eval`. A source has no value (None) where the song does not annotate
    it or is silent in it, or the system does not give it. What is silent, BSS Eval says as museval does: all zeros; in
    the SDR of MDX 2021 it is what lies below -60 dB, see `metrics.is_silent`.

    Args:
        song: Which.
        system: What gives stems.
        only_mdx: Leave BSS Eval out.
        cancelled: Asked often.

    Raises:
        AudioError: A file of the song that cannot be read.
        SongsError: Nothing to compare, no mixture to separate, or stems that are not as long as the song.
        WriteFailed: No space for temporary files.
        Cancelled: When `cancelled` said so.
    """
    if not song.annotated:
        raise SongsError(f"{song.name}: no stems to compare with")

    def check() -> None:
        if cancelled():
            raise Cancelled("cancelled")

    with ExitStack() as stack:
        references = stack.enter_context(Spool((len(song.annotated), 2)))
        judged, estimates = _spooled(song, system, references, stack, cancelled)
        targets = [song.annotated.index(source) for source in judged]

        def blocks() -> Iterator[tuple[Tensor, Tensor]]:
            both = zip(references.blocks(_MEASURED), estimates.blocks(_MEASURED), strict=True)
            return ((torch.from_numpy(reference), torch.from_numpy(estimate)) for reference, estimate in both)

        def judged_blocks() -> Iterator[tuple[Tensor, Tensor]]:
            for references_of_all, estimates_of_all in blocks():
                check()
                yield references_of_all[targets], estimates_of_all

        ratios, silent = mdx_of_blocks(judged_blocks())
        mdx = {
            source: None if is_so else ratio
            for source, ratio, is_so in zip(judged, ratios.tolist(), silent.tolist(), strict=True)
        }
        windows: dict[str, dict[str, tuple[float | None, ...]]] = {}
        if not only_mdx:
            values = bss_eval_of_blocks(blocks, targets, check=check).tolist()
            for place, source in enumerate(judged):
                windows[source] = {
                    measure: tuple(finite(value) for value in values[row][place])
                    for row, measure in enumerate(MEASURES)
                }
    return SongResult(
        name=song.name,
        split=song.split,
        n_frames=song.n_frames,
        annotated=song.annotated,
        mdx_sdr_db={source: mdx.get(source) for source in SOURCES},
        windows=windows,
        silent=tuple(source for source in judged if mdx[source] is None),
    )


def evaluate_songs(
    songs: Sequence[Song],
    system: System,
    *,
    only_mdx: bool = False,
    jobs: int = 1,
    threads: int | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[SongResult | Failure]:
    """Measure a system on many songs; each result as it is there, a song's failure among them.

    Args:
        songs: Which.
        system: What gives stems; must be one that can be sent to other processes if there are several jobs.
        only_mdx: Leave BSS Eval out.
        jobs: Songs at the same time, each in a process of its own.
        threads: For each process; by default, an equal share of those that this one has.
        cancelled: Asked often.

    Raises:
        Cancelled: When `cancelled` said so.
    """
    jobs = min(jobs, len(songs))
    if jobs <= 1:
        if threads is not None:
            torch.set_num_threads(threads)
        for song in songs:
            yield _attempt(song, system, only_mdx, cancelled)
        return
    context = multiprocessing.get_context("spawn")  # a forked process cannot use threads or devices of torch
    stop = context.Event()
    threads = threads or max(1, torch.get_num_threads() // jobs)
    executor = ProcessPoolExecutor(jobs, context, _begin, (system, only_mdx, threads, stop))
    try:
        with interrupts_held():  # also while the workers' interpreters start
            running = {executor.submit(_work, song): song for song in songs}
        while running:
            done, _ = wait(running, _POLL_S, FIRST_COMPLETED)
            if cancelled():
                raise Cancelled("cancelled")
            for future in done:
                yield _outcome(future, running.pop(future))
    finally:
        stop.set()
        executor.shutdown(cancel_futures=True)


def _spooled(
    song: Song, system: System, references: Spool, stack: ExitStack, cancelled: Callable[[], bool]
) -> tuple[tuple[str, ...], Spool]:
    """Fill `references`; give the sources that can be judged, and the estimates of them."""
    annotated = [SOURCES.index(source) for source in song.annotated]

    def mixtures() -> Iterator[Samples]:
        for excerpt in song.blocks(_READ):
            if cancelled():
                raise Cancelled("cancelled")
            # float32 holds these multiples exactly, up to a full scale of 512.
            references.append(np.rint(excerpt.stems[annotated] * np.float32(2**15)) / np.float32(2**15))
            yield excerpt.mixture

    mixture = mixtures()
    judged: tuple[str, ...] = ()
    estimates: Spool | None = None
    for block in system.stems(song, mixture, cancelled):
        if cancelled():
            raise Cancelled("cancelled")
        if estimates is None:
            judged = tuple(source for source in song.annotated if source in block)
            if not judged:
                raise SongsError(
                    f"{song.name}: there are stems of {', '.join(block)}, and nothing to compare them with but "
                    f"{', '.join(song.annotated)}"
                )
            estimates = stack.enter_context(Spool((len(judged), 2)))
        estimates.append(np.stack([block[source] for source in judged]))
    for _ in mixture:  # what the system did not hear
        pass
    n_frames = 0 if estimates is None else estimates.n_frames
    if estimates is None or n_frames != references.n_frames:
        raise SongsError(f"{song.name}: has {references.n_frames} frames, but the stems of it {n_frames}")
    return judged, estimates


def _attempt(
    song: Song, system: System, only_mdx: bool, cancelled: Callable[[], bool] = lambda: False
) -> SongResult | Failure:
    try:
        return evaluate_song(song, system, only_mdx=only_mdx, cancelled=cancelled)
    except Cancelled:
        raise
    except Exception as error:
        return Failure(song.name, sendable(error), traceback.format_exc())


def _outcome(future: Future[SongResult | Failure], song: Song) -> SongResult | Failure:
    try:
        return future.result()
    except BrokenProcessPool:
        text = "a process was ended from outside, perhaps for lack of memory; try fewer --jobs"
        return Failure(song.name, DannaSepError(f"{song.name}: {text}"))


_worker: dict[str, Any] = {}
"""What a worker process was told at its start."""


def _begin(system: System, only_mdx: bool, threads: int, stop: Event) -> None:
    serve_parent()
    allocator.keep_freed_memory()
    torch.set_num_threads(threads)
    _worker.update(system=system, only_mdx=only_mdx, stop=stop)


def _work(song: Song) -> SongResult | Failure:
    return _attempt(song, _worker["system"], _worker["only_mdx"], _worker["stop"].is_set)
