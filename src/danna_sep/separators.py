"""Separators: mixture in, stems out.

Anything that is called with a mixture and gives stems can be blended and streamed, ours or not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from danna_sep.errors import ConfigError
from danna_sep.models.hearing import check_mixture
from danna_sep.shapes import Mixture, StemMagnitudes, Stems
from danna_sep.signal.stem_sum import StemSum
from danna_sep.signal.stft import magnitude_of, stft
from danna_sep.types import SAMPLE_RATE, SOURCES


@runtime_checkable
class Separator(Protocol):
    """Mixture to stems.

    One may also have a `device`, to which mixtures are then brought, say that it `hears_whole_tracks`, give itself
    for some of its sources with `only(sources)`, where that spares work, hear the segments of a track in a session
    of its own, and say whether it `only_masks`.

    Laws: the stems are as long as the mixture, for any length >= 1; the mixture is left untouched; items of
    a batch do not influence each other; silence gives silence; the same mixture gives the same stems.
    """

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the stems, in the order of the source axis."""

    @property
    def sample_rate(self) -> int:
        """Rate of mixture and stems, Hz."""

    def __call__(self, mixture: Mixture) -> Stems:
        """Stems of a stereo mixture with any leading axes, the source axis before the channel axis."""


@runtime_checkable
class _Narrowable(Protocol):
    """A separator that knows best what some of its sources need."""

    def only(self, sources: Sequence[str]) -> Separator:
        """The same for some of its sources."""


@runtime_checkable
class _Windowed(Protocol):
    """A waveform model that can hear a long mixture without remembering all of it, and spare what is not wanted.

    Attributes:
        gains_by_windows: Whether it then takes less time: for more memory.
    """

    gains_by_windows: bool

    def __call__(self, mixture: Mixture, places: Sequence[int]) -> Stems:
        """Stems of mixtures (batch, channel, time), of those of SOURCES that are wanted."""

    def in_windows(self, mixture: Mixture, n_in_window: int, places: Sequence[int]) -> Stems:
        """The same from windows of so many samples, as far as it remembers."""


@dataclass(frozen=True)
class MaskSeparator:
    """Magnitude -> mask -> magnitude estimate -> Wiener filter -> stems.

    Attributes:
        model: Network from magnitudes (batch, channel, bin, frame) to one mask a source.
        n_iterations: Of the Wiener filter.
        precision: Working precision of filter and inverse transform.
        block_frames: Frames that the network hears at once, in blocks that do not overlap; None
            for all. Quirk: the original's U-Net hears 2584.
        sources: Stems to return, out of SOURCES; all are estimated, for the filter needs them.
        n_fft: Window length, samples.
        hop_length: Samples from frame to frame.
        padding: Zeros behind the mixture, samples; more where the mixture is shorter than a window.
    """

    model: nn.Module
    n_iterations: int = 1
    precision: torch.dtype = torch.float32
    block_frames: int | None = None
    sources: tuple[str, ...] = SOURCES
    n_fft: int = 4096
    hop_length: int = 1024
    padding: int = 1024
    sample_rate: int = SAMPLE_RATE

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return _device_of(self.model)

    @property
    def hears_whole_tracks(self) -> bool:
        """Blocks are counted from the start of a track."""
        return self.block_frames is not None

    def __call__(self, mixture: Mixture) -> Stems:
        """See `Separator`."""
        check_mixture(mixture, self.model)
        total = self.nothing_of(mixture)
        total.add(self._mask(total.size), self.n_iterations)
        return self.stems_of(total, mixture)

    @property
    def transform(self) -> tuple[int, int, int, torch.dtype]:
        """Separators in which this is equal hear the same spectrum, and what they give may be added up before stems."""
        return self.n_fft, self.hop_length, self.padding, self.precision

    def nothing_of(self, mixture: Mixture) -> StemSum:
        """A sum to which masks can be added, of a mixture whose leading axes become one."""
        items = mixture.reshape(-1, *mixture.shape[-2:])
        surplus = max(self.padding, self.n_fft - items.shape[-1])
        spec = stft(F.pad(items, (0, surplus)), self.n_fft, self.hop_length)
        precise = spec.to(torch.complex128 if self.precision == torch.float64 else torch.complex64)
        return StemSum(precise, magnitude_of(spec))

    def stems_of(self, total: StemSum, mixture: Mixture) -> Stems:
        """The sum's stems, of those sources that are wanted; one after the other, so that little memory is needed."""
        batch, (n_channels, n_samples) = mixture.shape[:-2], mixture.shape[-2:]
        stems = mixture.new_empty(len(total.spec), len(self.sources), n_channels, n_samples)
        for place, index in enumerate(map(SOURCES.index, self.sources)):
            for channel in range(n_channels):
                stems[:, place, channel] = total.stem(index, channel, n_samples, self.n_fft, self.hop_length)
        return stems.reshape(*batch, *stems.shape[1:])

    def _mask(self, magnitude: Tensor) -> StemMagnitudes:
        if self.block_frames is None:
            return self.model(magnitude)  # type: ignore[no-any-return]
        return torch.cat([self.model(block) for block in magnitude.split(self.block_frames, -1)], -1)


@runtime_checkable
class _HearingSpectra(Protocol):
    @property
    def n_fft(self) -> int:
        """Window, samples."""

    @property
    def hop_length(self) -> int:
        """From frame to frame, samples."""


@runtime_checkable
class MaskNetwork(Protocol):
    """A network from magnitudes to masks."""

    @property
    def config(self) -> _HearingSpectra:
        """Which spectra it hears."""


def mask_separator(model: MaskNetwork, n_iterations: int = 1) -> MaskSeparator:
    """What separates with a network that knows which spectra it hears, and so many rounds of the Wiener filter."""
    n_fft, hop = model.config.n_fft, model.config.hop_length
    return MaskSeparator(cast("nn.Module", model), n_iterations, n_fft=n_fft, hop_length=hop, padding=hop)


@dataclass(frozen=True)
class WaveformSeparator:
    """Waveform -> stems, averaged over shifted runs.

    Attributes:
        model: Network from mixtures (batch, channel, time) to stems.
        n_shifts: Runs; run k hears the mixture behind k / n_shifts x max_shift samples of silence.
        max_shift: Samples.
        sources: Stems to return, out of SOURCES.
    """

    model: nn.Module
    n_shifts: int = 1
    max_shift: int = SAMPLE_RATE // 2
    sources: tuple[str, ...] = SOURCES
    sample_rate: int = SAMPLE_RATE

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return _device_of(self.model)

    @property
    def has_windows(self) -> bool:
        """Whether long segments can be heard in windows, and had better be."""
        return isinstance(self.model, _Windowed) and self.model.gains_by_windows

    def __call__(self, mixture: Mixture) -> Stems:
        """See `Separator`."""
        check_mixture(mixture, self.model)
        if isinstance(self.model, _Windowed):
            return self._averaged(mixture, partial(self.model, places=self._places))
        return self._averaged(mixture, lambda items: self._wanted(self.model(items)))

    def in_windows(self, mixture: Mixture, n_samples: int) -> Stems:
        """As a call, but that the model may remember no more than windows of so many samples, which cross-fade.

        Only where it `has_windows`.
        """
        if not isinstance(self.model, _Windowed):
            raise ConfigError(f"{type(self.model).__name__} has no windows")
        in_windows = partial(self.model.in_windows, n_in_window=n_samples, places=self._places)
        return self._averaged(mixture, in_windows)

    @property
    def _places(self) -> list[int]:
        return [SOURCES.index(source) for source in self.sources]

    def _wanted(self, stems: Stems) -> Float[Tensor, "*batch _source channel time"]:
        return stems if self.sources == SOURCES else stems[:, self._places]

    def _averaged(self, mixture: Mixture, model: Callable[[Mixture], Stems]) -> Stems:
        items = mixture.reshape(-1, *mixture.shape[-2:])
        stems: Tensor | None = None
        for run in range(self.n_shifts):
            shift = run * self.max_shift // self.n_shifts
            estimate = model(F.pad(items, (shift, 0)))[..., shift:]
            stems = estimate if stems is None else stems + estimate
        if stems is None:
            raise ConfigError(f"shifts must be at least 1, not {self.n_shifts}")
        # Of silence the network hears nothing, but it does not say exactly nothing.
        audible = (items != 0).any(-1).any(-1)[:, None, None, None]
        share = audible.to(stems.dtype) / self.n_shifts
        stems = stems * share if stems.requires_grad else stems.mul_(share)
        return stems.reshape(*mixture.shape[:-2], *stems.shape[1:])


@dataclass(frozen=True)
class _Selection:
    """Some of the stems of a separator that always computes all."""

    separator: Separator
    sources: tuple[str, ...]

    @property
    def sample_rate(self) -> int:
        return self.separator.sample_rate

    @property
    def device(self) -> torch.device | str:
        return getattr(self.separator, "device", "cpu")

    @property
    def hears_whole_tracks(self) -> bool:
        return getattr(self.separator, "hears_whole_tracks", False)

    def __call__(self, mixture: Mixture) -> Stems:
        return pick(self.separator(mixture), self.separator.sources, self.sources)


def only(separator: Separator, sources: Sequence[str]) -> Separator:
    """`separator` for some of its sources, in the order given; what they do not need is not computed.

    Raises:
        ConfigError: A source that it does not have.
    """
    wanted = tuple(sources)
    missing = [source for source in wanted if source not in separator.sources]
    if missing or not wanted:
        raise ConfigError(f"no such stem: {', '.join(missing)}; there are {', '.join(separator.sources)}")
    if wanted == separator.sources:
        return separator
    if isinstance(separator, _Narrowable):
        return separator.only(wanted)
    if isinstance(separator, MaskSeparator | WaveformSeparator):
        return replace(separator, sources=wanted)
    return _Selection(separator, wanted)


def spares(separator: Separator) -> bool:
    """Whether it takes less time or memory for some of its sources than for all."""
    return isinstance(separator, MaskSeparator | WaveformSeparator | _Narrowable)


def pick(
    stems: Stems, available: tuple[str, ...], wanted: tuple[str, ...]
) -> Float[Tensor, "*batch _source channel time"]:
    """Those of the stems that are wanted, in that order; all must be available."""
    places = torch.tensor([available.index(source) for source in wanted], device=stems.device)
    return stems.index_select(-3, places)


def _device_of(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
