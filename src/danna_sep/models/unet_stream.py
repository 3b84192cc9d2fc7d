"""The U-Net over a track that comes in parts, with the masks that it gives for the whole track at once."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from danna_sep.memory import Store
from danna_sep.models.convolution import framed
from danna_sep.models.d3_layers import conv_lead
from danna_sep.models.frame_queues import Part, count_frames, without_rooms
from danna_sep.models.unet import UNSEEN_MASK, heard, mask_above
from danna_sep.models.unet_layers import LOGITS, UNetLayers, inner_queue, skip_queue
from danna_sep.models.whole_numbers import in_whole_steps
from danna_sep.shapes import FramedFeatures, Magnitude, StemMagnitudes

_UNSEEN = math.log(UNSEEN_MASK / (1 - UNSEEN_MASK))
"""What the sigmoid makes that mask of."""


class UNetStream:
    """Masks of frames that come in parts: those of the whole track but for rounding, however it is cut.

    If the network `waits_coarsely`, on a CPU, what waits for deeper layers is rounded to eight bits, where it is not in
    whole steps already: about as coarse as bfloat16, in half of its memory. What masks are made of is then kept in half
    precision, at most.

    Nothing is computed twice. Masks can be had as soon as no later frame changes them: about a minute later in the
    paper's size, for the network sees as far.

    Args:
        layers: The network's.
        n_frames: Heard or masked together, about; where a GPU has no memory for them, half as many, and so on.
        n_parts: In which they go through the outermost stages.
    """

    def __init__(self, layers: UNetLayers, n_frames: int = 256, n_parts: int = 1) -> None:
        self.layers = layers
        self.n_frames, self._n_parts = n_frames, n_parts
        self._innermost = 2 ** len(layers.config.n_layers)
        self._coarse = layers.waits_coarsely
        self._kept: dict[str, tuple[Tensor, ...]] = {}
        self._places, self._rooms = Store(), Store()
        self._n_heard = self._n_settled = 0
        self._n_bins, self._dtype = 0, torch.float32
        self._unheard: Tensor | None = None  # too few to go through
        self._ended = 0  # none, the encoder, and so many of the decoder's stages

    def hear(self, magnitude: Magnitude, is_last: bool) -> None:
        """Take the track's next frames, maybe none, to the innermost stage.

        Args:
            magnitude: Axes batch, channel, bin, frame.
            is_last: Whether no more follow.
        """
        self._n_bins, self._dtype = magnitude.shape[-2], magnitude.dtype
        self._n_heard += magnitude.shape[-1]
        if self._unheard is not None:
            magnitude = torch.cat((self._unheard, magnitude), -1)
        if is_last and self._n_heard < self._innermost:
            magnitude = F.pad(magnitude, (0, self._innermost - self._n_heard))
        while magnitude.shape[-1] >= (1 if is_last else self.n_frames):
            now = magnitude[..., : self.n_frames]
            if self._fits(self._encode, now, False):
                magnitude = magnitude[..., now.shape[-1] :]
        self._unheard = magnitude.clone()
        if is_last:
            # By itself, for layers then give all that they held back: with more it would take twice the memory.
            while not self._fits(self._encode, magnitude, True):
                pass
            self._ended = 1
            # What waits is let go of as it is taken from now on.
            self._kept, self._rooms = without_rooms(self._kept), Store()

    def settled(self) -> Float[Tensor, "batch mask bin _frames"] | None:
        """What masks of the next frames, or still of none, are made of; None before more is heard, and at the end."""
        while (stage := self._next_stage()) is not None:
            if not self._fits(self._decode, stage) or stage < len(self.layers.decoder) - 1:
                continue
            (logits,) = self._kept.pop(LOGITS)
            n_left = self._n_heard - self._n_settled
            logits = logits[..., :n_left]  # a short track was made longer
            n_missing = n_left - logits.shape[-1] if self._ended > len(self.layers.decoder) else 0
            logits = F.pad(logits, (0, n_missing), value=_UNSEEN)
            self._n_settled += logits.shape[-1]
            is_halved = self._coarse and logits.dtype == torch.float32 and logits.device.type == "cpu"
            return logits.half() if is_halved else logits
        return None

    def masks(self, settled: Float[Tensor, "batch mask _bin frame"]) -> StemMagnitudes:
        """Masks of frames, of any number of those that were `settled`."""
        config = self.layers.config
        n_heard = settled.shape[-2]
        masks = settled.new_empty(*settled.shape[:-2], self._n_bins, settled.shape[-1], dtype=self._dtype)
        masks[..., :n_heard, :].copy_(settled).sigmoid_()
        masks[..., n_heard:, :] = mask_above(masks[..., :n_heard, :], config)
        return masks.reshape(len(masks), config.n_sources, config.n_channels, *masks.shape[-2:])

    def _encode(self, magnitude: Magnitude, is_last: bool) -> None:
        layers = self.layers
        part = Part(dict(self._kept), is_last, self._coarse, places=self._places, rooms=self._rooms)
        features = heard(magnitude, layers.config, layers.dtype, layers.magnitude_step)
        outermost = framed(features.transpose(-2, -1)).split(self._n_outermost, 2)
        pooled = [self._encoded(part, 0, some) for some in outermost]
        features = pooled[0] if len(pooled) == 1 else torch.cat(pooled, 2)
        for stage in range(1, len(layers.encoder)):
            features = self._encoded(part, stage, features)
        for attention in layers.bottleneck:
            features = attention(part, features)
        part.put(skip_queue(0), features)
        self._kept = part.kept

    def _encoded(self, part: Part, stage: int, features: FramedFeatures) -> FramedFeatures:
        """What a stage of the encoder gives to the next, and to the decoder."""
        layers, innermost = self.layers, len(self.layers.encoder) - 1
        lead = conv_lead(features.dtype, features.device)
        led = layers.encoder[stage](part, part.led(f"encoder.{stage} led", features, lead))
        features = part.pool(f"pool.{stage}", led.features)
        features = in_whole_steps(features) if layers.counts and stage < innermost else features
        part.put_apart(skip_queue(innermost - stage) if stage < innermost else inner_queue(0), features)
        return features

    @property
    def _n_outermost(self) -> int:
        """Frames that go through the outermost stages at once, which hold the most."""
        return max(1, self.n_frames // self._n_parts)

    def _next_stage(self) -> int | None:
        """The outermost stage of the decoder that has anything to do."""
        for stage in reversed(range(len(self.layers.decoder))):
            if stage == self._ended - 1 or self._n_waiting(stage):
                return stage
        return None

    def _n_waiting(self, stage: int) -> int:
        return min(count_frames(self._kept.get(queue, ())) for queue in (inner_queue(stage), skip_queue(stage)))

    def _decode(self, stage: int) -> None:
        """Let a stage give the next what it makes of a few frames; or after the last ones, of what it held back."""
        n_waiting = self._n_waiting(stage)
        is_outermost = stage == len(self.layers.decoder) - 1
        n_together = self._n_outermost if is_outermost else max(1, self.n_frames * 2**stage // self._innermost)
        part = Part(dict(self._kept), stage < self._ended and not n_waiting, places=self._places)
        self.layers.decoder[stage](part, n_waiting if n_waiting <= 1.5 * n_together else n_together)
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
