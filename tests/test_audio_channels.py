"""Channel plans: what is heard, and what is given back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from danna_sep.audio import CHANNEL_POLICIES, channel_plan
from danna_sep.errors import ConfigError, UnsupportedChannels


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@given(
    n_channels=st.integers(1, 12), policy=st.sampled_from(["pairs", "front", "downmix"]), n_frames=st.integers(0, 50)
)
def test_shapes_are_what_the_plan_says_and_inputs_stay_untouched(n_channels: int, policy: str, n_frames: int) -> None:
    block = noise(n_channels, n_frames)
    before = block.copy()
    plan = channel_plan(n_channels, policy, "song.wav")
    groups = plan.split(block)
    groups_before = groups.copy()
    out = plan.join(groups)
    assert groups.shape == (plan.n_groups, 2, n_frames)
    assert out.shape == (plan.n_out, n_frames)
    assert groups.dtype == out.dtype == np.float32
    np.testing.assert_array_equal(block, before)
    np.testing.assert_array_equal(groups, groups_before)
    groups[...] = 7  # must not reach back into the input
    np.testing.assert_array_equal(block, before)


@given(n_channels=st.integers(1, 12))
def test_pairs_give_back_every_channel_in_its_place(n_channels: int) -> None:
    """If it failed, a surround channel would be dropped or swapped."""
    block = noise(n_channels, 20)
    plan = channel_plan(n_channels, "pairs", "song.wav")
    assert plan.n_out == n_channels
    assert plan.n_groups == (n_channels + 1) // 2
    np.testing.assert_array_equal(plan.join(plan.split(block)), block)


@pytest.mark.parametrize("policy", CHANNEL_POLICIES)
def test_mono_is_heard_on_both_sides_and_given_back_as_mono(policy: str) -> None:
    plan = channel_plan(1, policy, "song.wav")
    block = noise(1, 20)
    groups = plan.split(block)
    np.testing.assert_array_equal(groups, [[block[0], block[0]]])
    groups[0, 1] += 2
    np.testing.assert_allclose(plan.join(groups), block + 1, rtol=1e-6)
    assert plan.n_out == 1


@pytest.mark.parametrize("policy", CHANNEL_POLICIES)
def test_stereo_passes_as_it_is(policy: str) -> None:
    plan = channel_plan(2, policy, "song.wav")
    block = noise(2, 20)
    np.testing.assert_array_equal(plan.split(block), block[None])
    np.testing.assert_array_equal(plan.join(plan.split(block)), block)


def test_more_than_two_channels_need_a_choice() -> None:
    """If it failed, 5.1 would lose channels without a word."""
    with pytest.raises(UnsupportedChannels, match=r"^film\.wav: has 6 channels; .*--channels pairs\|front\|downmix$"):
        channel_plan(6, "error", "film.wav")


def test_front_takes_the_first_two() -> None:
    block = noise(6, 20)
    plan = channel_plan(6, "front", "song.wav")
    np.testing.assert_array_equal(plan.join(plan.split(block)), block[:2])


@pytest.mark.parametrize("n_channels", [3, 5, 6, 8])
def test_the_centre_goes_to_both_sides_at_half_the_power(n_channels: int) -> None:
    block = np.zeros((n_channels, 1), np.float32)
    block[2] = 1
    plan = channel_plan(n_channels, "downmix", "song.wav")
    np.testing.assert_allclose(plan.split(block)[0, :, 0], [0.5**0.5] * 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("n_channels", "left", "right"),
    [
        (4, [1, 0, 0.7071, 0], [0, 1, 0, 0.7071]),
        (6, [1, 0, 0.7071, 0, 0.7071, 0], [0, 1, 0.7071, 0, 0, 0.7071]),
        (8, [1, 0, 0.7071, 0, 0.7071, 0, 0.7071, 0], [0, 1, 0.7071, 0, 0, 0.7071, 0, 0.7071]),
        (7, [0.25, 0, 0.25, 0, 0.25, 0, 0.25], [0, 1 / 3, 0, 1 / 3, 0, 1 / 3, 0]),
    ],
)
def test_downmix_weights(n_channels: int, left: list[float], right: list[float]) -> None:
    """If it failed, a surround file would come out with a wrong balance, or with LFE rumble."""
    plan = channel_plan(n_channels, "downmix", "song.wav")
    groups = plan.split(np.eye(n_channels, dtype=np.float32))
    np.testing.assert_allclose(groups[0], [left, right], atol=1e-4)


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose one of error, pairs, front, downmix"):
        channel_plan(2, "all", "song.wav")
    with pytest.raises(UnsupportedChannels, match="no channels"):
        channel_plan(0, "pairs", "song.wav")
    plan = channel_plan(2, "error", "song.wav")
    with pytest.raises(ValueError, match="expected"):
        plan.split(noise(3, 5))
    with pytest.raises(ValueError, match="expected"):
        plan.join(noise(2, 2, 5))
