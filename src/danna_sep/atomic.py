"""Files that appear whole or not at all, and one process at a time where two would collide."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from danna_sep.errors import Cancelled, WriteFailed

# A file system that offers no locks says so with one of these; replacing is atomic there all the same.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_POLL_S = 0.02

if sys.platform == "win32":
    import msvcrt

    def _take(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in lower-case hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write which takes the place of `path` when the block ends without an error.

    Until then, and after any error, whatever lay at `path` is untouched. The folder is made if need be.

    Raises:
        WriteFailed: the folder cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".danna-sep-{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise WriteFailed(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, *, cancel: Callable[[], bool] | None = None) -> Iterator[None]:
    """Holds the lock file `path` while the block runs; other processes and threads wait their turn.

    The system lets go of the lock when a process dies, so none is ever stale. The file is removed at the end.

    Raises:
        Cancelled: `cancel()` was true while waiting.
        WriteFailed: the lock file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while (handle := _try_lock(path)) is None:
            if cancel is not None and cancel():
                raise Cancelled(f"{path}: cancelled while another process was using it")
            time.sleep(_POLL_S)
    except OSError as error:
        raise WriteFailed(f"{path}: cannot be locked ({error.strerror or error})") from error
    try:
        yield
    finally:
        # Removed while still held: who waits on the removed file notices in _try_lock and starts again.
        with suppress(OSError):
            path.unlink()
        os.close(handle)


def _try_lock(path: Path) -> int | None:
    """An open handle that holds the lock on the file now at `path`, or None when somebody else does."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _take(handle)
        mine, there = os.fstat(handle), path.stat()
        if (mine.st_ino, mine.st_dev) == (there.st_ino, there.st_dev):
            return handle
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return handle
        if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK, errno.ENOENT):
            os.close(handle)
            raise
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None
