"""Time and memory of the full-size system against the original's way and against peers, and of the shipped bundle.

    python bench/speed.py [--seconds 20] [--rounds 3] [--what danna peers wiener agreement ...] [--out FILE]

Every measurement is a process of its own, on two threads, with random parameters (but for the bundle) on the song of
`examples/`, repeated to the length asked for. Contestants take turns, round by round; the table has medians. Each hears
the song twice, the first time no more than 20 s of it: "at first" is that call, in which libraries set themselves up;
"s per s of audio" and what follows is the second. "raised" means that the C library keeps freed memory
(`danna_sep.allocator`), as `danna-sep` always has it do; without, it works as installed. norbert computes in double
precision, as in the original; ours in single. Peers overlap segments as they do by default: htdemucs a quarter, ours a
sixth. In int8 the U-Net hears magnitudes to the power 0.3, for as they are they are not counted in steps: as many
products; "int8-alone" is what a processor does that is not fast in bfloat16: the rest in single precision. How fast a
laptop without AVX-512 is can be tried where the processor has AVX-VNNI as well, with `ONEDNN_MAX_CPU_ISA=AVX2_VNNI`,
`ATEN_CPU_CAPABILITY=avx2` and `MKL_ENABLE_INSTRUCTIONS=AVX2` in the environment. Needs the developers' packages.
`--out` writes the tables to a Markdown file as well.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
SONG = HERE.parent / "examples" / "caesium-excerpt" / "mixture.flac"
CPU_INFO = Path("/proc/cpuinfo")
N_THREADS = 2
FIRST_S = 20.0

# contestant -> (what it is, allocator raised); the first of each list is what the others are compared with
CONTESTS: dict[str, list[tuple[str, bool]]] = {
    **{
        name: [("original", False), ("original", True), ("f32", True), ("bf16", True), ("int8", True), ("f32", False)]
        for name in ("danna", "unet")
    },
    **{
        name: [("original", False), ("original", True), ("f32", True), ("bf16", True), ("f32", False)]
        for name in ("xumx", "demucs")
    },
    "peers": [
        ("htdemucs", False),
        ("htdemucs", True),
        ("danna-f32", False),
        ("danna-f32", True),
        ("danna-bf16", True),
        ("danna-int8", True),
    ],
    "umx": [("openunmix", False), ("openunmix", True), ("xumx-f32", False), ("xumx-f32", True), ("xumx-bf16", True)],
    "bundle": [("f32", True), ("bf16", True), ("int8", True), ("int8-alone", True)],
    "wiener": [("norbert", False), ("norbert", True), ("ours", False), ("ours", True)],
}
MODELS = ("xumx", "unet", "demucs")


def song(seconds: float) -> Any:
    """(channel, time) float32."""
    import numpy as np
    import soundfile

    samples = soundfile.read(SONG, dtype="float32")[0].T
    n_samples = round(seconds * 44100)
    return np.tile(samples, -(-n_samples // samples.shape[1]))[:, :n_samples].copy()


def network(name: str, precision: str = "f32") -> Any:
    """The paper's, but for the power of magnitudes where the U-Net is to count."""
    import torch

    from danna_sep.models import build
    from danna_sep.models.precision import lower, lowers
    from danna_sep.models.steps import count_in_steps

    torch.manual_seed(MODELS.index(name))
    counts = name == "unet" and precision == "int8"
    model: Any = build(name, {"input_power": 0.3} if counts else {}).eval().requires_grad_(False)
    if counts:
        count_in_steps(model)
    if lowers(precision):
        lower(model)
    if name == "unet":
        model.waits_coarsely = precision != "f32"
    return model


def contestant(contest: str, who: str) -> Callable[[Any], Any]:
    """A function from the mixture (tensor) to stems; everything that is loaded once is loaded here."""
    from danna_sep import load
    from danna_sep.blending import Blend
    from danna_sep.models import demucs_framed, precision, unet_framed
    from danna_sep.separators import MaskSeparator, WaveformSeparator
    from danna_sep.streaming import default_segment_s, segment_grid, stream
    from danna_sep.weights.originals import ORIGINAL_BLEND

    def streamed(separator: Any) -> Callable[[Any], Any]:
        def run(mixture: Any) -> Any:
            return list(stream(mixture.split(44100, -1), separator, grid))

        grid = segment_grid(default_segment_s(separator))
        return run

    def ours(names: tuple[str, ...], arithmetic: str) -> Any:
        separators: dict[str, Any] = {}
        for name in names:
            model = network(name, arithmetic)
            if name == "demucs":
                separators[name] = WaveformSeparator(demucs_framed.framed(model))
            else:
                separators[name] = MaskSeparator(unet_framed.framed(model))
        return Blend(separators, ORIGINAL_BLEND) if len(names) > 1 else separators[names[0]]

    if contest == "bundle":
        if who == "int8-alone":
            precision.has_fast_bf16 = lambda: False
        return streamed(load("danna", precision=who.removesuffix("-alone")))
    if who == "htdemucs":
        from demucs.htdemucs import HTDemucs

        from danna_sep.adapters.demucs import DemucsSeparator

        return DemucsSeparator(HTDemucs(["drums", "bass", "other", "vocals"]).eval().requires_grad_(False))
    if who == "openunmix":
        sys.path.insert(0, str(HERE.parent / "tests"))
        import adapted

        adapted.small_openunmix()  # for its placeholder of torchaudio
        from openunmix.model import OpenUnmix
        from openunmix.model import Separator as Model

        from danna_sep.adapters.openunmix import OpenUnmixSeparator

        targets = {
            name: OpenUnmix(nb_bins=2049, hidden_size=512, nb_layers=3, max_bin=1487)
            for name in ("drums", "bass", "other", "vocals")
        }
        return OpenUnmixSeparator(Model(targets, niter=1).eval().requires_grad_(False))
    names = MODELS if contest in ("danna", "peers") else ("xumx",) if contest == "umx" else (contest,)
    if who == "original":
        sys.path.insert(0, str(HERE))
        from original import original_way

        parts = {name: original_way(name, network(name)) for name in names}
        return Blend(parts, ORIGINAL_BLEND) if len(names) > 1 else parts[names[0]]
    return streamed(ours(names, who.rpartition("-")[2]))


def wiener_contestant(who: str, seconds: float) -> Callable[[], Any]:
    import norbert
    import numpy as np
    import torch

    from danna_sep.signal.stft import stft
    from danna_sep.signal.wiener import wiener

    spec = stft(torch.from_numpy(song(seconds)))
    rng = torch.Generator().manual_seed(0)
    magnitudes = torch.rand(4, *spec.shape, generator=rng) * spec.abs()
    if who == "ours":
        return lambda: wiener(magnitudes, spec, 1)
    heard = np.ascontiguousarray(spec.permute(2, 1, 0).to(torch.complex128).numpy())
    estimates = np.ascontiguousarray(magnitudes.permute(3, 2, 1, 0).double().numpy())
    return lambda: norbert.wiener(estimates, heard, 1, use_softmask=False)


def measure(contest: str, who: str, raised: bool, seconds: float) -> dict[str, float]:
    """One measurement, in this process."""
    from danna_sep.allocator import keep_freed_memory

    if raised:
        keep_freed_memory()
    import torch

    torch.set_num_threads(N_THREADS)
    mixture = torch.from_numpy(song(seconds))
    first_s = min(seconds, FIRST_S)
    if contest == "wiener":
        compute = wiener_contestant(who, seconds)
        at_first = timed(compute, seconds)
    else:
        separate = contestant(contest, who)
        with torch.no_grad():
            at_first = timed(lambda: separate(mixture[:, : round(first_s * 44100)]), first_s)

        def compute() -> Any:
            with torch.no_grad():
                return separate(mixture)

    # The filter alone is so short that where memory happens to lie would decide.
    walls, cpus = zip(*(timed(compute, seconds) for _ in range(5 if contest == "wiener" else 1)), strict=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"first": at_first[0], "wall": median(walls), "cpu": median(cpus), "peak": peak}


def timed(compute: Callable[[], Any], seconds: float) -> tuple[float, float]:
    """Time and processors' time that it takes per second of audio."""
    began, began_cpu = time.perf_counter(), time.process_time()
    compute()
    return (time.perf_counter() - began) / seconds, (time.process_time() - began_cpu) / seconds


def measured_apart(contest: str, who: str, raised: bool, seconds: float) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--child", contest, who, str(int(raised)), "--seconds", str(seconds)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(N_THREADS), "MKL_NUM_THREADS": str(N_THREADS)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{contest} {who}: {done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def table(contest: str, seconds: float, rounds: int) -> str:
    from danna_sep.models.precision import has_fast_int8

    entries = [entry for entry in CONTESTS[contest] if has_fast_int8() or "int8" not in entry[0]]
    results: list[list[dict[str, float]]] = [[] for _ in entries]
    for _ in range(rounds):
        for entry, result in zip(entries, results, strict=True):
            result.append(measured_apart(contest, *entry, seconds))
    middle = [{key: median(each[key] for each in result) for key in result[0]} for result in results]
    lines = [
        f"### {contest}, {seconds:g} s of audio, median of {rounds}\n",
        "| | allocator | at first | s per s of audio | CPU s per s | peak memory, MiB | times as fast as the first |",
        "|---|---|---|---|---|---|---|",
    ]
    for (who, raised), each in zip(entries, middle, strict=True):
        ratio = middle[0]["wall"] / each["wall"]
        lines.append(
            f"| {who} | {'raised' if raised else 'as installed'} | {each['first']:.4f} | {each['wall']:.4f} | "
            f"{each['cpu']:.4f} | {each['peak']:.0f} | {ratio:.2f} |"
        )
    return "\n".join(lines) + "\n"


def agreement(seconds: float = 20) -> str:
    """Level of each stem of the original's way over its difference from ours, dB."""
    code = (
        "import sys, torch; sys.path.insert(0, sys.argv[1]); import speed; torch.set_num_threads(speed.N_THREADS); "
        "x = torch.from_numpy(speed.song(float(sys.argv[3]))); "
        "run = speed.contestant('danna', 'original') if sys.argv[2] == 'original' else speed.whole(sys.argv[2]); "
        "y = torch.no_grad()(run)(x); torch.save(y, sys.argv[4])"
    )
    import torch

    with tempfile.TemporaryDirectory() as folder:
        stems = {}
        for who in ("original", "f32", "bf16"):
            path = Path(folder) / who
            subprocess.run([sys.executable, "-c", code, str(HERE), who, str(seconds), str(path)], check=True)
            stems[who] = torch.load(path, weights_only=True)
    lines = [f"### agreement with the original's way, whole {seconds:g} s, dB below each stem\n"]
    lines += ["| | drums | bass | other | vocals |", "|---|---|---|---|---|"]
    for who in ("f32", "bf16"):
        error = (stems[who] - stems["original"]).double().square().sum((1, 2))
        levels = 10 * torch.log10(stems["original"].double().square().sum((1, 2)) / error)
        lines.append(f"| {who} | {' | '.join(f'{level:.0f}' for level in levels)} |")
    return "\n".join(lines) + "\n"


def whole(precision: str) -> Any:
    """Our networks and filter, on whole tracks as the original hears them."""
    from danna_sep.blending import Blend
    from danna_sep.convert import OriginalDemucs
    from danna_sep.separators import MaskSeparator
    from danna_sep.weights.originals import ORIGINAL_BLEND

    parts: dict[str, Any] = {}
    for name in MODELS:
        model = network(name, precision)
        if name == "demucs":
            parts[name] = OriginalDemucs(model)
        else:
            parts[name] = MaskSeparator(in_parts(model) if name == "unet" else model)
    return Blend(parts, ORIGINAL_BLEND)


def in_parts(unet: Any) -> Any:
    """The network as a track's stream computes it, what waits in it as coarse, on spectra that come whole."""
    import torch

    from danna_sep.models.mask_stream import open_mask_stream

    class InParts(torch.nn.Module):
        def forward(self, magnitude: Any) -> Any:
            stream = open_mask_stream(unet, magnitude.shape[-1], 1)
            stream.hear(magnitude, True)
            return torch.cat([stream.masks(settled) for settled in iter(stream.settled, None)], -1)

    return InParts()


def header(arguments: str) -> str:
    from importlib.metadata import version

    about = CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else []
    cpu = next((line.partition(": ")[2] for line in about if "model name" in line), "")
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "norbert", "demucs", "openunmix"))
    return (
        "# Speed and memory\n\nContestants of a table take turns in one run; `make bench` writes such a page.\n\n"
        "![The tables as bars](speed.png)\n\n"
        f"`python bench/speed.py {arguments}`: {cpu or platform.machine()}, {os.cpu_count()} cores, "
        f"{N_THREADS} threads, {packages}\n\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--what", nargs="+", choices=[*CONTESTS, "agreement"], default=[*CONTESTS, "agreement"])
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        contest, who, raised = arguments.child
        print(json.dumps(measure(contest, who, raised == "1", arguments.seconds)))
        return
    if arguments.out:
        arguments.out.write_text(header(" ".join(sys.argv[1:])))
    for contest in arguments.what:
        text = (
            agreement(arguments.seconds)
            if contest == "agreement"
            else table(contest, arguments.seconds, arguments.rounds)
        )
        print(text, flush=True)
        if arguments.out:
            with arguments.out.open("a") as file:
                file.write(text + "\n")


if __name__ == "__main__":
    main()
