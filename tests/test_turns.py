"""What compares the speed of two checkouts: it must not take one contestant for another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "bench").exists(), reason="the package without its sources")


@pytest.mark.parametrize("names", [("danna", "nonsense"), ("dana", "f32"), ("wiener", "ours")])
def test_an_unknown_contestant_is_refused_in_one_line(names: tuple[str, str]) -> None:
    """If it failed, a mistyped precision would be measured as single precision."""
    command = [sys.executable, str(ROOT / "bench" / "turns.py"), str(ROOT), str(ROOT), *names, "--seconds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert done.stdout == ""
    line, *others = done.stderr.splitlines()
    assert not others
    assert f"no contestant {' '.join(names)}; choose of danna bf16, f32, int8, original; unet " in line
