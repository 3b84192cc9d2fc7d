"""X-UMX: four Open-Unmix networks that listen to each other.

Reference: Stöter, Uhlich, Liutkus, Mitsufuji, "Open-Unmix", JOSS 2019; Sawata, Uhlich, Takahashi, Mitsufuji,
"All for one and one for all", ICASSP 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from danna_sep.models.ranges import MOST, check_ranges
from danna_sep.shapes import Magnitude, Sequence, StemMagnitudes

ScaledEncoder: TypeAlias = tuple[Tensor, Tensor]
"""Weight and bias."""


@dataclass(frozen=True)
class XUMXConfig:
    """Size of an X-UMX; the defaults are the paper's (35.57 M parameters).

    Attributes:
        n_bins: Lowest bins heard.
        n_output_bins: Bins that the mask covers; all of the spectrum.
        hidden: Features per frame; the LSTM has half of it in each direction.
        n_lstm_layers: LSTM layers per source.
        dropout: Between LSTM layers, in training.
        n_sources: Networks bridged.
        n_channels: Channels heard and masked.
    """

    n_bins: int = 1487
    n_output_bins: int = 2049
    hidden: int = 512
    n_lstm_layers: int = 3
    dropout: float = 0.4
    n_sources: int = 4
    n_channels: int = 2

    def __post_init__(self) -> None:
        counts = ("n_lstm_layers", "n_sources", "n_channels")
        check_ranges(
            self, **dict.fromkeys(counts, (1, MOST)), hidden=(2, MOST), dropout=(0, 1), n_output_bins=(3, MOST)
        )
        check_ranges(self, n_bins=(1, self.n_output_bins))
        if self.hidden % 2:
            raise ValueError(f"hidden must be even, not {self.hidden}")

    @property
    def n_fft(self) -> int:
        """Window of the spectrum masked, samples."""
        return 2 * (self.n_output_bins - 1)

    @property
    def hop_length(self) -> int:
        """From frame to frame, samples: a quarter of the window, as in the paper."""
        return self.n_fft // 4


class XUMX(nn.Module):
    """Masks from magnitudes.

    All four sources' linear layers stand in one grouped convolution of kernel 1; a group is a source.
    """

    def __init__(self, config: XUMXConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or XUMXConfig()
        n, channels, hidden = config.n_sources, config.n_channels, config.hidden
        self.input_mean = nn.Parameter(torch.zeros(n, config.n_bins))
        self.input_scale = nn.Parameter(torch.ones(n, config.n_bins))
        self.encoder = nn.Conv1d(n * channels * config.n_bins, n * hidden, 1, groups=n, bias=False)
        self.encoder_norm = nn.BatchNorm1d(n * hidden)
        self.lstms = nn.ModuleList(
            nn.LSTM(
                hidden,
                hidden // 2,
                config.n_lstm_layers,
                batch_first=True,
                bidirectional=True,
                dropout=config.dropout if config.n_lstm_layers > 1 else 0.0,
            )
            for _ in range(n)
        )
        self.decoder = nn.Conv1d(2 * hidden * n, n * hidden, 1, groups=n, bias=False)
        self.decoder_norm = nn.BatchNorm1d(n * hidden)
        self.output = nn.Conv1d(n * hidden, n * channels * config.n_output_bins, 1, groups=n, bias=False)
        self.output_norm = nn.BatchNorm1d(n * channels * config.n_output_bins)
        self.output_scale = nn.Parameter(torch.ones(n, config.n_output_bins))
        self.output_mean = nn.Parameter(torch.ones(n, config.n_output_bins))

    def forward(self, magnitude: Magnitude) -> StemMagnitudes:
        """Mask of each source, >= 0 and possibly above 1, for all bins of `magnitude`.

        Args:
            magnitude: Axes batch, channel, bin, frame; linear, not dB.
        """
        return self.decode(self.remember(self.encode(magnitude)), magnitude.dtype)

    def encode(self, magnitude: Magnitude, scaled: ScaledEncoder | None = None) -> Sequence:
        """What is heard of each frame.

        Args:
            magnitude: See `forward`.
            scaled: `scaled_encoder()`, from where it is kept.
        """
        weight, shift = scaled or self.scaled_encoder()
        heard = magnitude[:, :, : self.config.n_bins].flatten(1, 2).to(weight.dtype)
        return self._mean_of_sources(torch.tanh(self.encoder_norm(F.conv1d(heard, weight, shift))))

    def scaled_encoder(self) -> ScaledEncoder:
        """Weight and bias of what hears x, with (x + mean) * scale in them: one input then serves all sources."""
        config, dtype = self.config, self.encoder.weight.dtype
        shape = (config.n_sources, -1, config.n_channels, config.n_bins)
        weight = self.encoder.weight.view(shape) * self.input_scale[:, None, None]
        shift = (weight * self.input_mean[:, None, None]).sum((2, 3)).flatten()
        return weight.flatten(2).flatten(0, 1)[..., None].to(dtype), shift.to(dtype)

    def remember(self, shared: Sequence) -> Sequence:
        """That, and what the LSTMs make of it and of all other frames."""
        frames = shared.transpose(1, 2)
        return self.join(shared, [lstm(frames)[0] for lstm in self.lstms])

    def join(self, shared: Sequence, recurrent: list[Tensor]) -> Sequence:
        """What `encode` gives, and the mean of what each LSTM makes of it, for as many frames as the latter has.

        Args:
            shared: From `encode`.
            recurrent: From each LSTM, of all frames or the first ones; axes batch, frame, feature.
        """
        mean = sum(recurrent[1:], start=recurrent[0]) / self.config.n_sources
        return torch.cat((shared[..., : mean.shape[1]], mean.transpose(1, 2)), 1)

    def decode(self, hidden: Sequence, dtype: torch.dtype) -> StemMagnitudes:
        """Masks of each frame, of a type, from what `remember` gives."""
        config, norm = self.config, self.output_norm
        decoded = torch.relu(self.decoder_norm(self.decoder(hidden.repeat(1, config.n_sources, 1))))
        # The mask's scale and mean in the norm's, over (source, channel, bin).
        shape = (config.n_sources, config.n_channels, config.n_output_bins)
        scale, mean = self.output_scale[:, None], self.output_mean[:, None]
        weight, bias = norm.weight.view(shape) * scale, norm.bias.view(shape) * scale + mean
        affine = {"weight": weight.flatten(), "bias": bias.flatten()}
        mask = cast("Tensor", functional_call(norm, affine, (self.output(decoded).to(norm.weight.dtype),)))
        return torch.relu_(mask).to(dtype).reshape(len(hidden), *shape, -1)

    def _mean_of_sources(self, features: Sequence) -> Sequence:
        n_sources = self.config.n_sources
        return features.reshape(len(features), n_sources, -1, features.shape[-1]).mean(1)
