"""Memory does not depend on the length of the file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

CHILD = """
import resource, sys, torch
from danna_sep import SOURCES, separate_file

class Copies:
    sources, sample_rate = SOURCES, 44100
    def __call__(self, mixture):
        return torch.stack([mixture] * 4, -3)

separate_file(sys.argv[1], sys.argv[2], Copies(), two_stems="vocals", segment_s=2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak_mb(folder: Path, minutes: int) -> int:
    """Peak of a process that takes a 16-bit file apart: reading, resampling, streaming, spooling, encoding."""
    song = folder / f"{minutes}.wav"
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(song, "w", 24000, 1) as file:
        for _ in range(minutes * 60):
            file.write(0.1 * rng.standard_normal(24000))
    command = [sys.executable, "-c", CHILD, str(song), str(folder / "out")]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_peak_memory_is_that_of_a_short_file(tmp_path: Path) -> None:
    """Holding the longer track once, in any form, would add 63 MB or more."""
    assert peak_mb(tmp_path, 12) < peak_mb(tmp_path, 1) + 40
