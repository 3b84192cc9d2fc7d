"""From any number of channels to the stereo groups that are separated, and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

import numpy as np

from danna_sep.audio.info import Block
from danna_sep.errors import ConfigError, UnsupportedChannels

ChannelPolicy: TypeAlias = Literal["error", "pairs", "front", "downmix"]
CHANNEL_POLICIES: Final[tuple[str, ...]] = get_args(ChannelPolicy)

_HALF_POWER: Final = 0.5**0.5  # -3 dB

# Weights of the channels in the left and in the right output, in the order of channels in WAV files:
# FL FR FC LFE BL BR SL SR. LFE is left out: it repeats, at +10 dB, what small speakers cannot play.
_L, _R, _C, _NONE = (1.0, 0.0), (0.0, 1.0), (_HALF_POWER, _HALF_POWER), (0.0, 0.0)
_SL, _SR = (_HALF_POWER, 0.0), (0.0, _HALF_POWER)
_LAYOUTS: Final[dict[int, tuple[tuple[float, float], ...]]] = {
    3: (_L, _R, _C),
    4: (_L, _R, _SL, _SR),
    5: (_L, _R, _C, _SL, _SR),
    6: (_L, _R, _C, _NONE, _SL, _SR),
    8: (_L, _R, _C, _NONE, _SL, _SR, _SL, _SR),
}


@dataclass(frozen=True)
class ChannelPlan:
    """How a file's channels become stereo groups, and how separated groups become the output's channels.

    Attributes:
        n_in: Channels of the input.
        n_out: Channels of every output file.
        groups: For each group, the two rows of `downmix` or, without it, the two input channels it hears. A group
            that names one channel twice is mono: its output is the mean of the two.
        downmix: Weights (row, channel) for a mix that comes before grouping, or None.
    """

    n_in: int
    n_out: int
    groups: tuple[tuple[int, int], ...]
    downmix: tuple[tuple[float, ...], ...] | None = None

    @property
    def n_groups(self) -> int:
        """Stereo signals to separate."""
        return len(self.groups)

    def split(self, block: Block) -> Block:
        """Make the stereo groups.

        Args:
            block: Samples (channel, time) with the input's channels.

        Returns:
            Samples (group, 2, time), not sharing memory with `block`.
        """
        if block.ndim != 2 or block.shape[0] != self.n_in:
            raise ValueError(f"expected ({self.n_in} channels, time), got {block.shape}")
        rows = block if self.downmix is None else np.asarray(self.downmix, dtype=np.float32) @ block
        groups: Block = rows[np.asarray(self.groups)]
        return groups

    def join(self, groups: Block) -> Block:
        """Undo `split` after each group has been processed.

        Args:
            groups: Samples (group, 2, time).

        Returns:
            Samples (channel, time) with the output's channels.
        """
        if groups.ndim != 3 or groups.shape[:2] != (self.n_groups, 2):
            raise ValueError(f"expected ({self.n_groups} groups, 2, time), got {groups.shape}")
        rows: list[Block] = []
        for (left, right), pair in zip(self.groups, groups, strict=True):
            rows.extend([pair.mean(axis=0)] if left == right else [pair[0], pair[1]])
        return np.stack(rows)


def channel_plan(n_channels: int, policy: str, path: Path | str) -> ChannelPlan:
    """Decide what becomes of a file's channels.

    One channel is heard as stereo and given back as one; two are taken as they are. For more, the policy decides:
    "pairs" separates channels 1+2, 3+4, ... each as stereo, an odd last one as mono, and gives all back; "front"
    keeps the first two only; "downmix" makes stereo of all (ITU-R BS.775: centre and surrounds at -3 dB, no LFE, for
    3, 4, 5, 6 and 8 channels in WAV order; otherwise the means of the odd and of the even channels).

    Args:
        n_channels: Channels of the input.
        policy: "error", "pairs", "front" or "downmix".
        path: The file, for messages.

    Raises:
        UnsupportedChannels: More than two channels under "error", or none.
        ConfigError: Unknown policy.
    """
    if policy not in CHANNEL_POLICIES:
        raise ConfigError(f"--channels {policy}: choose one of {', '.join(CHANNEL_POLICIES)}")
    if n_channels < 1:
        raise UnsupportedChannels(f"{path}: has no channels")
    if n_channels == 1:
        return ChannelPlan(1, 1, ((0, 0),))
    if n_channels == 2 or policy == "front":
        return ChannelPlan(n_channels, 2, ((0, 1),))
    if policy == "pairs":
        last = n_channels - 1
        groups = tuple((first, min(first + 1, last)) for first in range(0, n_channels, 2))
        return ChannelPlan(n_channels, n_channels, groups)
    if policy == "downmix":
        return ChannelPlan(n_channels, 2, ((0, 1),), _downmix(n_channels))
    raise UnsupportedChannels(
        f"{path}: has {n_channels} channels; choose what to do with them: --channels pairs|front|downmix"
    )


def _downmix(n_channels: int) -> tuple[tuple[float, ...], ...]:
    layout = _LAYOUTS.get(n_channels)
    if layout is not None:
        return tuple(zip(*layout, strict=True))
    n_left, n_right = (n_channels + 1) // 2, n_channels // 2
    return (
        tuple(0.0 if channel % 2 else 1 / n_left for channel in range(n_channels)),
        tuple(1 / n_right if channel % 2 else 0.0 for channel in range(n_channels)),
    )
