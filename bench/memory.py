"""Peak memory of `danna-sep separate` against the length of the file.

    python bench/memory.py [--minutes 5 60] [--full-size [--input-power 0.3]] [--preset danna]
        [--precision auto] [--without-bfloat16]

Separates generated stereo noise with tones, in a process of its own for each length, and prints the most memory that
it ever held, as the operating system counts it. `--full-size` takes the paper's sizes with random parameters, as the
preset "original", of which the U-Net counts in whole steps, where the processor is fast in them, if it hears magnitudes
to a power; else the weights that ship. `--without-bfloat16` separates as on a processor that has no
instructions for such numbers, nor for whole ones: in single precision, but for what waits. Needs free disk
for the results, about 85 MB a minute.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile

WITHOUT_BFLOAT16 = """
from danna_sep.models import precision
precision.has_fast_bf16 = precision.has_fast_int8 = lambda: False
from danna_sep.cli import main
main()
"""


def write_song(path: Path, minutes: float) -> None:
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", 44100, 2, subtype="PCM_16") as file:
        for second in range(round(60 * minutes)):
            clock = second + np.arange(44100) / 44100
            tone = 0.2 * np.sin(2 * np.pi * 220 * clock)[:, None]
            file.write(tone + 0.1 * rng.standard_normal((44100, 2)))


def write_full_size(home: Path, input_power: float) -> None:
    """The paper's networks with random parameters, where the preset "original" looks for them."""
    import torch

    os.environ["DANNA_SEP_HOME"] = str(home)
    from danna_sep import weights
    from danna_sep.models import XUMX, Demucs, UNet, UNetConfig

    torch.manual_seed(0)
    for name, model in (("xumx", XUMX()), ("unet", UNet(UNetConfig(input_power=input_power))), ("demucs", Demucs())):
        path = weights.user_folder() / f"original-{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        notes = {"licence": "none", "origin": "random parameters"}
        weights.write(path, model=name, config=asdict(model.config), entries=model.state_dict(), metadata=notes)
        weights.record(f"original-{name}", path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[5, 60])
    parser.add_argument("--full-size", action="store_true")
    parser.add_argument("--input-power", type=float, default=1.0)
    parser.add_argument("--preset", default="danna")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--without-bfloat16", action="store_true")
    arguments = parser.parse_args()
    program = ["-c", WITHOUT_BFLOAT16] if arguments.without_bfloat16 else ["-m", "danna_sep"]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        if arguments.full_size:
            # In a process of its own, so that what it needs does not count.
            make = (
                f"import runpy, pathlib; runpy.run_path({__file__!r})['write_full_size']"
                f"(pathlib.Path({str(home)!r}), {arguments.input_power})"
            )
            subprocess.run([sys.executable, "-c", make], check=True)
        preset = "original" if arguments.full_size else arguments.preset
        print("| minutes | peak memory, MiB | seconds per second of audio |\n|---|---|---|")
        for minutes in arguments.minutes:
            song = Path(folder) / "song.wav"
            write_song(song, minutes)
            command = [sys.executable, *program, "separate", str(song), "--preset", preset, "--out", folder]
            command += ["--precision", arguments.precision, "--overwrite", "--quiet"]
            start = time.monotonic()
            process = subprocess.Popen(command, env={**os.environ, "DANNA_SEP_HOME": str(home)})
            _, status, usage = os.wait4(process.pid, 0)
            spent = time.monotonic() - start
            if status:
                raise SystemExit(f"separation of {minutes:g} minutes failed")
            print(f"| {minutes:g} | {usage.ru_maxrss / 1024:.0f} | {spent / 60 / minutes:.3f} |", flush=True)


if __name__ == "__main__":
    main()
