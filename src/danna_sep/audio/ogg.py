"""What libsndfile says nothing about in Ogg files.

Of several in a row it reads the first, any may lack its end, and the channels of Opus need not belong to speakers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from danna_sep.audio.mpeg_tags import tag_bytes

_PAGE: Final = b"OggS\0"
_HEAD_BYTES: Final = 27  # of a page, in front of the sizes of its segments
_WINDOW_BYTES: Final = 1 << 17  # two pages of the greatest size
_BEGINS, _ENDS = 2, 4  # flags of a stream's first and last page
_MAX_JUNK_BYTES: Final = 256  # behind the last page
_OPUS_FAMILY: Final = 18  # where a header of Opus says what its channels are: 0 and 1 speakers, others anything
_TAGS: Final = (b"ID3", b"TAG", b"APETAGEX")


def has_speakers(path: Path) -> bool:
    """Whether the channels belong to speakers, whose order is then known: in Vorbis always, in Opus not."""
    with path.open("rb") as file:
        head = file.read(_WINDOW_BYTES)
    opus = head.find(b"OpusHead")
    return opus < 0 or head[opus + _OPUS_FAMILY : opus + _OPUS_FAMILY + 1] in (b"\0", b"\1")


def ogg_note(path: Path) -> str:
    """What of an Ogg file is not read or not there, in words; empty if nothing is."""
    with path.open("rb") as file:
        head = file.read(_WINDOW_BYTES)
        tail = _tail(file)
    if _has_more_streams_behind(head, tail):
        return "more Ogg streams follow the first one, which alone is read; split the file first"
    if not _is_whole(tail):
        return "the end is missing or damaged, so that the file may be cut short; copy or download it again"
    return ""


def _tail(file: BinaryIO) -> bytes:
    """The end of a file without tags that end there, and from so far in front that not all of it is zeros."""
    end = file.seek(0, os.SEEK_END)
    n_zeros = 0
    while True:
        start = max(0, end - _WINDOW_BYTES)
        file.seek(start)
        window = file.read(end - start)
        if 0 < (n_tag := tag_bytes(window, len(window))) <= end:
            end -= n_tag
        elif start and window.count(0) == len(window):
            end = start
            n_zeros += len(window)
        else:
            return window + bytes(min(n_zeros, _WINDOW_BYTES))


def _has_more_streams_behind(head: bytes, tail: bytes) -> bool:
    """Whether the file ends in a stream that does not begin at its start."""
    begun: set[bytes] = set()
    for flags, serial in _pages(head):  # the first pages of all streams come before any other page
        if not flags & _BEGINS:
            break
        begun.add(serial)
    last = tail.rfind(_PAGE, 0, max(0, len(tail) - 13))  # one that is not cut before its serial number
    return bool(begun) and last >= 0 and tail[last + 14 : last + 18] not in begun


def _is_whole(tail: bytes) -> bool:
    """Whether the last page is whole and nothing that may be the remains of others follows.

    It need not say that it is the last: what records a live stream may not know. A cut hardly ever falls between pages.
    """
    last = tail.rfind(_PAGE)
    if last < 0 or last + _HEAD_BYTES > len(tail):
        return False
    body = last + _HEAD_BYTES + tail[last + _HEAD_BYTES - 1]
    end = body + sum(tail[last + _HEAD_BYTES : body])
    if body > len(tail) or end > len(tail):
        return False
    behind = tail[end:]
    if tail[last + 5] & _ENDS:
        return len(behind) <= _MAX_JUNK_BYTES or not any(behind) or behind.startswith(_TAGS)
    return not behind or behind.startswith(_TAGS)


def _pages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Flags and serial number of each page."""
    position = -1
    while (position := data.find(_PAGE, position + 1)) >= 0:
        if position + 18 <= len(data):
            yield data[position + 5], data[position + 14 : position + 18]
