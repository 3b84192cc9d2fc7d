"""X-UMX as an OpenVINO graph."""

from __future__ import annotations

import torch
from openvino import Model
from openvino import opset13 as op
from torch import Tensor, nn

from danna_sep.models.xumx import XUMX
from openvino_graphs.operations import Node, along_channels, constant, conv, cut, lstm, reshape, transpose


def graph(model: XUMX, shape: tuple[int, ...]) -> Model:
    """What `model` computes outside training for magnitudes of one shape (batch, channel, bin, frame)."""
    config = model.config
    batch, _, _, n_frames = shape
    n, channels = config.n_sources, config.n_channels
    magnitude = op.parameter(list(shape), name="magnitude")
    heard = reshape(cut(magnitude, 2, 0, config.n_bins), (batch, -1, n_frames))

    # Mean and scale of the input are a part of the encoder, and one input serves all sources.
    scale = model.input_scale[:, None].expand(-1, channels, -1).reshape(n, 1, -1)
    mean = model.input_mean[:, None].expand(-1, channels, -1).reshape(n, -1, 1)
    weight = model.encoder.weight[..., 0].unflatten(0, (n, -1)) * scale
    bias = (weight @ mean).reshape(-1)
    encoded = op.tanh(_dense(heard, weight.flatten(0, 1), bias, model.encoder_norm))
    per_source = reshape(encoded, (batch, n, -1, n_frames))
    shared = op.reduce_mean(per_source, op.constant([1]), False)

    steps = transpose(shared, (0, 2, 1))
    total: Node = None
    for module in model.lstms:
        assert isinstance(module, nn.LSTM)
        heard_by_one = lstm(steps, module, batch, n_frames)
        total = heard_by_one if total is None else op.add(total, heard_by_one)
    recurrent = transpose(op.divide(total, constant(torch.tensor(float(n)))), (0, 2, 1))
    joined = op.concat([shared, recurrent], 1)

    # All sources' decoders hear the same.
    decoded = op.relu(_dense(joined, model.decoder.weight[..., 0], None, model.decoder_norm))
    scale, shift = _scale_and_shift(model.output_norm)
    outer = model.output_scale[:, None].expand(-1, channels, -1).reshape(-1)
    offset = model.output_mean[:, None].expand(-1, channels, -1).reshape(-1)
    scale, shift = scale * outer, shift * outer + offset
    masks = conv(decoded, model.output.weight * scale[:, None, None], shift, padding=(0,), groups=n)
    masks = reshape(op.relu(masks), (batch, n, channels, config.n_output_bins, n_frames))
    return Model([masks], [magnitude], "xumx")


def _dense(node: Node, weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm1d) -> Node:
    """A linear layer along the channels and the batch norm behind it."""
    scale, shift = _scale_and_shift(norm)
    if bias is not None:
        shift = shift + bias * scale
    return op.add(op.matmul(constant(weight * scale[:, None]), node, False, False), along_channels(shift, 3))


def _scale_and_shift(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale
