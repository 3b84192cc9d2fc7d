"""Demucs with a decoder for each source, to separate with on a CPU: the same network, laid out for speed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from danna_sep.models.convolution import fuses
from danna_sep.models.demucs import Demucs, standardised, valid_lengths
from danna_sep.models.demucs_rows import DecoderLayer, EncoderLayer, Rows, part_of
from danna_sep.models.lstm_together import gains_together, remember_together
from danna_sep.shapes import Mixture, Stems
from danna_sep.signal.resample import resample

_N_OUTER: Final = 3
"""Layers, from the outermost, that hear a track in parts: they hold the most."""

_N_ROWS: Final = 2048
"""Steps of the innermost of those that are computed at once: 1.5 s."""

_SHARED: Final = 6
"""What part of a window of the LSTM it shares with the next, as segments do."""


def framed(model: nn.Module) -> nn.Module:
    """A `FramedDemucs` where that is faster; else the model as it is. The model is not to be used any more."""
    if not isinstance(model, Demucs) or not model.config.separate_decoders or model.training:
        return model
    config = model.config
    if config.kernel != 2 * config.stride or config.n_layers <= _N_OUTER or not fuses(model.project.weight):
        return model
    return FramedDemucs(model)


class FramedDemucs(nn.Module):
    """Stems from a waveform, without gradients.

    Args:
        model: Has a decoder for each source, and kernels of two strides. Its parameters are taken away from it layer by
            layer: both together would be twice the memory.

    Attributes:
        gains_by_windows: Whether several windows take less time than one after the other.
    """

    def __init__(self, model: Demucs) -> None:
        super().__init__()
        self.config = config = model.config
        self.lstm, self.project = model.lstm, model.project
        self.gains_by_windows = gains_together(self.lstm)
        self._encoder = [EncoderLayer(_taken(model.encoder, i), config.stride) for i in range(config.n_layers)]
        # The outermost first, as in the encoder.
        self._decoder = [
            DecoderLayer(_taken(model.decoder, i), config.stride) for i in reversed(range(config.n_layers))
        ]

    def forward(self, mixture: Mixture, places: Sequence[int] | None = None) -> Stems:
        """As `Demucs.forward`, but for rounding; or some of the sources, whose decoders alone then take time."""
        return self._stems(mixture, mixture.shape[-1], places)

    def in_windows(self, mixture: Mixture, n_in_window: int, places: Sequence[int] | None = None) -> Stems:
        """As `forward`, but that an LSTM that gains by it hears windows of the track, all at once.

        Args:
            mixture: Axes batch, channel, time.
            n_in_window: Samples of a window. It shares a sixth with the next, over which what the LSTM makes of one
                fades into what it makes of the other.
            places: Of the sources that are wanted; None for all.
        """
        return self._stems(mixture, n_in_window if self.gains_by_windows else mixture.shape[-1], places)

    @torch.no_grad()
    def _stems(self, mixture: Mixture, n_in_window: int, places: Sequence[int] | None) -> Stems:
        places = range(self.config.n_sources) if places is None else places
        n_samples = mixture.shape[-1]
        n_heard, n_given = valid_lengths(self.config, n_samples)
        before = (n_heard - n_given) // 2
        standard, mean, deviation = standardised(mixture)
        padded = F.pad(standard, (before, n_heard - before - n_samples))
        stems = mixture.new_empty(len(mixture), len(places), *mixture.shape[1:])
        for item, separated in zip(padded, stems, strict=True):
            self._separate(item, separated, n_in_window, places)
        return stems.mul_(deviation[:, None]).add_(mean[:, None])

    def _separate(
        self,
        standard: Float[Tensor, "channel _heard"],
        stems: Float[Tensor, "_source channel time"],
        n_in_window: int,
        places: Sequence[int],
    ) -> None:
        """Write the wanted stems of one mixture; what the strides need behind its end is left away."""
        skips = self._encode(standard)
        remembered = self._remembered(skips[-1], n_in_window)
        projected = self.project(remembered).chunk(self.config.n_sources, -1)
        by_source = {source: projected[source] for source in places}
        for layer, skip in reversed(list(zip(self._decoder[_N_OUTER:], skips[_N_OUTER:], strict=True))):
            by_source = {
                source: part_of([layer], source, each, [skip], 0, len(skip) + 1) for source, each in by_source.items()
            }
        for (source, features), stem in zip(by_source.items(), stems, strict=True):
            samples = self._decode_outer(source, features, skips).T.to(stems.dtype)
            stem.copy_(resample(samples, 2, 1)[:, : stems.shape[-1]])

    def _encode(self, standard: Float[Tensor, "channel time"]) -> list[Rows]:
        """What each layer gives."""
        stride, weight = self.config.stride, self.project.weight
        rows = resample(standard, 1, 2).to(weight.dtype).T.contiguous()
        outer, skips, n_steps = self._encoder[:_N_OUTER], [], len(rows)
        for layer in outer:
            n_steps = n_steps // stride - 1
            skips.append(rows.new_empty(n_steps, layer.n_features))
        n_innermost = n_steps
        n_parts = -(-n_innermost // _N_ROWS)
        size = -(-n_innermost // n_parts)
        for index in range(n_parts):
            start = min(index * size, n_innermost - size)  # all parts alike: other sizes need other weights
            first, stop = start * stride**_N_OUTER, start + size
            for _ in outer:
                stop = (stop + 1) * stride
            heard = rows[first:stop]
            for skip, layer in zip(skips, outer, strict=True):
                first //= stride
                heard = layer(heard)
                skip[first : first + len(heard)] = heard
        for layer in self._encoder[_N_OUTER:]:
            skips.append(layer(skips[-1][: len(skips[-1]) // stride * stride]))
        return skips

    def _remembered(self, heard: Rows, n_in_window: int) -> Rows:
        """What the LSTM makes of the encoder's last features."""
        n_steps, length = len(heard), max(_SHARED, 2 * n_in_window // self.config.stride**self.config.n_layers)
        if n_steps <= length:
            return cast("Rows", self.lstm(heard[None])[0][0])
        n_shared = length // _SHARED
        n_windows = -(-(n_steps - n_shared) // (length - n_shared))
        length = -(-(n_steps + (n_windows - 1) * n_shared) // n_windows)  # no longer than needed
        starts = [*range(0, n_steps - length, length - n_shared), n_steps - length]
        windows = torch.stack([heard[start : start + length] for start in starts])
        remembered = remember_together(self.lstm, windows)
        joined = remembered.new_empty(n_steps, remembered.shape[-1])
        n_done = 0
        for start, window in zip(starts, remembered, strict=True):
            n_common = n_done - start
            coming = ((torch.arange(n_common) + 0.5) / max(n_common, 1)).to(joined.dtype)[:, None]
            joined[start:n_done].lerp_(window[:n_common], coming.expand(-1, joined.shape[1]))
            n_done = start + length
            joined[start + n_common : n_done] = window[n_common:]
        return joined

    def _decode_outer(self, source: int, features: Rows, skips: Sequence[Rows]) -> Rows:
        """A source's samples from what the inner layers make of it, (time, channel)."""
        outer, stride = self._decoder[:_N_OUTER], self.config.stride
        n_rows = len(skips[0]) + 1
        n_units = -(-n_rows // stride ** (_N_OUTER - 1))
        n_parts = -(-n_units // _N_ROWS)
        size = -(-n_units // n_parts) * stride ** (_N_OUTER - 1)
        out = features.new_empty(stride * n_rows, self.config.n_channels)
        for start in range(0, n_rows, size):
            part = part_of(outer, source, features, skips[:_N_OUTER], start, start + size)
            out[start * stride : (start + size) * stride] = part[: (n_rows - start) * stride]
        return out


def _taken(layers: nn.Module, index: int) -> nn.Module:
    """A layer, which is then no longer among the others."""
    among = cast("nn.ModuleList", layers)
    layer, among[index] = among[index], nn.Identity()
    return layer
