"""Laws of the losses, agreement with the original's figures and with naive twins."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fill import generator
from fill import stems as filled_stems
from torch import Tensor

from danna_sep.models import build
from danna_sep.signal.stft import istft, stft
from danna_sep.signal.wiener import wiener
from danna_sep.training.combinations import COMBINATIONS, combinations_of, with_remainder
from danna_sep.training.losses import (
    TIME_WEIGHT,
    LossParts,
    combination_l1,
    spectrogram_loss,
    waveform_l1,
    weighted_sdr_loss,
)
from danna_sep.training.objective import objective
from danna_sep.training.recipe import LossConfig

REFERENCE = json.loads((Path(__file__).parent / "reference" / "losses.json").read_text())
KINDS: dict[str, dict[str, Any]] = {
    "complex_mwf": {"kind": "complex", "n_wiener_iterations": 1},
    "complex": {"kind": "complex"},
    "real": {"kind": "real"},
}
SMALL = {"n_fft": 64, "hop_length": 16}
EVERY: dict[str, dict[str, Any]] = {
    **KINDS,
    "real_mwf": {"kind": "real", "n_wiener_iterations": 1},
    "l1": {"kind": "l1"},
    "complex_weighted": {"kind": "complex", "weighting": "inverse_magnitude"},
    "real_weighted": {"kind": "real", "weighting": "inverse_magnitude"},
    "l1_weighted": {"kind": "l1", "weighting": "inverse_magnitude"},
}
every_kind = pytest.mark.parametrize("options", EVERY.values(), ids=EVERY)


def random_stems(batch: int = 2, n_samples: int = 400, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Noises of different levels and pans."""
    rng = torch.Generator().manual_seed(seed)
    noise = torch.randn(batch, 4, 2, n_samples, generator=rng, dtype=torch.float64)
    return (noise * torch.rand(batch, 4, 2, 1, generator=rng, dtype=torch.float64)).to(dtype)


def random_mask(stems: Tensor, n_fft: int = 64, hop_length: int = 16, seed: int = 1) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    shape = (*stems.shape[:3], n_fft // 2 + 1, 1 + stems.shape[-1] // hop_length)
    return torch.rand(shape, generator=rng, dtype=torch.float64).to(stems.dtype)


def naive_sdr(estimate: Tensor, stems: Tensor, mixture: Tensor) -> Tensor:
    """One sum after the other, as the formula is written; axes combination, batch, channel."""

    def cosine(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))

    losses = []
    for members in COMBINATIONS:
        y, y_hat = stems[:, list(members)].sum(1), estimate[:, list(members)].sum(1)
        n, n_hat = mixture - y, mixture - y_hat
        a = y.square().sum(-1) / (y.square().sum(-1) + n.square().sum(-1))
        losses.append(-a * cosine(y, y_hat) - (1 - a) * cosine(n, n_hat))
    return torch.stack(losses)


def naive_loss(
    mask: Tensor,
    stems: Tensor,
    kind: str,
    n_wiener_iterations: int = 0,
    weighting: str | None = None,
    n_fft: int = 4096,
    hop_length: int = 1024,
) -> LossParts:
    """The same in 14 sums and in double precision."""
    mask, stems = mask.double(), stems.double()
    references, mix_spec = stft(stems, n_fft, hop_length), stft(stems.sum(1), n_fft, hop_length)
    estimates = wiener(mask * mix_spec.abs()[:, None], mix_spec, n_wiener_iterations)
    n_samples = (references.shape[-1] - 1) * hop_length
    signals = istft(estimates, n_samples, n_fft, hop_length)
    weight = 1 / (mix_spec.abs() + 0.1) if weighting else 1
    errors = []
    for members in COMBINATIONS:
        some = list(members)
        if kind == "complex":
            error = (references[:, some].sum(1) - estimates[:, some].sum(1)).abs()
        else:
            error = references.abs()[:, some].sum(1) - mask[:, some].sum(1) * mix_spec.abs()
        errors.append(((error.abs() if kind == "l1" else error.square()) * weight).mean())
    frequency = torch.stack(errors).mean()
    time = 1 + naive_sdr(signals, stems[..., :n_samples], stems.sum(1)[..., :n_samples]).mean()
    return LossParts(frequency + 10 * time, frequency, time)


def coarsely_summed(mask: Tensor, stems: Tensor, kind: str, n_wiener_iterations: int = 0, n_lanes: int = 4) -> float:
    """The complex error in frequency as a processor sums it that adds to four single-precision numbers in turn."""
    assert kind == "complex"
    references = stft(stems)
    mix_spec = stft(stems.sum(1))
    errors = wiener(mask * mix_spec.abs()[:, None], mix_spec, n_wiener_iterations) - references
    means = []
    for members in COMBINATIONS:
        values = torch.view_as_real(errors[:, list(members)].sum(1)).reshape(-1, n_lanes).numpy()
        running = np.cumsum(values * values, axis=0, dtype=np.float32)
        means.append(running[-1].sum(dtype=np.float64) / (values.size / 2))
    return float(np.mean(means))


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    (result,) = torch.autograd.grad(loss, of)
    return result


@pytest.fixture(scope="module")
def reference_inputs() -> tuple[Tensor, Tensor]:
    stems = torch.from_numpy(filled_stems(1, 2, 1.0))
    mask = generator(1, "loss_mask").uniform(0, 1, stft(stems).shape)
    return torch.from_numpy(mask).float(), stems


@pytest.mark.parametrize("name", KINDS)
def test_golden(name: str, reference_inputs: tuple[Tensor, Tensor]) -> None:
    """Figures of the original, within 1e-4.

    Its sums of squares of complex errors are single-precision inner products of 700,000 values, whose rounding is 4e-4
    of the result. So there the figure is held to the same errors summed in four running sums of single
    precision, which is how it came about, and our result to the naive twin in double precision. Gradients do not have
    that rounding.
    """
    mask, stems = reference_inputs
    mask = mask.clone().requires_grad_()
    parts = spectrogram_loss(mask, stems, **KINDS[name])
    with torch.no_grad():
        exact = naive_loss(mask, stems, **KINDS[name])
    expected = REFERENCE[name]
    for ours, naive in zip(parts, exact, strict=True):
        assert ours.item() == pytest.approx(naive.item(), rel=1e-6)
    frequency = parts.frequency.item()
    if name != "real":
        frequency = coarsely_summed(mask.detach(), stems, **KINDS[name])
        assert frequency == pytest.approx(parts.frequency.item(), rel=5e-4)
    assert frequency == pytest.approx(expected["loss_f"], rel=1e-4)
    assert parts.time.item() == pytest.approx(expected["loss_t"], rel=2e-5)
    assert frequency + TIME_WEIGHT * parts.time.item() == pytest.approx(expected["loss"], rel=1e-4)
    slope = gradient(parts.loss, mask)
    assert slope.is_contiguous()
    assert slope.norm().item() == pytest.approx(expected["grad_norm"], rel=1e-5)
    assert slope.abs().mean().item() == pytest.approx(expected["grad_abs_mean"], rel=1e-5)


def test_golden_waveforms() -> None:
    estimate, stems = (torch.from_numpy(filled_stems(seed, 2, 1.0)) for seed in (501, 1))
    assert waveform_l1(estimate, stems).item() == pytest.approx(REFERENCE["l1"], rel=1e-6)
    assert combination_l1(estimate, stems).item() == pytest.approx(REFERENCE["combination_l1"], rel=1e-6)


def test_there_are_fourteen_combinations() -> None:
    assert len(set(COMBINATIONS)) == 14
    assert set(COMBINATIONS) == {c for n in (1, 2, 3) for c in combinations(range(4), n)}


@every_kind
def test_agrees_with_the_naive_twin(options: dict[str, Any]) -> None:
    """Gram matrices are the same as 14 sums, for values and gradients."""
    stems = random_stems()
    mask = random_mask(stems).requires_grad_()
    ours, naive = spectrogram_loss(mask, stems, **options, **SMALL), naive_loss(mask, stems, **options, **SMALL)
    for one, other in zip(ours, naive, strict=True):
        assert one.item() == pytest.approx(other.item(), rel=1e-10)
    assert torch.allclose(gradient(ours.loss, mask), gradient(naive.loss, mask), rtol=1e-7, atol=1e-12)


def test_single_precision_is_enough() -> None:
    """Summed in single precision alone, small errors would be lost beside large ones."""
    stems = torch.from_numpy(filled_stems(7, 1, 3.0))
    mask = random_mask(stems, 4096, 1024)
    ours, naive = spectrogram_loss(mask, stems), naive_loss(mask, stems, "complex")
    assert ours.frequency.item() == pytest.approx(naive.frequency.item(), rel=1e-6)
    assert ours.time.item() == pytest.approx(naive.time.item(), rel=1e-5)


@every_kind
def test_gradients_are_those_of_finite_differences(options: dict[str, Any]) -> None:
    stems, n_fft = random_stems(1, 48), 16
    mask = (0.2 + random_mask(stems, n_fft, n_fft // 2)).requires_grad_()
    annotated = torch.tensor([[True, False, True, True]])

    def loss(mask: Tensor) -> Tensor:
        return spectrogram_loss(
            mask, stems, annotated=annotated, **options, n_fft=n_fft, hop_length=n_fft // 2, time_weight=1
        ).loss

    assert torch.autograd.gradcheck(loss, mask, fast_mode=True)


def test_gradients_of_waveform_losses_are_those_of_finite_differences() -> None:
    stems, estimate = random_stems(2, 12), random_stems(2, 12, seed=5).requires_grad_()
    for loss in (waveform_l1, combination_l1):
        assert torch.autograd.gradcheck(lambda estimate, loss=loss: loss(estimate, stems), estimate)
    assert torch.autograd.gradcheck(lambda estimate: weighted_sdr_loss(estimate, stems, stems.sum(1)), estimate)


def test_the_weighted_sdr_is_zero_for_the_truth_and_two_for_its_opposite() -> None:
    stems = random_stems()
    mixture = stems.sum(1)
    assert weighted_sdr_loss(stems, stems, mixture).item() == pytest.approx(0, abs=1e-12)
    # Of n and n_hat = x + y: -1 is not reached, but with silence beside the stem it is.
    alone = stems * torch.tensor([1.0, 0, 0, 0])[:, None, None]
    only_drums = torch.tensor([[len(c) == 1 and 0 in c for c in COMBINATIONS]] * 2)
    opposite = weighted_sdr_loss(-alone, alone, alone.sum(1), only_drums)
    assert opposite.item() == pytest.approx(2, abs=1e-9)


def test_the_weighted_sdr_ignores_the_level_of_all() -> None:
    stems, estimate = random_stems(), random_stems(seed=3)
    expected = weighted_sdr_loss(estimate, stems, stems.sum(1)).item()
    for amplitude in (1e-4, 100.0):
        ours = weighted_sdr_loss(amplitude * estimate, amplitude * stems, amplitude * stems.sum(1))
        assert ours.item() == pytest.approx(expected, rel=1e-5)


def test_by_hand() -> None:
    """One bin's worth: a constant error of 1 in each stem is k^2 in a sum of k: (4 * 1 + 6 * 4 + 4 * 9) / 14."""
    stems = torch.zeros(1, 4, 2, 10)
    assert combination_l1(stems + 1, stems).item() == pytest.approx((4 * 1 + 6 * 2 + 4 * 3) / 14)
    impulse = torch.zeros(1, 4, 2, 256)
    impulse[..., 128] = 1
    mixture = torch.zeros(1, 2, 256)
    mixture[..., 128] = 1
    mask = torch.zeros(1, 4, 2, 33, 17)
    loss = spectrogram_loss(mask, impulse, mixture=mixture, **SMALL, time_weight=0)
    energy = stft(mixture, 64, 16).abs().square().mean().item()
    assert loss.loss.item() == pytest.approx(energy * (4 * 1 + 6 * 4 + 4 * 9) / 14)
    assert loss.time.item() == 0


@every_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "what", ["silence", "mono", "antiphase", "loud", "quiet", "one stem", "one channel", "mask of zeros"]
)
def test_values_and_gradients_are_finite(options: dict[str, Any], dtype: torch.dtype, what: str) -> None:
    stems = random_stems(dtype=dtype)
    mask = random_mask(stems)
    if what == "silence":
        stems = torch.zeros_like(stems)
    elif what == "mono":
        stems, mask = stems[:, :, :1].expand(-1, -1, 2, -1), mask[:, :, :1].expand(-1, -1, 2, -1, -1)
    elif what == "antiphase":
        stems = stems[:, :, :1] * torch.tensor([1.0, -1.0], dtype=dtype)[:, None]
    elif what == "loud":
        stems = 100 * stems
    elif what == "quiet":
        stems = 1e-9 * stems
    elif what == "one stem":
        stems = stems * torch.tensor([0, 1.0, 0, 0], dtype=dtype)[:, None, None]
    elif what == "one channel":
        stems = stems * torch.tensor([1.0, 0], dtype=dtype)[:, None]
    else:
        mask = torch.zeros_like(mask)
    mask = mask.clone().requires_grad_()
    parts = spectrogram_loss(mask, stems, **options, **SMALL)
    slope = gradient(parts.loss, mask)
    assert all(part.isfinite() for part in parts)
    assert slope.isfinite().all()
    assert slope.abs().max() < 1e6, "a gradient that large ends any training"


def test_a_fading_estimate_has_bounded_gradients() -> None:
    stems = random_stems()
    for level in (1e-3, 1e-6, 0.0):
        estimate = (level * random_stems(seed=8)).requires_grad_()
        slope = gradient(weighted_sdr_loss(estimate, stems, stems.sum(1)), estimate)
        assert slope.isfinite().all()
        assert slope.abs().max() < 100


def test_what_is_not_annotated_does_not_matter() -> None:
    """Neither its value nor its estimate, and its own estimate gets no gradient by itself."""
    stems, annotated = random_stems(), torch.tensor([[True, True, True, False], [True, True, True, True]])
    mixture = stems.sum(1)
    other = stems.clone()
    other[0, 3] = random_stems(seed=9)[0, 3]
    mask = random_mask(stems).requires_grad_()
    for options in EVERY.values():
        first, second = (
            spectrogram_loss(mask, some, mixture=mixture, annotated=annotated, **options, **SMALL)
            for some in (stems, other)
        )
        assert first.loss.item() == pytest.approx(second.loss.item(), rel=1e-12)
    slope = gradient(spectrogram_loss(mask, stems, annotated=annotated, **SMALL).loss, mask)
    assert not slope[0, 3].any()
    assert slope[0, 2].any()
    assert slope[1, 3].any()
    for loss in (waveform_l1, combination_l1):
        estimate = random_stems(seed=4).requires_grad_()
        assert not gradient(loss(estimate, stems, annotated), estimate)[0, 3].any()
        assert loss(estimate, stems, annotated) == loss(estimate, other, annotated)


@every_kind
def test_items_average_over_what_they_know(options: dict[str, Any]) -> None:
    """An item's loss is that of it alone; a batch has the mean of its items, and one that knows nothing counts zero."""
    stems = random_stems(3)
    mask = random_mask(stems)
    annotated = torch.tensor([[True] * 4, [True, False, True, False], [False] * 4])

    def alone(i: int) -> LossParts:
        return spectrogram_loss(mask[i : i + 1], stems[i : i + 1], annotated=annotated[i : i + 1], **options, **SMALL)

    together = spectrogram_loss(mask, stems, annotated=annotated, **options, **SMALL)
    for parts in zip(together, alone(0), alone(1), alone(2), strict=True):
        whole, *items = (part.item() for part in parts)
        assert whole == pytest.approx(sum(items) / 3, rel=1e-10)
        assert items[2] == 0
    nothing = random_mask(stems).requires_grad_()
    none = spectrogram_loss(nothing, stems, annotated=torch.zeros(3, 14, dtype=torch.bool), **options, **SMALL)
    assert none.loss.item() == 0
    assert not gradient(none.loss, nothing).any()


def test_combinations_of_sources() -> None:
    annotated = torch.tensor([[True, True, True, True], [False, False, False, True], [True, True, False, True]])
    known = combinations_of(annotated)
    assert known[0].all()
    assert [c for c, k in zip(COMBINATIONS, known[1], strict=True) if k] == [(3,)]
    assert [c for c, k in zip(COMBINATIONS, known[2], strict=True) if k] == [
        (0,), (1,), (3,), (0, 1), (0, 3), (1, 3), (0, 1, 3),
    ]  # fmt: skip
    with_mixture = combinations_of(annotated, with_mixture=True)
    assert [c for c, k in zip(COMBINATIONS, with_mixture[1], strict=True) if k] == [(3,), (0, 1, 2)]
    assert with_mixture[2].all(), "what is left of the mixture is the one stem that is missing"
    some = combinations_of(annotated, with_mixture=torch.tensor([False, True, False]))
    assert torch.equal(some, torch.stack([known[0], with_mixture[1], known[2]])), "item by item"


def test_the_remainder_makes_known_sums_right() -> None:
    stems = random_stems(3)
    mixture = stems.sum(1)
    annotated = torch.tensor([[True, True, True, True], [False, False, False, True], [True, True, False, True]])
    filled = with_remainder(stems * annotated[..., None, None], mixture, annotated)
    known = combinations_of(annotated, with_mixture=True)
    for i, members in enumerate(COMBINATIONS):
        some = list(members)
        right = torch.isclose(filled[:, some].sum(1), stems[:, some].sum(1)).all(-1).all(-1)
        assert right[known[:, i]].all()
        assert not right[~known[:, i]].any()


def test_an_accompaniment_trains_as_a_sum() -> None:
    """A song with vocals and accompaniment alone: where the latter stands among its members makes no difference."""
    stems = random_stems(1)
    known = torch.tensor([[c in ((3,), (0, 1, 2)) for c in COMBINATIONS]])
    accompaniment = stems[:, :3].sum(1, keepdim=True)
    silence = torch.zeros_like(accompaniment)
    mask = random_mask(stems)
    losses = [
        spectrogram_loss(mask, torch.cat(order, 1), annotated=known, **SMALL).loss.item()
        for order in (
            (stems,),
            (accompaniment, silence, silence, stems[:, 3:]),
            (silence, silence, accompaniment, stems[:, 3:]),
        )
    ]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-10)


@every_kind
def test_inputs_are_left_untouched(options: dict[str, Any]) -> None:
    stems = random_stems()
    mask = random_mask(stems)
    before = mask.clone(), stems.clone()
    spectrogram_loss(mask, stems, **options, **SMALL)
    assert torch.equal(mask, before[0])
    assert torch.equal(stems, before[1])


def test_autocast_does_not_reach_inside() -> None:
    """Sums of squares in half precision overflow; masks may come in it."""
    stems = 10 * random_stems(dtype=torch.float32)
    mask = random_mask(stems).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        inside = spectrogram_loss(mask, stems, n_wiener_iterations=1, **SMALL)
    outside = spectrogram_loss(mask.float(), stems, n_wiener_iterations=1, **SMALL)
    assert inside.loss.dtype == torch.float32
    assert inside.loss.item() == pytest.approx(outside.loss.item(), rel=1e-6)


def test_weighting_takes_quiet_items_as_seriously_as_loud_ones() -> None:
    """In proportion to the level instead of to its square, where the stems do not cancel."""
    shares = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)[:, None, None]
    stems = 1e5 * shares * random_stems()[:, :1]
    mask = random_mask(stems)
    for kind, plain, weighted in (("complex", 4, 2), ("real", 4, 2), ("l1", 2, 1)):
        for weighting, expected in ((None, plain), ("inverse_magnitude", weighted)):
            quiet, loud = (
                spectrogram_loss(mask, gain * stems, kind=kind, weighting=weighting, **SMALL).frequency.item()  # type: ignore[arg-type]
                for gain in (1, 2)
            )
            assert loud / quiet == pytest.approx(expected, rel=1e-3)


def test_the_objective_is_of_the_spectra_that_the_network_hears() -> None:
    torch.manual_seed(0)
    window = {"n_fft": 1024, "hop_length": 384}
    model = build(
        "unet", {**window, "n_bins": 200, "growth": 2, "n_layers": (1, 1), "bottleneck_width": 8, "dropout": 0.0}
    )
    stems = torch.randn(1, 4, 2, 9000)
    known = combinations_of(torch.ones(1, 4, dtype=torch.bool), with_mixture=True)
    parts = objective(model, stems, known, LossConfig("complex", time_weight=0.3), model.config)
    mask = model(stft(stems.sum(1), **window).abs())
    expected = spectrogram_loss(mask, stems, annotated=known, time_weight=0.3, **window)
    torch.testing.assert_close(parts.loss, expected.loss)
    assert parts.time != 0


def test_wrong_shapes_are_refused() -> None:
    stems = random_stems()
    mask = random_mask(stems)
    with pytest.raises(ValueError, match="mask"):
        spectrogram_loss(mask[..., :-1], stems, **SMALL)
    with pytest.raises(ValueError, match="annotated"):
        spectrogram_loss(mask, stems, annotated=torch.ones(2, 5, dtype=torch.bool), **SMALL)
    with pytest.raises(ValueError, match="stems"):
        combination_l1(stems[:, :3], stems[:, :3])
