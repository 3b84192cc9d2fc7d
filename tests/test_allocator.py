"""Freed memory is kept: a large block that is asked for again costs no page faults."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_FAULTS_OF_SECOND_BLOCK = """
import resource, numpy
from danna_sep import allocator
assert {keep} == ({keep} and allocator.keep_freed_memory())
n_bytes = 200 * 2**20
numpy.ones(n_bytes, numpy.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
numpy.ones(n_bytes, numpy.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def n_faults(keep: bool) -> int:
    code = _FAULTS_OF_SECOND_BLOCK.format(keep=keep)
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="speaks to glibc")
def test_a_block_is_used_again_instead_of_mapped_anew() -> None:
    assert n_faults(keep=True) <= n_faults(keep=False) / 10
