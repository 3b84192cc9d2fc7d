"""Music of trackers (MOD, XM, S3M, IT and others) played by libopenmpt, with some of its instruments alone.

Such a file holds the recordings of all instruments and the notes that they play, so that its stems are what it sounds
like when only some instruments sound: the mixture is their sum. libopenmpt is a library of its own (Debian's
libopenmpt0), called by its C interface.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

_SEPARATION = 2
"""Number of the parameter that says how far apart channels are placed, in percent."""
_BLOCK = 1 << 16
_N_OTHER_CALLS = 12
"""Calls of the interface "interactive" before the one that silences an instrument, and three behind it."""
_NOTE, _INSTRUMENT = 0, 1
_HIGHEST_NOTE = 120
"""Numbers above are no notes but ends of such."""

_Silence = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int)


class ModuleError(ValueError):
    """What cannot be played."""


class _Interactive(ctypes.Structure):
    _fields_: Final = [
        ("others", ctypes.c_void_p * _N_OTHER_CALLS),
        ("silence", _Silence),
        ("last", ctypes.c_void_p * 3),
    ]


@cache
def library() -> ctypes.CDLL | None:
    """libopenmpt, or None where it is not installed."""
    name = ctypes.util.find_library("openmpt")
    if name is None:
        return None
    found = ctypes.CDLL(name)
    pointer, number, size = ctypes.c_void_p, ctypes.c_int32, ctypes.c_size_t
    signatures: dict[str, tuple[object, list[object]]] = {
        "ext_create_from_memory": (pointer, [ctypes.c_char_p, size, *[pointer] * 7]),
        "ext_destroy": (None, [pointer]),
        "ext_get_module": (pointer, [pointer]),
        "ext_get_interface": (ctypes.c_int, [pointer, ctypes.c_char_p, pointer, size]),
        "get_num_instruments": (number, [pointer]),
        "get_num_samples": (number, [pointer]),
        "get_num_channels": (number, [pointer]),
        "get_num_orders": (number, [pointer]),
        "get_num_patterns": (number, [pointer]),
        "get_instrument_name": (pointer, [pointer, number]),
        "get_sample_name": (pointer, [pointer, number]),
        "get_order_pattern": (number, [pointer, number]),
        "get_pattern_num_rows": (number, [pointer, number]),
        "get_pattern_row_channel_command": (ctypes.c_uint8, [pointer, number, number, number, ctypes.c_int]),
        "set_render_param": (ctypes.c_int, [pointer, ctypes.c_int, number]),
        "read_interleaved_float_stereo": (size, [pointer, number, size, pointer]),
    }
    for call, (result, arguments) in signatures.items():
        function = getattr(found, f"openmpt_module_{call}")
        function.restype, function.argtypes = result, arguments
    found.openmpt_free_string.argtypes = [pointer]
    found.openmpt_free_string.restype = None
    return found


class Module:
    """A module at its beginning.

    Attributes:
        names: Of its instruments or, where it has none, of its samples: in many modules a message to the listener.

    Raises:
        ModuleError: Not a module, or there is no libopenmpt.
    """

    def __init__(self, path: Path) -> None:
        found = library()
        if found is None:
            raise ModuleError("libopenmpt is not installed (Debian: libopenmpt0)")
        content = path.read_bytes()
        self._library = found
        self._extended = found.openmpt_module_ext_create_from_memory(content, len(content), *[None] * 7)
        if not self._extended:
            raise ModuleError(f"{path}: not a module that libopenmpt reads")
        self._module = found.openmpt_module_ext_get_module(self._extended)
        self._interactive = _Interactive()
        place = ctypes.byref(self._interactive), ctypes.sizeof(self._interactive)
        if not found.openmpt_module_ext_get_interface(self._extended, b"interactive", *place):
            raise ModuleError("this libopenmpt cannot silence instruments: a newer one is needed")
        n_instruments = found.openmpt_module_get_num_instruments(self._module)
        name = found.openmpt_module_get_instrument_name if n_instruments else found.openmpt_module_get_sample_name
        n_names = n_instruments or found.openmpt_module_get_num_samples(self._module)
        self.names = [self._text(name(self._module, index)) for index in range(n_names)]

    def __del__(self) -> None:
        if getattr(self, "_extended", None):
            self._library.openmpt_module_ext_destroy(self._extended)

    def _text(self, address: int) -> str:
        text = ctypes.string_at(address).decode("utf-8", "replace")
        self._library.openmpt_free_string(address)
        return text

    def notes(self) -> dict[int, list[int]]:
        """The notes of each instrument that has some, as numbers of semitones, in the order of the song."""
        found, module = self._library, self._module
        n_patterns = found.openmpt_module_get_num_patterns(module)
        n_channels = found.openmpt_module_get_num_channels(module)
        notes: dict[int, list[int]] = {}
        for order in range(found.openmpt_module_get_num_orders(module)):
            pattern = found.openmpt_module_get_order_pattern(module, order)
            if not 0 <= pattern < n_patterns:
                continue
            for row in range(found.openmpt_module_get_pattern_num_rows(module, pattern)):
                for channel in range(n_channels):
                    command = found.openmpt_module_get_pattern_row_channel_command
                    note = command(module, pattern, row, channel, _NOTE)
                    instrument = command(module, pattern, row, channel, _INSTRUMENT)
                    if 0 < note <= _HIGHEST_NOTE and 0 < instrument <= len(self.names):
                        notes.setdefault(instrument - 1, []).append(note)
        return notes

    def played(
        self, rate_hz: int, longest_s: float, *, instruments: Collection[int] | None = None, separation: int = 100
    ) -> NDArray[np.float32]:
        """What it sounds like from where it stands on: once, for it then stands at the end.

        Args:
            rate_hz: Sample rate.
            longest_s: After which it ends, if not before.
            instruments: Those that sound; all, if not given.
            separation: How far channels are apart, percent: hard left and right in many MODs at 100.

        Returns:
            Axes channel, time; louder than full scale where the module is.
        """
        if instruments is not None:
            for index in range(len(self.names)):
                self._interactive.silence(self._extended, index, int(index not in instruments))
        self._library.openmpt_module_set_render_param(self._module, _SEPARATION, separation)
        left = round(longest_s * rate_hz)
        blocks = [np.zeros((0, 2), np.float32)]
        while left > 0:
            block = np.empty((min(left, _BLOCK), 2), np.float32)
            read = self._library.openmpt_module_read_interleaved_float_stereo
            n_frames = read(self._module, rate_hz, len(block), block.ctypes.data)
            if not n_frames:
                break
            blocks.append(block[:n_frames])
            left -= n_frames
        return np.concatenate(blocks).T
