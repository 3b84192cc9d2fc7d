"""How much faster one checkout is than another, where a machine shared with others makes times vary by half.

    git worktree add ../before COMMIT
    python bench/turns.py ../before . danna bf16 [--seconds 20] [--rounds 16]

Each checkout has a process of its own, with a contestant of its `bench/speed.py`; they take turns, call by call, the
first of them now the one, now the other. The ratios of calls that were neighbours have a median that holds where
medians of times do not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

N_THREADS = 2


def hear(contest: str, who: str, seconds: float) -> None:
    """In a checkout's own process: a call for each line that comes, its seconds as the answer."""
    import speed

    known = {contest: sorted({name for name, _ in names}) for contest, names in speed.CONTESTS.items()}
    del known["wiener"]  # hears no mixture
    if who not in known.get(contest, ()):
        choices = "; ".join(f"{contest} {', '.join(names)}" for contest, names in known.items())
        print(f"no contestant {contest} {who}; choose of {choices}")
        return
    import torch

    torch.set_num_threads(N_THREADS)
    from danna_sep.allocator import keep_freed_memory

    keep_freed_memory()
    mixture, separate = torch.from_numpy(speed.song(seconds)), speed.contestant(contest, who)
    with torch.no_grad():
        separate(mixture)
        print("ready", flush=True)
        for _ in sys.stdin:
            start = time.perf_counter()
            separate(mixture)
            print(time.perf_counter() - start, flush=True)


def process(root: Path, contest: str, who: str, seconds: float) -> subprocess.Popen[str]:
    """Ready to be called, with the sources and the benchmark of that checkout."""
    paths = os.pathsep.join(str(root.resolve() / folder) for folder in ("src", "bench"))
    command = [sys.executable, __file__, "--child", str(root), str(root), contest, who, "--seconds", str(seconds)]
    child = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": paths}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    answer = child.stdout.readline()
    if answer != "ready\n":
        failed = f"cannot separate with {contest} {who}; what is wrong stands above"
        raise SystemExit(f"{root}: {answer.rstrip() or failed}")
    return child


def called(child: subprocess.Popen[str]) -> float:
    """Seconds of one call."""
    assert child.stdin is not None
    assert child.stdout is not None
    print(file=child.stdin, flush=True)
    return float(child.stdout.readline())


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("contest")
    parser.add_argument("who")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        hear(args.contest, args.who, args.seconds)
        return
    children = [process(root, args.contest, args.who, args.seconds) for root in (args.before, args.after)]
    times: list[list[float]] = [[], []]
    for turn in range(args.rounds):
        for i in (0, 1) if turn % 2 else (1, 0):
            times[i].append(called(children[i]))
    for child in children:
        child.kill()
    ratios = sorted(before / after for before, after in zip(*times, strict=True))
    quarter = len(ratios) // 4
    print(
        f"{args.contest}, {args.who}: {median(ratios):.3f} times as fast "
        f"(half of {len(ratios)} ratios from {ratios[quarter]:.2f} to {ratios[-1 - quarter]:.2f}); "
        f"medians {median(times[0]) / args.seconds:.4f} and {median(times[1]) / args.seconds:.4f} s per s of audio"
    )


if __name__ == "__main__":
    main()
