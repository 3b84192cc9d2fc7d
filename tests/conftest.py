"""Shapes in signatures are checked while the tests run; users pay nothing for it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("OMP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))
sys.path.insert(0, str(Path(__file__).parent / "reference"))

SHAPE_CHECKED = [f"danna_sep.{name}" for name in ("signal", "models", "separators", "streaming")]
_hook = install_import_hook(SHAPE_CHECKED, "beartype.beartype")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees or changes the weights of the user who runs it."""
    monkeypatch.setenv("DANNA_SEP_HOME", str(tmp_path / "danna-sep-home"))
