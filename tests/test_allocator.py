"""Freed memory is kept: a large block that is asked for again costs no page faults. What stays long lies apart."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from danna_sep.allocator import apart

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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool])
def test_a_copy_apart(dtype: torch.dtype) -> None:
    """As the original, axes in the same order in memory, with memory of its own that outlives the original's."""
    whole = (10 * torch.rand(2, 3, 40, 50)).to(dtype).contiguous(memory_format=torch.channels_last)
    for original in (whole, whole[..., 7:19], whole[:, 1:], whole.contiguous(), whole[0, 0, 0]):
        copy = apart(original)
        assert torch.equal(copy, original)
        assert copy.stride() == original.clone().stride()
        assert copy.untyped_storage().nbytes() == original.numel() * original.element_size()
        before = copy.clone()
        original.zero_()
        assert torch.equal(copy, before)
        original.copy_(before)


def test_nothing_apart() -> None:
    assert apart(torch.empty(2, 3, 0)).shape == (2, 3, 0)
