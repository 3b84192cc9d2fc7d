"""Memory apart holds what was put there, and no more than that; large pages are memory as any other."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from danna_sep.memory import Store, apart, in_large_pages

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
from danna_sep.memory import Store
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


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128, torch.bfloat16])
@pytest.mark.parametrize("shape", [(4, 2, 513, 600), (3,), (2, 0, 5)])
def test_memory_in_large_pages_is_a_tensors(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Of the shape and type asked for, to be written and read as any other, also when there is nothing to hold."""
    room = in_large_pages(shape, torch.zeros((), dtype=dtype))
    assert (room.shape, room.dtype) == (shape, dtype)
    assert room.is_contiguous()
    numbers = torch.randn(shape, dtype=dtype)
    assert torch.equal(room.copy_(numbers), numbers)
