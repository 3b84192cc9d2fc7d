"""`danna-sep fit-blend`, from songs on disk to a preset that separates."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from command_line import call, song, stems_of
from danna_sep import load, preset_file, presets, separate
from danna_sep.evaluation.blend_fit import check_names
from danna_sep.evaluation.metrics import mdx_sdr_db
from danna_sep.models.precision import resolve_precision
from danna_sep.songs import find_songs
from danna_sep.types import SOURCES

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two songs of a second and a half; one has no bass stem, but a mixture."""
    for seed, name in enumerate(("one", "two")):
        for place, source in enumerate((*SOURCES, "mixture")):
            if (name, source) == ("one", "mixture"):
                continue
            if (name, source) != ("two", "bass"):
                samples = 0.1 * np.random.default_rng((seed, place)).standard_normal((66150, 2))
                (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
                soundfile.write(tmp_path / "data" / name / f"{source}.wav", samples, 44100, subtype="FLOAT")
    return tmp_path / "data"


def finished(data: Path, folder: Path) -> Path:
    """Vocals that some other program has found perfectly."""
    for each in find_songs(data):
        (folder / each.name).mkdir(parents=True)
        soundfile.write(folder / each.name / "vocals.wav", each.read().stems[3].T, 44100, subtype="FLOAT")
    return folder


def test_a_blend_is_fitted_and_used(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The preset file that comes out must separate, as the table's weights say."""
    out = tmp_path / "blend.json"
    shown = call(capfd, "fit-blend", "wide-unet", "demucs", "--data", data, "--out", out, "--compare", "fast")
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    assert lines[-1] == str(out)
    table = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert table["SDR,"] == ["dB", *SOURCES, "mean"]
    assert {"wide-unet", "demucs", "fast", "fitted", "cross-validated"} < table.keys()
    assert table["songs"] == ["2", "1", "2", "2"]
    assert table["cross-validated"][1] == "-"
    preset = preset_file.read(out)
    for name, row in preset.blend.items():
        assert [f"{row[source]:.4f}" for source in SOURCES] == table[name]
    assert "fitted on 2 songs" in preset.summary
    separated = call(capfd, song(tmp_path / "a.wav"), "--preset", out, "--out", tmp_path, "--name-template",
                     "{preset}/{stem}.{ext}")  # fmt: skip
    assert separated.code == 0, separated.err
    stems_of(tmp_path / "blend")


def test_presets_are_compared_whose_models_without_weight_are_not_named(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`danna` has rows of zeros, for X-UMX and Demucs."""
    shown = call(capfd, "fit-blend", "unet", "wide-unet", "--data", data, "--json", "--compare", "danna")
    assert shown.code == 0, shown.err
    (report,) = shown.events
    assert "danna" in report["fits"]["drums"]["song_sdr_db"]


def test_the_documents_commands_compare_what_they_name() -> None:
    """Checked as the command line does before it separates anything."""
    text = (Path(__file__).parent.parent / "docs" / "blending.md").read_text(encoding="utf-8")
    commands = [
        line.split() for line in text.splitlines() if line.startswith("danna-sep fit-blend") and "--compare" in line
    ]
    assert len(commands) == 4
    for words in commands:
        named = [presets.label(word) for word in words[2 : words.index("--data")]]
        compared = [word for before, word in itertools.pairwise(words) if before == "--compare"]
        check_names(named, {label: presets.rows(label) for label in compared if label in presets.PRESETS})


def test_as_json(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One object, with every song's figures; and finished stems of other programs take part."""
    folder = finished(data, tmp_path / "mine")
    shown = call(capfd, "fit-blend", "demucs", folder, "--data", data, "--constraint", "convex", "--json",
                 "--excerpt", "1", "--objective", "songs")  # fmt: skip
    assert shown.code == 0, shown.err
    (report,) = shown.events
    assert report["constraint"] == "convex"
    assert report["objective"] == "songs"
    assert report["preset"] is None
    vocals = report["fits"]["vocals"]
    assert vocals["songs"] == ["one", "two"]
    assert vocals["weights"] == pytest.approx({"demucs": 0, "mine": 1}, abs=1e-4)
    assert len(vocals["song_sdr_db"]["cross-validated"]) == 2
    assert report["fits"]["drums"]["weights"] == {"demucs": 1}
    assert report["blend"]["mine"].keys() == {"vocals"}


@pytest.mark.parametrize("precision", ["auto", "f32"])
def test_what_is_fitted_is_what_users_hear(data: Path, capfd: pytest.CaptureFixture[str], precision: str) -> None:
    """Weights fitted in an arithmetic in which nobody separates would be reported with figures that nobody gets."""
    shown = call(capfd, "fit-blend", "wide-unet", "--data", data, "--json", "--precision", precision)
    (report,) = shown.events
    assert report["precision"] == resolve_precision(precision, "cpu")
    separator = load("wide-unet", precision=precision)
    for each, found in zip(find_songs(data), report["fits"]["drums"]["song_sdr_db"]["wide-unet"], strict=True):
        read = each.read()
        drums = separate(read.mixture, 44100, separator)["drums"]
        expected = mdx_sdr_db(*(torch.from_numpy(samples)[None] for samples in (read.stems[0], drums)))
        assert found == pytest.approx(float(expected), abs=0.01)


def test_wrong_usage(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each in one line and before hours of separation; nothing is written."""
    folder = finished(data, tmp_path / "mine")
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "there.json").write_text("{}")
    (tmp_path / "lacking.json").write_text(
        '{"format": "danna-sep-preset/1", "separators": {"a": {"weights": "nobodys"}}, "blend": {"a": {"drums": 1}}}'
    )
    (tmp_path / "again" / "demucs").mkdir(parents=True)
    out = tmp_path / "out.json"
    wrong: list[tuple[list[object], int, str]] = [
        (["nobodys"], 2, "no separator 'nobodys'"),
        ([tmp_path / "gone.json"], 2, "cannot be read"),
        ([tmp_path / "bad.json"], 2, "this version reads"),
        (["demucs", "demucs"], 2, "two separators are called 'demucs'"),
        (["demucs", tmp_path / "again" / "demucs"], 2, "two separators are called 'demucs'"),
        (["demucs", "--constraint", "some"], 2, "non-negative, convex, free"),
        (["demucs", "--objective", "some"], 2, "sdr, songs, energy"),
        (["demucs", "--excerpt", "0.1"], 2, "from 1 to"),
        (["demucs", "--excerpt", "2", "--excerpt-from", "end"], 2, "start or the middle"),
        (["demucs", "--compare", "fast"], 2, "fast: has weights for wide-unet"),
        (["demucs", "--compare", "nobodys"], 2, "no preset 'nobodys'"),
        (["demucs", "--folds", "1"], 2, "folds"),
        (["demucs", "--split", "train"], 2, "split"),
        (["demucs", "--device", "tpu"], 2, "device"),
        ([folder, "--out", out], 2, "holds finished stems"),
        (["demucs", "--out", tmp_path / "out.txt"], 2, "must end in .json"),
        (["demucs", "--out", tmp_path / "there.json"], 3, "--overwrite"),
        ([tmp_path / "lacking.json", "--out", out], 4, "nobodys"),
    ]
    for arguments, code, said in wrong:
        shown = call(capfd, "fit-blend", *arguments, "--data", data)
        assert shown.code == code, (arguments, shown.err)
        assert said in shown.err, (arguments, shown.err)
        assert "Traceback" not in shown.err
        assert not shown.out
    assert not out.exists()
    assert call(capfd, "fit-blend", "demucs", "--data", tmp_path / "nowhere").code == 2
    assert (tmp_path / "there.json").read_text() == "{}"


def test_a_preset_file_is_blended_further(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Files may name files; with paths from where they lie."""
    (tmp_path / "vocals.json").write_text(
        json.dumps(
            {
                "format": "danna-sep-preset/1",
                "separators": {"x": {"preset": "xumx"}},
                "blend": {"x": {"vocals": 1}},
            }
        )
    )
    out = tmp_path / "deep" / "blend.json"
    shown = call(capfd, "fit-blend", "demucs", tmp_path / "vocals.json", "--data", data, "--out", out)
    assert shown.code == 0, shown.err
    content = json.loads(out.read_text())
    assert content["separators"] == {"demucs": {"preset": "demucs"}, "vocals": {"preset": "../vocals.json"}}
    assert content["blend"]["vocals"].keys() == {"vocals"}
    separated = call(capfd, song(tmp_path / "a.wav"), "--preset", out, "--out", tmp_path / "stems")
    assert separated.code == 0, separated.err
    again = call(capfd, "fit-blend", out, "--data", data, "--out", out, "--overwrite")
    assert again.code == 2
    assert "a part of itself" in again.err


@pytest.mark.parametrize("weight", [0, 1])
@pytest.mark.parametrize("way", ["preset", "cascade"])
def test_a_preset_file_does_not_become_a_part_of_itself_by_others(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], way: str, weight: float
) -> None:
    """Neither it nor the file between could be used ever after, or once the latter gives it a weight."""
    inner, outer = tmp_path / "inner.json", tmp_path / "outer.json"
    part: object = {"preset": "inner.json"}
    if way == "cascade":
        part = {"cascade": {"taken": ["vocals"], "first": {"preset": "demucs"}, "rest": part}}
    whole = dict.fromkeys(SOURCES, 1)
    for path, separators, blend in (
        (inner, {"a": {"preset": "demucs"}}, {"a": whole}),
        (outer, {"a": part, "b": {"preset": "demucs"}}, {"a": dict.fromkeys(SOURCES, weight), "b": whole}),
    ):
        path.write_text(json.dumps({"format": "danna-sep-preset/1", "separators": separators, "blend": blend}))
    before = inner.read_bytes()
    shown = call(capfd, "fit-blend", outer, "--data", data, "--out", inner, "--overwrite")
    assert shown.code == 2, shown.err
    assert "a part of itself" in shown.complaint()
    assert inner.read_bytes() == before


def test_stems_of_nobody_are_said(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A preset that lacks stems must not come as a surprise."""
    folder = finished(data, tmp_path / "mine")
    shown = call(capfd, "fit-blend", folder, "--data", data)
    assert shown.code == 0
    for source in ("drums", "bass", "other"):
        assert f"no weights for {source}" in shown.err
    soundfile.write(data / "one" / "vocals.wav", np.zeros((66150, 2)), 44100)
    assert "warning: vocals below -60 dB, not counted: one" in call(capfd, "fit-blend", folder, "--data", data).err
    for each in ("one", "two"):
        soundfile.write(data / each / "vocals.wav", np.zeros((66150, 2)), 44100)
    shown = call(capfd, "fit-blend", folder, "--data", data)
    assert shown.code == 2
    assert "can be heard" in shown.complaint()


def test_what_was_found_is_shown_though_it_cannot_be_written(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The fit may have taken hours."""
    (tmp_path / "file").touch()
    shown = call(capfd, "fit-blend", "demucs", "--data", data, "--out", tmp_path / "file" / "blend.json")
    assert shown.code == 3
    assert "fitted" in shown.out
    assert "cannot be written" in shown.complaint()


def test_separate_with_a_bad_preset_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = song(tmp_path / "a.wav")
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "plugin.json").write_text(
        '{"format": "danna-sep-preset/1", "separators": {"a": {"plugin": "kazoo"}}, "blend": {"a": {"drums": 1}}}'
    )
    for preset, options, said in (
        ("bad.json", (), "this version reads"),
        ("gone.json", (), "cannot be read"),
        ("plugin.json", ("--stems", "drums"), "no separator 'kazoo' is installed"),
        ("plugin.json", (), "no weights for bass"),
    ):
        shown = call(capfd, path, "--preset", tmp_path / preset, "--out", tmp_path / "out", *options)
        assert shown.code == 2
        assert said in shown.complaint()
        assert not (tmp_path / "out").exists()
