"""Songs in a folder: whole or not at all, kept, replaced in turn, the same from any number of processes."""

from __future__ import annotations

import itertools
import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from command_line import COMMAND, call, run
from danna_sep.atomic import locked
from danna_sep.errors import Cancelled, ConfigError, OutputCollision, OutputError, SongsError, WriteFailed
from danna_sep.songs import find_songs
from danna_sep.training.synthesis import folder, song, write
from danna_sep.training.synthesis.song import length_of
from danna_sep.training.synthesis.studio import Studio
from danna_sep.training.synthesis.write import Failed, Kept, Order, Written, indices_of, write_songs
from danna_sep.types import SAMPLE_RATE, SOURCES
from made_up_recordings import write_recordings

SHORT = (4.0, 5.0)


@pytest.fixture(autouse=True)
def _bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without soundfonts, whatever is installed."""
    monkeypatch.setattr("danna_sep.training.synthesis.studio.installed", lambda: ())


def order(out: Path, n_songs: int | None = 2, **settings: object) -> Order:
    return Order(**{"out": out, "length_s": SHORT, "n_songs": n_songs, "seed": 4, **settings})  # type: ignore[arg-type]


def everything(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def no_leftovers(out: Path) -> None:
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_songs_are_found_and_read_back(tmp_path: Path) -> None:
    """Four annotated stems each, equal to what was made within half a step of 16 bits."""
    events = list(write_songs(order(tmp_path)))
    assert [type(event) for event in events] == [Written, Written]
    songs = find_songs(tmp_path)
    assert [found.name for found in songs] == ["synthetic-4-000000", "synthetic-4-000001"]
    for index, found in enumerate(songs):
        assert found.annotated == SOURCES
        made = song.make_song(Studio(), 4, index, SHORT)
        excerpt = found.read()
        for source, stem in zip(SOURCES, excerpt.stems, strict=True):
            assert stem.shape == made[source].shape
            np.testing.assert_allclose(stem, made[source], atol=0.5001 * 2**-15)
        assert events[index].length_s * SAMPLE_RATE == pytest.approx(found.n_frames)
        sheet = json.loads((tmp_path / found.name / "song.json").read_text())
        assert (sheet["seed"], sheet["index"]) == (4, index)
    no_leftovers(tmp_path)


def test_a_second_run_adds_and_leaves_what_is_there(tmp_path: Path) -> None:
    list(write_songs(order(tmp_path, 1)))
    before = everything(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.flac")}
    events = list(write_songs(order(tmp_path, 3)))
    assert [type(event) for event in events] == [Kept, Written, Written]
    after = everything(tmp_path)
    assert before.items() <= after.items()
    assert all(path.stat().st_mtime_ns == at for path, at in times.items())
    assert len(find_songs(tmp_path)) == 3


def test_two_processes_make_the_same_songs(tmp_path: Path) -> None:
    """Bit by bit, vocals and credits included."""
    recordings = write_recordings(tmp_path / "recordings")
    for n, out in ((1, tmp_path / "one"), (2, tmp_path / "two")):
        # Other processes do not see this one's monkeypatches: the soundfonts are given away instead.
        names = {event.name for event in write_songs(order(out, 2, recordings=recordings, soundfonts=()), n)}
        assert len(names) == 2
    assert everything(tmp_path / "one") == everything(tmp_path / "two")
    credited = json.loads((tmp_path / "one" / "origins.json").read_text())["origins"]
    assert all(entry["licence"] and entry["attribution"] for entry in credited)
    assert any(entry["bank"].startswith("Karoryfer") for entry in credited)


def test_origins_are_added_up(tmp_path: Path) -> None:
    recordings = write_recordings(tmp_path / "recordings")
    out = tmp_path / "out"
    list(write_songs(order(out, 1)))
    assert json.loads((out / "origins.json").read_text())["origins"] == []
    made_from: set[str] = set()
    for event in write_songs(order(out, 2, recordings=recordings)):
        if isinstance(event, Written):
            made_from |= {origin.bank for origin in event.credits}
    banks = [entry["bank"] for entry in json.loads((out / "origins.json").read_text())["origins"]]
    assert banks == sorted(made_from)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "",
        "[]",
        "1",
        "{}",
        '{"origins": 1}',
        '{"origins": [1]}',
        '{"origins": [{}]}',
        '{"origins": [{"bank": []}]}',
    ],
)
def test_a_list_of_origins_that_cannot_be_read_is_not_replaced(tmp_path: Path, content: str) -> None:
    """Whom to credit for the songs that are there stands nowhere else; it is said before any is made."""
    (tmp_path / "origins.json").write_text(content)
    with pytest.raises(WriteFailed, match=r"origins\.json: damaged, or no list"):
        next(write_songs(order(tmp_path, 1)))
    assert (tmp_path / "origins.json").read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["origins.json"]


def test_minutes_are_reached(tmp_path: Path) -> None:
    wanted = order(tmp_path, None, minutes=0.5)
    indices = list(indices_of(wanted))
    lengths = [length_of(4, index, SHORT) for index in indices]
    assert indices == list(range(len(lengths)))
    assert sum(lengths) >= 30 > sum(lengths[:-1])
    assert list(indices_of(order(tmp_path, 2, minutes=0.5))) == [0, 1]
    assert not list(indices_of(order(tmp_path, None, minutes=0)))


def test_what_has_no_end_begins_at_once(tmp_path: Path) -> None:
    """All lengths were added up first, deaf to signals, for hours where the minutes were many."""
    for endless in ({"rolling": 3}, {"minutes": 1e300}, {"n_songs": 10**18}, {"n_songs": 10**18, "minutes": 1e300}):
        first = itertools.islice(indices_of(order(tmp_path, **{"n_songs": None, **endless})), 3)  # type: ignore[arg-type]
        assert list(first) == [0, 1, 2]
    for minutes in (math.inf, math.nan, -1.0):
        with pytest.raises(ConfigError, match="minutes"):
            order(tmp_path, None, minutes=minutes)


def test_rolling_never_holds_more_and_keeps_going(tmp_path: Path) -> None:
    """The oldest goes; a slot's songs have one length, so that readers who remember it stay right."""
    seen: list[str] = []
    lengths: dict[str, set[float]] = {}
    for event in write_songs(order(tmp_path, 3, rolling=2)):
        assert isinstance(event, Written)
        assert len(find_songs(tmp_path)) <= 2
        seen.append(event.name)
        lengths.setdefault(event.name, set()).add(event.length_s)
    assert seen == ["rolling-0000", "rolling-0001", "rolling-0000"]
    assert all(len(each) == 1 for each in lengths.values())
    assert sorted(json.loads(p.read_text())["index"] for p in tmp_path.glob("*/song.json")) == [1, 2]
    (event,) = write_songs(order(tmp_path, 1, rolling=2))  # a later run goes on where this one ended
    assert event.name == "rolling-0001"
    list(write_songs(order(tmp_path, 1, rolling=1)))
    assert [found.name for found in find_songs(tmp_path)] == ["rolling-0000"]
    no_leftovers(tmp_path)


def test_rolling_songs_never_lack_a_stem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that reads meanwhile finds all four files at any moment."""
    list(write_songs(order(tmp_path, 1, rolling=1)))
    files = [tmp_path / "rolling-0000" / f"{source}.flac" for source in SOURCES]
    replace, n_replaced = Path.replace, 0

    def watched(self: Path, target: Path) -> Path:
        nonlocal n_replaced
        done = replace(self, target)
        n_replaced += target in files
        assert all(path.exists() for path in files)
        return done

    monkeypatch.setattr(Path, "replace", watched)
    list(write_songs(order(tmp_path, 1, rolling=1)))
    assert n_replaced == len(SOURCES)


def test_what_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A song that cannot be made is told, and the others are made; a full disk ends it."""
    produce = write.produce

    def failing(studio: Studio, seed: int, index: int, *others: object) -> song.Song:
        if index == 0:
            raise SongsError("no such note")
        return produce(studio, seed, index, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(write, "produce", failing)
    events = list(write_songs(order(tmp_path, 2)))
    assert [type(event) for event in events] == [Failed, Written]
    assert [found.name for found in find_songs(tmp_path)] == ["synthetic-4-000001"]

    def full(self: object, blocks: object) -> None:
        raise WriteFailed("disk full")

    monkeypatch.setattr("danna_sep.audio.StemWriter.write", full)
    with pytest.raises(OutputError, match="disk full"):
        list(write_songs(order(tmp_path, 5)))
    assert [found.name for found in find_songs(tmp_path)] == ["synthetic-4-000001"]
    no_leftovers(tmp_path)


def test_many_failures_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: object) -> song.Song:
        raise SongsError("never")

    monkeypatch.setattr(write, "produce", failing)
    with pytest.raises(SongsError, match="never"):
        list(write_songs(order(tmp_path, None, rolling=2)))


def test_a_killed_runs_leftovers_go(tmp_path: Path) -> None:
    left = tmp_path / ".danna-sep-song-0123"
    left.mkdir()
    (left / "drums.flac").write_bytes(b"half")
    with pytest.raises(SongsError):
        find_songs(tmp_path)
    list(write_songs(order(tmp_path, 1)))
    assert not left.exists()
    assert len(find_songs(tmp_path)) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_killed_in_the_middle(tmp_path: Path) -> None:
    """What has a name is whole; what was half-written is hidden, and goes with the next run."""
    command = [*COMMAND, "synthesise", "--out", str(tmp_path), "--songs", "50", "--json"]
    command += ["--shortest", "4", "--longest", "6"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for text in process.stdout:
            if json.loads(text)["event"] == "song":
                process.kill()
                break
        process.wait(60)
    songs = find_songs(tmp_path)
    assert 1 <= len(songs) < 50
    for found in songs:
        assert found.annotated == SOURCES
        found.read()
    list(write_songs(order(tmp_path, 0)))
    no_leftovers(tmp_path)


def test_one_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path / ".danna-sep-synthesis.lock"), pytest.raises(OutputCollision, match="another process"):
        list(write_songs(order(tmp_path, 1)))


def test_cancelling_leaves_whole_songs(tmp_path: Path) -> None:
    written: list[object] = []
    events = write_songs(order(tmp_path, None, rolling=50), 1, lambda: len(written) == 2)
    with pytest.raises(Cancelled):
        written.extend(iter(events))
    for found in find_songs(tmp_path):
        assert found.annotated == SOURCES
        found.read()
    no_leftovers(tmp_path)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"n_songs": None}, "say how much"),
        ({"length_s": (1.0, 9.0)}, "songs last from"),
        ({"length_s": (9.0, 5.0)}, "songs last from"),
        ({"rolling": 0}, "at least 1"),
        ({"seed": -1}, "not negative"),
    ],
)
def test_orders_that_make_no_sense(tmp_path: Path, settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        order(tmp_path, **settings)  # type: ignore[arg-type]


def test_names_of_songs_and_slots_differ() -> None:
    assert folder.song_name(3, 41) == "synthetic-3-000041"
    assert folder.slot_name(7) == "rolling-0007"


def test_command_with_recordings(tmp_path: Path) -> None:
    """As a process of its own, with real voices, into a folder that training can read."""
    recordings = write_recordings(tmp_path / "recordings")
    out = tmp_path / "songs"
    sizes = ("--songs", 1, "--shortest", 4, "--longest", 5, "--json")
    done = run("synthesise", "--recordings", recordings, "--out", out, *sizes)
    assert done.code == 0, done.err
    assert done.err == ""
    assert [event["event"] for event in done.events] == ["song", "end"]
    assert done.events[0]["song"] == str(out / "synthetic-0-000000")
    assert done.events[1]["n_written"] == 1
    assert find_songs(out)[0].annotated == SOURCES


def test_command_without_recordings(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sizes = ("--songs", 2, "--shortest", 4, "--longest", 4)
    done = call(capfd, "synthesise", "--out", tmp_path, *sizes)
    assert done.code == 0
    assert done.out.splitlines() == [str(tmp_path / f"synthetic-0-00000{i}") for i in range(2)]
    assert "nobody sings" in done.err
    assert "2 songs made" in done.err
    again = call(capfd, "synthesise", "--out", tmp_path, *sizes)
    assert again.out == ""
    assert "2 were there" in again.err


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("--songs", 1, "--recordings", "nowhere"), 2, "no such folder"),
        ((), 2, "say how much"),
        (("--songs", 1, "--soundfont", "nowhere.sf2"), 2, "nowhere.sf2"),
    ],
)
def test_command_complains(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[object, ...], code: int, complaint: str
) -> None:
    done = call(capfd, "synthesise", "--out", tmp_path / "out", *arguments)
    assert done.code == code
    assert complaint in done.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_leaves_whole_songs(tmp_path: Path) -> None:
    command = [*COMMAND, "synthesise", "--out", str(tmp_path), "--rolling", "9", "--processes", "2", "--json"]
    command += ["--shortest", "4", "--longest", "6"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        events = []
        for text in process.stdout:
            events.append(json.loads(text))
            if events[-1]["event"] == "song":
                process.send_signal(signal.SIGINT)
                break
        events += [json.loads(text) for text in process.stdout]
        assert process.stderr.read() == ""
        assert process.wait(60) == 130
    assert events[-1]["exit_code"] == 130
    for found in find_songs(tmp_path):
        assert found.annotated == SOURCES
        found.read()
    no_leftovers(tmp_path)
