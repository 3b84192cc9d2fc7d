"""Memory for tensors elsewhere than among what networks get and free again and again."""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

BRIEFLY = 4 * 2**20
"""Bytes of what a `Store`'s copies share that go in the order in which they came."""
_ALIGNMENT = 64


def in_large_pages(shape: Sequence[int], like: Tensor) -> Tensor:
    """Memory that is still to be written, for numbers like those of a tensor, where that is.

    On a CPU in large pages, where the system has such and is asked for them, as numpy does: for a program that does not
    keep what it frees they are the cheaper by far to get.
    """
    n_bytes = math.prod(shape) * like.element_size()
    if like.device.type != "cpu" or not n_bytes:
        return like.new_empty(shape)
    return torch.from_numpy(np.empty(n_bytes, np.uint8)).view(like.dtype).reshape(tuple(shape))


def apart(tensor: Tensor) -> Tensor:
    """A copy, in the same layout, in memory that is not among what comes and goes.

    For what stays long: between blocks that are freed and asked for again it would leave gaps that no longer hold them.
    """
    return Store(0).copy(tensor)


class Store:
    """Memory apart for many copies.

    Of what each of them would have by itself a few bytes would still lie among what comes and goes, and a gap between
    two such places is as good as lost to larger blocks.

    Args:
        n_bytes: Of a piece that copies share, at least; none of it is given back before the last of them is gone.
    """

    def __init__(self, n_bytes: int = 16 * 2**20) -> None:
        self._n_bytes = n_bytes
        self._slab: Tensor | None = None
        self._n_used = 0

    def copy(self, tensor: Tensor) -> Tensor:
        """As `apart`."""
        if tensor.device.type != "cpu" or not tensor.numel():
            return tensor.clone()
        n_bytes = tensor.numel() * tensor.element_size()
        if self._slab is None or self._n_used + n_bytes > len(self._slab):
            # What is not used of it costs no memory.
            memory = _fresh_memory(max(n_bytes, self._n_bytes))
            self._slab, self._n_used = torch.frombuffer(memory, dtype=torch.uint8), 0
        start = self._n_used
        self._n_used += -(-n_bytes // _ALIGNMENT) * _ALIGNMENT
        return _copied(tensor, self._slab[start : start + n_bytes])


def _copied(tensor: Tensor, room: Tensor) -> Tensor:
    """To a room of as many bytes."""
    # Strides of a dense tensor whose axes follow one another in memory as those of `tensor` do.
    strides = torch.empty_like(tensor, device="meta").stride()
    flat = room.view(tensor.dtype)
    return flat.as_strided(tensor.shape, strides, flat.storage_offset()).copy_(tensor)


def _fresh_memory(n_bytes: int) -> mmap.mmap:
    """Memory of this process alone, where one can ask for that: shared memory takes longer to get."""
    if sys.platform == "win32":
        return mmap.mmap(-1, n_bytes)
    return mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
