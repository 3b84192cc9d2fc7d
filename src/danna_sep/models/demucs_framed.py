"""Demucs with a decoder for each source, to separate with on a CPU: the same network, laid out for speed.

Features are rows of channels, a row for each step, and each source's are in memory of their own. `stride` rows that
follow one another are then also one row of `stride` times as many channels, so a strided or transposed convolution with
a kernel of two strides is a plain one with a kernel of two rows: there is nothing to rearrange. What a gated linear
unit lets through and what opens it come from convolutions of their own, so that it multiplies two dense pieces of
memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from danna_sep.models.convolution import Convolution, fuses
from danna_sep.models.demucs import Demucs, standardised, valid_lengths
from danna_sep.models.lstm_together import gains_together, remember_together
from danna_sep.shapes import Mixture, Stems
from danna_sep.signal.resample import resample

_N_OUTER: Final = 3
"""Layers, from the outermost, that hear a track in parts: they hold the most."""

_N_ROWS: Final = 2048
"""Steps of the innermost of those that are computed at once: 1.5 s."""

_SHARED: Final = 6
"""What part of a window of the LSTM it shares with the next, as segments do."""

Rows: TypeAlias = Float[Tensor, "_row _feature"]


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
    """

    def __init__(self, model: Demucs) -> None:
        super().__init__()
        self.config = config = model.config
        self.lstm, self.project = model.lstm, model.project
        self._encoder = [_EncoderLayer(_taken(model.encoder, i), config.stride) for i in range(config.n_layers)]
        # The outermost first, as in the encoder.
        self._decoder = [
            _DecoderLayer(_taken(model.decoder, i), config.stride) for i in reversed(range(config.n_layers))
        ]

    def forward(self, mixture: Mixture) -> Stems:
        """As `Demucs.forward`, but for rounding."""
        return self._stems(mixture, mixture.shape[-1])

    def in_windows(self, mixture: Mixture, n_in_window: int) -> Stems:
        """As `forward`, but that an LSTM that gains by it hears windows of the track, all at once.

        Args:
            mixture: Axes batch, channel, time.
            n_in_window: Samples of a window. It shares a sixth with the next, over which what the LSTM makes of one
                fades into what it makes of the other.
        """
        return self._stems(mixture, n_in_window if gains_together(self.lstm) else mixture.shape[-1])

    @torch.no_grad()
    def _stems(self, mixture: Mixture, n_in_window: int) -> Stems:
        n_samples = mixture.shape[-1]
        n_heard, n_given = valid_lengths(self.config, n_samples)
        before = (n_heard - n_given) // 2
        standard, mean, deviation = standardised(mixture)
        padded = F.pad(standard, (before, n_heard - before - n_samples))
        stems = mixture.new_empty(len(mixture), self.config.n_sources, *mixture.shape[1:])
        for item, place in zip(padded, stems, strict=True):
            self._separate(item, place, n_in_window)
        return stems.mul_(deviation[:, None]).add_(mean[:, None])

    def _separate(
        self, standard: Float[Tensor, "channel _heard"], stems: Float[Tensor, "source channel time"], n_in_window: int
    ) -> None:
        """Write the stems of one mixture; what the strides need behind its end is left away."""
        skips = self._encode(standard)
        remembered = self._remembered(skips[-1], n_in_window)
        by_source = list(self.project(remembered).chunk(self.config.n_sources, -1))
        for layer, skip in reversed(list(zip(self._decoder[_N_OUTER:], skips[_N_OUTER:], strict=True))):
            by_source = [
                _part([layer], source, each, [skip], 0, len(skip) + 1) for source, each in enumerate(by_source)
            ]
        for source, (features, place) in enumerate(zip(by_source, stems, strict=True)):
            samples = self._decode_outer(source, features, skips).T.to(stems.dtype)
            place.copy_(resample(samples, 2, 1)[:, : stems.shape[-1]])

    def _encode(self, standard: Float[Tensor, "channel time"]) -> list[Rows]:
        """What each layer gives."""
        stride, weight = self.config.stride, self.project.weight
        rows = resample(standard, 1, 2).to(weight.dtype).T.contiguous()
        n_steps = [len(rows) // stride - 1]
        while len(n_steps) < self.config.n_layers:
            n_steps.append(n_steps[-1] // stride - 1)
        outer = self._encoder[:_N_OUTER]
        skips = [rows.new_empty(n, layer.n_features) for n, layer in zip(n_steps, self._encoder, strict=True)][
            :_N_OUTER
        ]
        n_innermost = n_steps[_N_OUTER - 1]
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
            part = _part(outer, source, features, skips[:_N_OUTER], start, start + size)
            out[start * stride : (start + size) * stride] = part[: (n_rows - start) * stride]
        return out


def _part(
    layers: Sequence[_DecoderLayer], source: int, features: Rows, skips: Sequence[Rows], start: int, stop: int
) -> Rows:
    """A source's rows from `start` to `stop` as the outermost of some layers gives them, `stride` steps in each.

    Args:
        layers: The outermost first.
        source: Whose.
        features: All that the innermost layer hears of the source.
        skips: All that the encoder's layers gave, likewise.
        start: First row; all layers' parts have the same length wherever they begin at a multiple of what the innermost
            layer's rows stand for.
        stop: Row behind the last; rows behind the layers' last are of no meaning.
    """
    wanted = []
    for layer in layers:
        wanted.append((start, stop))
        start, stop = (start - 2) // layer.stride, -(-(stop + 1) // layer.stride)
    heard, first = features, 0
    for layer, skip, (start, stop) in reversed(list(zip(layers, skips, wanted, strict=True))):
        heard = layer(source, _between(heard, start - 2 - first, stop + 1 - first), skip, start)
        first = start * layer.stride
    return heard


def _between(rows: Rows, start: int, stop: int) -> Rows:
    """Rows from one to another, zeros where there are none."""
    inside = rows[max(start, 0) : stop]
    if start >= 0 and stop <= len(rows):
        return inside
    before = max(0, -start)
    return F.pad(inside, (0, 0, before, stop - start - before - len(inside)))


class _EncoderLayer:
    """Steps at one rate to steps at the next lower one."""

    def __init__(self, layer: nn.Module, stride: int) -> None:
        narrow, gate = cast("nn.Conv1d", layer.narrow), cast("nn.Conv1d", layer.gate)
        self.n_features, self.stride = narrow.out_channels, stride
        by_row = narrow.weight.unflatten(-1, (2, stride)).permute(0, 3, 1, 2).flatten(1, 2)
        self._narrow = _convolution(by_row, narrow.bias, rectify=True)
        self._let_through, self._opening = (
            _convolution(weight, bias) for weight, bias in zip(gate.weight.chunk(2), _bias(gate).chunk(2), strict=True)
        )

    def __call__(self, features: Rows) -> Rows:
        """Of as many steps as the stride divides; one less than those."""
        narrowed = self._narrow(_as_image(features.reshape(-1, self.stride * features.shape[1])))
        return _as_rows(_gated(self._let_through(narrowed), self._opening(narrowed)))


class _DecoderLayer:
    """Steps of a source at one rate, and what the encoder heard at it, to steps at the next higher one."""

    def __init__(self, layer: nn.Module, stride: int) -> None:
        self.stride = stride
        gate, skip = cast("nn.Conv1d", layer.gate), cast("nn.Conv1d", layer.skip)
        widen = cast("nn.ConvTranspose1d", layer.widen)
        n = cast("int", layer.n_sources)
        # Of each source: what is let through, what opens.
        self._gates = [
            [_convolution(weight, bias) for weight, bias in zip(weights.chunk(2), biases.chunk(2), strict=True)]
            for weights, biases in zip(gate.weight.chunk(n), _bias(gate).chunk(n), strict=True)
        ]
        self._skips = [[_convolution(half, None) for half in weights.chunk(2)] for weights in skip.weight.chunk(n)]
        self._widen = [
            _convolution(
                # A row is made of the one before it by the kernel's second half, and by the first of its own.
                weight.unflatten(-1, (2, stride)).flip(-2).permute(3, 1, 0, 2).flatten(0, 1),
                bias.repeat(stride),
                rectify=not layer.last,
            )
            for weight, bias in zip(widen.weight.chunk(n), _bias(widen).chunk(n), strict=True)
        ]

    def __call__(self, source: int, features: Rows, skip: Rows, start: int) -> Rows:
        """`stride` steps for each row from `start` on, three rows fewer than those heard.

        Args:
            source: Whose.
            features: Rows from `start - 2` on, zeros where there are none.
            skip: All rows of the encoder.
            start: May be less than 0; what does not belong to the track is zeros.
        """
        heard = _as_image(features)
        heard_before = _as_image(_between(skip, start - 2, start - 2 + len(features)))
        let_through, opening = (
            gate.onto(mix(heard_before), heard)
            for gate, mix in zip(self._gates[source], self._skips[source], strict=True)
        )
        gated = _as_rows(_gated(let_through, opening))
        _silence_outside(gated, start - 1, len(skip))
        widened = _as_rows(self._widen[source](_as_image(gated)))
        _silence_outside(widened, start, len(skip) + 1)
        return widened.reshape(len(widened) * self.stride, -1)


def _silence_outside(rows: Rows, first: int, n_rows: int) -> None:
    """Zeros in place of those that lie before the first row of a track or behind its last.

    Args:
        rows: Changed in place.
        first: Which row of the track the first one is.
        n_rows: Of the track.
    """
    if first < 0:
        rows[:-first] = 0
    if first + len(rows) > n_rows:
        rows[n_rows - first :] = 0


def _gated(let_through: Tensor, opening: Tensor) -> Tensor:
    """A gated linear unit, in the memory of what it lets through."""
    return let_through.mul_(opening.sigmoid_())


def _convolution(
    weight: Float[Tensor, "output input row"], bias: Tensor | None, *, rectify: bool = False
) -> Convolution:
    return Convolution(weight.detach()[..., None], bias, rectify=rectify)


def _as_image(rows: Rows) -> Tensor:
    """Rows as a convolution takes them: axes item, feature, row, and one of a single bin; the same memory."""
    return rows.view(1, len(rows), 1, -1).permute(0, 3, 1, 2)


def _as_rows(image: Tensor) -> Rows:
    """What a convolution gives, as rows; the same memory."""
    return image[0, :, :, 0].T


def _bias(layer: nn.Module) -> Tensor:
    return cast("Tensor", layer.bias).detach()


def _taken(layers: nn.Module, index: int) -> nn.Module:
    """A layer, which is then no longer among the others."""
    among = cast("nn.ModuleList", layers)
    layer, among[index] = among[index], nn.Identity()
    return layer
