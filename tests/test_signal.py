"""STFT, resampling, blending, segments."""

from __future__ import annotations

import julius
import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from danna_sep.signal.blend import Weighted, blend
from danna_sep.signal.overlap_add import SegmentGrid, cut, join
from danna_sep.signal.resample import resample
from danna_sep.signal.stft import istft, magnitude_of, stft


def test_stft_is_scipys() -> None:
    signal = np.random.default_rng(0).standard_normal(20000)
    padded = np.pad(signal, 2048, mode="reflect")
    window = scipy.signal.get_window("hann", 4096)
    frames = [np.fft.rfft(window * padded[start : start + 4096]) for start in range(0, 20001, 1024)]
    ours = stft(torch.from_numpy(signal)).numpy()
    assert np.allclose(ours, np.stack(frames, 1), atol=1e-9)


@pytest.mark.parametrize("axes", [(), (2,), (3, 4, 2)])
def test_istft_undoes_stft_for_any_leading_axes(axes: tuple[int, ...]) -> None:
    signal = torch.randn(*axes, 5 * 1024 + 4096, dtype=torch.float64)
    assert torch.allclose(istft(stft(signal), signal.shape[-1]), signal, atol=1e-12)


@pytest.mark.parametrize(("n_fft", "hop_length"), [(4096, 1024), (512, 128), (512, 256), (512, 512), (512, 100)])
@pytest.mark.parametrize("n_samples", [3000, 3072, 4095, 12345])
def test_istft_is_torchs(n_fft: int, hop_length: int, n_samples: int) -> None:
    """Of any spectrum, not only of a signal's; its gradients, too."""
    generator = torch.Generator().manual_seed(n_samples)
    window = torch.hann_window(n_fft, dtype=torch.float64)
    n_frames = 1 + n_samples // hop_length
    spec = torch.randn(2, n_fft // 2 + 1, n_frames, 2, dtype=torch.float64, generator=generator)
    gradients = []
    if hop_length == n_fft:  # where windows meet, both are zero
        signal = istft(torch.view_as_complex(spec), n_samples, n_fft, hop_length)
        assert torch.isfinite(signal).all()
        return
    for inverse in (istft, lambda spec, n, n_fft, hop: torch.istft(spec, n_fft, hop, window=window, length=n)):
        heard = spec.clone().requires_grad_()
        signal = inverse(torch.view_as_complex(heard), n_samples, n_fft, hop_length)
        (signal * torch.linspace(-1, 1, n_samples, dtype=torch.float64)).square().sum().backward()
        gradients.append((signal.detach(), heard.grad))
    (ours, our_gradient), (theirs, their_gradient) = gradients
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 1), (2, 4), (3, 2), (1, 1)])
@pytest.mark.parametrize("n_samples", [1, 2, 99, 1000])
def test_resample_is_juliuss(old: int, new: int, n_samples: int) -> None:
    signal = torch.randn(2, 3, n_samples)
    assert torch.allclose(resample(signal, old, new), julius.resample_frac(signal, old, new), atol=3e-6)


@pytest.mark.parametrize("frequency", [0.001, 0.1, 0.3])
def test_resample_keeps_tones(frequency: float) -> None:
    """A pure tone at twice the rate is that tone, sampled at the new instants."""
    old, new = torch.arange(4000), torch.arange(8000) / 2
    doubled = resample(torch.sin(2 * torch.pi * frequency * old), 1, 2)
    expected = torch.sin(2 * torch.pi * frequency * new)
    assert (doubled - expected)[200:-200].abs().max() < 2e-3


def test_blend_is_a_weighted_sum_per_source() -> None:
    estimates = torch.randn(3, 4, 2, 10)
    weights = torch.tensor([[0.2, 0.1, 0.0, 0.2], [0.2, 0.17, 0.5, 0.4], [0.6, 0.73, 0.5, 0.4]])
    expected = torch.einsum("msct,ms->sct", estimates, weights)
    assert torch.allclose(blend(zip(estimates, weights, strict=True)), expected, atol=1e-6)
    with pytest.raises(ValueError, match="nothing to blend"):
        blend([])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 60),
    st.floats(0, 0.5),
    st.lists(st.integers(1, 90), min_size=1, max_size=10),
)
def test_joining_undoes_cutting(n_samples: int, length: int, share: float, sizes: list[int]) -> None:
    """Weights sum to one at every sample, for any lengths, however the signal comes in."""
    grid = SegmentGrid(length, int(length * share))
    signal = torch.randn(2, n_samples, dtype=torch.float64)
    blocks, start = [], 0
    while start < n_samples:
        size = sizes[len(blocks) % len(sizes)]
        blocks.append(signal[:, start : start + size])
        start += size
    segments = list(cut(blocks, grid))
    assert len(segments) == grid.n_segments(n_samples)
    assert [is_last for _, is_last in segments] == [False] * (len(segments) - 1) + [True]
    for index, (segment, _) in enumerate(segments):
        assert torch.equal(segment, signal[:, index * grid.hop : index * grid.hop + grid.length])
    assert torch.allclose(torch.cat(list(join(segments, grid)), -1), signal, atol=1e-12)


def test_context_carries_no_weight() -> None:
    """What a model says near the inner borders of a segment, where it heard only one side, is not used."""
    grid = SegmentGrid(100, 40)
    signal = torch.zeros(1, 400)
    segments = []
    for index, (segment, is_last) in enumerate(cut([signal], grid)):
        spoiled = segment.clone()
        if index:
            spoiled[:, : grid.context] = 1e9
        if not is_last:
            spoiled[:, -grid.context :] = 1e9
        segments.append((spoiled, is_last))
    assert torch.equal(torch.cat(list(join(segments, grid)), -1), signal)


def test_filters_made_without_gradients_serve_training() -> None:
    """They are kept from call to call."""
    with torch.inference_mode():
        resample(torch.randn(1, 500), 7, 9)
    signal = torch.randn(1, 500, requires_grad=True)
    resample(signal, 7, 9).sum().backward()
    assert signal.grad is not None


@pytest.mark.parametrize("first", [0, 1])
def test_a_blend_of_some_stems_leaves_the_others(first: int) -> None:
    """Whichever comes first, of whatever types."""
    whole, some = torch.randn(2, 4, 2, 10), torch.randn(2, 2, 2, 10, dtype=torch.float64)
    row, few = torch.tensor([0.5, 0.4, 1.0, 0.3]), torch.tensor([0.7, 0.6])
    expected = whole.double() * row[:, None, None].double()
    expected[:, 3] += some[:, 0] * 0.7
    expected[:, 1] += some[:, 1] * 0.6
    shares = [Weighted(whole, row), Weighted(some, few, (3, 1))]
    blended = blend([shares[first], shares[1 - first]], 4)
    assert blended.dtype == torch.float64
    assert torch.allclose(blended, expected, atol=1e-6)
    assert blend([shares[1]], 4)[:, [0, 2]].any() == 0


def test_a_blend_has_the_widest_of_its_types() -> None:
    single, double = torch.rand(2, 1, 5), torch.rand(2, 1, 5, dtype=torch.float64)
    blended = blend([(single, torch.tensor([0.5, 0.5])), (double, torch.tensor([0.5, 0.5]))])
    assert blended.dtype == torch.float64
    assert torch.allclose(blended, (single + double) / 2)


@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15, 1e25])
def test_magnitudes_of_any_loudness(scale: float) -> None:
    """Their powers may leave single precision where they themselves do not."""
    spec = scale * torch.randn(2, 9, 7, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(magnitude_of(spec), spec.abs(), rtol=1e-6, atol=0)
    assert magnitude_of(spec[..., :0]).shape == (2, 9, 0)


def test_the_slope_of_no_magnitude_is_finite() -> None:
    """Of silence a root's would not be."""
    spec = torch.zeros(3, dtype=torch.complex64, requires_grad=True)
    magnitude_of(spec).sum().backward()
    assert spec.grad is not None
    assert spec.grad.abs().max() == 0
