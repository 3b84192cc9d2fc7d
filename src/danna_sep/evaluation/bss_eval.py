"""BSS Eval version 4, images mode: how far an estimate is from its source, and of which kind the error is.

An estimate is explained as its own source (image), filtered; plus the other sources, filtered; plus the rest. With s
the source, P_s the estimate's least-squares projection on the delayed channels of its own source (delays of 0 to 511
samples) and P_all that on those of all sources, energies over the samples and channels of a window give

    SDR  |s|^2     / |estimate - s|^2          signal to distortion
    ISR  |s|^2     / |P_s - s|^2               image to spatial distortion
    SIR  |P_s|^2   / |P_all - P_s|^2           signal to interference
    SAR  |P_all|^2 / |estimate - P_all|^2      signal to artifacts

in dB. The filters are those of the whole track; each window of the sources goes through them by itself, with the
filters' tail behind it.

How it is fast: inner products of delayed channels depend on the difference of the delays only, so the normal equations
come from one cross-spectrum, added up over chunks of the track; one Cholesky factor serves all estimates; and the
energies of a window are read off its spectrum (Parseval), so that nothing filtered ever returns to the time domain.

Reference: Vincent, Gribonval, Févotte, "Performance measurement in blind audio source separation", IEEE TASLP 14(4),
2006; Stöter, Liutkus, Ito, "The 2018 Signal Separation Evaluation Campaign", LVA/ICA 2018. Values are those of the
package `museval`.

Quirk: as in museval, a source counts as silent where the *sum* of its channels is zero, and one silent source or
estimate makes the window NaN for all of them.

Sources should be 16-bit, as those of MUSDB18 are; `evaluate` rounds them. What has nothing above 16 kHz, not even
rounding noise, makes the normal equations singular in double precision, and the values noise, here as in museval.

Differs: museval refuses a track with a source or estimate that is silent from start to end. Here such a source is left
out, its values are NaN, and the others get what museval gives without it; such an estimate has NaN, and the others get
what they would if it were audible. There can be fewer estimates than sources: all sources explain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from danna_sep.errors import ConfigError
from danna_sep.evaluation.results import MEASURES
from danna_sep.evaluation.windows import Blocks, batched, rechunked, windows
from danna_sep.types import SAMPLE_RATE

N_TAPS: Final = 512
"""Length of the distortion filters, samples."""

WINDOW: Final = SAMPLE_RATE
"""Samples of a window, and from one window to the next: 1 s."""

_RIDGE: Final = 1e-13
_CHUNK_FFT: Final = 2**15
_BATCH: Final = 4
"""Windows that are looked at together."""


def bss_eval(
    references: Float[Tensor, "_source channel time"],
    estimates: Float[Tensor, "_estimate channel time"],
    *,
    targets: Sequence[int] | None = None,
    window: int = WINDOW,
    hop: int | None = None,
    n_taps: int = N_TAPS,
) -> Float[Tensor, "measure=4 _estimate _window"]:
    """SDR, ISR, SIR and SAR of each estimate in each window, dB, in double precision.

    Args:
        references: The sources.
        estimates: As many estimates, or with `targets`, of some of them.
        targets: The source that each estimate is for.
        window: Samples of a window; one longer than the track is cut to it, else an incomplete last one is left out.
        hop: Samples from one window's start to the next; by default, those of a window.
        n_taps: Length of the distortion filters, samples.

    Returns:
        Values: NaN where a source or an estimate is silent; infinite where there is no error at all.
    """
    return bss_eval_of_blocks(
        lambda: [(references, estimates)],
        range(len(references)) if targets is None else targets,
        window=window,
        hop=hop,
        n_taps=n_taps,
    )


def bss_eval_of_blocks(
    blocks: Callable[[], Blocks],
    targets: Sequence[int],
    *,
    window: int = WINDOW,
    hop: int | None = None,
    n_taps: int = N_TAPS,
    check: Callable[[], object] = lambda: None,
) -> Float[Tensor, "measure=4 _estimate _window"]:
    """As `bss_eval`, for a track that is read twice, in blocks, in memory that does not depend on its length.

    Args:
        blocks: Called twice, gives the track from its start; the result does not depend on where it is cut.
        targets: The source that each estimate is for.
        window: See `bss_eval`.
        hop: See `bss_eval`.
        n_taps: See `bss_eval`.
        check: Called often, so that it can stop all by an exception.

    Raises:
        ConfigError: No samples, or estimates that do not fit the targets.
    """
    hop = hop or window
    statistics = _gather(blocks(), len(targets), n_taps, check)
    if not statistics.n_frames:
        raise ConfigError("nothing to evaluate: the track has no samples")
    n_windows = max(1, (statistics.n_frames - window) // hop + 1)
    window = min(window, statistics.n_frames)
    values = torch.full((len(MEASURES), len(targets), n_windows), torch.nan, dtype=torch.float64)
    heard = statistics.audible_sources.nonzero()[:, 0].tolist()
    judged = [place for place, target in enumerate(targets) if statistics.audible_estimates[place] and target in heard]
    if not judged:
        return values
    own = [heard.index(targets[place]) for place in judged]
    filters = _filters(statistics.only(heard, judged), own, _fft_length(window + n_taps - 1))
    batches = batched(windows(blocks(), window, hop, n_windows), _BATCH)
    for index, (references, estimates) in enumerate(batches):
        check()
        start = index * _BATCH
        part = _measured(references[:, heard], estimates[:, judged], filters, own)
        values[:, judged, start : start + len(references)] = part
    return values


@dataclass(frozen=True)
class _Statistics:
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

    def only(self, sources: Sequence[int], estimates: Sequence[int]) -> _Statistics:
        """Of some sources and estimates."""
        n_sources = len(self.audible_sources)
        kept_sources = self._rows(sources)
        kept = kept_sources + self._rows([n_sources + place for place in estimates])
        return _Statistics(
            self.correlation[kept][:, kept_sources],
            self.audible_sources[list(sources)],
            self.audible_estimates[list(estimates)],
            self.n_frames,
            self.n_channels,
        )

    def _rows(self, places: Sequence[int]) -> list[int]:
        return [place * self.n_channels + channel for place in places for channel in range(self.n_channels)]


@dataclass(frozen=True)
class _Filters:
    """Spectra of the distortion filters: from the channels of all sources, and from those of the estimate's own."""

    of_all: Complex[Tensor, "_source channel _estimate _to bin"]
    of_own: Complex[Tensor, "_estimate channel _to bin"]
    n_fft: int


def _gather(blocks: Blocks, n_estimates: int, n_taps: int, check: Callable[[], object]) -> _Statistics:
    """Read the track once."""
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
        sources_heard |= _audible(references)
        estimates_heard |= _audible(estimates)
        n_frames += here.shape[1]
    if spectrum is None or sources_heard is None or estimates_heard is None:
        empty = torch.zeros(0, dtype=torch.bool)
        return _Statistics(torch.zeros(0, 0, n_taps, dtype=torch.float64), empty, empty, 0, n_channels)
    correlation = torch.stack([torch.fft.irfft(row, n_fft)[:, :n_taps] for row in spectrum])
    return _Statistics(correlation, sources_heard, estimates_heard, n_frames, n_channels)


def _filters(statistics: _Statistics, own: Sequence[int], n_fft: int) -> _Filters:
    """Least-squares filters from all sources to each estimate, and from its own one alone."""
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
    return _Filters(torch.fft.rfft(taps, n_fft), torch.fft.rfft(own_taps, n_fft), n_fft)


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


def _measured(
    references: Float[Tensor, "window source channel time"],
    estimates: Float[Tensor, "window estimate channel time"],
    filters: _Filters,
    own: Sequence[int],
) -> Float[Tensor, "measure=4 estimate window"]:
    """The four measures of some windows."""
    references, estimates = references.double(), estimates.double()
    heard = _audible(references).all(1) & _audible(estimates).all(1)
    sources = torch.fft.rfft(references, filters.n_fft)
    outputs = torch.fft.rfft(estimates, filters.n_fft)
    shape = outputs.shape
    explained = torch.zeros(shape, dtype=torch.complex128)
    for source, rows in enumerate(filters.of_all):
        for channel, row in enumerate(rows):
            explained.addcmul_(sources[:, source, channel, None, None], row)
    target = sources[:, list(own)]
    image = torch.zeros(shape, dtype=torch.complex128)
    for channel in range(shape[2]):
        image.addcmul_(target[:, :, channel, None], filters.of_own[:, channel])
    true = references[:, list(own)]
    n_fft = filters.n_fft
    true_energy = true.square().sum((-2, -1))
    numerators = (true_energy, true_energy, _energy(image, n_fft), _energy(explained, n_fft))
    denominators = (
        (estimates - true).square().sum((-2, -1)),
        _energy(image - target, n_fft),
        _energy(explained - image, n_fft),
        _energy(outputs - explained, n_fft),
    )
    ratios = 10 * torch.log10(torch.stack(numerators) / torch.stack(denominators))
    return ratios.masked_fill(~heard[None, :, None], torch.nan).transpose(1, 2)


def _energy(spectrum: Complex[Tensor, "window estimate channel bin"], n_fft: int) -> Float[Tensor, "window estimate"]:
    """Sum of squares of the real signals of such spectra (Parseval); `n_fft` is even."""
    squares = torch.view_as_real(spectrum).square().sum(-1)
    inner = squares.sum(-1) * 2 - squares[..., 0] - squares[..., -1]
    return inner.sum(-1) / n_fft


def _audible(stems: Float[Tensor, "*batch source channel time"]) -> Bool[Tensor, "*batch source"]:
    """Whether the channels ever add up to anything."""
    return (stems.sum(-2) != 0).any(-1)


def _fft_length(at_least: int) -> int:
    """The smallest even number without prime factors above 5: transforms of such lengths are fast."""
    length = at_least + at_least % 2
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 2
