"""What layers wait with is kept in the same memory from part to part: it must still be what was put there."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from danna_sep.models import bordered
from danna_sep.models.bordered import inside
from danna_sep.models.frame_queues import Lead, Part, without_rooms
from danna_sep.models.whole_numbers import in_whole_steps

LEAD = Lead(1, 2)


def frames(start: int, n_frames: int, first: int) -> torch.Tensor:
    """(1, 3, n_frames, 4), in which each number tells its queue and frame, in the layout that convolutions give."""
    numbers = torch.arange(start, start + n_frames, dtype=torch.float32) + first
    return numbers[:, None].expand(1, 3, n_frames, 4).contiguous(memory_format=torch.channels_last)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_queues_give_what_was_put_in_order(steps: list[tuple[int, int]]) -> None:
    """Parts of any length in, any number of frames out, each behind the two before it, and behind one zero at first."""
    kept: dict[str, tuple[torch.Tensor, ...]] = {}
    n_put = n_taken = 0
    for n_new, n_wanted in steps:
        part = Part(kept, False)
        for queue, first in (("one", 1000), ("other", 2000)):
            part.put(queue, frames(n_put, n_new, first))
        n_put += n_new
        stacked, n_before, new = part.stack(("one", "other"), LEAD, n_wanted)
        n_given = stacked.shape[2] - n_before
        assert n_given == min(n_wanted, n_put - n_taken)
        assert torch.equal(new, stacked[:, :, n_before:])
        expected = torch.arange(n_taken - n_before, n_taken + n_given)
        for channels, first in ((stacked[0, :3], 1000), (stacked[0, 3:], 2000)):
            assert torch.equal(
                channels, torch.where(expected < 0, 0, expected + first)[:, None].expand(3, -1, 4).float()
            )
        n_taken += n_given


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_what_was_put_apart_stays_until_it_is_taken(steps: list[tuple[int, int]]) -> None:
    """Memory that serves again must not be that of frames that still wait."""
    kept: dict[str, tuple[torch.Tensor, ...]] = {}
    n_put = n_taken = 0
    for n_new, n_wanted in steps:
        part = Part(kept, False)
        part.put_apart("skip", frames(n_put, n_new, 1000))
        n_put += n_new
        stacked, n_before, _ = part.stack(("skip",), Lead(0, 0), n_wanted)
        assert n_before == 0
        assert torch.equal(stacked, frames(n_taken, min(n_wanted, n_put - n_taken), 1000))
        n_taken += stacked.shape[2]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_what_waits_coarsely_is_near_what_was_put(steps: list[tuple[int, int]]) -> None:
    """Within half a step of each channel, of each piece: else the network would hear other features than it made."""
    kept: dict[str, tuple[torch.Tensor, ...]] = {}
    scales = torch.tensor([1.0, 1e-3, 0.0])[:, None, None]
    n_put = n_taken = 0
    largest: list[float] = []
    for n_new, n_wanted in steps:
        part = Part(kept, False, coarse=True)
        part.put_apart("skip", frames(n_put, n_new, 0) * scales)
        n_put += n_new
        largest += [float(n_put - 1)] * n_new
        waiting = [piece for piece in kept["skip"] if piece.numel()]
        assert all(piece.dtype == torch.uint8 for piece in waiting)
        stacked = part.stack(("skip",), Lead(0, 0), n_wanted).features
        n_given = min(n_wanted, n_put - n_taken)
        expected = frames(n_taken, n_given, 0) * scales
        within = torch.tensor(largest[n_taken : n_taken + n_given]) / 252 * 0.501
        assert stacked.dtype == torch.float32
        assert ((stacked - expected).abs() <= within[:, None] * scales + 1e-30).all()
        n_taken += n_given


def test_the_largest_feature_fits_eight_bits() -> None:
    """In bfloat16 too, which rounds the step and the quotient: one too many would be read as nothing."""
    features = (
        torch.linspace(0.1, 9, 1001).bfloat16()[None, :, None, None].contiguous(memory_format=torch.channels_last)
    )
    part = Part({}, True, coarse=True)
    part.put_apart("skip", features)
    (taken,) = part.take("skip", 1)
    assert ((taken - features).abs() <= 0.01 * features).all()


def test_whole_steps_wait_as_they_are_and_beside_others() -> None:
    """What is stacked as whole steps is rounded, unless it is in them already; as other numbers they are the same."""
    steps = torch.arange(240).byte().reshape(1, 4, 12, 5).contiguous(memory_format=torch.channels_last)
    floats = (torch.arange(240) / 1.3).reshape(1, 4, 12, 5).contiguous(memory_format=torch.channels_last)
    for dtype in (torch.uint8, torch.float32, torch.bfloat16):
        part = Part({}, False, coarse=True)
        part.put_apart("skip", steps[:, :, :7])
        part.put_apart("skip", steps[:, :, 7:])
        assert all(piece.dtype == torch.uint8 for piece in part.kept["skip"])
        part.put("inner", floats)
        part.put("narrow", floats[..., :3])
        stacked = part.stack(("inner", "skip", "narrow"), LEAD, dtype=dtype).new
        assert stacked.dtype == dtype
        expected = floats.round() if dtype == torch.uint8 else floats
        assert torch.equal(stacked[:, :4], expected.to(dtype))
        assert torch.equal(stacked[:, 4:8], steps.to(dtype))
        assert torch.equal(stacked[:, 8:, :, :3], expected[..., :3].to(dtype))
        assert not stacked[:, 8:, :, 3:].any()


def test_memory_apart_serves_again() -> None:
    """A queue that never grows takes no more of it than waits at once, and one more."""
    part = Part({}, False)
    places = set()
    for i in range(6):
        part.put_apart("skip", frames(8 * i, 8, 0))
        places.add(part.kept["skip"][-1].data_ptr())
        if i:
            part.stack(("skip",), Lead(0, 0), 8)
    assert len(places) <= 3
    rooms = set(part.kept) - set(without_rooms(part.kept))
    assert [len(part.kept[name]) for name in rooms] == [len(places)]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_what_waits_is_joined_by_what_comes(steps: list[tuple[int, int]]) -> None:
    kept: dict[str, tuple[torch.Tensor, ...]] = {}
    n_put = n_taken = 0
    for n_new, n_wanted in steps:
        part = Part(kept, False)
        waiting = part.joined("waiting", frames(n_put, n_new, 1000))
        n_put += n_new
        assert torch.equal(waiting, frames(n_taken, n_put - n_taken, 1000))
        n_now = min(n_wanted, n_put - n_taken)
        part.keep("waiting", waiting[:, :, n_now:])
        waiting.zero_()  # what is kept is a copy
        n_taken += n_now


@given(st.lists(st.integers(0, 9), max_size=30))
def test_a_lead_is_what_came_before(lengths: list[int]) -> None:
    kept: dict[str, tuple[torch.Tensor, ...]] = {}
    n_heard = 0
    for n_new in lengths:
        led, n_before, new = Part(kept, False).led("led", frames(n_heard, n_new, 1000), LEAD)
        assert torch.equal(new, led[:, :, n_before:])
        expected = torch.arange(n_heard - n_before, n_heard + n_new)
        assert n_before == min(LEAD.later, n_heard + LEAD.at_first)
        assert torch.equal(led, torch.where(expected < 0, 0, expected + 1000)[:, None].expand(1, 3, -1, 4).float())
        n_heard += n_new


@pytest.mark.parametrize("tiles", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16])
def test_where_asked_there_is_a_border_of_zeros(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, tiles: bool
) -> None:
    """Which convolutions take for the padding: beside earlier frames, as beside new ones and narrower ones."""
    monkeypatch.setattr(bordered, "has_tiles", lambda: tiles)
    lead = LEAD._replace(has_border=True)
    torch.use_deterministic_algorithms(True)  # fills new memory with what is as wrong as can be
    try:
        kept: dict[str, tuple[torch.Tensor, ...]] = {}
        rng = torch.Generator().manual_seed(0)
        wide, narrow = (
            torch.randint(0, 250, (2, n_features, 20, n_bins), generator=rng).float()
            for n_features, n_bins in ((45, 6), (5, 4))
        )
        start = 0
        for n_new in (3, 0, 1, 7, 9):
            part, new = Part(kept, False), slice(start, start + n_new)
            part.put("wide", wide[:, :, new])
            part.put("narrow", in_whole_steps(narrow[:, :, new]).to(dtype))
            stacked = part.stack(("wide", "narrow"), lead, dtype=dtype)
            led = part.led("led", in_whole_steps(wide[:, :, new]).to(dtype), lead)
            for features, n_features in ((stacked.features, 50), (led.features, 45)):
                assert features.dtype == dtype
                assert features.shape[1] == (64 if tiles and n_features == 50 else n_features)
                assert not features[..., [0, -1]].any()
                assert dtype == torch.uint8 or not features[:, n_features:].any()
            expected = torch.cat((wide, F.pad(narrow, (0, 2))), 1)
            expected = F.pad(expected, (0, 0, LEAD.at_first, 0)).to(dtype)[:, :, : LEAD.at_first + start + n_new]
            n_heard = stacked.n_before + n_new
            assert torch.equal(inside(stacked.features, 50), expected[:, :, expected.shape[2] - n_heard :])
            assert torch.equal(inside(led.features, 45), expected[:, :45, expected.shape[2] - n_heard :])
            assert torch.equal(stacked.new, inside(stacked.features, 50)[:, :, stacked.n_before :])
            start += n_new
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_lead_is_rectified_as_it_is_copied() -> None:
    part = Part({}, False)
    assert torch.equal(
        part.led("led", frames(0, 4, -2), LEAD, rectify=True).features[0, 0, :, 0], torch.tensor([0.0, 0, 0, 0, 1])
    )
    assert torch.equal(
        part.led("led", frames(4, 1, -2), LEAD, rectify=True).features[0, 0, :, 0], torch.tensor([0.0, 1, 2])
    )
