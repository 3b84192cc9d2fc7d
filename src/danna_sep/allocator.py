"""How the C library keeps memory that was freed: networks ask for blocks of the same sizes again and again.

By default glibc gives every large block back to the system at once, and gets the next one page by page, zeroed: a third
of the time of a network on a CPU.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
_LARGEST = 2**31 - 1
_TOP_PAD = 64 * 2**20

_SLAB = 16 * 2**20
_ALIGNMENT = 64


def keep_freed_memory() -> bool:
    """Have this process keep what it frees for its next allocations; whether the C library takes such orders.

    For a process that is ours from start to end: what was once needed stays taken until it ends.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    settings = (
        (_M_MMAP_THRESHOLD, _LARGEST),
        (_M_TRIM_THRESHOLD, _LARGEST),
        (_M_TOP_PAD, _TOP_PAD),
        # What one thread frees, the others can have.
        (_M_ARENA_MAX, 1),
    )
    taken = [libc.mallopt(parameter, value) for parameter, value in settings]
    return all(taken)


def apart(tensor: Tensor) -> Tensor:
    """A copy, in the same layout, in memory that is not among what comes and goes.

    For what stays long: between blocks that are freed and asked for again it would leave gaps that no longer hold them.
    """
    import torch

    if tensor.device.type != "cpu" or not tensor.numel():
        return tensor.clone()
    memory = _fresh_memory(tensor.numel() * tensor.element_size())
    return _copied(tensor, torch.frombuffer(memory, dtype=torch.uint8))


class Store:
    """Memory apart for many copies, which all stay as long as it does or one of them is used.

    Of what each of them would have by itself a few bytes would still lie among what comes and goes, and a gap between
    two such places is as good as lost to larger blocks.
    """

    def __init__(self) -> None:
        self._slab: Tensor | None = None
        self._n_used = 0

    def copy(self, tensor: Tensor) -> Tensor:
        """As `apart`."""
        import torch

        if tensor.device.type != "cpu" or not tensor.numel():
            return tensor.clone()
        n_bytes = tensor.numel() * tensor.element_size()
        if self._slab is None or self._n_used + n_bytes > len(self._slab):
            # What is not used of it costs no memory.
            self._slab, self._n_used = torch.frombuffer(_fresh_memory(max(n_bytes, _SLAB)), dtype=torch.uint8), 0
        start = self._n_used
        self._n_used += -(-n_bytes // _ALIGNMENT) * _ALIGNMENT
        return _copied(tensor, self._slab[start : start + n_bytes])


def _copied(tensor: Tensor, room: Tensor) -> Tensor:
    """To a room of as many bytes."""
    import torch

    # Strides of a dense tensor whose axes follow one another in memory as those of `tensor` do.
    strides = torch.empty_like(tensor, device="meta").stride()
    flat = room.view(tensor.dtype)
    return flat.as_strided(tensor.shape, strides, flat.storage_offset()).copy_(tensor)


def _fresh_memory(n_bytes: int) -> mmap.mmap:
    """Memory of this process alone, where one can ask for that: shared memory takes longer to get."""
    if sys.platform == "win32":
        return mmap.mmap(-1, n_bytes)
    return mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
