"""Separators of other packages, found by their entry points."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch

import danna_sep
from command_line import call
from danna_sep import plugins
from danna_sep.errors import ConfigError

MODULE = """
import sys
import torch

class Half:
    sources = ("vocals", "accompaniment")
    sample_rate = {rate}

    def __init__(self, device, gain):
        self.device, self.gain = device, gain

    def __call__(self, mixture):
        return torch.stack([self.gain * mixture, mixture - self.gain * mixture], -3)

def load(device="cpu", gain=0.5):
    return Half(device, gain)

def wrong(device="cpu", kind="short"):
    half = Half(device, 0.5)
    make = {{
        "short": lambda mixture: half(mixture)[..., :-1],
        "one": lambda mixture: half(mixture)[..., :1, :, :],
        "nan": lambda mixture: half(mixture) * float("nan"),
        "fails": lambda mixture: half(mixture).reshape(7, 11),
        "full": lambda mixture: bytearray(2**62),
        "in place": lambda mixture: half(mixture.mul_(2)),
        "array": lambda mixture: half(mixture).numpy(),
        "list": lambda mixture: list(half(mixture)),
        "none": lambda mixture: None,
        "integers": lambda mixture: (1000 * half(mixture)).short(),
        "complex": lambda mixture: half(mixture) * 1j,
        "exits": lambda mixture: sys.exit(3),
    }}[kind]

    class Wrong(Half):
        def __call__(self, mixture):
            return make(mixture)

    return Wrong(device, 0.5)

def broken(device="cpu"):
    raise RuntimeError("out of luck")

def exits(device="cpu"):
    sys.exit(3)

def nothing(device="cpu"):
    return object()

def letters(device="cpu"):
    half = Half(device, 0.5)
    half.sources = "vocals"
    return half

def numbers(device="cpu"):
    half = Half(device, 0.5)
    half.sources = (0, 1)
    return half

def sourceless(device="cpu"):
    half = Half(device, 0.5)
    half.sources = ()
    return half
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that brings separators, installed as pip would: a module and its metadata on the path."""
    install(tmp_path, "halfpackage")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "halfpackage", raising=False)
    return "halfpackage"


def install(folder: Path, name: str, rate: int = 44100) -> None:
    (folder / f"{name}.py").write_text(MODULE.format(rate=rate))
    info = folder / f"{name}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    factories = ("wrong", "broken", "exits", "nothing", "letters", "numbers", "sourceless")
    points = [
        f"half = {name}:load",
        *(f"{factory} = {name}:{factory}" for factory in factories),
        f"lost = {name}:no_such",
        "gone = no_such_module:load",
    ]
    (info / "entry_points.txt").write_text("[danna_sep.separators]\n" + "\n".join(points) + "\n")


def test_an_installed_separator_is_found(package: str, capfd: pytest.CaptureFixture[str]) -> None:
    """By its name, in listings, from Python and from preset files; and its package is not imported for a listing."""
    assert plugins.known()["half"].summary == "from halfpackage 1.5"
    shown = call(capfd, "presets").out
    assert "half" in shown
    assert "from halfpackage 1.5" in shown
    assert package not in sys.modules
    separator = plugins.load("half", device="cpu", options={"gain": 0.25})
    assert separator.sources == ("vocals", "accompaniment")
    mixture = torch.randn(2, 100)
    assert torch.equal(separator(mixture)[0], 0.25 * mixture)
    vocals = danna_sep.load("half", stems=["vocals"])
    assert torch.equal(vocals(mixture), 0.5 * mixture[None])
    with pytest.raises(ConfigError, match="no such stem: drums"):
        danna_sep.load("half")


@pytest.mark.usefixtures("package", "tiny")
def test_a_preset_file_takes_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(
        '{"format": "danna-sep-preset/1", "separators": {"h": {"plugin": "half", "options": {"gain": 2}},'
        ' "u": {"preset": "unet"}}, "blend": {"h": {"vocals": 0.5}, "u": {"drums": 1, "vocals": 1}}}'
    )
    mixture = torch.randn(2, 5000)
    stems = danna_sep.load(tmp_path / "p.json", stems=["drums", "vocals"])(mixture)
    unet = danna_sep.load("unet")(mixture)
    assert torch.allclose(stems, torch.stack([unet[0], unet[3] + mixture]), atol=1e-6)
    (tmp_path / "q.json").write_text(
        '{"format": "danna-sep-preset/1", "separators": {"h": {"plugin": "half"}}, "blend": {"h": {"bass": 1}}}'
    )
    with pytest.raises(ConfigError, match=r"q\.json: h: no such stem: bass"):
        danna_sep.load(tmp_path / "q.json", stems=["bass"])


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken", "RuntimeError: out of luck"),
        ("exits", "the separator 'exits' cannot be loaded (SystemExit: 3)"),
        ("nothing", "is a object, which lacks"),
        ("letters", "the separator 'letters' has the sources 'vocals', which are no tuple of names"),
        ("numbers", "has the sources (0, 1), which are no tuple of names"),
        ("sourceless", "has the sources (), which are no tuple of names"),
        ("lost", "AttributeError"),
        ("gone", "ModuleNotFoundError"),
        ("unknown", "no separator 'unknown' is installed"),
    ],
)
def test_what_cannot_be_used_is_said(name: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plugins.load(name)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("short", r"\(2, 2, 99\), not \(2, 2, 100\)"),
        ("one", r"\(1, 2, 100\)"),
        ("nan", "NaN"),
        ("array", "ndarray, not a tensor"),
        ("list", "list, not a tensor"),
        ("none", "NoneType, not a tensor"),
        ("integers", "int16, not a tensor of floating-point samples"),
        ("complex", "complex64, not a tensor of floating-point samples"),
    ],
)
def test_wrong_stems_are_not_mixed_into_others(kind: str, said: str) -> None:
    """Mixed into a blend, nobody would know where they came from."""
    separator = plugins.load("wrong", options={"kind": kind})
    with pytest.raises(ConfigError, match=f"the separator 'wrong' gave .*{said}"):
        separator(torch.randn(2, 100))


@pytest.mark.usefixtures("package")
def test_one_that_fails_is_named() -> None:
    """Among several in a blend, nobody would know which; but of too little memory the program says more itself."""
    failing, full = (plugins.load("wrong", options={"kind": kind}) for kind in ("fails", "full"))
    with pytest.raises(ConfigError, match=r"the separator 'wrong' failed \(RuntimeError: shape") as caught:
        failing(torch.randn(2, 100))
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"the separator 'wrong' failed \(SystemExit: 3\)"):
        plugins.load("wrong", options={"kind": "exits"})(torch.randn(2, 100))
    with pytest.raises(MemoryError):
        full(torch.randn(2, 100))


@pytest.mark.usefixtures("package", "tiny")
def test_one_that_works_in_place_does_not_change_what_others_hear(tmp_path: Path) -> None:
    """Neither beside it in a blend nor behind it in a cascade; and the caller's song stays what it is."""
    wrong = {"plugin": "wrong", "options": {"kind": "in place"}}  # which takes half of the doubled song
    unet = {"preset": "unet"}
    cascade = {"cascade": {"taken": ["vocals"], "first": wrong, "rest": unet}}
    mixture = torch.randn(2, 5000, generator=torch.Generator().manual_seed(0))
    kept = mixture.clone()
    drums, *_, vocals = danna_sep.load("unet")(mixture)
    for separators, blend, expected in (
        ({"a": wrong, "b": unet}, {"a": {"vocals": 0.5}, "b": {"drums": 1, "vocals": 1}}, (drums, vocals + 0.5 * kept)),
        ({"a": cascade}, {"a": {"drums": 1, "vocals": 1}}, (torch.zeros_like(kept), kept)),
    ):
        content = {"format": "danna-sep-preset/1", "separators": separators, "blend": blend}
        (tmp_path / "p.json").write_text(json.dumps(content))
        stems = danna_sep.load(tmp_path / "p.json", stems=["drums", "vocals"])(mixture)
        assert torch.equal(mixture, kept)
        assert torch.allclose(stems, torch.stack(expected), atol=1e-6)


def test_another_rate_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "slowpackage", rate=16000)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="works at 16000 Hz"):
        plugins.load("half")


@pytest.mark.usefixtures("package")
def test_one_name_in_two_packages_is_refused(tmp_path: Path) -> None:
    """Which of them separated would depend on the order of folders."""
    install(tmp_path, "otherpackage")
    with pytest.raises(ConfigError, match=r"several packages have a separator 'half': halfpackage 1.5, otherpackage"):
        plugins.find("half")


def test_an_adapter_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=re.escape('pip install "demucs>=4.1"')):
        plugins.load("htdemucs")
    assert not plugins.known()["spleeter"].is_installed
