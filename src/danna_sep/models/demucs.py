"""Demucs, the waveform U-Net, with one decoder for all sources or one for each.

Reference: Défossez, Usunier, Bottou, Bach, "Music source separation in the waveform domain", arXiv 1911.13254;
Yu, Cheuk, "Danna-Sep", arXiv 2112.03752, for the four decoders.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from danna_sep.models.ranges import MOST, check_ranges
from danna_sep.shapes import Mixture, Sequence, Stems
from danna_sep.signal.resample import resample


@dataclass(frozen=True)
class DemucsConfig:
    """Size of a Demucs; the defaults are the paper's four decoders (191.93 M parameters).

    Attributes:
        width: Channels of the first encoder layer; each deeper one has twice as many.
        separate_decoders: One decoder a source; else one for all, as published (with width 64).
        n_layers: Encoder layers, and as many decoder layers.
        kernel: Of the strided convolutions, samples.
        stride: Likewise.
        n_lstm_layers: Bidirectional LSTM layers in the middle.
        init_scale: Target standard deviation of convolution weights at initialisation.
        n_sources: Sources separated.
        n_channels: Channels heard and given.
    """

    width: int = 48
    separate_decoders: bool = True
    n_layers: int = 6
    kernel: int = 8
    stride: int = 4
    n_lstm_layers: int = 2
    init_scale: float = 0.1
    n_sources: int = 4
    n_channels: int = 2

    def __post_init__(self) -> None:
        counts = ("width", "n_layers", "stride", "n_lstm_layers", "n_sources", "n_channels")
        check_ranges(self, **dict.fromkeys(counts, (1, MOST)), init_scale=(1e-6, 1e6))
        check_ranges(self, kernel=(self.stride, MOST))


class Demucs(nn.Module):
    """Stems from a waveform."""

    def __init__(self, config: DemucsConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DemucsConfig()
        widths = [config.width * 2**i for i in range(config.n_layers)]
        n_decoders = config.n_sources if config.separate_decoders else 1
        self.encoder = nn.ModuleList(
            _EncoderLayer(n_inputs, width, config)
            for n_inputs, width in zip([config.n_channels, *widths], widths, strict=False)
        )
        deepest = widths[-1]
        self.lstm = nn.LSTM(deepest, deepest, config.n_lstm_layers, batch_first=True, bidirectional=True)
        self.project = nn.Linear(2 * deepest, 2 * deepest if n_decoders > 1 else deepest)
        layer = _SourceDecoderLayer if n_decoders > 1 else _DecoderLayer
        n_outputs = [*[2 * w if n_decoders > 1 else w for w in widths], config.n_sources * config.n_channels]
        n_outputs = [n_outputs[-1], *n_outputs[:-2]]
        self.decoder = nn.ModuleList(
            layer(width, n_out, config, last=depth == 0)
            for depth, (width, n_out) in reversed(list(enumerate(zip(widths, n_outputs, strict=True))))
        )
        _rescale(self.modules(), config.init_scale)

    def forward(self, mixture: Mixture) -> Stems:
        """Stems of any mixture of at least one sample, of its length.

        Args:
            mixture: Axes batch, channel, time.
        """
        n_samples = mixture.shape[-1]
        n_heard, n_given = valid_lengths(self.config, n_samples)
        before = (n_heard - n_given) // 2
        standard, mean, deviation = standardised(mixture)
        stems = self._network(F.pad(standard, (before, n_heard - before - n_samples)))
        return torch.addcmul(mean[:, None], stems[..., :n_samples], deviation[:, None])

    def unpadded(self, mixture: Mixture) -> Float[Tensor, "batch source channel _time"]:
        """As `forward`, without padding to a length that the strides divide.

        Samples at the end that no whole stride covers are missing from the result, and the middle
        does not hear them.
        """
        standard, mean, deviation = standardised(mixture)
        return self._network(standard) * deviation[:, None] + mean[:, None]

    def _network(self, standard: Mixture) -> Float[Tensor, "batch source channel _time"]:
        skips = self._encode(standard)
        remembered = self.lstm(skips[-1].transpose(1, 2))[0]
        return self._decode(remembered, skips, standard)

    def _encode(self, standard: Mixture) -> list[Sequence]:
        """What each layer of the encoder gives."""
        features = resample(standard, 1, 2).to(self.project.weight.dtype)
        skips: list[Tensor] = []
        for encoder_layer in self.encoder:
            features = encoder_layer(features)
            skips.append(features)
        return skips

    def _decode(
        self, remembered: Tensor, skips: list[Sequence], standard: Mixture
    ) -> Float[Tensor, "batch source channel _time"]:
        n_samples = standard.shape[-1]
        features = self.project(remembered).transpose(1, 2)
        for decoder_layer in self.decoder:
            features = decoder_layer(features, skips.pop())
        # Source by source: this is where the network holds most.
        by_source = features.unflatten(1, (self.config.n_sources, self.config.n_channels)).unbind(1)
        return torch.stack([resample(source.to(standard.dtype), 2, 1)[..., :n_samples] for source in by_source], 1)


_TILE = 2**14
"""Steps that an outer layer computes at once, where no gradients are wanted: all would be most of what is held."""


class _EncoderLayer(nn.Module):
    def __init__(self, n_inputs: int, width: int, config: DemucsConfig) -> None:
        super().__init__()
        self.narrow = nn.Conv1d(n_inputs, width, config.kernel, config.stride)
        self.gate = nn.Conv1d(width, 2 * width, 1)

    def forward(self, features: Sequence) -> Sequence:
        (kernel,), (stride,) = self.narrow.kernel_size, self.narrow.stride
        n_steps = (features.shape[-1] - kernel) // stride + 1
        if torch.is_grad_enabled() or n_steps <= _TILE:
            return self._narrowed(features)
        shape = (len(features), self.narrow.out_channels, n_steps)
        narrowed = features.new_empty(shape)
        for start in range(0, n_steps, _TILE):
            end = min(n_steps, start + _TILE)
            narrowed[..., start:end] = self._narrowed(features[..., start * stride : (end - 1) * stride + kernel])
        return narrowed

    def _narrowed(self, features: Sequence) -> Sequence:
        return F.glu(self.gate(torch.relu_(self.narrow(features))), 1)


class _SourceDecoderLayer(nn.Module):
    """A decoder layer of each source, as groups; what the encoder heard is mixed anew for each."""

    def __init__(self, width: int, n_outputs: int, config: DemucsConfig, *, last: bool) -> None:
        super().__init__()
        n = config.n_sources
        self.n_sources, self.last = n, last
        self.gate = nn.Conv1d(2 * width, 4 * width, 3, padding=1, groups=n)
        self.skip = nn.Conv1d(width, 4 * width, 3, padding=1, bias=False)
        self.widen = nn.ConvTranspose1d(2 * width, n_outputs, config.kernel, config.stride, groups=n)

    def forward(self, features: Sequence, skip: Sequence) -> Sequence:
        n_steps = features.shape[-1]
        if torch.is_grad_enabled() or n_steps <= _TILE:
            widened = self.widen(self._gated(features, skip[..., :n_steps]))
            return widened if self.last else torch.relu_(widened)
        (kernel,), (stride,) = self.widen.kernel_size, self.widen.stride
        widened = features.new_empty(len(features), self.widen.out_channels, (n_steps - 1) * stride + kernel)
        for start in range(0, n_steps, _TILE):
            end = min(n_steps, start + _TILE)
            # The first samples of a tile are also made of the steps before it, and each step of its neighbours.
            first = max(0, start - -(-kernel // stride) + 1)
            heard = slice(max(0, first - 1), min(n_steps, end + 1))
            gated = self._gated(features[..., heard], skip[..., heard])
            gated = gated[..., first - heard.start : end - heard.start]
            tile = self.widen(gated)[..., (start - first) * stride :]
            tile = tile if end == n_steps else tile[..., : (end - start) * stride]
            tile = tile if self.last else torch.relu_(tile)
            widened[..., start * stride : start * stride + tile.shape[-1]] = tile
        return widened

    def _gated(self, features: Sequence, skip: Sequence) -> Sequence:
        mixed = self.gate(features)
        mixed += self.skip(skip)
        return F.glu(mixed.unflatten(1, (self.n_sources, -1)), 2).flatten(1, 2)


class _DecoderLayer(nn.Module):
    """The published decoder layer: what the encoder heard is added."""

    def __init__(self, width: int, n_outputs: int, config: DemucsConfig, *, last: bool) -> None:
        super().__init__()
        self.last = last
        self.gate = nn.Conv1d(width, 2 * width, 3)
        self.widen = nn.ConvTranspose1d(width, n_outputs, config.kernel, config.stride)

    def forward(self, features: Sequence, skip: Sequence) -> Sequence:
        surplus = skip.shape[-1] - features.shape[-1]
        heard = skip[..., surplus // 2 : surplus // 2 + features.shape[-1]]
        widened = self.widen(F.glu(self.gate(features + heard), 1))
        return widened if self.last else torch.relu_(widened)


def valid_lengths(config: DemucsConfig, n_samples: int) -> tuple[int, int]:
    """Of the least input that the strides divide and that gives so many samples: its length, and its output's.

    The output is the input's middle where it is shorter.
    """
    lost = 0 if config.separate_decoders else 2
    n_steps = 2 * n_samples
    for _ in range(config.n_layers):
        n_steps = max(1, -(-(n_steps - config.kernel) // config.stride) + 1) + lost
    n_heard = n_given = n_steps
    for _ in range(config.n_layers):
        n_heard = (n_heard - 1) * config.stride + config.kernel
        n_given = (n_given - lost - 1) * config.stride + config.kernel
    return -(-n_heard // 2), n_given // 2


def standardised(mixture: Mixture) -> tuple[Tensor, Tensor, Tensor]:
    """The mixture less the mean of its mono mix and over that one's deviation, and both."""
    mono = mixture.mean(1, keepdim=True)
    mean = mono.mean(-1, keepdim=True)
    deviation = mono.std(-1, keepdim=True, correction=min(1, mono.shape[-1] - 1)) + 1e-5
    return (mixture - mean) / deviation, mean, deviation


def _rescale(modules: Iterable[nn.Module], target: float) -> None:
    """Divide convolutions by sqrt(std / target), so that each stands halfway (in dB) to the target."""
    for module in modules:
        # On the meta device there are no values; to ask for their deviation would load 70 MB of PyTorch's Python.
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d) and not module.weight.is_meta:
            scale = (module.weight.detach().std() / target).sqrt()
            module.weight.data /= scale
            if module.bias is not None:
                module.bias.data /= scale
