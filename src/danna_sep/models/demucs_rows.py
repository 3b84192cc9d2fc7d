"""The layers of a Demucs with a decoder for each source, on rows.

Features are rows of channels, a row for each step, and each source's are in memory of their own. `stride` rows that
follow one another are then also one row of `stride` times as many channels, so a strided or transposed convolution with
a kernel of two strides is a plain one with a kernel of two rows: there is nothing to rearrange. What a gated linear
unit lets through and what opens it come from convolutions of their own, so that it multiplies two dense pieces of
memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from danna_sep.models.convolution import Convolution, fuses
from danna_sep.models.sparing_convolution import SparingConvolution

Rows: TypeAlias = Float[Tensor, "_row _feature"]
_RowWeight: TypeAlias = Float[Tensor, "_output _input row"]

_LEAST_SPARING, _MOST_SPARING = 192, 384
"""Channels of the encoder's layer: with fewer, sums take longer than the products that they spare; with 768, in the
paper's size, a fortieth of Demucs' time would be spared for 0.17 GB more of memory."""


def part_of(
    layers: Sequence[DecoderLayer], source: int, features: Rows, skips: Sequence[Rows], start: int, stop: int
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


class EncoderLayer:
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


class DecoderLayer:
    """Steps of a source at one rate, and what the encoder heard at it, to steps at the next higher one."""

    def __init__(self, layer: nn.Module, stride: int) -> None:
        self.stride = stride
        gate, skip = cast("nn.Conv1d", layer.gate), cast("nn.Conv1d", layer.skip)
        widen = cast("nn.ConvTranspose1d", layer.widen)
        n = cast("int", layer.n_sources)
        unit = _SparingUnit if _sums_pay(skip.weight) else _MixingUnit
        of_sources = zip(gate.weight.chunk(n), skip.weight.chunk(n), _bias(gate).chunk(n), strict=True)
        self._units = [unit(*of_source) for of_source in of_sources]
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
        gated = self._units[source](features, _between(skip, start - 2, start - 2 + len(features)))
        _silence_outside(gated, start - 1, len(skip))
        widened = _as_rows(self._widen[source](_as_image(gated)))
        _silence_outside(widened, start, len(skip) + 1)
        return widened.reshape(len(widened) * self.stride, -1)


class _MixingUnit:
    """A gated linear unit of what a decoder hears of a source, and of what the encoder heard.

    Args:
        gate: Of the one, first what is let through, then what opens.
        skip: Likewise of the other.
        bias: Likewise.
    """

    def __init__(self, gate: _RowWeight, skip: _RowWeight, bias: Tensor) -> None:
        self._gates = [_convolution(*half) for half in zip(gate.chunk(2), bias.chunk(2), strict=True)]
        self._mixes = [_convolution(half, None) for half in skip.chunk(2)]

    def __call__(self, features: Rows, heard_before: Rows) -> Rows:
        heard, before = _as_image(features), _as_image(heard_before)
        let_through, opening = (
            gate.onto(mix(before), heard) for gate, mix in zip(self._gates, self._mixes, strict=True)
        )
        return _as_rows(_gated(let_through, opening))


class _SparingUnit:
    """As `_MixingUnit`, from half of its products, but for rounding: see `_sums_pay`."""

    def __init__(self, gate: _RowWeight, skip: _RowWeight, bias: Tensor) -> None:
        self._convolution = SparingConvolution(torch.cat((gate, skip), 1).detach()[..., None], bias)

    def __call__(self, features: Rows, heard_before: Rows) -> Rows:
        both = _as_rows(self._convolution(_as_image(torch.cat((features, heard_before), 1))))
        let_through, opening = both.chunk(2, 1)
        return let_through * opening.sigmoid()


def _sums_pay(skip: _RowWeight) -> bool:
    """Whether a `_SparingUnit` is faster, and its weights, twice as many, are still few beside those of all layers."""
    width = skip.shape[1]
    return _LEAST_SPARING <= width <= _MOST_SPARING and skip.dtype == torch.float32 and fuses(skip)


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


def _convolution(weight: _RowWeight, bias: Tensor | None, *, rectify: bool = False) -> Convolution:
    return Convolution(weight.detach()[..., None], bias, rectify=rectify)


def _as_image(rows: Rows) -> Tensor:
    """Rows as a convolution takes them: axes item, feature, row, and one of a single bin; the same memory."""
    return rows.view(1, len(rows), 1, -1).permute(0, 3, 1, 2)


def _as_rows(image: Tensor) -> Rows:
    """What a convolution gives, as rows; the same memory."""
    return image[0, :, :, 0].T


def _bias(layer: nn.Module) -> Tensor:
    return cast("Tensor", layer.bias).detach()
