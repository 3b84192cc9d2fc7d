"""Atomic files and locks: never half a file, never two at once, never a lock that outlives its holder."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from danna_sep import atomic
from danna_sep.atomic import locked, replacing, sha256_of
from danna_sep.errors import Cancelled, WriteFailed


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_a_write_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WriteFailed, match="cannot be written"), replacing(tmp_path / "file" / "a"):
        pass
    with pytest.raises(WriteFailed, match="cannot be locked"), locked(tmp_path / "file" / "a"):
        pass
    (tmp_path / "folder" / "b").mkdir(parents=True)
    with pytest.raises(WriteFailed), replacing(tmp_path / "folder"):
        pass
    assert {p.name for p in tmp_path.iterdir()} == {"file", "folder"}


def test_sha256_of_a_known_text(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_only_one_thread_at_a_time_holds_a_lock(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(5):
            with locked(tmp_path / "lock"):
                inside += 1
                most = max(most, inside)
                time.sleep(0.001)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert not list(tmp_path.iterdir())


def test_a_killed_process_leaves_no_lock_behind(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from danna_sep.atomic import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "lock"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(Cancelled), locked(tmp_path / "lock", cancel=lambda: True):
            pass
        process.kill()
        process.wait()
        with locked(tmp_path / "lock"):
            pass


@pytest.mark.skipif(sys.platform == "win32", reason="the file system's errors are those of flock")
def test_a_file_system_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_handle: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(atomic, "_take", refuse)
    with locked(tmp_path / "lock"):
        pass
    assert not list(tmp_path.iterdir())
