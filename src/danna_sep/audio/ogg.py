"""What libsndfile says nothing about in Ogg files: of several in a row it reads the first, and any may lack its end."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PAGE: Final = b"OggS\0"
_HEAD_BYTES: Final = 27  # of a page, in front of the sizes of its segments
_WINDOW_BYTES: Final = 1 << 17  # two pages of the greatest size
_BEGINS, _ENDS = 2, 4  # flags of a stream's first and last page
_MAX_JUNK_BYTES: Final = 256  # behind the last page; a tag has 128


def ogg_note(path: Path) -> str:
    """What of an Ogg file is not read or not there, in words; empty if nothing is."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if _has_more_streams_behind(data):
            return "more Ogg streams follow the first one, which alone is read; split the file first"
        if not _is_ended(data):
            return "the end is missing or damaged, so that the file may be cut short; copy or download it again"
    return ""


def _has_more_streams_behind(data: mmap.mmap) -> bool:
    """Whether the file ends in a stream that does not begin at its start."""
    begun: set[bytes] = set()
    for flags, serial in _pages(data[:_WINDOW_BYTES]):  # the first pages of all streams come before any other page
        if not flags & _BEGINS:
            break
        begun.add(serial)
    last = data.rfind(_PAGE, 0, max(0, len(data) - 13))  # one that is not cut before its serial number
    return bool(begun) and last >= 0 and data[last + 14 : last + 18] not in begun


def _is_ended(data: mmap.mmap) -> bool:
    """Whether the last page is whole, says that it is the last, and nothing of any length follows."""
    last = data.rfind(_PAGE)
    if last < 0 or last + _HEAD_BYTES > len(data) or not data[last + 5] & _ENDS:
        return False
    body = last + _HEAD_BYTES + data[last + _HEAD_BYTES - 1]
    end = body + sum(data[last + _HEAD_BYTES : body])
    n_behind = len(data) - end
    return n_behind >= 0 and (n_behind <= _MAX_JUNK_BYTES or not any(data[end:]))


def _pages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Flags and serial number of each page."""
    position = -1
    while (position := data.find(_PAGE, position + 1)) >= 0:
        if position + 18 <= len(data):
            yield data[position + 5], data[position + 14 : position + 18]
