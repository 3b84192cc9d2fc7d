"""`danna-sep synthesise`: songs of a synthetic band."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from danna_sep.cli.failures import OK, complain, exit_code, message
from danna_sep.cli.interrupt import Interrupt
from danna_sep.cli.render import json_line, say
from danna_sep.errors import Cancelled, MissingExtra
from danna_sep.extras import how_to_install

if TYPE_CHECKING:
    from danna_sep.training.synthesis.write import Event


@dataclass(frozen=True)
class Request:
    """The command line's arguments, as given."""

    recordings: Path | None
    out: Path
    n_songs: int | None
    minutes: float | None
    shortest_s: float
    longest_s: float
    seed: int
    processes: int
    rolling: int | None
    soundfonts: list[Path]
    scores: Path | None
    as_json: bool


def run(request: Request) -> int:
    """Make the songs; gives the exit code."""
    try:
        import pyroomacoustics  # noqa: F401
        import scipy  # noqa: F401
    except ImportError:
        raise MissingExtra(f"synthesise: needs more packages: {how_to_install('synthesis')}") from None
    from danna_sep.training.synthesis.write import Failed, Order, Written, write_songs

    order = Order(
        out=request.out,
        recordings=request.recordings,
        soundfonts=tuple(request.soundfonts) or None,
        scores=request.scores,
        seed=request.seed,
        length_s=(request.shortest_s, request.longest_s),
        n_songs=request.n_songs,
        minutes=request.minutes,
        rolling=request.rolling,
    )
    if request.recordings is None:
        _warn("without --recordings all is computed or played on soundfonts, and nobody sings", request.as_json)
    n_written = n_kept = 0
    total_s = 0.0
    failures: list[Failed] = []
    with Interrupt() as interrupt:
        code = OK
        try:
            for event in write_songs(order, request.processes, interrupt):
                _show(event, request.out, request.as_json)
                if isinstance(event, Written):
                    n_written, total_s = n_written + 1, total_s + event.length_s
                elif isinstance(event, Failed):
                    failures.append(event)
                else:
                    n_kept += 1
            code = exit_code(failures[0].error) if failures else OK
        except Cancelled:
            if interrupt.signal is None:
                raise
            code = interrupt.exit_code
    if request.as_json:
        counts = {"n_written": n_written, "n_kept": n_kept, "n_failed": len(failures)}
        json_line({"event": "end", **counts, "length_s": round(total_s, 3), "exit_code": code})
    else:
        kept = f", {n_kept} were there" if n_kept else ""
        failed = f", {len(failures)} failed" if failures else ""
        print(f"{n_written} songs made, {total_s / 60:.1f} min{kept}{failed}", file=sys.stderr, flush=True)
    return code


def _show(event: Event, out: Path, as_json: bool) -> None:
    from danna_sep.training.synthesis.write import Failed, Written

    path = out / event.name
    if isinstance(event, Failed):
        if as_json:
            text = message(event.error, path)
            json_line({"event": "error", "song": str(path), "kind": type(event.error).__name__, "message": text})
        else:
            complain(message(event.error, path))
    elif isinstance(event, Written):
        if as_json:
            times = {"length_s": round(event.length_s, 3), "elapsed_s": round(event.elapsed_s, 3)}
            json_line({"event": "song", "song": str(path), **times})
        else:
            say(str(path))
    elif as_json:
        json_line({"event": "kept", "song": str(path)})


def _warn(text: str, as_json: bool) -> None:
    if as_json:
        json_line({"event": "warning", "message": text})
    else:
        complain(f"warning: {text}")
