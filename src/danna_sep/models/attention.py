"""Bottlenecks of the U-Net: local attention, and the biaxial LSTM that its authors tried before it."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor, nn

from danna_sep.shapes import Features


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
        self.n_heads, self.head_width = n_heads, head_width
        self.block, self.reach = block, reach
        self.mask_padding = mask_padding
        width = n_heads * head_width
        self.project = nn.Conv2d(n_inputs, 3 * width, 3, padding=1)
        self.output = nn.Conv2d(width, n_outputs, 3, padding=1, bias=False)

    def forward(self, features: Features) -> Features:
        """Features of the same bins and frames, n_outputs wide."""
        n_frames = features.shape[-1]
        behind = -n_frames % self.block + self.reach
        projected = F.pad(self.project(features), (self.reach, behind))
        inside = torch.ones(n_frames, dtype=torch.bool, device=features.device)
        attended = self.attend(projected, F.pad(inside, (self.reach, behind)))
        return self.output(attended[..., :n_frames])  # type: ignore[no-any-return]

    def attend(self, projected: Features, inside: Bool[Tensor, " frame"]) -> Features:
        """What whole blocks of frames find, n_heads * head_width wide.

        Args:
            projected: Queries, keys and values of blocks that follow one another and of `reach` frames on either side.
            inside: Which of the frames are the input's, and not padding.
        """
        batch, _, n_bins, n_frames = projected.shape
        within = self.block + 2 * self.reach
        heads = projected.reshape(batch, self.n_heads, 3 * self.head_width, n_bins, n_frames)
        queries, keys, values = heads.split(self.head_width, 2)
        own = queries[..., self.reach : n_frames - self.reach].unfold(-1, self.block, self.block)
        queries, keys, values = map(self._places, (own, *(x.unfold(-1, within, self.block) for x in (keys, values))))
        mask = inside.unfold(0, within, self.block).repeat(1, n_bins)[:, None] if self.mask_padding else None
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        attended = attended.unflatten(-2, (n_bins, self.block)).permute(0, 1, 5, 3, 2, 4)
        return cast("Tensor", attended.reshape(batch, -1, n_bins, n_frames - 2 * self.reach))

    @staticmethod
    def _places(windows: Tensor) -> Tensor:
        """Axes batch, head, width, bin, block, frame -> batch, head, block, (bin frame), width."""
        return windows.permute(0, 1, 4, 3, 5, 2).flatten(3, 4)


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
