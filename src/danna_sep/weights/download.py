"""Downloads: whole files or none, resumed where they broke off, and never a web page in a file's place.

The one door to the network. While a download runs, `NAME.part` beside the destination holds what has come so far and
`NAME.part.json` what the server said about the file, by which a later try sees whether it is still the same.
"""

from __future__ import annotations

import http
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from danna_sep.atomic import locked, replacing, sha256_of
from danna_sep.errors import Cancelled, DownloadFailed, WriteFailed
from danna_sep.weights.web_page import BY_HAND, is_web, looks_like_page
from danna_sep.weights.web_session import Dropped, Facts, Session, network_faults

Progress = Callable[[int, "int | None"], None]
"""Told how many bytes are here, and of how many where the server says so."""
Cancel = Callable[[], bool]
"""Asked often; true stops the download."""

_BLOCK_BYTES = 1 << 18
_MAX_PAUSE_S = 30.0


class WrongHash(DownloadFailed):
    """The whole file came, and is another than the expected one."""


def download(
    url: str,
    destination: Path | str,
    *,
    sha256: str | None = None,
    n_bytes: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    timeout_s: float = 30.0,
    retries: int = 4,
    backoff_s: float = 1.0,
) -> str:
    """Downloads a file; `destination` is replaced when all of it has come and been checked, and not before.

    A destination that already has the expected SHA-256 is left alone, without asking the server. Two processes
    that download to one place take turns.

    Args:
        url: http or https; Google Drive's confirmation pages are passed.
        destination: the file to make; its folder is made if need be.
        sha256: expected hash, in hexadecimal, or the first digits of it, which are all that some files' names tell.
        n_bytes: expected size.
        progress: called after every block with bytes so far and in all.
        cancel: asked after every block; what has come is kept for the next call. A server that says nothing can
            delay this by `timeout_s`.
        timeout_s: longest silence of the server, s.
        retries: tries after the first that bring nothing new before giving up.
        backoff_s: pause before the second try, s; doubled at each further one.

    Returns:
        The file's SHA-256.

    Raises:
        DownloadFailed: the network or the server did not give the file, or gave another one.
        WriteFailed: the folder cannot be written, or the disk is too small.
        Cancelled: `cancel()` was true.
    """
    destination = Path(destination)
    expected = sha256.lower() if sha256 else None
    if not is_web(url):
        raise DownloadFailed(f"{url}: not an address of the web; give one that starts with https://")
    if destination.is_dir():
        raise WriteFailed(f"{destination}: is a folder; name the file to write")
    job = _Job(_beside(destination, ".part"), expected, n_bytes, progress, cancel or (lambda: False), url, timeout_s)
    with locked(_beside(destination, ".part.lock"), cancel=cancel):
        if expected is not None and destination.is_file() and (there := sha256_of(destination)).startswith(expected):
            return there
        _persist(job, retries, backoff_s)
        got = _checked(job)
        with _writing(destination):
            job.part.replace(destination)
            job.notes.unlink(missing_ok=True)
    return got


@dataclass
class _Job:
    """One download: what is wanted, where it grows, and the session with the server."""

    part: Path
    sha256: str | None
    n_bytes: int | None
    progress: Progress | None
    cancel: Cancel
    url: str
    timeout_s: float

    def __post_init__(self) -> None:
        self.notes = _beside(self.part, ".json")
        self.session = Session(self.url, self.timeout_s, self.check_cancel)

    def n_done(self) -> int:
        """Bytes that have come so far."""
        return self.part.stat().st_size if self.part.exists() else 0

    def discard(self) -> None:
        """Forgets what has come so far."""
        with _writing(self.part):
            self.part.unlink(missing_ok=True)
            self.notes.unlink(missing_ok=True)

    def check_cancel(self) -> None:
        """Raises Cancelled if the caller asked for it."""
        if self.cancel():
            raise Cancelled(f"{self.url}: download cancelled after {self.n_done()} bytes")

    def pause(self, duration_s: float) -> None:
        """Waits, with an ear open for `cancel`."""
        end = time.monotonic() + duration_s
        while (left := end - time.monotonic()) > 0:
            self.check_cancel()
            time.sleep(min(left, 0.1))


def _persist(job: _Job, retries: int, backoff_s: float) -> None:
    """Tries until all has come; a try that brings new bytes starts the count anew."""
    failures, furthest = 0, 0
    while True:
        try:
            return _attempt(job)
        except Dropped as error:
            if job.n_done() > furthest:
                failures, furthest = 0, job.n_done()
            if failures >= retries:
                raise DownloadFailed(f"{job.url}: {error}; try again later") from error
            job.pause(min(_MAX_PAUSE_S, backoff_s * 2**failures))
            failures += 1


def _attempt(job: _Job) -> None:
    # Asked without a Range first: only the final answer, behind any confirmation pages, says which file it is.
    response = job.session.whole()
    with closing(response):
        facts = _facts(job, response)
        n_done = _resumable(job, facts)
        if not n_done:
            return _copy(job, response, facts, 0)
        if n_done == facts.total:
            return None
    response = job.session.rest(response.geturl(), facts, n_done)
    if response is None:
        job.discard()
        raise Dropped("the server does not go on where it broke off")
    with closing(response):
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            return _copy(job, response, facts, n_done)
        return _copy(job, response, _facts(job, response), 0)


def _facts(job: _Job, response: Any) -> Facts:
    """What the headers of a whole answer say, compared with what is expected."""
    facts = Facts.of(response)
    if facts.total is not None and job.n_bytes not in (None, facts.total):
        problem = f"the file there has {facts.total} bytes, not the expected {job.n_bytes}"
    elif facts.total is None and not (response.chunked or job.n_bytes or job.sha256):
        problem = "the server does not say how long the file is, so its end could not be known"
    else:
        return facts
    raise DownloadFailed(f"{job.url}: {problem}; {BY_HAND}")


def _resumable(job: _Job, facts: Facts) -> int:
    """How many bytes of an earlier try still count."""
    try:
        noted = json.loads(job.notes.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0
    vouched = facts.validator is not None or job.sha256 is not None
    n_done = job.n_done()
    same = noted == asdict(facts) and facts.total is not None and n_done <= facts.total
    return n_done if same and vouched else 0


def _copy(job: _Job, response: Any, facts: Facts, n_done: int) -> None:
    """Appends the answer's bytes to the part, or begins it."""
    whole = facts.total if facts.total is not None else job.n_bytes
    if not n_done:
        job.discard()  # before the notes change, lest old bytes stand beside new notes
    with _writing(job.part):
        n_free = shutil.disk_usage(job.part.parent).free
    if whole is not None and whole - n_done > n_free:
        raise WriteFailed(f"{job.part}: {whole - n_done} bytes to come, {n_free} free; make room on the disk")
    if not n_done:
        with replacing(job.notes) as notes:
            notes.write(json.dumps(asdict(facts)).encode())
    with _writing(job.part):
        file = job.part.open("ab", buffering=0)
    with file:
        while whole is None or n_done <= whole:
            job.check_cancel()
            with network_faults(job.url):
                block = response.read1(_BLOCK_BYTES)
            if not block:
                break
            _write_all(job.part, file, block)
            n_done += len(block)
            if job.progress is not None:
                job.progress(n_done, whole)
        with _writing(job.part):
            os.fsync(file.fileno())
    if whole is not None and n_done < whole:
        raise Dropped(f"the connection broke after {n_done} of {whole} bytes")


def _write_all(path: Path, file: io.FileIO, block: bytes) -> None:
    with _writing(path):
        rest = memoryview(block)
        while rest:
            rest = rest[file.write(rest) :]


def _checked(job: _Job) -> str:
    """SHA-256 of the complete part; a wrong one is removed."""
    with _writing(job.part):
        n_done, got = job.n_done(), sha256_of(job.part)
        with job.part.open("rb") as file:
            head = file.read(512)
    where = f"{job.url}:"
    problem: DownloadFailed | None = None
    if looks_like_page(head):
        problem = DownloadFailed(f"{where} the server sent a web page instead of the file; {BY_HAND}")
    elif job.n_bytes not in (None, n_done):
        problem = DownloadFailed(f"{where} {n_done} bytes came, not the expected {job.n_bytes}; {BY_HAND}")
    elif not got.startswith(job.sha256 or ""):
        problem = WrongHash(f"{where} SHA-256 expected {job.sha256}, got {got}; removed, try again later or {BY_HAND}")
    if problem is not None:
        job.discard()
        raise problem
    return got


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WriteFailed(f"{path}: cannot be written ({error.strerror or error})") from error
