"""Bottlenecks of the U-Net: local attention, and the biaxial LSTM that its authors tried before it."""

from __future__ import annotations

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
        batch, _, n_bins, n_frames = features.shape
        n_blocks = -(-n_frames // self.block)
        heads = self.project(features).reshape(batch, self.n_heads, 3 * self.head_width, n_bins, n_frames)
        heads = F.pad(heads, (0, n_blocks * self.block - n_frames))
        queries, keys, values = heads.split(self.head_width, 2)

        queries = self._places(queries.unfold(-1, self.block, self.block))
        keys, values = (
            self._places(F.pad(part, (self.reach, self.reach)).unfold(-1, self.block + 2 * self.reach, self.block))
            for part in (keys, values)
        )
        mask = self._inside(n_bins, n_frames, n_blocks, features.device) if self.mask_padding else None
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)

        attended = attended.unflatten(-2, (n_bins, self.block)).permute(0, 1, 5, 3, 2, 4)
        attended = attended.reshape(batch, -1, n_bins, n_blocks * self.block)[..., :n_frames]
        return self.output(attended)  # type: ignore[no-any-return]

    @staticmethod
    def _places(windows: Tensor) -> Tensor:
        """Axes batch, head, width, bin, block, frame -> batch, head, block, (bin frame), width."""
        return windows.permute(0, 1, 4, 3, 5, 2).flatten(3, 4)

    def _inside(self, n_bins: int, n_frames: int, n_blocks: int, device: torch.device) -> Bool[Tensor, "block 1 key"]:
        """Which keys of each block are frames of the input, not padding."""
        first = torch.arange(n_blocks, device=device)[:, None] * self.block - self.reach
        frame = first + torch.arange(self.block + 2 * self.reach, device=device)
        inside = (frame >= 0) & (frame < n_frames)
        return inside.repeat(1, n_bins)[:, None]


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
