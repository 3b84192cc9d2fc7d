"""Signals: an orderly stop, nothing half-written, and a second one that does not wait."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from command_line import COMMAND, song, stems_of
from danna_sep.cli.interrupt import Interrupt
from danna_sep.errors import Cancelled

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signal_in_the_middle(number: signal.Signals, code: int, tiny: Path, tmp_path: Path) -> None:
    """Ctrl-C, `kill` and a closed terminal must leave what is done, nothing else, and the code that shells expect."""
    song(tmp_path / "short.wav")
    song(tmp_path / "long.wav", n_frames=300 * 44100, n_channels=1)
    song(tmp_path / "next.wav")
    command = [*COMMAND, "--json", "--preset", "unet", "--out", "out", "short.wav", "long.wav", "next.wav"]
    heeds = partial(signal.signal, number, signal.SIG_DFL)  # though these tests may run under nohup
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heeds
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "progress" and event["file"] == "long.wav":
                break
        assert list((tmp_path / "out" / "long").iterdir())  # hidden files, as yet
        process.send_signal(number)
        events = [json.loads(line) for line in process.stdout]
        assert process.stderr.read() == b""
        assert process.wait(60) == code
    assert events[-1] == {"event": "end", "n_done": 1, "n_failed": 0, "exit_code": code}
    assert events[-2]["kind"] == "Cancelled"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["short"]
    stems_of(tmp_path / "out" / "short")


def test_a_terminal_that_is_closed(tiny: Path, tmp_path: Path) -> None:
    """What can no longer be shown must not keep the program from putting things in order, and from saying why."""
    song(tmp_path / "long.wav", n_frames=300 * 44100, n_channels=1)
    terminal, end = os.openpty()
    command = [*COMMAND, "--preset", "unet", "--out", "out", "long.wav"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=end, stdout=end, stderr=end, start_new_session=True, preexec_fn=_own_terminal
    ) as process:
        os.close(end)
        while not (tmp_path / "out" / "long").exists():
            time.sleep(0.05)
        os.close(terminal)
        assert process.wait(60) == 129
    assert not (tmp_path / "out").exists()


def _own_terminal() -> None:
    import fcntl
    import termios

    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup's children ignore it
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_second_signal_does_not_wait() -> None:
    """Who asks twice must not have to wait for the end of one long operation; but one Ctrl-C may come doubled."""
    program = """
import sys, time
from danna_sep.cli.interrupt import Interrupt
with Interrupt() as interrupt:
    print("ready", flush=True)
    while not interrupt():
        time.sleep(0.01)
    print("asked", flush=True)
    time.sleep(600)  # goes on after a signal, as a network's operation does
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "asked\n"
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(30) == 130
        finally:
            process.kill()


def test_where_a_signal_raises() -> None:
    """Computation must stop at once; writing must not be torn apart; and afterwards Ctrl-C is Python's again."""
    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        assert not interrupt()
        n_begun = n_done = 0
        for _ in range(2):
            with suppress(Cancelled), interrupt.anywhere():
                n_begun += 1
                signal.raise_signal(signal.SIGINT)
                n_done += 1
        assert (n_begun, n_done) == (1, 0)
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGTERM)
        assert interrupt()
        assert interrupt.exit_code == 143
        with pytest.raises(Cancelled):
            interrupt.check()
    assert signal.getsignal(signal.SIGINT) is before
