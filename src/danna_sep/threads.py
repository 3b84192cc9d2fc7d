"""How the threads that share a computation wait for each other."""

from __future__ import annotations

import os
import sys
from typing import Final

_SETTINGS: Final = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


_SPINS: Final = "10000"


def spin_briefly() -> None:
    """Have the threads of OpenMP, with which PyTorch computes, soon sleep while they wait, unless the user said how.

    By default they spin for milliseconds, in vain where another program has the processor: beside two that keep both of
    two cores busy, 90 s of audio took more than four minutes. Sleeping at once, where waking is slow, costs more than
    half the speed when nothing else runs (13.5 s for 6.2). After so many turns both are avoided: 6.0 and 23 s.

    For a process that is ours from start to end, before PyTorch is imported. Measured with GNU's OpenMP; other systems
    than Linux have another one, and are left alone.
    """
    if sys.platform.startswith("linux") and not any(name in os.environ for name in _SETTINGS):
        os.environ["GOMP_SPINCOUNT"] = _SPINS
