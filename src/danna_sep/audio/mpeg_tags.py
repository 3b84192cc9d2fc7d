"""Tags in front of and behind MPEG audio, which are no frames."""

from __future__ import annotations

import mmap


def behind_tags(data: mmap.mmap) -> int:
    """The first byte behind any ID3v2 tags."""
    position = 0
    while data[position : position + 3] == b"ID3" and len(data) >= position + 10:
        size = 0
        for byte in data[position + 6 : position + 10]:
            size = size << 7 | byte & 0x7F
        position += 10 + size + (10 if data[position + 5] & 0x10 else 0)
    return min(position, len(data))
