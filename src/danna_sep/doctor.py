"""Whether this installation works: versions, devices, codecs, weights, disk space, and a second of sound separated."""

from __future__ import annotations

import importlib
import importlib.metadata
import math
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from danna_sep.extras import how_to_install
from danna_sep.types import SAMPLE_RATE, SOURCES

OK: Final = "ok"
NOTE: Final = "note"
"""Something to know; what is needed works."""
BROKEN: Final = "broken"

_N_FRAMES = 11025
_LEAST_FREE_BYTES = 1e9
_OURS = ("wav", "flac", "mp3", "ogg")
_NEEDED = ("wav", "flac")
# Formats that are read only: how libsndfile writes a sample of them. M4A is written by PyAV.
_BY_SNDFILE = {"opus": ("OGG", "OPUS", 48000), "aiff": ("AIFF", "PCM_16", 44100), "caf": ("CAF", "PCM_16", 44100)}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What.
        state: OK, NOTE or BROKEN.
        text: One line.
    """

    name: str
    state: str
    text: str


def checks(out_dir: Path) -> Iterator[Check]:
    """Look at everything, one thing after the other; none raises.

    Args:
        out_dir: Where stems would go; need not exist.
    """
    yield from versions()
    yield from _guarded("devices", _devices)
    with tempfile.TemporaryDirectory(prefix="danna-sep-") as folder:
        for name in (*_OURS, *_BY_SNDFILE, "m4a"):
            yield from _guarded(f"codec {name}", partial(codec, name, Path(folder)))
    yield from _guarded("weights", _weights)
    yield from _guarded("space", lambda: _space(out_dir))
    yield from _guarded("self-test", _self_test)


def versions() -> Iterator[Check]:
    """What is installed."""
    yield Check("danna-sep", OK, importlib.metadata.version("danna-sep"))
    yield Check("python", OK, f"{platform.python_version()} on {platform.platform()}, {os.cpu_count()} CPUs")
    for name in ("torch", "numpy", "soundfile", "soxr"):
        yield from _guarded(name, partial(_version, name))
    try:
        yield Check("av", OK, f"{importlib.import_module('av').__version__}: M4A and video can be read")
    except Exception:  # not only ImportError: its libraries may fail to load
        yield Check("av", NOTE, f"not installed; for M4A and video: {how_to_install('av')}")


def codec(name: str, folder: Path) -> Iterator[Check]:
    """A short tone there and back through a format.

    Args:
        name: Of the format, which is also its ending.
        folder: For the file.
    """
    import numpy as np

    from danna_sep.audio import AudioReader
    from danna_sep.errors import MissingExtra

    label, rate_hz = f"codec {name}", _BY_SNDFILE.get(name, ("", "", SAMPLE_RATE))[2]
    path = folder / f"tone.{name}"
    tone = 0.5 * np.sin(2 * np.pi * 441 / rate_hz * np.arange(_N_FRAMES, dtype=np.float32))
    tone = np.stack([tone, 0.5 * tone]).astype(np.float32)
    try:
        _write(path, tone, rate_hz)
        with AudioReader(path, warn=lambda line: None) as reader:
            decoded = np.concatenate(list(reader.blocks(_N_FRAMES)), axis=1)
    except (MissingExtra, ImportError):
        yield Check(label, NOTE, f"not read; {how_to_install('av')}")
        return
    except Exception as error:
        state = BROKEN if name in _NEEDED else NOTE
        yield Check(label, state, f"cannot be written and read again here: {_line(error)}")
        return
    n_common = min(decoded.shape[1], _N_FRAMES)
    # Encoders may put some silence in front, so loudness is compared, not samples.
    level = float(np.sqrt(np.mean(decoded[0, :n_common] ** 2)) / math.sqrt(np.mean(tone[0, :n_common] ** 2)))
    if not 0.8 < level < 1.25 or n_common < 0.9 * _N_FRAMES:
        state = BROKEN if name in _NEEDED else NOTE
        yield Check(label, state, f"a tone came back at {level:.2f} of its level, {decoded.shape[1]} frames long")
    else:
        yield Check(label, OK, "read and written" if name in _OURS else "read")


def _write(path: Path, tone: Any, rate_hz: int) -> None:
    name = path.suffix[1:]
    if name in _OURS:
        from danna_sep.audio import StemWriter

        bits = "16" if name in ("wav", "flac") else "float"
        with StemWriter({"tone": path}, sample_rate=rate_hz, n_channels=2, format=name, bits=bits) as writer:
            writer.write({"tone": tone})
            writer.commit()
    elif name in _BY_SNDFILE:
        import soundfile

        container, subtype, _ = _BY_SNDFILE[name]
        soundfile.write(path, tone.T, rate_hz, format=container, subtype=subtype)
    else:
        import av

        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=rate_hz, layout="stereo")
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="stereo")
            frame.sample_rate = rate_hz
            for piece in (frame, None):
                container.mux(stream.encode(piece))


def _version(name: str) -> Iterator[Check]:
    module: Any = importlib.import_module(name)
    text = str(module.__version__)
    if name == "torch":
        text += f", {module.get_num_threads()} threads"
    elif name == "soundfile":
        text += f", libsndfile {module.__libsndfile_version__}"
    yield Check(name, OK, text)


def _devices() -> Iterator[Check]:
    import torch

    from danna_sep.api import resolve_device, resolve_precision

    found = [platform.processor() or platform.machine() or "cpu"]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append(f"cuda:{index} {properties.name}, {properties.total_memory / 1e9:.0f} GB")
    if torch.backends.mps.is_available():
        found.append("mps")
    device = resolve_device("auto")
    yield Check("devices", OK, f"{'; '.join(found)}; --device auto takes {device}")
    yield Check("precision", OK, f"--precision auto takes {resolve_precision('auto', device)}: {_why(device)}")


def _why(device: str) -> str:
    from danna_sep.models.precision import has_fast_bf16, has_fast_int8

    if device != "cpu":
        return f"others have not been measured on {device}"
    whole = "VNNI" if has_fast_int8() else "no VNNI that PyTorch uses"
    other = "AVX-512 BF16 or AMX" if has_fast_bf16() else "neither AVX-512 BF16 nor AMX"
    return f"this processor has {whole}, and {other}"


def _weights() -> Iterator[Check]:
    from danna_sep import presets, weights

    shipped = set(presets.find("danna").weights.values())
    results = weights.verify()
    for name in sorted(shipped - {result.name for result in results}):
        yield Check(f"weights {name}", BROKEN, "missing; reinstall danna-sep")
    for result in results:
        yield Check(f"weights {result.name}", OK if result.ok else BROKEN, result.problem or str(result.path))


def _space(out_dir: Path) -> Iterator[Check]:
    from danna_sep import weights

    for label, folder in (("output folder", out_dir), ("own data", weights.home())):
        existing = folder.absolute()
        while not os.path.exists(existing):  # noqa: PTH110  (Path.exists raises where nobody may look)
            existing = existing.parent
        n_free = shutil.disk_usage(existing).free
        if not os.access(existing, os.W_OK | os.X_OK):
            # Without data of one's own the weights that ship still separate.
            state = BROKEN if folder == out_dir else NOTE
            yield Check(label, state, f"{folder}: {existing} cannot be written")
        elif n_free < _LEAST_FREE_BYTES:
            yield Check(label, NOTE, f"{folder}: only {n_free / 1e9:.2f} GB free")
        else:
            yield Check(label, OK, f"{folder}: {n_free / 1e9:.0f} GB free")


def _self_test() -> Iterator[Check]:
    import numpy as np

    from danna_sep import api

    time_s = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    noise = np.random.default_rng(0).standard_normal((2, SAMPLE_RATE)) * np.exp(-8 * (time_s % 0.25))
    mixture = (0.2 * np.sin(2 * np.pi * 110 * time_s) + 0.05 * noise).astype(np.float32)
    start_s = time.monotonic()
    stems = api.separate(mixture, SAMPLE_RATE)
    elapsed_s = time.monotonic() - start_s
    problem = ""
    if tuple(stems) != SOURCES:
        problem = f"gave {', '.join(stems)}"
    elif any(stem.shape != mixture.shape for stem in stems.values()):
        problem = "stems are not as long as the input"
    elif not all(np.isfinite(stem).all() for stem in stems.values()):
        problem = "stems have NaN or infinite samples"
    yield Check(
        "self-test", BROKEN if problem else OK, problem or f"1 s separated into {len(stems)} stems in {elapsed_s:.1f} s"
    )


def _guarded(name: str, look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from look()
    except Exception as error:
        yield Check(name, BROKEN, _line(error))


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
