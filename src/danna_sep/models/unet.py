"""U-Net of D3 blocks with a local-attention bottleneck.

Reference: Yu, Cheuk, "Danna-Sep", arXiv 2112.03752; the U-Net of Hennequin et al., "Spleeter", JOSS 2020, with
each convolution replaced by a D3 block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from danna_sep.models.attention import BiaxialLSTM, LocalAttention
from danna_sep.models.d3 import D3Block
from danna_sep.models.dilated import dilated
from danna_sep.models.ranges import MOST, check_ranges
from danna_sep.models.widen import widen_and_norm
from danna_sep.shapes import Features, Magnitude, StemMagnitudes

_NARROW = 8
"""Growth up to which calls take longer than the products in them."""
_WINDOW = 4096
"""Magnitudes are heard as a window of so many samples has them, whatever theirs."""
UNSEEN_MASK = 0.25
"""Mask of bins and frames that the network's output does not reach: an equal share for each of four sources."""


@dataclass(frozen=True)
class UNetConfig:
    """Size of a U-Net; the defaults are the paper's (15.68 M parameters).

    Attributes:
        n_fft: Window of the spectrum heard, samples; even. A longer one with as much longer hops is as if the track
            were faster and higher.
        hop_length: From frame to frame, samples. A network hears a segmented track as one if its hop divides 6144.
        n_bins: Lowest bins heard.
        n_edge_bins: Of the highest of them so many lend the mean of their masks to the bins above; with none, the
            paper's, these are shared out equally.
        growth: Channels of a D2 layer's output.
        input_power: Exponent on the magnitudes heard; 1 is the paper's, less evens out loud and faint.
        n_layers: D2 layers in each stage, from the spectrum inwards; as many stages.
        bottleneck: "attention" or "biaxial" (LSTMs along time and along frequency).
        bottleneck_width: Channels that it adds to the encoder's output.
        n_heads: Attention heads.
        head_width: Channels of a head's queries, keys and values.
        mask_padding: Keep attention away from padding; the original's weights need False.
        dropout: Of whole channels in the first three decoder stages, in training.
        n_sources: Sources masked.
        n_channels: Channels heard and masked.
    """

    n_fft: int = 4096
    hop_length: int = 1024
    n_bins: int = 1487
    n_edge_bins: int = 0
    input_power: float = 1.0
    growth: int = 12
    n_layers: tuple[int, ...] = (5, 4, 3, 2, 2, 2)
    bottleneck: str = "attention"
    bottleneck_width: int = 256
    n_heads: int = 8
    head_width: int = 16
    mask_padding: bool = True
    dropout: float = 0.4
    n_sources: int = 4
    n_channels: int = 2

    @property
    def is_wide(self) -> bool:
        """Whether it is products that take the time: what spares some by further calls then pays."""
        return self.growth > _NARROW

    def __post_init__(self) -> None:
        if self.bottleneck not in ("attention", "biaxial"):
            raise ValueError(f"bottleneck must be 'attention' or 'biaxial', not {self.bottleneck!r}")
        counts = ("n_layers", "growth", "bottleneck_width", "n_heads", "head_width", "n_sources", "n_channels")
        check_ranges(self, **dict.fromkeys(counts, (1, MOST)), input_power=(0.01, 10), dropout=(0, 1))
        if not self.n_layers:
            raise ValueError("n_layers must name at least one stage")
        if self.n_fft < 2 or self.n_fft % 2 or not 1 <= self.hop_length <= self.n_fft // 2:
            raise ValueError(f"no spectrum has windows of {self.n_fft} samples, {self.hop_length} apart")
        if min(self.n_bins, self.n_fft // 2 + 1) < 2 ** len(self.n_layers):
            raise ValueError(f"{len(self.n_layers)} stages need more bins than there are")
        if not 0 <= self.n_edge_bins <= self.n_bins // 2:
            raise ValueError(f"n_edge_bins must be from 0 to half of n_bins, {self.n_bins}, not {self.n_edge_bins}")


class UNet(nn.Module):
    """Masks from magnitudes.

    Attributes:
        waits_coarsely: Whether a stream keeps in eight bits what waits in it; see `UNetStream`.
        magnitude_step: What magnitudes to their power are counted in; see `count_in_steps`.
    """

    def __init__(self, config: UNetConfig | None = None) -> None:
        super().__init__()
        self.waits_coarsely = False
        self.magnitude_step = 1.0
        self.config = config = config or UNetConfig()
        self.encoder = nn.ModuleList()
        widths: list[int] = []
        width = config.n_channels
        for n_layers in config.n_layers:
            block = D3Block(width, config.growth, n_layers)
            self.encoder.append(block)
            width = block.n_outputs
            widths.append(width)

        self.bottleneck = nn.Sequential(
            *self._bottleneck_layer(width), *self._bottleneck_layer(config.bottleneck_width)
        )
        width += config.bottleneck_width
        self.decoder = nn.ModuleList()
        for depth, (skip, n_layers) in enumerate(zip(widths[-2::-1], config.n_layers[-2::-1], strict=True)):
            stage = UpStage(width, skip, config.growth, n_layers, config.dropout if depth < 3 else 0.0)
            self.decoder.append(stage)
            width = 2 * skip
        self.widen = nn.ConvTranspose2d(width, widths[0], 5, stride=2, padding=2, bias=False)
        self.widen_norm = nn.BatchNorm2d(widths[0])
        self.output = nn.Conv2d(widths[0], config.n_sources * config.n_channels, 3, padding=2, dilation=2)

    def _bottleneck_layer(self, n_inputs: int) -> list[nn.Module]:
        config = self.config
        if config.bottleneck == "biaxial":
            return [BiaxialLSTM(n_inputs, config.bottleneck_width)]
        attention = LocalAttention(
            n_inputs,
            config.bottleneck_width,
            config.n_heads,
            config.head_width,
            mask_padding=config.mask_padding,
        )
        return [attention, nn.BatchNorm2d(config.bottleneck_width), nn.ReLU(inplace=True)]

    def forward(self, magnitude: Magnitude) -> StemMagnitudes:
        """Mask of each source, 0 to 1, for all bins of `magnitude`.

        Args:
            magnitude: Axes batch, channel, bin, frame; linear, not dB. Fewer frames than one step
                of the innermost stage are made up with zeros inside.
        """
        config = self.config
        batch, _, n_bins, n_frames = magnitude.shape
        features = F.pad(magnitude, (0, max(0, 2 ** len(config.n_layers) - n_frames)))
        # All of it in autocast's type from the start: concatenations take the wider one of what they join.
        device, dtype = features.device.type, self.output.weight.dtype
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else dtype
        features = heard(features, config, dtype, self.magnitude_step)
        skips: list[Tensor] = []
        for block in self.encoder:
            features = F.avg_pool2d(block(features), 2)
            skips.append(features)
        features = channels_last(torch.cat((features, self.bottleneck(features)), 1))
        skips.pop()
        for stage in self.decoder:
            features = stage(features, skips.pop())
        features = torch.relu_(widen_and_norm(self.widen, self.widen_norm, features))
        masks = torch.sigmoid(dilated(self.output, features)[..., :n_frames].to(magnitude.dtype))

        masks = F.pad(masks, (0, n_frames - masks.shape[-1]), value=UNSEEN_MASK)
        above = mask_above(masks, config).expand(-1, -1, n_bins - masks.shape[-2], -1)
        masks = torch.cat((masks, above), -2)
        return masks.reshape(batch, config.n_sources, config.n_channels, n_bins, n_frames)


def heard(magnitude: Magnitude, config: UNetConfig, dtype: torch.dtype, step: float = 1.0) -> Features:
    """What the first layer hears of magnitudes, counted in steps."""
    features = magnitude[:, :, : config.n_bins]
    if config.n_fft != _WINDOW:
        features = features * (_WINDOW / config.n_fft)
    if config.input_power != 1:
        features = features.pow(config.input_power)
    if step != 1:
        features = features / step
    return channels_last(features.to(dtype))


def mask_above(masks: Float[Tensor, "batch mask bin frame"], config: UNetConfig) -> Float[Tensor, "batch mask 1 frame"]:
    """Mask of all bins above those of the network's output, from its masks."""
    if not config.n_edge_bins:
        return masks.new_full((*masks.shape[:2], 1, masks.shape[3]), UNSEEN_MASK)
    return masks[:, :, -config.n_edge_bins :].mean(2, keepdim=True)


def channels_last(features: Features) -> Features:
    """The same in the layout that convolutions keep, and that spares them copies to and from their own.

    Not where gradients will be computed on a CPU: oneDNN computes those of weights faster in the other layout (AVX2, a
    U-Net of growth 16), and in bfloat16 those of dilated convolutions in this one write where they must not (seen with
    PyTorch 2.13.0: gradients that are not finite, or a crash).
    """
    if torch.is_grad_enabled() and features.device.type == "cpu":
        return features.contiguous()
    return features.contiguous(memory_format=torch.channels_last)


class UpStage(nn.Module):
    """D3 block, twice the bins and frames, and the encoder's output of that size beside it."""

    def __init__(self, n_inputs: int, n_skip: int, growth: int, n_layers: int, dropout: float) -> None:
        super().__init__()
        self.block = D3Block(n_inputs, growth, n_layers)
        self.widen = nn.ConvTranspose2d(self.block.n_outputs, n_skip, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(n_skip)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, features: Features, skip: Features) -> Features:
        """Features of as many bins and frames as the skip, and the skip beside them."""
        widened = self.dropout(torch.relu_(widen_and_norm(self.widen, self.norm, self.block(features))))
        missing = (0, skip.shape[-1] - widened.shape[-1], 0, skip.shape[-2] - widened.shape[-2])
        return torch.cat((F.pad(widened, missing), skip), 1)
