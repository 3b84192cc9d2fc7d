"""The whole chain from made-up songs to the paper's table: trained, evaluated, and taken up again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import run
from danna_sep.training.reproduce import TABLE
from danna_sep.types import SOURCES


def events(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


def test_the_table_is_the_papers() -> None:
    for row in TABLE:
        assert sum(row.paper_db[:4]) / 4 == pytest.approx(row.paper_db[4], abs=0.0101)
        for source in range(len(SOURCES)):
            assert sum(weights[source] for weights in row.blend.values()) == pytest.approx(1)


def test_all_rows_are_made_and_not_made_twice(tmp_path: Path) -> None:
    command = ["reproduce", "--tiny", "--out", str(tmp_path / "paper"), "--workers", "0", "--device", "cpu", "--json"]
    first = run(*command)
    assert first.code == 0, first.err
    rows = [event for event in events(first.out) if event["event"] == "row"]
    assert [row["name"] for row in rows] == [row.name for row in TABLE]
    for row in rows:
        values = row["sdr_db"]
        assert isinstance(values, list)
        assert len(values) == 5
        assert all(isinstance(value, float) for value in values)
    recipes = {str(event["recipe"]) for event in events(first.out) if event["event"] == "validated"}
    assert recipes == {"xumx-baseline", "xumx", "unet", "demucs-baseline", "demucs"}
    assert (tmp_path / "paper" / "evaluation" / "danna-sep" / "report.html").exists()

    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again = run(*command)
    assert again.code == 0, again.err
    assert [event for event in events(again.out) if event["event"] == "row"] == rows
    assert not [event for event in events(again.out) if event["event"] == "stepped"]
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}


def test_without_songs_it_says_what_it_needs(tmp_path: Path) -> None:
    outcome = run("reproduce")
    assert outcome.code == 2
    assert "MUSDB18-HQ" in outcome.err
    (tmp_path / "empty").mkdir()
    outcome = run("reproduce", "--data", str(tmp_path / "empty"), "--out", str(tmp_path / "out"))
    assert outcome.code == 2
    assert str(tmp_path / "empty") in outcome.err
    assert "MUSDB18-HQ" in outcome.err
    assert not (tmp_path / "out").exists()
