"""Which instructions the processor has, as PyTorch and the system say, and oneDNN may use."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import torch

_CPU_INFO = Path("/proc/cpuinfo")


def has_instructions(flag: str, asked: str = "") -> bool:
    """Whether PyTorch, if it knows, says so of this processor, or the system does.

    Args:
        flag: Linux's name of them.
        asked: Function of `torch.cpu`; none of them is public.
    """
    supported = getattr(torch.cpu, asked, None)
    if supported is not None and supported():
        return True
    try:
        return flag in _CPU_INFO.read_text(encoding="utf-8").split()
    except OSError:
        return False


@cache
def has_tiles() -> bool:
    """Whether oneDNN has matrix instructions, AMX; what has them for eight bits has them for bfloat16."""
    return "AMX" in _limit("AMX") and has_instructions("amx_int8", "_is_amx_tile_supported")


@cache
def has_wide_vectors() -> bool:
    """Whether oneDNN has vectors of 512 bits."""
    is_let = any(name in _limit("AVX512") for name in ("AVX512", "AVX10", "AMX"))
    return is_let and has_instructions("avx512f", "_is_avx512_supported")


def _limit(unlimited: str) -> str:
    """The most that oneDNN is let use: an environment variable of its own."""
    named = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    return unlimited if named in ("", "ALL", "DEFAULT") else named
