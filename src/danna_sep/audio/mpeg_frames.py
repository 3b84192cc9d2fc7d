"""MPEG audio frames: what their headers tell, and where they follow one another."""

from __future__ import annotations

import functools
import mmap
from dataclasses import dataclass, field
from typing import Final

LAYER_III: Final = 1
_LAYER_I: Final = 3
_MPEG_1: Final = 3
_BIT_RATES: Final = {  # kbit/s of indices 1 to 14, by (is MPEG-1, layer bits)
    (True, 3): tuple(range(32, 449, 32)),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 1): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_CHAIN: Final = 3  # consecutive frame headers that are no coincidence


@dataclass
class Kind:
    """What all frames of a file have in common, and from it the size of each."""

    version: int
    layer: int
    rate_index: int
    is_mono: bool
    sizes: dict[int, int] = field(default_factory=dict, compare=False)  # by the third header byte

    def __post_init__(self) -> None:
        is_mpeg_1, rate_hz = self.version == _MPEG_1, self.rate_hz
        for index, kbit_s in enumerate(_BIT_RATES[is_mpeg_1, self.layer], start=1):
            for padding in (0, 1):
                if self.layer == _LAYER_I:
                    size = (12_000 * kbit_s // rate_hz + padding) * 4
                else:
                    size = self.n_samples * 125 * kbit_s // rate_hz + padding
                for private in (0, 1):
                    self.sizes[index << 4 | self.rate_index << 2 | padding << 1 | private] = size

    @property
    def rate_hz(self) -> int:
        """Samples per second."""
        return _RATES_HZ[self.version][self.rate_index]

    @property
    def n_samples(self) -> int:
        """Samples of a frame in each channel."""
        if self.layer == LAYER_III and self.version != _MPEG_1:
            return 576
        return 384 if self.layer == _LAYER_I else 1152

    @property
    def second_byte(self) -> int:
        """The second byte of every header."""
        return 0xE0 | self.version << 3 | self.layer << 1  # the lowest bit tells of a checksum and may vary

    @property
    def xing_offset(self) -> int:
        """Where a Xing header stands in its frame: behind 4 bytes of header and the side information."""
        if self.version == _MPEG_1:
            return 4 + (17 if self.is_mono else 32)
        return 4 + (9 if self.is_mono else 17)


def find_chain(data: mmap.mmap, position: int, kind: Kind | None) -> int | None:
    """The first place from `position` on where frames (of a kind, if given) follow one another."""
    while (position := data.find(b"\xff", position)) >= 0:
        if _is_chain(data, position, kind):
            return position
        position += 1
    return None


def _is_chain(data: mmap.mmap, position: int, kind: Kind | None) -> bool:
    for n_found in range(_CHAIN):
        if n_found and position == len(data):
            return True  # too short a file for more
        found = read_kind(data[position : position + 4])
        if found is None or (kind is not None and found != kind):
            return False
        kind = found
        position += kind.sizes[data[position + 2]]
    return True


def read_kind(header: bytes) -> Kind | None:
    """Read a frame header; None if it is none, or of the free format, whose frames do not tell their size."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    bit_rate_index, rate_index = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 0 or rate_index == 3 or bit_rate_index in (0, 15):
        return None
    return _make_kind(version, layer, rate_index, header[3] >= 0xC0)


@functools.cache
def _make_kind(version: int, layer: int, rate_index: int, is_mono: bool) -> Kind:
    return Kind(version, layer, rate_index, is_mono)
