"""Demucs as an OpenVINO graph."""

from __future__ import annotations

from typing import Any

from openvino import Model
from openvino import opset13 as op

from danna_sep.models.demucs import Demucs
from danna_sep.signal.resample import block_matrix
from openvino_graphs.operations import (
    Node,
    constant,
    conv,
    cut,
    glu,
    integers,
    linear,
    lstm,
    reshape,
    transpose,
    transposed_conv,
)


def graph(model: Demucs, shape: tuple[int, ...]) -> Model:
    """What `model._network` computes for standardised mixtures of one shape (batch, channel, time)."""
    config = model.config
    n_samples = shape[-1]
    standard = op.parameter(list(shape), name="standard")
    features = _resample(standard, 1, 2)
    skips = []
    for layer in model.encoder:
        features = _encoder_layer(layer, features)
        skips.append(features)
    batch, _, n_steps = _shape(features)
    heard = linear(
        lstm(transpose(features, (0, 2, 1)), model.lstm, batch, n_steps), model.project.weight, model.project.bias
    )
    features = transpose(heard, (0, 2, 1))
    make = _source_decoder_layer if config.separate_decoders else _decoder_layer
    for layer, skip in zip(model.decoder, reversed(skips), strict=True):
        features = make(layer, features, skip)
    stems = _resample(features, 2, 1)
    stems = cut(stems, 2, 0, min(n_samples, _shape(stems)[2]))
    stems = reshape(stems, (batch, config.n_sources, config.n_channels, -1))
    return Model([stems], [standard], "demucs")


def _shape(node: Node) -> tuple[int, ...]:
    return tuple(int(size) for size in node.get_output_shape(0))


def _encoder_layer(layer: Any, features: Node) -> Node:
    narrow, gate = layer.narrow, layer.gate
    narrowed = op.relu(conv(features, narrow.weight, narrow.bias, stride=narrow.stride[0], padding=(0,)))
    return glu(conv(narrowed, gate.weight, gate.bias, padding=(0,)), 1, gate.out_channels // 2)


def _source_decoder_layer(layer: Any, features: Node, skip: Node) -> Node:
    n = layer.n_sources
    batch, _, n_steps = _shape(features)
    skip = cut(skip, 2, 0, n_steps)
    mixed = conv(features, layer.gate.weight, layer.gate.bias, padding=(1,), groups=n)
    mixed = op.add(mixed, conv(skip, layer.skip.weight, None, padding=(1,)))
    width = layer.gate.out_channels // n
    gated = glu(reshape(mixed, (batch, n, width, n_steps)), 2, width // 2)
    gated = reshape(gated, (batch, n * width // 2, n_steps))
    widen = layer.widen
    widened = transposed_conv(gated, widen.weight, widen.bias, stride=widen.stride[0], groups=n)
    return widened if layer.last else op.relu(widened)


def _decoder_layer(layer: Any, features: Node, skip: Node) -> Node:
    n_steps = _shape(features)[2]
    surplus = _shape(skip)[2] - n_steps
    heard = op.add(features, cut(skip, 2, surplus // 2, surplus // 2 + n_steps))
    gate, widen = layer.gate, layer.widen
    gated = glu(conv(heard, gate.weight, gate.bias, padding=(0,)), 1, gate.out_channels // 2)
    widened = transposed_conv(gated, widen.weight, widen.bias, stride=widen.stride[0])
    return widened if layer.last else op.relu(widened)


def _resample(signal: Node, old: int, new: int) -> Node:
    """See `danna_sep.signal.resample`."""
    batch, channels, n_samples = _shape(signal)
    weights = block_matrix(old, new)
    n_taps, n_given = weights.shape
    step = n_given // new * old
    n_blocks = -(-n_samples // step)
    reach = (n_taps - step) // 2
    rows = reshape(signal, (batch * channels, 1, n_samples))
    behind = reach + n_blocks * step - n_samples
    rows = op.pad(rows, integers((0, 0, reach)), integers((0, 0, behind)), "edge")
    blocks = op.convolution(rows, constant(weights.T[:, None]), [step], [0], [0], [1])
    result = reshape(transpose(blocks, (0, 2, 1)), (batch, channels, -1))
    return cut(result, 2, 0, n_samples * new // old)
