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
from jaxtyping import Float
from torch import Tensor

from danna_sep.memory import in_large_pages
from danna_sep.shapes import Spec, StemMagnitudes, StemSpecs
from danna_sep.signal.bin_filter import (
    BinFilter,
    Heard,
    Room,
    heard_of,
    phase_of,
    sums_of_magnitudes,
    variances_of_magnitudes,
    with_floor,
)
from danna_sep.signal.spatial import (
    EPSILON,
    SpatialCovariance,
    SpatialSums,
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
    if not mixture.requires_grad:
        # Absolute values take long: only of bins that hold numbers as large as the largest may have.
        parts, axes = torch.view_as_real(mixture.resolve_conj()), (-4, -2, -1)
        peaks = torch.maximum(parts.amax(axes), -parts.amin(axes))
        too_small = 1.5 * peaks < peaks.amax(-1, keepdim=True)
        mixture = mixture[..., ~too_small.reshape(-1, too_small.shape[-1]).all(0), :]
    return (mixture.abs().amax((-3, -2, -1)) / _LOUDEST).clamp(min=1)


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
    return BinFilter.of(covariance, variances).apply(heard_of(mixture), variances)


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
    heard = heard_of(mixture)
    scale = scale_of(heard.movedim(-3, -2))
    if bool((scale > _ABSURD).any()):  # powers of such numbers leave single precision
        scale = scale[..., None, None, None]
        quiet = wiener(magnitudes / scale.unsqueeze(-1), mixture / scale, n_iterations, softmask, residual, epsilon)
        return _added(quiet * scale.unsqueeze(-1), shares, onto)
    slope = torch.is_grad_enabled() and (magnitudes.requires_grad or mixture.requires_grad)
    if n_iterations > 1 or softmask or residual or slope:
        stems = _wiener_by_steps(magnitudes, heard, scale, n_iterations, softmask, residual, epsilon)
        return _added(stems, shares, onto)
    stems = in_large_pages(magnitudes.shape, mixture) if onto is None else onto
    _wiener_in_place(magnitudes, heard, scale, epsilon, shares, stems, adds=onto is not None)
    return stems


def _added(stems: StemSpecs, shares: Float[Tensor, " source"] | None, onto: StemSpecs | None) -> StemSpecs:
    if shares is not None:
        stems = stems * shares.to(stems.real)[:, None, None, None]
    return stems if onto is None else onto.add_(stems)


def _n_bins_at_a_time(magnitudes: StemMagnitudes) -> int:
    return max(1, _CHUNK_SIZE // (magnitudes[..., :1, :].numel() or 1))


def _wiener_in_place(
    magnitudes: StemMagnitudes,
    heard: Heard,
    scale: Float[Tensor, "*batch"],
    epsilon: float,
    shares: Float[Tensor, " source"] | None,
    out: StemSpecs,
    *,
    adds: bool,
) -> None:
    """One round of `wiener`, put in `out` or added to it: each item's sums, then its stems, some bins at a time."""
    if scale.ndim:
        for item in zip(magnitudes, heard, scale, out, strict=True):
            _wiener_in_place(*item[:3], epsilon, shares, item[3], adds=adds)
        return
    n_bins = _n_bins_at_a_time(magnitudes)
    parts = list(zip(magnitudes.split(n_bins, -2), heard.split(n_bins), strict=True))
    power_scale, floor = _power_scale_and_floor(scale, epsilon)
    sums = SpatialSums.of_bins([sums_of_magnitudes(*part) for part in parts])
    filtering = BinFilter.of(spatial_covariance(sums, epsilon, power_scale), magnitudes)
    if shares is not None:
        filtering = filtering.scaled(shares)
    room = Room.of(min(n_bins, heard.shape[0]), heard.shape[-1], magnitudes.shape[0], magnitudes)
    for part, some_bins, place in zip(parts, filtering.split(n_bins), out.split(n_bins, -2), strict=True):
        some_room = room.first(place.shape[-2])
        variances = variances_of_magnitudes(part[0], floor, some_room)
        some_bins.apply(part[1], variances, place, adds=adds, room=some_room)


def _wiener_by_steps(
    magnitudes: StemMagnitudes,
    heard: Heard,
    scale: Float[Tensor, "*batch"],
    n_iterations: int,
    softmask: bool,
    residual: bool,
    epsilon: float,
) -> StemSpecs:
    """`wiener`, differentiable, with all that it can do, some bins at a time."""
    n_bins = _n_bins_at_a_time(magnitudes)
    power_scale, floor = _power_scale_and_floor(scale, epsilon)
    all_heard, variances, sums = heard.split(n_bins, -3), [], []
    for some, some_heard in zip(magnitudes.split(n_bins, -2), all_heard, strict=True):
        mixture = some_heard.movedim(-3, -2)
        if residual:
            some = with_residual(some, mixture, epsilon)
        if softmask:
            some = mixture.abs().unsqueeze(-4) * (some / (epsilon + some.sum(-4, keepdim=True)))
        sums.append(sums_of_magnitudes(some, some_heard))
        variances.append(variances_of_magnitudes(some, floor))
    for n_left in reversed(range(n_iterations)):
        filtering = BinFilter.of(spatial_covariance(SpatialSums.of_bins(sums), epsilon, power_scale), variances[0])
        parts = zip(filtering.split(n_bins), all_heard, variances, strict=True)
        estimates = (some_bins.apply(*part) for some_bins, *part in parts)  # one after the other
        if n_left:
            known = [(with_floor(source_variance(some), floor), spatial_sums(some)) for some in estimates]
            variances, sums = (list(each) for each in zip(*known, strict=True))
    return torch.cat(list(estimates), -2).narrow(-4, 0, magnitudes.shape[-4])


def _power_scale_and_floor(
    scale: Float[Tensor, "*batch"], epsilon: float
) -> tuple[Float[Tensor, "*batch 1 1"], Float[Tensor, "*batch 1 1"]]:
    """Square of the scale, and what is added to the diagonal of C.

    Instead of dividing spectra by the scale, the regularisation, which is added to powers, is multiplied by its square.
    """
    power_scale = scale.square()[..., None, None]
    return power_scale, epsilon**0.5 * power_scale
