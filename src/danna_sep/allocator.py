"""How the C library keeps memory that was freed: networks ask for blocks of the same sizes again and again.

By default glibc gives every large block back to the system at once, and gets the next one page by page, zeroed: a third
of the time of a network on a CPU.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
_LARGEST = 2**31 - 1
_TOP_PAD = 64 * 2**20


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
