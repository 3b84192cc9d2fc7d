"""`danna-sep weights`: verify, import, fetch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from danna_sep import weights
from danna_sep.cli.failures import BAD_WEIGHTS, OK, complain, exit_code, message, one_line, show_traceback
from danna_sep.cli.interrupt import Interrupt
from danna_sep.cli.render import say
from danna_sep.errors import Cancelled, ConfigError


def verify(name: str | None) -> int:
    """One line for each weights file, a wrong one's on stderr; gives the exit code."""
    results = weights.verify(name)
    for result in results:
        if result.problem is None:
            say(f"{result.name}: ok")
        else:
            complain(result.problem)
    return OK if all(result.ok for result in results) else BAD_WEIGHTS


def import_files(files: Sequence[Path], overwrite: bool, verbose: bool) -> int:
    """Each file for itself; gives the first failure's exit code."""
    codes = []
    for path in files:
        try:
            _import(path, overwrite)
        except Exception as error:
            codes.append(exit_code(error))
            complain(message(error, path))
            if verbose:
                show_traceback(error)
    return next(iter(codes), OK)


def _import(path: Path, overwrite: bool, is_released: bool = False) -> None:
    from danna_sep.convert import import_checkpoint

    entry = import_checkpoint(path, overwrite=overwrite, is_released=is_released)
    about = f"{entry.model} by {entry.origin}; licence: {entry.licence}; registered as {entry.name}"
    say(one_line(f"{path}: {about}"))


def fetch(name: str, base_url: str | None, overwrite: bool, quiet: bool) -> int:
    """Download what is not here yet and import it, file by file; gives the exit code."""
    from danna_sep.weights.originals import ORIGINAL, Released, fetch_original

    if name != "original":
        raise ConfigError(f"no weights {name!r} to fetch; there are: original")
    sources = ORIGINAL
    if base_url is not None:
        base = base_url.rstrip("/")
        sources = {model: Released(file.filename, f"{base}/{file.filename}") for model, file in ORIGINAL.items()}
    folder = weights.home() / "downloads"
    with Interrupt() as interrupt:

        def accept(path: Path) -> None:
            with interrupt.anywhere():
                _import(path, overwrite, is_released=base_url is None)

        try:
            with _bar(quiet) as progress:
                fetch_original(folder, released=sources, accept=accept, progress=progress, cancel=interrupt)
        except Cancelled as error:
            complain(str(error))
            return interrupt.exit_code
    return OK


@contextmanager
def _bar(quiet: bool) -> Iterator[Callable[[str, int, int | None], None] | None]:
    """A bar for each file on the terminal behind stderr, if there is one."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=False, redirect_stderr=False) as bar:
        tasks = {}

        def progress(name: str, n_done: int, n_bytes: int | None) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=n_bytes)
            bar.update(tasks[name], completed=n_done, total=n_bytes)

        yield progress
