"""`danna-sep evaluate`: all songs of a folder, each of which may fail without the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from danna_sep.cli.failures import OK, complain, exit_code, message
from danna_sep.cli.interrupt import Interrupt
from danna_sep.cli.render_evaluation import Show, choose, not_counted
from danna_sep.errors import Cancelled, ConfigError
from danna_sep.extras import how_to_install
from danna_sep.options import DEFAULTS
from danna_sep.types import SOURCES

if TYPE_CHECKING:
    from danna_sep.evaluation.evaluate import Failure
    from danna_sep.evaluation.results import Results, SongResult
    from danna_sep.options import Options


@dataclass(frozen=True)
class Request:
    """The command line's arguments, as given."""

    system: str
    data: Path
    split: str | None
    out_dir: Path
    jobs: int
    threads: int | None
    only_mdx: bool
    segment_s: float | None
    overlap: float
    shifts: int
    whole: bool
    device: str
    precision: str
    overwrite: bool
    as_json: bool
    verbose: bool


def run(request: Request) -> int:
    """Do it; gives the exit code."""
    with Interrupt() as interrupt:
        try:
            return _evaluate(request, choose(request.as_json, request.verbose), interrupt)
        except Cancelled:
            if interrupt.signal is None:
                raise
            complain("interrupted; nothing was written")
            return interrupt.exit_code


def _evaluate(request: Request, show: Show, interrupt: Interrupt) -> int:
    from danna_sep import allocator
    from danna_sep.evaluation import report, systems
    from danna_sep.evaluation.evaluate import Failure, evaluate_songs
    from danna_sep.songs import find_songs

    options = _options(request)
    report.check_folder(request.out_dir, request.overwrite)
    system = systems.choose(request.system, options)
    if isinstance(system, systems.StemFolder):
        _check_options_of_stems(request)
    songs = list(systems.by_name(find_songs(request.data, request.split), request.data).values())
    description = system.describe()
    if not report.can_plot():
        show.warning(f"no box plots without matplotlib: {how_to_install('evaluate')}")
    allocator.keep_freed_memory()
    done: list[SongResult] = []
    failures: list[Failure] = []
    outcomes = evaluate_songs(
        songs,
        system,
        only_mdx=request.only_mdx,
        jobs=request.jobs,
        threads=request.threads,
        cancelled=interrupt,
    )
    for outcome in show.progress(outcomes, len(songs)):
        if isinstance(outcome, Failure):
            failures.append(outcome)
            show.failure(outcome)
        else:
            done.append(outcome)
            show.song(outcome)
    results = _results(description, request, done, failures)
    for source in SOURCES:
        if silent := [song.name for song in results.songs if source in song.silent]:
            show.warning(not_counted(source, silent, "the SDR of MDX 2021"))
    written = report.write_report(request.out_dir, results) if done else []
    code = exit_code(failures[0].error) if failures else OK
    show.end(results, written, code)
    return code


def _check_options_of_stems(request: Request) -> None:
    """Raise ConfigError for options of separation, which would do nothing: whoever gave them believes otherwise."""
    given = {
        "--shifts": request.shifts != DEFAULTS.shifts,
        "--segment": request.segment_s is not None,
        "--overlap": request.overlap != DEFAULTS.overlap,
        "--whole": request.whole,
        "--device": request.device != DEFAULTS.device,
        "--precision": request.precision != DEFAULTS.precision,
    }
    if useless := [option for option, is_given in given.items() if is_given]:
        raise ConfigError(
            f"{request.system}: holds finished stems, to which {', '.join(useless)} cannot apply; leave "
            f"{'it' if len(useless) == 1 else 'them'} away"
        )


def _results(
    description: dict[str, object], request: Request, done: Sequence[SongResult], failures: Sequence[Failure]
) -> Results:
    from danna_sep.evaluation.results import Failed, Results

    return Results(
        system=description,
        data={"name": request.data.resolve().name, "split": request.split},
        songs=sorted(done, key=lambda song: song.name),
        failed=sorted(
            (Failed(each.name, message(each.error)) for each in failures),
            key=lambda failed: failed.name,
        ),
    )


def _options(request: Request) -> Options:
    """How to separate.

    Raises:
        ConfigError: Out of range, or contradictory.
    """
    from danna_sep import api
    from danna_sep.options import Options
    from danna_sep.streaming import DEFAULT_SEGMENT_S, segment_grid

    if request.whole and request.segment_s is not None:
        raise ConfigError("--whole and --segment contradict each other; choose one")
    segment_grid(DEFAULT_SEGMENT_S if request.segment_s is None else request.segment_s, request.overlap)
    return Options(
        shifts=request.shifts,
        segment_s=request.segment_s,
        overlap=request.overlap,
        whole=request.whole,
        device=api.resolve_device(request.device),
        precision=request.precision,
    )


def compare(first: Path, second: Path, as_json: bool) -> int:
    """`danna-sep compare`; gives the exit code."""
    from danna_sep.cli.render_evaluation import show_comparison
    from danna_sep.evaluation.compare import compare as compared
    from danna_sep.evaluation.results import read_results

    show_comparison(compared(read_results(first), read_results(second)), as_json)
    return OK
