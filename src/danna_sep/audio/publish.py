"""Hidden files beside their destination, and the moment in which all of them appear under their names."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from danna_sep.errors import WriteFailed

_FULL: Final = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def hidden_name(final: Path) -> Path:
    """A new name beside `final`; it does not grow with that name, which may have the greatest length allowed."""
    return final.with_name(f".danna-sep-{secrets.token_hex(8)}.part")


def publish(names: Mapping[Path, Path]) -> None:
    """Rename files, replacing what is there: all of them, or none.

    Args:
        names: From each complete file to the name it is to have, in the same folder.

    Raises:
        WriteFailed: One could not be renamed; what stood there before, stands there again.
    """
    undo: list[tuple[Path, Path | None]] = []  # a name that was touched, and where its old file is, if it had one
    try:
        for part, final in names.items():
            with raising_write_failed(final):
                if os.path.lexists(final):
                    old = hidden_name(final)
                    final.replace(old)
                    undo.append((final, old))
                    part.replace(final)
                else:
                    part.replace(final)
                    undo.append((final, None))
    except BaseException:
        for final, previous in reversed(undo):
            with contextlib.suppress(OSError):
                if previous is None:
                    final.unlink()
                else:
                    previous.replace(final)
        raise
    for _, previous in undo:
        if previous is not None:
            with contextlib.suppress(OSError):
                previous.unlink()


@contextlib.contextmanager
def raising_write_failed(final: Path) -> Iterator[None]:
    """Turn what the operating system or an encoder says while `final` is made into one line that names it."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        advice = "free some space or choose another folder" if error.errno in _FULL else "choose another folder"
        raise WriteFailed(f"{final.parent}: cannot write {final.name} ({reason}); {advice}") from error
    except WriteFailed as error:
        if str(final.parent) in str(error):
            raise
        raise WriteFailed(f"{final.parent}: cannot write {final.name}: {error}") from error
