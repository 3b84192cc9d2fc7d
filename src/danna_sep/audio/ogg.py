"""Ogg files that are several in a row (radio recordings are), of which libsndfile reads the first in silence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_WINDOW_BYTES: Final = 1 << 17  # two pages of the greatest size
_BEGINS: Final = 2  # flag of a stream's first page


def has_more_streams_behind(path: Path) -> bool:
    """Whether an Ogg file ends in a stream that does not begin at its start."""
    with path.open("rb") as file:
        head = file.read(_WINDOW_BYTES)
        file.seek(max(0, os.fstat(file.fileno()).st_size - _WINDOW_BYTES))
        tail = file.read()
    begun: set[bytes] = set()
    for flags, serial in _pages(head):  # the first pages of all streams come before any other page
        if not flags & _BEGINS:
            break
        begun.add(serial)
    last = [serial for _, serial in _pages(tail)][-1:]
    return bool(begun) and bool(last) and last[0] not in begun


def _pages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Flags and serial number of each page."""
    position = -1
    while (position := data.find(b"OggS\0", position + 1)) >= 0:
        if position + 18 <= len(data):
            yield data[position + 5], data[position + 14 : position + 18]
