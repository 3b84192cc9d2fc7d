"""Freed memory is kept: a large block that is asked for again costs no page faults. What stays long lies apart."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from danna_sep.allocator import Store, apart

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


TYPES = [torch.float32, torch.bfloat16, torch.bool]


@pytest.mark.parametrize("dtype", TYPES)
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


def test_copies_in_a_store_are_as_those_apart() -> None:
    """In memory that they share, which outlives the store; no copy may lie upon another, none is too large."""
    store = Store()
    originals = [(100 * torch.rand(3, i % 7 + 1, 50)).to(dtype) for i in range(40) for dtype in TYPES]
    originals += [original.transpose(0, 2) for original in originals] + [torch.rand(5_000_000)]
    copies = [store.copy(original) for original in originals]
    assert len({copy.untyped_storage().data_ptr() for copy in copies}) == 2
    del store
    for original, copy in zip(originals, copies, strict=True):
        assert copy.dtype == original.dtype
        assert torch.equal(copy, original)
        assert copy.stride() == apart(original).stride()


def test_room_that_a_store_has_left_takes_no_memory() -> None:
    code = """
import torch
from danna_sep.allocator import Store
def resident() -> int:
    return int(open("/proc/self/statm").read().split()[1]) * 4096
torch.ones(9).clone()
before = resident()
stores = [Store() for _ in range(20)]
copies = [store.copy(torch.ones(9)) for store in stores]
print(resident() - before)
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("asks Linux what is resident")
    grown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert int(grown) < 20 * 2**20
