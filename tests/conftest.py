"""Shapes in signatures are checked while the tests run; users pay nothing for it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("OMP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))
sys.path.insert(0, str(Path(__file__).parent / "reference"))

SHAPE_CHECKED = [
    f"danna_sep.{name}"
    for name in (
        "signal",
        "models",
        "separators",
        "cascade",
        "adapters",
        "streaming",
        "convert",
        "evaluation",
        "training",
    )
]
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell's background job; processes that tests start would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

_hook = install_import_hook(SHAPE_CHECKED, "shape_check.check")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees or changes the weights of the user who runs it."""
    monkeypatch.setenv("DANNA_SEP_HOME", str(tmp_path / "danna-sep-home"))


@pytest.fixture(scope="session")
def tiny_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder whose weights, of tiny random networks, go before the shipped ones of the same names."""
    import torch

    from danna_sep import models, weights

    configs = {
        "xumx": {"hidden": 8, "n_lstm_layers": 1},
        "unet": {
            "growth": 2,
            "n_layers": (1, 1, 1, 1, 1, 1),
            "bottleneck_width": 16,
            "n_heads": 2,
            "head_width": 4,
        },
        "demucs": {"width": 4, "n_layers": 4},
    }
    home = tmp_path_factory.mktemp("tiny-home")
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.setenv("DANNA_SEP_HOME", str(home))
        torch.manual_seed(1)
        for model, config in configs.items():
            network = models.build(model, config)
            notes = {"licence": "MIT", "origin": "random numbers"}
            others = ["provisional-wide-unet"] if model == "unet" else []
            for name in (f"provisional-{model}", f"original-{model}", *others):
                path = weights.user_folder() / f"{name}.safetensors"
                weights.write(path, model=model, config=config, entries=network.state_dict(), metadata=notes)
                weights.record(name, path)
    return home


@pytest.fixture
def tiny(tiny_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The presets have tiny random networks in this test, and in the processes that it starts."""
    monkeypatch.setenv("DANNA_SEP_HOME", str(tiny_home))
    return tiny_home
