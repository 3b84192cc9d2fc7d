"""The command line for tests: in this process where that is enough, in one of its own where it is not."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from danna_sep.cli import app

STEMS = ("drums", "bass", "other", "vocals")
COMMAND = (sys.executable, "-m", "danna_sep")


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    def complaint(self) -> str:
        """The one line on stderr."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("danna-sep: ")
        return lines[0]


def call(capfd: pytest.CaptureFixture[str], *arguments: object) -> Outcome:
    """The command line in this process."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        app([str(argument) for argument in arguments], prog_name="danna-sep")
    out, err = capfd.readouterr()
    return Outcome(ended.value.code or 0, out, err)


def run(*arguments: object, timeout_s: float = 300, **options: Any) -> Outcome:
    """The command line in a process of its own."""
    command = [*COMMAND, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False, **options)
    return Outcome(done.returncode, done.stdout.decode("utf-8", "surrogateescape"), done.stderr.decode())


def song(path: Path, n_frames: int = 8820, n_channels: int = 2, rate_hz: int = 44100, subtype: str = "PCM_16") -> Path:
    """A short file of tones and noise."""
    time_s = np.arange(n_frames) / rate_hz
    noise = np.random.default_rng(n_frames).standard_normal((n_frames, n_channels))
    samples = 0.3 * np.sin(2 * np.pi * 330 * time_s)[:, None] + 0.05 * noise
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples.astype(np.float32), rate_hz, subtype=subtype)
    return path


def stems_of(folder: Path, ending: str = "wav", names: tuple[str, ...] = STEMS) -> dict[str, np.ndarray]:
    """Samples (time, channel) of the stems in a folder that holds nothing else."""
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.{ending}" for name in names)
    return {name: soundfile.read(folder / f"{name}.{ending}", always_2d=True)[0] for name in names}
