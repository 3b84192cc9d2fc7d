"""Networks: sizes, lengths, batches, and layers against naive twins."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danna_sep.errors import ConfigError
from danna_sep.models import XUMX, Demucs, DemucsConfig, UNet, UNetConfig, XUMXConfig, build, demucs
from danna_sep.models.attention import BiaxialLSTM, LocalAttention
from danna_sep.models.d3 import D2Block, D3Block
from danna_sep.models.dilated import dilated
from danna_sep.models.unet import heard as heard_of
from danna_sep.models.widen import widen_and_norm
from danna_sep.signal.stft import stft

SMALL_XUMX = XUMXConfig(hidden=8, n_lstm_layers=1)
SMALL_UNET = UNetConfig(growth=2, n_layers=(2, 1, 1), bottleneck_width=16, n_heads=2, head_width=4)
SMALL_DEMUCS = DemucsConfig(width=4, n_layers=4)


def _small_models() -> list[nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [
            XUMX(SMALL_XUMX),
            UNet(SMALL_UNET),
            UNet(UNetConfig(growth=2, n_layers=(2, 1, 1), bottleneck="biaxial", bottleneck_width=16)),
            Demucs(SMALL_DEMUCS),
            Demucs(DemucsConfig(width=4, n_layers=4, separate_decoders=False)),
        ]


SMALL = _small_models()


@pytest.fixture(autouse=True)
def _evaluation() -> None:
    for model in SMALL:
        model.eval()


def inputs(model: nn.Module, batch: int, size: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    if isinstance(model, Demucs):
        return torch.randn(batch, 2, size, generator=rng)
    return torch.rand(batch, 2, 2049, size, generator=rng)


@pytest.mark.parametrize(
    ("model", "n_parameters"),
    [
        (XUMX, 35_573_392),
        (UNet, 15_676_652),
        (Demucs, 191_928_152),
    ],
)
def test_default_size_is_the_papers(model: type[nn.Module], n_parameters: int) -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in model().parameters()) == n_parameters


@pytest.mark.parametrize("model", SMALL, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 65])
def test_any_length_and_batch(model: nn.Module, size: int) -> None:
    for batch in (1, 3):
        mixture = inputs(model, batch, size)
        out = model(mixture)
        assert out.shape == (batch, 4, *mixture.shape[1:])
        assert out.isfinite().all()


@pytest.mark.parametrize("model", SMALL, ids=lambda model: type(model).__name__)
def test_items_of_a_batch_are_independent(model: nn.Module) -> None:
    size = 1000 if isinstance(model, Demucs) else 21
    mixture = inputs(model, 2, size)
    together = model(mixture)
    for item in range(2):
        assert torch.allclose(model(mixture[item : item + 1])[0], together[item], atol=1e-5)


@pytest.mark.parametrize("model", SMALL, ids=lambda model: type(model).__name__)
def test_every_parameter_gets_a_gradient(model: nn.Module) -> None:
    """A layer that is built but not used would stay as it was initialised."""
    model.train().zero_grad()
    model(inputs(model, 2, 3000 if isinstance(model, Demucs) else 24)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (3, 5)])
def test_widening_in_quarters_is_the_transposed_convolution(kernel: int, size: tuple[int, int]) -> None:
    rng = torch.Generator().manual_seed(0)
    widen = nn.ConvTranspose2d(3, 2, kernel, stride=2, padding=kernel // 2, bias=False)
    norm = nn.BatchNorm2d(2)
    for values in (widen.weight, norm.weight, norm.bias, norm.running_mean):
        values.data = torch.randn(values.shape, generator=rng)
    norm.running_var = torch.rand(2, generator=rng) + 0.5
    features = torch.randn(2, 3, *size, generator=rng)
    widened = widen_and_norm(widen, norm.eval(), features)
    assert torch.allclose(widened, norm(widen(features)), atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 2), (6, 7)])
def test_dilation_by_quarters_is_the_dilated_convolution(size: tuple[int, int]) -> None:
    """In training, in either layout, with its gradients: no bin or frame may be left out where sizes are odd."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=2, dilation=2, dtype=torch.float64)
    for layout in (torch.contiguous_format, torch.channels_last):
        results = []
        for compute in (conv, lambda features: dilated(conv, features)):
            features = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
            features = features.contiguous(memory_format=layout).requires_grad_()
            conv.zero_grad()
            out = compute(features)
            (out.pow(3).sum() + out.sum()).backward()
            results.append((out.detach(), features.grad, conv.weight.grad.clone(), conv.bias.grad.clone()))
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_masks_of_unseen_bins_are_an_equal_share() -> None:
    mask = UNet(SMALL_UNET).eval()(torch.rand(1, 2, 2049, 20))
    assert (mask[..., 1487:, :] == 0.25).all()
    assert (mask[..., :1480, :16] != 0.25).any()


def test_masks_above_those_heard_are_the_mean_of_the_highest() -> None:
    """Each frame's, channel's and source's own; the others stay as they are."""
    plain = UNet(SMALL_UNET).eval()
    model = UNet(replace(SMALL_UNET, n_edge_bins=100)).eval()
    model.load_state_dict(plain.state_dict())
    magnitude = torch.rand(2, 2, 2049, 40)
    with torch.no_grad():
        before, masks = plain(magnitude), model(magnitude)
    is_heard = (before != 0.25).any(-1).flatten(0, 2).any(0)
    n_heard = int(is_heard.nonzero().max()) + 1
    assert 1400 < n_heard < 1487
    torch.testing.assert_close(masks[..., :n_heard, :], before[..., :n_heard, :])
    above = before[..., n_heard - 100 : n_heard, :].mean(-2, keepdim=True).expand(*masks.shape[:3], 2049 - n_heard, 40)
    torch.testing.assert_close(masks[..., n_heard:, :], above)


def test_a_window_of_twice_the_length_hears_a_track_twice_as_fast() -> None:
    """In pitch and tempo, and as loud: for sounds that every second sample holds."""
    noise = torch.randn(2, 40 * 2048, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    low = torch.fft.rfft(noise)
    low[:, low.shape[-1] // 2 - 400 :] = 0
    slow = torch.fft.irfft(low, noise.shape[-1])
    long = replace(SMALL_UNET, n_fft=8192, hop_length=2048)
    heards = [
        heard_of(stft(signal, config.n_fft, config.hop_length).abs()[None], config, torch.float64)
        for signal, config in ((slow, long), (slow[:, ::2], SMALL_UNET))
    ]
    torch.testing.assert_close(*(each[..., 2:-2] for each in heards), rtol=0, atol=1e-5)


def test_d2_layer_sees_earlier_ones_through_their_own_dilation() -> None:
    """The same block, written as the paper's multi-dilated convolution: one kernel per pair of layers."""
    torch.manual_seed(0)
    block = D2Block(3, 2, 4).eval()
    features = torch.randn(1, 3, 12, 12)
    outputs: list[Tensor] = []
    for layer, norm in enumerate(block.norms):
        total = torch.zeros(1, 2, 12, 12)
        for earlier, heard in enumerate([features, *outputs]):
            kernel = block.convs[earlier].weight[2 * (layer - earlier) : 2 * (layer - earlier + 1)]
            total = total + F.conv2d(heard, kernel, padding=2**earlier, dilation=2**earlier)
        outputs.append(torch.relu(norm(total)))
    assert torch.allclose(block(features), torch.cat(outputs, 1), atol=1e-5)


def test_d3_block_keeps_its_input() -> None:
    features = torch.randn(1, 3, 8, 8)
    out = D3Block(3, 2, 4).eval()(features)
    assert out.shape[1] == 3 + 2 * 2 * 4
    assert torch.equal(out[:, :3], features)


@pytest.mark.parametrize("mask_padding", [False, True])
@pytest.mark.parametrize("n_frames", [1, 2, 5, 8])
def test_local_attention_against_a_naive_twin(mask_padding: bool, n_frames: int) -> None:
    torch.manual_seed(0)
    layer = LocalAttention(3, 4, n_heads=2, head_width=4, mask_padding=mask_padding).eval()
    features = torch.randn(2, 3, 5, n_frames)
    projected = layer.project(features).reshape(2, 2, 3, 4, 5, n_frames)
    heard = torch.zeros(2, 2, 4, 5, n_frames)
    for frame in range(n_frames):
        first = frame // 2 * 2 - 3
        places = [place for place in range(first, first + 8) if not mask_padding or 0 <= place < n_frames]
        keys, values = (
            torch.stack(
                [
                    projected[:, :, part, ..., place] if 0 <= place < n_frames else torch.zeros(2, 2, 4, 5)
                    for place in places
                ],
                -1,
            ).flatten(-2)
            for part in (1, 2)
        )
        scores = projected[:, :, 0, ..., frame].transpose(-1, -2) @ keys / 4**0.5
        heard[..., frame] = (scores.softmax(-1) @ values.transpose(-1, -2)).transpose(-1, -2)
    expected = layer.output(heard.reshape(2, 8, 5, n_frames))
    assert torch.allclose(layer(features), expected, atol=1e-5)


def test_biaxial_lstm_runs_along_both_axes() -> None:
    """A change in one place reaches all places of its bin and of its frame, and no others."""
    layer = BiaxialLSTM(2, 8).eval()
    features = torch.randn(1, 2, 6, 7)
    changed = features.clone()
    changed[..., 2, 3] += 1
    differs = (layer(features) != layer(changed)).any(1)[0]
    expected = torch.zeros(6, 7, dtype=torch.bool)
    expected[2], expected[:, 3] = True, True
    assert torch.equal(differs, expected)


def test_demucs_hears_standardised_input() -> None:
    """Louder in, louder out; an offset in, the same offset out."""
    model = Demucs(SMALL_DEMUCS).eval()
    mixture = torch.randn(1, 2, 2000)
    stems = model(mixture)
    assert torch.allclose(model(100 * mixture), 100 * stems, rtol=1e-3, atol=1e-3)
    assert torch.allclose(model(mixture + 3), stems + 3, atol=1e-3)


def test_demucs_convolutions_are_rescaled_at_initialisation() -> None:
    """Their deviations stand halfway, in dB, between PyTorch's default and 0.1."""
    torch.manual_seed(0)
    scaled = Demucs(SMALL_DEMUCS)
    torch.manual_seed(0)
    plain = Demucs(DemucsConfig(width=4, n_layers=4, init_scale=0.2))
    ratio = scaled.encoder[1].narrow.weight.std() / plain.encoder[1].narrow.weight.std()
    assert abs(ratio.item() - 0.5**0.5) < 1e-4


def test_build_checks_names_and_types() -> None:
    assert isinstance(build("unet", {"growth": 2, "n_layers": [2, 1, 1], "bottleneck_width": 16}), UNet)
    for name, config in [
        ("vnet", {}),
        ("unet", {"depth": 3}),
        ("unet", {"growth": "2"}),
        ("unet", {"growth": 2.0}),
        ("unet", {"bottleneck": "none"}),
        ("unet", {"n_layers": [2, "1"]}),
        ("unet", {"input_power": True}),
        ("unet", {"input_power": 10**400}),
    ]:
        with pytest.raises(ConfigError):
            build(name, config)


def test_whole_numbers_stand_for_others() -> None:
    """JSON has one kind of number; somebody who writes 1 means it."""
    model = build("unet", {"growth": 2, "n_layers": [1, 1], "bottleneck_width": 8, "input_power": 1, "dropout": 0})
    assert isinstance(model, UNet)
    assert (type(model.config.input_power), model.config.input_power) == (float, 1.0)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        *(
            ("unet", {key: 0})
            for key in ("growth", "bottleneck_width", "n_heads", "head_width", "n_sources", "n_channels")
        ),
        *(("unet", {"n_layers": stages}) for stages in ([], [2, 0], [-1, 2])),
        *(("unet", {"input_power": power}) for power in (-1.0, 0.0, float("nan"), float("inf"))),
        *(("unet", {key: 0}) for key in ("n_fft", "hop_length", "n_bins")),
        ("unet", {"n_edge_bins": -1}),
        ("unet", {"dropout": 1.5}),
        *(
            ("xumx", {key: 0})
            for key in ("n_bins", "n_output_bins", "hidden", "n_lstm_layers", "n_sources", "n_channels")
        ),
        ("xumx", {"n_bins": 2050}),
        ("xumx", {"hidden": 7}),
        ("xumx", {"dropout": -0.1}),
        *(("demucs", {key: 0}) for key in ("width", "n_layers", "stride", "n_lstm_layers", "n_sources", "n_channels")),
        ("demucs", {"kernel": 3}),
        ("demucs", {"init_scale": 0.0}),
    ],
    ids=str,
)
def test_sizes_that_no_network_has_are_refused(name: str, config: dict[str, object]) -> None:
    """By the setting's name; some ended in errors of Python's or PyTorch's own, or separated into NaN."""
    (key,) = config
    with pytest.raises(ConfigError, match=f"{name}: .*({key}|stages|spectrum)"), torch.device("meta"):
        build(name, config)


def test_gradients_in_bfloat16_are_those_of_single_precision() -> None:
    """In the size of an excerpt, where oneDNN's gradients of dilated convolutions in channels-last are not."""
    torch.manual_seed(0)
    model = UNet(UNetConfig(growth=8, n_layers=(1, 1), bottleneck_width=16, n_heads=2, head_width=4, dropout=0.0))
    magnitude = torch.rand(1, 2, 2049, 127)
    target = torch.rand(1, 4, 2, 2049, 127)

    def gradients(in_bfloat16: bool) -> dict[str, Tensor]:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
            masks = model(magnitude)
        (masks.float() - target).square().mean().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    for (name, single), lowered in zip(gradients(False).items(), gradients(True).values(), strict=True):
        assert lowered.isfinite().all(), name
        if name.startswith(("output", "widen")):
            assert (single - lowered).norm() < 0.05 * single.norm(), name


@pytest.mark.parametrize("tile", [1, 7, 50, 1000])
@pytest.mark.parametrize("separate_decoders", [True, False])
@torch.no_grad()
def test_demucs_in_tiles(tile: int, separate_decoders: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outer layers compute long signals in parts, which give what all at once gives."""
    torch.manual_seed(0)
    model = Demucs(DemucsConfig(width=4, n_layers=3, separate_decoders=separate_decoders)).double().eval()
    mixture = torch.randn(2, 2, 3001, dtype=torch.float64)
    whole = model(mixture)
    monkeypatch.setattr(demucs, "_TILE", tile)
    torch.testing.assert_close(model(mixture), whole, rtol=0, atol=1e-12)


GRADIENTS_OF_FEW_FRAMES = """
import torch
from danna_sep.allocator import keep_freed_memory
from danna_sep.models.unet import UNet, UNetConfig
keep_freed_memory()
for n_frames in (1, 3, 9):
    torch.manual_seed(0)
    model = UNet(UNetConfig(n_bins=95, growth=8, n_layers=(1, 2, 2), n_heads=2, head_width=4))
    with torch.autocast("cpu", torch.bfloat16):
        masks = model(torch.rand(2, 2, 96, n_frames))
    masks.float().square().mean().backward()
    for parameter in model.parameters():
        print(n_frames, parameter.grad.double().abs().sum().item())
"""


def test_gradients_in_bfloat16_do_not_depend_on_what_memory_held() -> None:
    """Down to one frame at the innermost stage, where oneDNN reads what nobody wrote; glibc fills what it gives."""
    gradients = [
        subprocess.run(
            [sys.executable, "-c", GRADIENTS_OF_FEW_FRAMES],
            env=os.environ | {"MALLOC_PERTURB_": filling},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for filling in ("1", "254")
    ]
    assert gradients[0] == gradients[1]
    assert "nan" not in gradients[0]
    assert "inf" not in gradients[0]


@pytest.mark.parametrize("model", SMALL, ids=lambda model: type(model).__name__)
def test_double_precision_stays(model: nn.Module) -> None:
    heard = inputs(model, 1, 20 if not isinstance(model, Demucs) else 3000)
    with torch.no_grad():
        single = model(heard)
        try:
            double = model.double()(heard.double())
        finally:
            model.float()
    assert double.dtype == torch.float64
    assert (single - double).abs().max() < 1e-4 * double.abs().max()
