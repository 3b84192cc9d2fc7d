"""The U-Net over a track that comes in parts, with the masks that it gives for the whole track at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from danna_sep.allocator import apart
from danna_sep.models.attention import LocalAttention
from danna_sep.models.d3 import D2Block, D3Block
from danna_sep.models.frame_queues import Lead, Led, Part, count_frames
from danna_sep.models.unet import UNSEEN_MASK, UNet, UpStage, channels_last, heard
from danna_sep.models.widen import Widening
from danna_sep.shapes import Features, Magnitude, StemMagnitudes


def can_stream(model: nn.Module) -> bool:
    """Whether `UNetStream` takes it: a U-Net without LSTMs, whose outputs all depend on neighbouring frames alone."""
    return isinstance(model, UNet) and model.config.bottleneck == "attention"


class UNetStream:
    """Masks of frames that come in parts: those of the whole track but for rounding, however it is cut.

    Each layer keeps the frames that its next outputs still depend on, so nothing is computed twice. Masks can be had as
    soon as no later frame changes them: about a minute later in the paper's size, for the network sees as far.

    Args:
        model: Outside training; its parameters must not change while the track lasts.
        n_frames: Heard or masked together, about; where a GPU has no memory for them, half as many, and so on.

    Raises:
        ValueError: See `can_stream`.
    """

    def __init__(self, model: UNet, n_frames: int = 256) -> None:
        if not can_stream(model) or model.training:
            raise ValueError("only a U-Net with local attention, outside training, can hear a track in parts")
        self.model = model
        self.n_frames = n_frames
        self._innermost = 2 ** len(model.config.n_layers)
        self._kept: dict[str, tuple[Tensor, ...]] = {}
        self._n_heard = self._n_settled = 0
        self._n_bins, self._dtype = 0, torch.float32
        self._ended = 0  # none, the encoder, and so many of the decoder's stages
        self._encoder = [_d3(f"encoder.{i}", cast("D3Block", block), _NONE) for i, block in enumerate(model.encoder)]
        self._bottleneck = [
            _attention(f"bottleneck.{i}", attention, cast("nn.BatchNorm2d", model.bottleneck[i + 1]))
            for i, attention in enumerate(model.bottleneck)
            if isinstance(attention, LocalAttention)
        ]
        self._decoder = [_up(i, cast("UpStage", stage)) for i, stage in enumerate(model.decoder)]
        self._decoder.append(_last(len(model.decoder), model))

    def hear(self, magnitude: Magnitude, is_last: bool) -> None:
        """Take the track's next frames, maybe none, to the innermost stage.

        Args:
            magnitude: Axes batch, channel, bin, frame.
            is_last: Whether no more follow.
        """
        self._n_bins, self._dtype = magnitude.shape[-2], magnitude.dtype
        self._n_heard += magnitude.shape[-1]
        if is_last and self._n_heard < self._innermost:
            magnitude = F.pad(magnitude, (0, self._innermost - self._n_heard))
        while magnitude.shape[-1]:
            now = magnitude[..., : self.n_frames]
            if self._fits(self._encode, now, False):
                magnitude = magnitude[..., now.shape[-1] :]
        if is_last:
            # By itself, for layers then give all that they held back: with more it would take twice the memory.
            while not self._fits(self._encode, magnitude, True):
                pass
            self._ended = 1

    def settled(self) -> Float[Tensor, "batch mask bin _frames"] | None:
        """What masks of the next frames, or still of none, are made of; None before more is heard, and at the end."""
        while (stage := self._next_stage()) is not None:
            if not self._fits(self._decode, stage) or stage < len(self._decoder) - 1:
                continue
            (logits,) = self._kept.pop(_LOGITS)
            n_left = self._n_heard - self._n_settled
            logits = logits[..., :n_left]  # a short track was made longer
            n_missing = n_left - logits.shape[-1] if self._ended > len(self._decoder) else 0
            logits = F.pad(logits, (0, n_missing), value=_UNSEEN)
            self._n_settled += logits.shape[-1]
            return logits
        return None

    def masks(self, settled: Float[Tensor, "batch mask _bin frame"]) -> StemMagnitudes:
        """Masks of frames, of any number of those that were `settled`."""
        config = self.model.config
        n_heard = settled.shape[-2]
        masks = settled.new_empty(*settled.shape[:-2], self._n_bins, settled.shape[-1], dtype=self._dtype)
        masks[..., :n_heard, :].copy_(settled).sigmoid_()
        masks[..., n_heard:, :] = UNSEEN_MASK
        return masks.reshape(len(masks), config.n_sources, config.n_channels, *masks.shape[-2:])

    def _encode(self, magnitude: Magnitude, is_last: bool) -> None:
        part = Part(dict(self._kept), is_last)
        features = heard(magnitude, self.model.config, self.model.output.weight.dtype)
        outermost = len(self._encoder) - 1
        for i, block in enumerate(self._encoder):
            led = block(part, part.led(f"encoder.{i} led", features, _CONV))
            features = part.pool(f"pool.{i}", led.features)
            part.put(_skip(outermost - i) if i < outermost else _inner(0), apart(features))
        for attention in self._bottleneck:
            features = attention(part, features)
        part.put(_skip(0), features)
        self._kept = part.kept

    def _next_stage(self) -> int | None:
        """The outermost stage of the decoder that has anything to do."""
        for stage in reversed(range(len(self._decoder))):
            if stage == self._ended - 1 or self._n_waiting(stage):
                return stage
        return None

    def _n_waiting(self, stage: int) -> int:
        return min(count_frames(self._kept.get(queue, ())) for queue in (_inner(stage), _skip(stage)))

    def _decode(self, stage: int) -> None:
        """Let a stage give the next what it makes of a few frames; or after the last ones, of what it held back."""
        n_waiting = self._n_waiting(stage)
        n_together = max(1, self.n_frames * 2**stage // self._innermost)
        part = Part(dict(self._kept), stage < self._ended and not n_waiting)
        self._decoder[stage](part, n_waiting if n_waiting <= 1.5 * n_together else n_together)
        self._kept = part.kept
        self._ended += part.is_last

    def _fits(self, step: Callable[..., None], *arguments: object) -> bool:
        """Do a step; whether there was memory for it. If not, nothing has changed but how many frames go together."""
        try:
            step(*arguments)
        except torch.cuda.OutOfMemoryError:
            if self.n_frames <= self._innermost:
                raise
            self.n_frames //= 2
            torch.cuda.empty_cache()
            return False
        return True


_LOGITS = "logits"
_UNSEEN = math.log(UNSEEN_MASK / (1 - UNSEEN_MASK))
"""What the sigmoid makes that mask of."""


def _inner(stage: int) -> str:
    """Where a stage of the decoder finds what the one inside it gave; the first, the encoder."""
    return f"decoder.{stage} 0"


def _skip(stage: int) -> str:
    """Where it finds what the encoder gave; the first, the bottleneck."""
    return f"decoder.{stage} 1"


_NONE = Lead(0, 0)
_CONV = Lead(1, 2)
"""What a 3x3 convolution needs that is not dilated."""

_Layer: TypeAlias = Callable[[Part, Features], Features]
_LedLayer: TypeAlias = Callable[[Part, Led], Led]
_Stage: TypeAlias = Callable[[Part, int], None]


def _convolve(features: Features, weight: Tensor, bias: Tensor | None, dilation: int) -> Features:
    """A convolution that keeps the number of bins, and gives all frames that depend on none outside."""
    reach = weight.shape[-1] // 2 * dilation
    n_frames = features.shape[-1] - 2 * reach
    if n_frames <= 0:
        return features.new_empty(len(features), len(weight), features.shape[-2], 0)
    return F.conv2d(channels_last(features), weight, bias, padding=(reach, 0), dilation=dilation)


def _conv(name: str, weight: Tensor, bias: Tensor | None, dilation: int = 1) -> _Layer:
    """A convolution that keeps the number of bins and, in the end, of frames."""
    reach = weight.shape[-1] // 2 * dilation

    def layer(part: Part, features: Features) -> Features:
        led = part.led(name, channels_last(features), Lead(reach, 2 * reach))
        return _convolve(part.behind(led.features, reach), weight, bias, dilation)

    return layer


def _d2(name: str, block: D2Block, outputs: Sequence[str]) -> Callable[[Part, Features], None]:
    """From features that are led by what its first convolution needs, into a queue for each layer's output."""
    scaled = [block.scaled(i, cast("Tensor", block.convs[i].weight).dtype) for i in range(len(block.convs))]
    later = [_conv(f"{name}.{i}", *scaled[i], dilation=2**i) for i in range(1, len(scaled))]

    def layer(part: Part, led: Features) -> None:
        yielded = _convolve(part.behind(led, 1), *scaled[0], 1)
        for i, output in enumerate(outputs):
            own = torch.relu(yielded[:, : block.growth])
            part.put(output, own)
            if i < len(later):
                part.put(f"{name} waiting {i}", yielded[:, block.growth :])
                yielded = part.add(f"{name} waiting {i}", later[i](part, own))

    return layer


def _d3(name: str, block: D3Block, lead: Lead) -> _LedLayer:
    """From features that are led by what a convolution needs, to some that are led by what the next layer needs."""
    blocks: list[tuple[Callable[[Part, Features], None], list[str], Lead]] = []
    for i, each in enumerate(block.blocks):
        d2 = cast("D2Block", each)
        queues = [f"{name}.{i} {k}" for k in range(1 + len(d2.convs))]
        is_last = i == len(block.blocks) - 1
        blocks.append((_d2(f"{name}.{i}", d2, queues[1:]), queues, lead if is_last else _CONV))

    def layer(part: Part, led: Led) -> Led:
        for d2, queues, lead in blocks:
            part.put(queues[0], led.features[..., led.n_before :])
            d2(part, led.features)
            led = part.stack(queues, lead)
        return led

    return layer


def _attention(name: str, attention: LocalAttention, norm: nn.BatchNorm2d) -> _Layer:
    project = _conv(f"{name}.project", attention.project.weight, attention.project.bias)
    output = _conv(f"{name}.output", attention.output.weight, attention.output.bias)
    block, reach, width = attention.block, attention.reach, attention.output.in_channels

    def layer(part: Part, features: Features) -> Features:
        heads = project(part, features)
        inside = torch.ones(heads.shape[-1], dtype=torch.bool, device=heads.device)
        if f"{name}.heads" in part.kept:
            heads, inside = (
                torch.cat((*part.kept[f"{name}.{kind}"], new), -1)
                for kind, new in (("heads", heads), ("inside", inside))
            )
        else:
            heads, inside = F.pad(heads, (reach, 0)), F.pad(inside, (reach, 0))
        n_frames = heads.shape[-1] - reach
        n_blocks = -(-n_frames // block) if part.is_last else max(0, n_frames - reach) // block
        n_frames = min(n_frames, n_blocks * block)
        part.kept[f"{name}.heads"] = (heads[..., n_blocks * block :].clone(),)
        part.kept[f"{name}.inside"] = (inside[n_blocks * block :].clone(),)
        attended = heads.new_empty(len(heads), width, heads.shape[-2], 0)
        if n_blocks:
            end = n_blocks * block + 2 * reach
            missing = max(0, end - heads.shape[-1])
            heads, inside = F.pad(heads, (0, missing))[..., :end], F.pad(inside, (0, missing))[:end]
            attended = attention.attend(heads, inside)[..., :n_frames]
        attended = output(part, attended)
        return torch.relu(norm(attended)) if attended.shape[-1] else attended

    return layer


def _widened(part: Part, widening: Widening, led: Led) -> Features:
    features = part.behind(led.features, widening.lookback)
    n_frames = features.shape[-1] - widening.lookback - (widening.lookback if part.is_last else 1)
    return torch.relu_(widening(features, max(0, n_frames), max(0, n_frames - part.is_last)))


def _lead_of(widening: Widening) -> Lead:
    return Lead(widening.lookback, widening.lookback + 1)


def _up(number: int, stage: UpStage) -> _Stage:
    """From the decoder's stage inside and the encoder's skip, so many frames of each, to the next stage."""
    widening = Widening(stage.widen, stage.norm)
    block = _d3(f"decoder.{number} block", stage.block, _lead_of(widening))
    queues, following = (_inner(number), _skip(number)), (_inner(number + 1), _skip(number + 1))

    def step(part: Part, n_frames: int) -> None:
        part.put(following[0], _widened(part, widening, block(part, part.stack(queues, _CONV, n_frames))))
        widened = part.kept[following[0]]
        n_missing = count_frames(part.kept[following[1]]) - count_frames(widened) if part.is_last else 0
        if n_missing:
            part.put(following[0], widened[0].new_zeros(*widened[0].shape[:-1], n_missing))

    return step


def _last(number: int, model: UNet) -> _Stage:
    """To what the sigmoid makes masks of."""
    widening = Widening(model.widen, model.widen_norm)
    output = _conv("output", model.output.weight, model.output.bias, dilation=2)

    def step(part: Part, n_frames: int) -> None:
        led = part.stack((_inner(number), _skip(number)), _lead_of(widening), n_frames)
        part.kept[_LOGITS] = (output(part, _widened(part, widening, led)),)

    return step
