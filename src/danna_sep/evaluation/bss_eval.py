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
from typing import Final

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from danna_sep.errors import ConfigError
from danna_sep.evaluation.distortion_filters import Filters, audible, correlate, filters_of
from danna_sep.evaluation.results import MEASURES
from danna_sep.evaluation.windows import Blocks, batched, windows
from danna_sep.types import SAMPLE_RATE

N_TAPS: Final = 512
"""Length of the distortion filters, samples."""

WINDOW: Final = SAMPLE_RATE
"""Samples of a window, and from one window to the next: 1 s."""

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
    statistics = correlate(blocks(), len(targets), n_taps, check)
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
    filters = filters_of(statistics.only(heard, judged), own, _fft_length(window + n_taps - 1))
    batches = batched(windows(blocks(), window, hop, n_windows), _BATCH)
    for index, (references, estimates) in enumerate(batches):
        check()
        start = index * _BATCH
        part = _measured(references[:, heard], estimates[:, judged], filters, own)
        values[:, judged, start : start + len(references)] = part
    return values


def _measured(
    references: Float[Tensor, "window source channel time"],
    estimates: Float[Tensor, "window estimate channel time"],
    filters: Filters,
    own: Sequence[int],
) -> Float[Tensor, "measure=4 estimate window"]:
    """The four measures of some windows."""
    references, estimates = references.double(), estimates.double()
    heard = audible(references).all(1) & audible(estimates).all(1)
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
