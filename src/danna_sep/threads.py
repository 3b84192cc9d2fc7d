"""How the threads that share a computation wait for each other."""

from __future__ import annotations

import os
import sys
from typing import Final

_SETTINGS: Final = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def wait_asleep() -> None:
    """Have the threads of OpenMP, with which PyTorch computes, sleep while they wait, unless the user said how.

    By default they spin, for milliseconds and in vain where another program has the processor: beside one that keeps
    both of two cores busy, a separation then takes half as long again. On a quiet machine nothing was seen to be lost.

    For a process that is ours from start to end, before PyTorch is imported. Measured with GNU's OpenMP; other systems
    than Linux have another one, and are left alone.
    """
    if sys.platform.startswith("linux") and not any(name in os.environ for name in _SETTINGS):
        os.environ["OMP_WAIT_POLICY"] = "passive"
