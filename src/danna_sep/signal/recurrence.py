"""Stems averaged over the places of a song that sound alike.

A loop, a groove, a chord or a held vowel comes back, each time among other sounds, and what is wrong in its estimate
is wrong in another way each time. So the magnitude of a stem's frame becomes a geometric mean over those frames of a
minute in which the stem sounds most as it does here: non-local means (Buades et al., CVPR 2005) of what a separator
gave, as REPET-SIM (Rafii and Pardo, ISMIR 2012) has medians of a mixture. Each stem then gets its share of what all
stems have in a bin, in its own phase, and its share of what their sum has lost by it, which stays what it was.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from functools import cache, reduce
from itertools import islice, pairwise
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor

from danna_sep.memory import BRIEFLY, Store
from danna_sep.shapes import Stems

HOP: Final = 3072
"""Samples from frame to frame; windows are twice as long."""

CHUNK: Final = 36
"""Frames that are averaged together: 2.5 s."""

N_AHEAD: Final = 6
"""Chunks behind the one at hand that it is compared with, too: 15 s, for which stems wait."""

N_IN_BANK: Final = 27
"""Chunks in all: 68 s."""

_N_BINS: Final = 1800
"""Bins that are averaged, up to 12.9 kHz; what lies above stays as it is."""
_N_BANDS: Final = 128
_POWER: Final = 0.5
"""To which magnitudes of bands are compared."""
_NEIGHBOURS: Final = 2
"""Frames before and behind that are compared as well,"""
_NEARNESS: Final = 0.7
"""each with so much less weight than the next nearer one."""
_TOLERANCE: Final = 0.05
"""One less the cosine of two frames, at which one counts for the other 1 / e of what its equal would."""
_LOUDER: Final = 1.5
"""Logarithm of how much louder the mixture is, or softer, at which a frame counts 1 / e: 13 dB."""
_LATER: Final = 359
"""Frames by which another is earlier or later, at which it counts 1 / e: 25 s."""
_N_ALIKE: Final = 60
"""Frames that count at most: what the next one would is taken off each, so that none counts suddenly."""
_OWN: Final = 0.3
"""What a frame counts by itself."""
_APART: Final = 4
"""Frames from which on another is a place of its own: nearer ones share the same errors."""
_FLOOR: Final = 0.05
"""Share of the mixture's level in a frame below which differences of magnitude count less and less."""
_NOTHING: Final = 1e-30


class Recurrence:
    """Stems of one track in, block by block, and out again, averaged; later, and in the same order.

    The frames of a chunk are compared with those of `N_IN_BANK`, of which `N_AHEAD` lie behind it, as far as there are
    such in the track. What comes out depends on the track alone, not on how it is cut into blocks. It is computed where
    the stems are, but on the CPU where that is neither a CPU nor a CUDA device.
    """

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._axes: tuple[int, ...] = ()
        self._device = torch.device("cpu")

    def push(self, stems: Stems) -> Iterator[Stems]:
        """What follows of the track; whatever is settled by it, in blocks."""
        axes, track = stems.shape[:-3], stems.shape[-3:]
        items = stems.reshape(math.prod(axes), *track)
        if items.device.type not in ("cpu", "cuda"):
            items = items.cpu()
        if not self._tracks:
            self._axes, self._device = tuple(axes), stems.device
            self._tracks = [_Track(item) for item in items]
        for each, item in zip(self._tracks, items, strict=True):
            each.hear(item)
        while all(track.is_ready for track in self._tracks) and self._tracks:
            yield self._joined([track.averaged() for track in self._tracks])

    def finish(self) -> Iterator[Stems]:
        """All that is left."""
        for track in self._tracks:
            track.end()
        while self._tracks and not self._tracks[0].is_over:
            yield self._joined([track.averaged() for track in self._tracks])

    @property
    def n_held(self) -> int:
        """Chunks that are held to be compared."""
        return max((track.n_in_bank for track in self._tracks), default=0)

    def _joined(self, stems: list[Tensor]) -> Stems:
        return torch.stack(stems).reshape(*self._axes, *stems[0].shape).to(self._device)


class _Track:
    """One track's frames. Axes: source, channel, time; source, frame, bin."""

    def __init__(self, like: Float[Tensor, "source channel _time"]) -> None:
        self._rest = like.new_zeros(*like.shape[:2], HOP)  # from a hop before the centre of the next frame to be heard
        self._window = torch.hann_window(2 * HOP, dtype=like.dtype, device=like.device)
        self._tail = like.new_zeros(*like.shape[:2], 1, HOP)  # what the last frame gives behind its centre
        self._bands = _bands().to(like.device)
        self._n_samples = self._n_averaged = 0
        self._has_ended = False
        # What goes soon may not hold the memory of what stays, nor be held by it.
        self._waiting, self._compared = Store(BRIEFLY), Store(BRIEFLY)
        self._signals: deque[Float[Tensor, "source channel time"]] = deque()  # of chunks that wait
        self._logs: deque[Float[Tensor, "source frame bin"]] = deque()  # of those and of chunks before them
        self._levels: deque[Float[Tensor, "source frame band"]] = deque()
        self._loudness: deque[Float[Tensor, " frame"]] = deque()  # logarithm of the mixture's level

    def hear(self, stems: Float[Tensor, "source channel _time"]) -> None:
        self._n_samples += stems.shape[-1]
        self._rest = torch.cat((self._rest, stems), -1)
        while self._rest.shape[-1] >= (CHUNK + 1) * HOP:
            self._listen(CHUNK)

    def end(self) -> None:
        """No more comes: silence follows."""
        self._has_ended = True
        n_left = -(-self._rest.shape[-1] // HOP)
        self._rest = F.pad(self._rest, (0, (n_left + 1) * HOP - self._rest.shape[-1]))
        while n_left > 0:
            self._listen(min(CHUNK, n_left))
            n_left -= CHUNK

    @property
    def n_in_bank(self) -> int:
        """Chunks that are held to be compared."""
        return len(self._logs)

    @property
    def is_ready(self) -> bool:
        """Whether the next chunk and those ahead were heard."""
        return len(self._signals) > N_AHEAD

    @property
    def is_over(self) -> bool:
        """Whether all was given."""
        return self._has_ended and not self._signals

    def averaged(self) -> Float[Tensor, "source channel _time"]:
        """Stems from where the last ones ended to the centre of the chunk's last frame."""
        spec = self._spectra(self._signals[0])
        gains = self._gains()
        heard = spec[..., :_N_BINS]
        magnitude = _magnitude(heard)
        shares = magnitude * gains
        total = shares.sum(0).clamp_min(_NOTHING)
        # How loud it is here says the mixture, whatever it is elsewhere.
        kept = heard * (gains * (magnitude.sum(0) / total))[:, None]
        shares = shares / total
        spec[..., :_N_BINS] = torch.addcmul(kept, shares[:, None].to(kept.dtype), heard.sum(0) - kept.sum(0))
        stems = self._synthesised(spec)
        self._signals.popleft()
        n_given = max(self._n_averaged - 1, 0) * HOP
        start = 0 if self._n_averaged else HOP
        self._n_averaged += spec.shape[-2]
        return stems[..., start:][..., : self._n_samples - n_given]

    def _spectra(self, signal: Float[Tensor, "source channel _time"]) -> Complex[Tensor, "source channel frame bin"]:
        """Of frames that begin a hop after another."""
        spec: Tensor = torch.fft.rfft(signal.unfold(-1, 2 * HOP, HOP) * self._window)
        return spec

    def _synthesised(self, spec: Complex[Tensor, "source channel frame bin"]) -> Float[Tensor, "source channel _time"]:
        """The frames' signals, added to the one before, to the last one's centre."""
        frames: Tensor = torch.fft.irfft(spec, 2 * HOP).mul_(self._window)
        before, behind = frames.split(HOP, -1)
        weight = self._window.square()
        signal: Tensor = (before + torch.cat((self._tail, behind[..., :-1, :]), -2)) / (weight[:HOP] + weight[HOP:])
        self._tail = behind[..., -1:, :].clone()
        return signal.flatten(-2)

    def _listen(self, n_frames: int) -> None:
        """Put so many frames more into the bank."""
        signal = self._waiting.copy(self._rest[..., : (n_frames + 1) * HOP].contiguous())
        self._rest = self._rest[..., n_frames * HOP :]
        magnitude = _magnitude(self._spectra(signal)[..., :_N_BINS]).float()
        level = _root_mean_square(magnitude.sum(0))
        loudest = magnitude.amax(-1, keepdim=True).clamp_min(_NOTHING)
        levels = ((magnitude / loudest).square() @ self._bands).sqrt() * loudest
        self._signals.append(signal)
        self._logs.append(self._compared.copy((magnitude + (_FLOOR * level + _NOTHING)).log_().half()))
        self._levels.append(self._compared.copy(levels.pow(_POWER)))
        self._loudness.append(self._compared.copy((level[:, 0] + _NOTHING).log()))

    def _gains(self) -> Float[Tensor, "source frame bin"]:
        """What averaging makes of each magnitude of the chunk that waits longest."""
        n_before = len(self._logs) - len(self._signals)
        while n_before >= N_IN_BANK - N_AHEAD:
            self._logs.popleft()
            self._levels.popleft()
            self._loudness.popleft()
            n_before -= 1
        logs, levels, loudness = (
            [*islice(kept, n_before + 1 + N_AHEAD)] for kept in (self._logs, self._levels, self._loudness)
        )
        own = logs[n_before]
        here = slice(n_before * CHUNK, n_before * CHUNK + own.shape[1])
        steps = torch.cat(loudness)
        places = torch.arange(len(steps), device=steps.device)
        lags = (places[here, None] - places).abs()
        nearness = -((steps[here, None] - steps) / _LOUDER).square() - lags / _LATER
        nearness.masked_fill_(lags < _APART, -math.inf)
        gains = own.new_zeros(own.shape, dtype=torch.float32)
        for source, gain in enumerate(gains):
            weights = _weights(torch.cat([chunk[source] for chunk in levels]), here, nearness)
            for chunk, weight in zip(logs, weights.split(CHUNK, -1), strict=True):
                gain.addmm_(weight, chunk[source].float())
            gain.addcmul_(own[source], weights.sum(-1, keepdim=True), value=-1)
        return gains.exp_()


def _weights(
    levels: Float[Tensor, "frame band"], here: slice, nearness: Float[Tensor, "_here frame"]
) -> Float[Tensor, "_here frame"]:
    """What each frame counts for those here; the rest, to one, they count themselves.

    Args:
        levels: Of one stem's bands.
        here: Those frames.
        nearness: Logarithm of a factor for each two.
    """
    lags = range(-_NEIGHBOURS, _NEIGHBOURS + 1)
    padded = F.pad(levels, (0, 0, _NEIGHBOURS, _NEIGHBOURS))
    in_context = torch.cat([padded[_NEIGHBOURS + lag :][: len(levels)] * _NEARNESS ** abs(lag) for lag in lags], -1)
    in_context = in_context / in_context.amax(-1, keepdim=True).clamp_min(_NOTHING)
    in_context = F.normalize(in_context, dim=-1)
    weights = (in_context[here] @ in_context.mT).sub_(1).div_(_TOLERANCE).add_(nearness).exp_()
    if len(levels) > _N_ALIKE:
        weights.sub_(weights.topk(_N_ALIKE + 1).values[:, -1:]).clamp_(min=0)
    return weights / (weights.sum(-1, keepdim=True) + _OWN)


def _magnitude(spec: Complex[Tensor, "source channel frame bin"]) -> Float[Tensor, "source frame bin"]:
    """The root of the channels' mean power."""
    loudness: Tensor = reduce(torch.hypot, spec.abs().unbind(1))
    return loudness / math.sqrt(spec.shape[1])


def _root_mean_square(magnitude: Float[Tensor, "frame bin"]) -> Float[Tensor, "frame 1"]:
    """Of the bins, also where squares would overflow."""
    loudest = magnitude.amax(-1, keepdim=True).clamp_min(_NOTHING)
    return (magnitude / loudest).square().mean(-1, keepdim=True).sqrt() * loudest


@cache
def _bands() -> Float[Tensor, "bin band"]:
    """Takes powers of bins to means over bands whose widths grow with their frequency."""
    edges = np.unique(np.geomspace(3, _N_BINS, _N_BANDS + 1).round().astype(int))
    bands = torch.zeros(_N_BINS, len(edges) - 1)
    for band, (start, end) in enumerate(pairwise(edges)):
        bands[start:end, band] = 1 / (end - start)
    return bands
