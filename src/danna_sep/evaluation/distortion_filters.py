"""The distortion filters of BSS Eval: from the channels of sources to estimates, least squares over the whole track.

The track is read once, for correlations; the normal equations are made of these. See `bss_eval`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from danna_sep.errors import ConfigError
from danna_sep.evaluation.windows import Blocks, rechunked

_RIDGE: Final = 1e-13
_CHUNK_FFT: Final = 2**15


@dataclass(frozen=True)
class Statistics:
    """What the whole track tells.

    Attributes:
        correlation: r[a, b, k] = sum over n of a[n] b[n - k], k = 0 .. n_taps - 1, with a each channel of each source,
            then of each estimate, b each channel of each source.
        audible_sources: Whether a source's channels ever add up to anything.
        audible_estimates: Likewise.
        n_frames: Length of the track.
        n_channels: Channels of each source.
    """

    correlation: Float[Tensor, "_from _to lag"]
    audible_sources: Bool[Tensor, " _source"]
    audible_estimates: Bool[Tensor, " _estimate"]
    n_frames: int
    n_channels: int

    def only(self, sources: Sequence[int], estimates: Sequence[int]) -> Statistics:
        """Of some sources and estimates."""
        n_sources = len(self.audible_sources)
        kept_sources = self._rows(sources)
        kept = kept_sources + self._rows([n_sources + place for place in estimates])
        return Statistics(
            self.correlation[kept][:, kept_sources],
            self.audible_sources[list(sources)],
            self.audible_estimates[list(estimates)],
            self.n_frames,
            self.n_channels,
        )

    def _rows(self, places: Sequence[int]) -> list[int]:
        return [place * self.n_channels + channel for place in places for channel in range(self.n_channels)]


@dataclass(frozen=True)
class Filters:
    """Spectra of the distortion filters: from the channels of all sources, and from those of the estimate's own."""

    of_all: Complex[Tensor, "_source channel _estimate _to bin"]
    of_own: Complex[Tensor, "_estimate channel _to bin"]
    n_fft: int


def correlate(blocks: Blocks, n_estimates: int, n_taps: int, check: Callable[[], object]) -> Statistics:
    """Read the track once.

    Args:
        blocks: Sources and estimates.
        n_estimates: How many estimates there are to be.
        n_taps: Lags of the correlations.
        check: Called often, so that it can stop all by an exception.

    Raises:
        ConfigError: Another number of estimates, or other lengths or channels than those of the sources.
    """
    # A chunk with its past fills the transform, so that lags of up to n_taps - 1 do not wrap round.
    n_fft = max(_CHUNK_FFT, 2 ** (4 * n_taps - 1).bit_length())
    past = n_taps - 1
    n_frames = 0
    sources_heard = estimates_heard = before = spectrum = None
    n_channels = 1
    for references, estimates in rechunked(blocks, n_fft - past):
        check()
        if len(estimates) != n_estimates or references.shape[1:] != estimates.shape[1:]:
            raise ConfigError(
                f"{n_estimates} estimates of {tuple(references.shape)} are needed, not {tuple(estimates.shape)}"
            )
        n_channels = references.shape[1]
        n_rows = references.shape[0] * n_channels
        here = torch.cat([references, estimates]).flatten(0, 1).double()
        if spectrum is None or before is None or sources_heard is None or estimates_heard is None:
            before = here.new_zeros(n_rows, past)
            spectrum = torch.zeros(len(here), n_rows, n_fft // 2 + 1, dtype=torch.complex128)
            sources_heard = torch.zeros(len(references), dtype=torch.bool)
            estimates_heard = torch.zeros(n_estimates, dtype=torch.bool)
        with_past = torch.cat([before, here[:n_rows]], 1)
        delayed = torch.fft.rfft(with_past, n_fft).conj_physical()
        rows = torch.fft.rfft(torch.nn.functional.pad(here, (past, 0)), n_fft)
        for total, row in zip(spectrum, rows, strict=True):
            total.addcmul_(delayed, row)
        before = with_past[:, with_past.shape[1] - past :]
        sources_heard |= audible(references)
        estimates_heard |= audible(estimates)
        n_frames += here.shape[1]
    if spectrum is None or sources_heard is None or estimates_heard is None:
        empty = torch.zeros(0, dtype=torch.bool)
        return Statistics(torch.zeros(0, 0, n_taps, dtype=torch.float64), empty, empty, 0, n_channels)
    correlation = torch.stack([torch.fft.irfft(row, n_fft)[:, :n_taps] for row in spectrum])
    return Statistics(correlation, sources_heard, estimates_heard, n_frames, n_channels)


def filters_of(statistics: Statistics, own: Sequence[int], n_fft: int) -> Filters:
    """Least-squares filters from all sources to each estimate, and from its own one alone.

    Args:
        statistics: Of sources and estimates that are all audible.
        own: The source of each estimate.
        n_fft: Length of the transform that gives the filters' spectra.
    """
    n_channels, n_taps = statistics.n_channels, statistics.correlation.shape[-1]
    n_sources, n_estimates = len(statistics.audible_sources), len(statistics.audible_estimates)
    n_rows = n_sources * n_channels
    # (source and channel, tap; estimate and channel)
    wanted = statistics.correlation[n_rows:].permute(1, 2, 0)
    of_all = _solve(_normal_matrix(statistics.correlation[:n_rows]), wanted.flatten(0, 1))
    taps = of_all.reshape(n_sources, n_channels, n_taps, n_estimates, n_channels).permute(0, 1, 3, 4, 2)
    own_taps = taps.new_empty(n_estimates, n_channels, n_channels, n_taps)
    for place, source in enumerate(own):
        rows = slice(source * n_channels, (source + 1) * n_channels)
        columns = slice(place * n_channels, (place + 1) * n_channels)
        matrix = _normal_matrix(statistics.correlation[rows, rows])
        solution = _solve(matrix, wanted[rows, :, columns].flatten(0, 1))
        own_taps[place] = solution.reshape(n_channels, n_taps, n_channels).permute(0, 2, 1)
    return Filters(torch.fft.rfft(taps, n_fft), torch.fft.rfft(own_taps, n_fft), n_fft)


def _normal_matrix(correlation: Float[Tensor, "row row lag"]) -> Float[Tensor, "equation equation"]:
    """Inner products of the delayed channels with each other: Toeplitz in each pair of channels."""
    n_rows, _, n_taps = correlation.shape
    matrix = correlation.new_empty(n_rows, n_taps, n_rows, n_taps)
    for i in range(n_rows):
        for j in range(n_rows):
            # <a delayed by p, b delayed by q> = r_ab[q - p], and r_ab[-k] = r_ba[k].
            lags = torch.cat([correlation[j, i].flip(0)[:-1], correlation[i, j]])
            matrix[i, :, j] = lags.unfold(0, n_taps, 1).flip(0)
    return matrix.reshape(n_rows * n_taps, n_rows * n_taps)


def _solve(
    matrix: Float[Tensor, "equation equation"], right: Float[Tensor, "equation _column"]
) -> Float[Tensor, "equation _column"]:
    """A least-squares solution; of a singular system, such as that of two equal channels, any."""
    # museval adds the second term. The first, white noise 130 dB below each source, keeps the factor real where
    # channels are equal, and changes measures by about 1e-5 dB.
    matrix.diagonal().mul_(1 + _RIDGE).add_(torch.finfo(torch.float64).eps)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if not failed:
        solution: Tensor = torch.cholesky_solve(right, factor)
        return solution
    solution, failed = torch.linalg.solve_ex(matrix, right)
    if failed or not solution.isfinite().all():
        solution = torch.linalg.lstsq(matrix, right, driver="gelsy").solution
    return solution


def audible(stems: Float[Tensor, "*batch source channel time"]) -> Bool[Tensor, "*batch source"]:
    """Whether the channels ever add up to anything; see the quirk of `bss_eval`."""
    return (stems.sum(-2) != 0).any(-1)
