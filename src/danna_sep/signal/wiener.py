"""Multichannel Wiener filter: source variance -> spatial covariance -> gain -> stems.

Each source is a zero-mean complex Gaussian in every bin and frame: its covariance over the two channels is a
variance v_j(t, f) times a spatial covariance R_j(f) that does not depend on time. Given both, the best estimate of the
source is v_j R_j C^-1 x with C the sum over sources. They are estimated from magnitude estimates and, iterated,
from the filter's own output (expectation-maximisation).

Everything is differentiable and batched. The whole track need not be in memory: `spatial_sums` of parts
add up to those of the whole; `filter_spec` needs these and `scale_of` the whole, no other frames.

Reference: Duong, Vincent, Gribonval, TASLP 18(7), 2010; Nugraha, Liutkus, Vincent, TASLP 24(9), 2016;
Uhlich et al., ICASSP 2017. Regularisation and scaling are those of the norbert package.

Differs: `bin_filter.py` arranges the products so that single precision bears the regularisation of double precision.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from danna_sep.shapes import Spec, StemMagnitudes, StemSpecs
from danna_sep.signal.bin_filter import (
    BinFilter,
    doubled_variances,
    phase_of,
    rows_of,
    sums_of_magnitudes,
    with_floor,
)
from danna_sep.signal.spatial import (
    EPSILON,
    SpatialCovariance,
    SpatialSums,
    power_of,
    source_variance,
    spatial_covariance,
    spatial_sums,
)

_LOUDEST = 10.0
"""Spectra whose magnitude exceeds this are scaled down to it, so that the regularisation keeps its meaning."""

_ABSURD = 1e4
"""Scale of spectra that are louder than any music, whose powers single precision may not hold."""

_CHUNK_SIZE = 2**19
"""Magnitudes filtered at a time: what the filter needs besides stays small and near the processor."""

_GROUP_SIZE = 16
"""Chunks whose covariances are computed together: these are few numbers, and take as long for one chunk as for all."""


def magnitude_to_spec(
    magnitudes: StemMagnitudes, mixture: Spec, softmask: bool = False, epsilon: float = EPSILON
) -> StemSpecs:
    """Complex estimates from magnitudes.

    Args:
        magnitudes: Estimated magnitude of each source.
        mixture: Spectrum of the mixture.
        softmask: Share the mixture out in proportion to the magnitudes (the estimates then sum to
            the mixture) instead of giving each magnitude the mixture's phase.
        epsilon: Regularisation of the sharing.
    """
    if softmask:
        return mixture.unsqueeze(-4) * (magnitudes / (epsilon + magnitudes.sum(-4, keepdim=True)))
    return magnitudes * phase_of(mixture).unsqueeze(-4)


def with_residual(
    magnitudes: StemMagnitudes, mixture: Spec, epsilon: float = EPSILON
) -> Float[Tensor, "*batch source+1 channel bin frame"]:
    """The sources and, as one more, what they leave of the mixture's magnitude: max(0, |x| - sum of V_j).

    Quirk: as in norbert, the sources are also scaled, by one gain per channel and bin that brings their sum
    nearest to |x| over the frames given, while the residual is taken from their sum before scaling.
    """
    total = magnitudes.sum(-4)
    size = mixture.abs().clamp(min=epsilon)
    gain = (size * total).sum(-1, keepdim=True) / (epsilon + total.square().sum(-1, keepdim=True))
    rest = (size - total).clamp(min=0)
    return torch.cat((magnitudes * gain.unsqueeze(-4), rest.unsqueeze(-4)), -4)


def scale_of(mixture: Spec) -> Float[Tensor, "*batch"]:
    """The factor by which an item's spectra are divided before filtering: max(1, max |x| / 10)."""
    return (_largest(mixture) / _LOUDEST).clamp(min=1)


def filter_spec(
    mixture: Spec, estimates: StemSpecs, covariance: SpatialCovariance, epsilon: float = EPSILON
) -> StemSpecs:
    """v_j R_j C^-1 x, with the variances of `estimates` and the given spatial covariances.

    Args:
        mixture: x.
        estimates: What the variances v_j are taken from.
        covariance: R_j.
        epsilon: Regularisation: C = sum_j v_j R_j + sqrt(epsilon) I.
    """
    floor = torch.full((*mixture.shape[:-3], 1, 1), epsilon**0.5, dtype=mixture.real.dtype, device=mixture.device)
    variances = with_floor(source_variance(estimates), floor)
    return BinFilter.of(covariance, variances).apply(rows_of(mixture), variances)


def wiener(
    magnitudes: StemMagnitudes,
    mixture: Spec,
    n_iterations: int = 1,
    softmask: bool = False,
    residual: bool = False,
    epsilon: float = EPSILON,
    *,
    shares: Float[Tensor, " source"] | None = None,
    onto: StemSpecs | None = None,
) -> StemSpecs:
    """Stem spectra from magnitude estimates, with statistics over all frames given.

    Args:
        magnitudes: Estimated magnitude of each source, >= 0.
        mixture: Spectrum of the stereo mixture. Its precision is the working precision.
        n_iterations: Rounds of expectation-maximisation; none gives `magnitude_to_spec`.
        softmask: See `magnitude_to_spec`.
        residual: Model what the sources leave over as one more source (`with_residual`), and drop it.
        epsilon: Regularisation.
        shares: What each stem is multiplied by.
        onto: What they are added to, in place, and what is then given; not differentiable.
    """
    magnitudes = magnitudes.to(mixture.real.dtype)
    if not n_iterations:
        estimates = magnitude_to_spec(
            with_residual(magnitudes, mixture, epsilon) if residual else magnitudes, mixture, softmask, epsilon
        )
        return _added(estimates.narrow(-4, 0, magnitudes.shape[-4]), shares, onto)
    scale = scale_of(mixture)
    if bool((scale > _ABSURD).any()):  # powers of such numbers leave single precision
        scale = scale[..., None, None, None]
        quiet = wiener(magnitudes / scale.unsqueeze(-1), mixture / scale, n_iterations, softmask, residual, epsilon)
        return _added(quiet * scale.unsqueeze(-1), shares, onto)
    n_bins = _GROUP_SIZE * _n_bins_at_a_time(magnitudes)
    pairs = zip(magnitudes.split(n_bins, -2), mixture.split(n_bins, -2), strict=True)

    def filtered(some: tuple[Tensor, Tensor], out: Tensor | None = None) -> StemSpecs:
        adds = onto is not None
        return _wiener_of_bins(*some, scale, n_iterations, softmask, residual, epsilon, shares, out, adds=adds)

    if torch.is_grad_enabled() and (magnitudes.requires_grad or mixture.requires_grad):
        return _added(torch.cat([filtered(pair) for pair in pairs], -2), None, onto)
    stems = torch.empty(magnitudes.shape, dtype=mixture.dtype, device=mixture.device) if onto is None else onto
    for part, pair in zip(stems.split(n_bins, -2), pairs, strict=True):
        filtered(pair, part)
    return stems


def _added(stems: StemSpecs, shares: Float[Tensor, " source"] | None, onto: StemSpecs | None) -> StemSpecs:
    if shares is not None:
        stems = stems * shares.to(stems.real)[:, None, None, None]
    return stems if onto is None else onto.add_(stems)


def _n_bins_at_a_time(magnitudes: StemMagnitudes) -> int:
    return max(1, _CHUNK_SIZE // (magnitudes[..., :1, :].numel() or 1))


def _wiener_of_bins(
    magnitudes: StemMagnitudes,
    mixture: Spec,
    scale: Float[Tensor, "*batch"],
    n_iterations: int,
    softmask: bool,
    residual: bool,
    epsilon: float,
    shares: Float[Tensor, " source"] | None = None,
    out: StemSpecs | None = None,
    *,
    adds: bool = False,
) -> StemSpecs:
    """`wiener` of some bins, each of which is by itself but for the scale; in `out`, if given, or added to it.

    Instead of dividing spectra by the scale, the regularisation, which is added to powers, is multiplied by its square.
    """
    n_sources, n_bins = magnitudes.shape[-4], _n_bins_at_a_time(magnitudes)
    power_scale = scale.square()[..., None, None]
    floor = epsilon**0.5 * power_scale
    rows, variances, sums = [], [], []
    for some, heard in zip(magnitudes.split(n_bins, -2), mixture.split(n_bins, -2), strict=True):
        if residual:
            some = with_residual(some, heard, epsilon)
        if softmask:
            some = heard.abs().unsqueeze(-4) * (some / (epsilon + some.sum(-4, keepdim=True)))
        rows.append(rows_of(heard))
        sums.append(sums_of_magnitudes(some, rows[-1]))
        variances.append(doubled_variances(some, floor, in_place=out is not None))
    places = [None] * len(rows) if out is None else out.split(n_bins, -2)
    estimates: list[Tensor] = []
    for n_left in reversed(range(n_iterations)):
        filtering = BinFilter.of(spatial_covariance(SpatialSums.of_bins(sums), epsilon, power_scale), variances[0])
        if shares is not None and not n_left:
            filtering = filtering.scaled(F.pad(shares, (0, 1)) if residual else shares)
        for i, (some_bins, place) in enumerate(zip(filtering.split(n_bins), places, strict=True)):
            some = some_bins.apply(rows[i], variances[i], None if n_left or residual else place, adds=adds)
            if n_left:
                variances[i], sums[i] = with_floor(source_variance(some), floor), spatial_sums(some)
            elif place is None:
                estimates.append(some.narrow(-4, 0, n_sources))
            elif residual:
                known = some.narrow(-4, 0, n_sources)
                place.copy_(place + known if adds else known)
    return torch.cat(estimates, -2) if out is None else out


def _largest(spec: Spec) -> Float[Tensor, "*batch"]:
    """The largest magnitude; by powers, which are quick to compute, unless they overflow or a slope is asked for."""
    if not spec.requires_grad:
        power = power_of(spec).amax((-3, -2, -1))
        if bool(power.isfinite().all()):
            return power.sqrt()
    return spec.abs().amax((-3, -2, -1))
