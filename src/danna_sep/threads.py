"""Threads that share a computation: how they wait for each other, and what becomes of them in a forked process."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Final

_SETTINGS: Final = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


_SPINS: Final = "10000"

MOST_THREADS: Final = 1024
"""That one can ask for: many times as many are more than a system starts, which then ends the process."""


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


@cache
def survive_forks() -> None:
    """Have processes that are forked off this one compute on one thread.

    The other threads of OpenMP do not exist there, and GNU's waits for them for ever. To be called before PyTorch
    computes for the first time, which it does already as weights are loaded.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_use_one_thread)


def _use_one_thread() -> None:
    import torch

    torch.set_num_threads(1)
