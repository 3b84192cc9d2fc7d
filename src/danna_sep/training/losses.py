"""Losses over every sum of some of the stems.

What a separator confuses shows in sums: an error of the drums that the bass makes good is none of the rhythm section.
So a loss is averaged over the 14 `COMBINATIONS`: every subset of the four stems but none and all.

With e_j the error of stem j, and B the 14 x 4 matrix of ones and zeros that tells who is in which combination, the
mean over combinations of |sum_{j in S} e_j|^2 is e^T M e with M = B^T B / 14. So squared errors need no sum at all, but
this form of the stems' errors (`squared_error`, or where estimates are the Wiener filter's their Gram matrix); and the
weighted SDR, which is made of inner products of the mixture, the stems, their estimates, and sums of these, needs the
Gram matrix of those nine signals.

Songs may lack the truth of some stems: see `combinations`.

Reference: Sawata et al., "All for one and one for all: improving music separation by bridging networks", ICASSP 2021;
Choi et al., "Phase-aware speech enhancement with deep complex U-Net", ICLR 2019, for the weighted SDR; Yu and Cheuk,
"Danna-Sep", 2021, for complex errors after a differentiable Wiener filter.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from danna_sep.shapes import Mixture, StemMagnitudes, Stems, StemSpecs
from danna_sep.signal.stft import istft, stft
from danna_sep.signal.wiener import wiener
from danna_sep.training.combinations import Annotated, known_combinations, membership, quadratic, shares
from danna_sep.training.squared_error import squared_error
from danna_sep.types import SOURCES

TIME_WEIGHT: Final = 10.0
"""What the loss in time counts against the loss in frequency."""

Kind: TypeAlias = Literal["complex", "real", "l1"]
Weighting: TypeAlias = Literal["inverse_magnitude"]
_EPSILON = 1e-10
_QUIETEST = 1e-3
_CHUNK_SIZE = 2**16


class LossParts(NamedTuple):
    """A loss and what it is made of.

    Attributes:
        loss: frequency + weight * time; the one to derive.
        frequency: Mean error of spectra.
        time: 1 + mean of the weighted SDR loss: 0 if perfect, 2 at worst.
    """

    loss: Float[Tensor, ""]
    frequency: Float[Tensor, ""]
    time: Float[Tensor, ""]


def spectrogram_loss(
    mask: StemMagnitudes,
    stems: Stems,
    *,
    kind: Kind = "complex",
    n_wiener_iterations: int = 0,
    annotated: Annotated | None = None,
    mixture: Mixture | None = None,
    references: StemSpecs | None = None,
    weighting: Weighting | None = None,
    epsilon: float = 0.1,
    time_weight: float = TIME_WEIGHT,
    n_fft: int = 4096,
    hop_length: int = 1024,
) -> LossParts:
    """The loss of a mask model: an error of spectra plus `time_weight` times the weighted SDR loss of signals.

    Computed in the stems' precision, also inside `torch.autocast`.

    Args:
        mask: Of each source, >= 0; estimates are mask times mixture.
        stems: The truth, (batch, source, channel, time), longer than n_fft / 2.
        kind: The error in frequency. "complex": |Y - Y_hat|^2. "real": (|Y| - |Y_hat|)^2, where a sum of stems has the
            sum of their magnitudes, and of their masks; the Wiener filter then is in the time loss alone. "l1", ours,
            not the paper's: the absolute value of the difference that "real" squares.
        n_wiener_iterations: Rounds of the Wiener filter between mask and losses.
        annotated: What is known, see the module; None: all.
        mixture: What the mask is applied to; None: the sum of the stems.
        references: The stems' spectra, where there are any already.
        weighting: "inverse_magnitude", ours, not the paper's: the error divided by |X| + `epsilon` (before the
            mean). An error in proportion to the level of the mixture: quiet bins count, and the mask of a model that
            as yet knows little is not drawn to zero as strongly.
        epsilon: For the weighting, in units of spectra; much below the usual |X|, bins where stems cancel rule.
        time_weight: 0 leaves out the time loss, its computation too.
        n_fft: Of the mask's spectra.
        hop_length: Likewise.

    Raises:
        ValueError: The mask's shape is not that of the stems' spectra; an unknown `kind` or `weighting`.

    Quirk: the time loss ends with the last whole hop, as the original's does.
    """
    if kind not in get_args(Kind) or weighting not in (None, *get_args(Weighting)):
        raise ValueError(f"no loss of kind {kind!r} with weighting {weighting!r}")
    with torch.autocast(mask.device.type, enabled=False):
        mask = mask.to(stems.dtype)
        references = stft(stems, n_fft, hop_length) if references is None else references
        if mask.shape != references.shape:
            raise ValueError(f"mask {tuple(mask.shape)} for spectra {tuple(references.shape)}")
        mix_spec = references.sum(1) if mixture is None else stft(mixture, n_fft, hop_length)
        known = known_combinations(annotated, stems)
        n_values = references[0, 0].numel()
        estimates = None
        if time_weight != 0 or (n_wiener_iterations and kind == "complex"):
            estimates = _estimates(mask, mix_spec, n_wiener_iterations)
        if kind == "l1":
            size = mix_spec.abs().unsqueeze(1)
            error = mask * size - references.abs()
            frequency = _mean_absolute(error if weighting is None else error / (size + epsilon), known)
        elif kind == "complex" and n_wiener_iterations:
            assert estimates is not None
            error = estimates - references
            if weighting is not None:
                error = error * (mix_spec.abs().unsqueeze(1) + epsilon).rsqrt()
            frequency = _mean_square(torch.view_as_real(error), known, n_values)
        else:
            frequency = squared_error(
                mask,
                mix_spec,
                references,
                quadratic(known, mask),
                is_complex=kind == "complex",
                epsilon=None if weighting is None else epsilon,
            ) / (len(stems) * n_values)
        if time_weight == 0 or estimates is None:
            return LossParts(frequency, frequency, frequency.new_zeros(()))
        n_samples = (references.shape[-1] - 1) * hop_length
        signals = istft(estimates, n_samples, n_fft, hop_length)
        mixture = stems.sum(1) if mixture is None else mixture
        time = weighted_sdr_loss(signals, stems[..., :n_samples], mixture[..., :n_samples], annotated)
        return LossParts(frequency + time_weight * time, frequency, time)


def weighted_sdr_loss(
    estimate: Stems, stems: Stems, mixture: Mixture, annotated: Annotated | None = None
) -> Float[Tensor, ""]:
    """1 + mean over combinations, channels and items of the weighted SDR loss.

    With y a combination's sum of stems, n = x - y the rest of the mixture, a = |y|^2 / (|y|^2 + |n|^2):
    -a <y, y_hat> / (|y| |y_hat|) - (1 - a) <n, n_hat> / (|n| |n_hat|), over the samples of a channel.

    Differs: estimates quieter than the truth by more than 60 dB are taken as that loud in the denominators. Without
    this, gradients have no bound as an estimate fades, and are no numbers in the end.

    Args:
        estimate: y_hat of each stem.
        stems: y.
        mixture: x.
        annotated: What is known; None: all.
    """
    known = known_combinations(annotated, stems)
    gram = _gram(torch.cat((stems, estimate, mixture.unsqueeze(1)), 1).transpose(1, 2))
    member = membership(gram)
    nothing, whole = torch.zeros_like(member), torch.ones_like(member[:, :1])
    y = torch.cat((member, nothing, 0 * whole), 1)
    y_hat = torch.cat((nothing, member, 0 * whole), 1)
    n = torch.cat((-member, nothing, whole), 1)
    n_hat = torch.cat((nothing, -member, whole), 1)

    def inner(a: Tensor, b: Tensor) -> Tensor:
        """Axes (batch, channel, combination)."""
        return ((a @ gram) * b).sum(-1)

    def cosine(truth: Tensor, estimated: Tensor) -> Tensor:
        square = inner(truth, truth).clamp(min=0)
        least = (_QUIETEST**2 * square).clamp(min=torch.finfo(square.dtype).tiny)
        squares = square * torch.maximum(inner(estimated, estimated), least)
        return inner(truth, estimated) / (squares.clamp(min=_EPSILON**2).sqrt() + _EPSILON)

    y_power, n_power = inner(y, y).clamp(min=0), inner(n, n).clamp(min=0)
    share = y_power / (y_power + n_power + _EPSILON)
    loss = -share * cosine(y, y_hat) - (1 - share) * cosine(n, n_hat)
    return _item_mean(1 + loss.mean(1), known.to(loss.device)).to(estimate)


def waveform_l1(estimate: Stems, stems: Stems, annotated: Annotated | None = None) -> Float[Tensor, ""]:
    """Mean absolute error of the stems' samples, each stem by itself; the loss of Demucs.

    Args:
        estimate: (batch, source, channel, time).
        stems: Likewise.
        annotated: What is known; of combinations, the first four, which have one member, count. None: all.
    """
    known = known_combinations(annotated, stems)[:, : len(SOURCES)]
    return _item_mean((estimate - stems).abs().mean((-2, -1)), known)


def combination_l1(estimate: Stems, stems: Stems, annotated: Annotated | None = None) -> Float[Tensor, ""]:
    """Mean absolute error of samples, averaged over the combinations.

    Args:
        estimate: (batch, source, channel, time).
        stems: Likewise.
        annotated: What is known; None: all.
    """
    return _mean_absolute(estimate - stems, known_combinations(annotated, stems))


def _estimates(mask: StemMagnitudes, mix_spec: Tensor, n_iterations: int) -> StemSpecs:
    if not n_iterations:
        # Mask times spectrum, in real numbers: the mask's gradient would else be a view of every other number.
        return torch.view_as_complex(mask.unsqueeze(-1) * torch.view_as_real(mix_spec).unsqueeze(1))
    return wiener(mask * mix_spec.abs().unsqueeze(1), mix_spec, n_iterations)


def _item_mean(losses: Float[Tensor, "batch known"], known: Bool[Tensor, "batch known"]) -> Float[Tensor, ""]:
    """Mean over what an item knows, and then over items."""
    return (torch.where(known, losses, 0) * shares(known, losses)).sum(1).mean()


def _mean_square(error: Tensor, known: Bool[Tensor, "batch combination"], n_values: int) -> Float[Tensor, ""]:
    """Mean over the known combinations of the squares of the sums of errors, (batch, source, ...)."""
    gram = _gram(error.flatten(2))
    return ((gram * quadratic(known, error).to(gram)).sum((-2, -1)).mean() / n_values).to(error)


def _mean_absolute(error: Tensor, known: Bool[Tensor, "batch combination"]) -> Float[Tensor, ""]:
    """Mean over the known combinations of the absolute values of the sums of errors, (batch, source, ...)."""
    sums = membership(error) @ error.flatten(2)
    return _item_mean(sums.abs().mean(-1), known)


class _Gram(torch.autograd.Function):
    """Inner products of rows, in double precision without a copy of the rows in it.

    Summed in single precision, hundreds of thousands of squares of very different size come out 1e-4 too small.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        gram = torch.zeros((), dtype=torch.float64)
        for chunk in rows.split(_CHUNK_SIZE, -1):
            double = (chunk.cpu() if chunk.device.type == "mps" else chunk).double()  # MPS has no double precision
            gram = gram.to(double.device) + double @ double.mT
        return gram

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (rows,) = ctx.saved_tensors
        (slope,) = slopes
        gradient: Tensor = (slope + slope.mT).to(rows) @ rows
        return gradient


def _gram(rows: Float[Tensor, "*batch row time"]) -> Float[Tensor, "*batch row row"]:
    gram: Tensor = _Gram.apply(rows)  # type: ignore[no-untyped-call]
    return gram
