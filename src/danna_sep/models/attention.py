"""Bottlenecks of the U-Net: local attention, and the biaxial LSTM that its authors tried before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor, nn

from danna_sep.shapes import Features


@dataclass(frozen=True)
class BlockAttention:
    """What places find among those near them; no parameters.

    Attributes:
        n_heads: Attention heads.
        head_width: Channels of a head's queries, keys and values.
        block: Frames that attend to the same frames.
        reach: Frames on either side of a block that it attends to.
        mask_padding: Whether frames that are padding are left out.
    """

    n_heads: int
    head_width: int
    block: int
    reach: int
    mask_padding: bool

    @property
    def width(self) -> int:
        """Channels of the result."""
        return self.n_heads * self.head_width

    def __call__(self, projected: Features, inside: Bool[Tensor, " frame"]) -> Features:
        """What whole blocks of frames find, `width` channels.

        Args:
            projected: Queries, keys and values of blocks that follow one another and of `reach` frames on either side.
            inside: Which of the frames are the input's, and not padding.
        """
        batch, _, n_bins, n_frames = projected.shape
        within = self.block + 2 * self.reach
        heads = projected.reshape(batch, self.n_heads, 3 * self.head_width, n_bins, n_frames)
        queries, keys, values = heads.split(self.head_width, 2)
        own = queries[..., self.reach : n_frames - self.reach].unfold(-1, self.block, self.block)
        queries, keys, values = map(_places, (own, *(x.unfold(-1, within, self.block) for x in (keys, values))))
        mask = inside.unfold(0, within, self.block).repeat(1, n_bins)[:, None] if self.mask_padding else None
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        attended = attended.unflatten(-2, (n_bins, self.block)).permute(0, 1, 5, 3, 2, 4)
        return cast("Tensor", attended.reshape(batch, -1, n_bins, n_frames - 2 * self.reach))


def _places(windows: Tensor) -> Tensor:
    """Axes batch, head, width, bin, block, frame -> batch, head, block, (bin frame), width."""
    return windows.permute(0, 1, 4, 3, 5, 2).flatten(3, 4)


class LocalAttention(nn.Module):
    """Self-attention over all bins and the neighbouring frames.

    Frames are cut into blocks; every bin and frame of a block attends to all bins of the block and of a few
    frames on either side.

    Reference: after Wu, Chen, Su, "Multi-instrument automatic music transcription with self-attention-based
    instance segmentation", TASLP 28, 2020.

    Quirk: with `mask_padding` off, the zeros beyond the first and last frame are attended to like
    any other place. The original added -1e-9 instead of -1e9 to them, and its weights expect that.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        n_heads: int = 8,
        head_width: int = 16,
        block: int = 2,
        reach: int = 3,
        mask_padding: bool = True,
    ) -> None:
        super().__init__()
        self.attend = BlockAttention(n_heads, head_width, block, reach, mask_padding)
        self.project = nn.Conv2d(n_inputs, 3 * self.attend.width, 3, padding=1)
        self.output = nn.Conv2d(self.attend.width, n_outputs, 3, padding=1, bias=False)

    def forward(self, features: Features) -> Features:
        """Features of the same bins and frames, n_outputs wide."""
        n_frames, reach = features.shape[-1], self.attend.reach
        behind = -n_frames % self.attend.block + reach
        projected = F.pad(self.project(features), (reach, behind))
        inside = torch.ones(n_frames, dtype=torch.bool, device=features.device)
        attended = self.attend(projected, F.pad(inside, (reach, behind)))
        return self.output(attended[..., :n_frames])  # type: ignore[no-any-return]


class BiaxialLSTM(nn.Module):
    """Two bidirectional LSTMs side by side, one along time in every bin, one along frequency in every frame."""

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        if n_outputs % 4:
            raise ValueError("n_outputs must be a multiple of 4: two axes, two directions")
        self.along_time = nn.LSTM(n_inputs, n_outputs // 4, batch_first=True, bidirectional=True)
        self.along_frequency = nn.LSTM(n_inputs, n_outputs // 4, batch_first=True, bidirectional=True)

    def forward(self, features: Features) -> Features:
        """Features of the same bins and frames, n_outputs wide: time's half, then frequency's."""
        batch, _, n_bins, n_frames = features.shape
        in_bins = features.permute(0, 2, 3, 1).flatten(0, 1)
        in_frames = features.permute(0, 3, 2, 1).flatten(0, 1)
        time = self.along_time(in_bins)[0].unflatten(0, (batch, n_bins)).permute(0, 3, 1, 2)
        frequency = self.along_frequency(in_frames)[0].unflatten(0, (batch, n_frames)).permute(0, 3, 2, 1)
        return torch.cat((time, frequency), 1)
