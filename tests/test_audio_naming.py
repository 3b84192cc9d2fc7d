"""Names of outputs: refused before any work where two results, or a result and an input, would meet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from danna_sep.audio import output_paths
from danna_sep.errors import ConfigError, OutputCollision

STEMS = ("drums", "bass")


def test_default_is_a_folder_per_track(tmp_path: Path) -> None:
    song = Path("music/My Song.v2.mp3")
    paths = output_paths([song], tmp_path, stems=STEMS)
    assert paths == {song: {stem: tmp_path / "My Song.v2" / f"{stem}.wav" for stem in STEMS}}


def test_all_fields_can_be_used(tmp_path: Path) -> None:
    paths = output_paths(
        [Path("a.wav")], tmp_path, "{preset}/{ext}-{stem}-{track}.{ext}", ["bass"], "flac", {"preset": "full"}
    )
    assert paths[Path("a.wav")]["bass"] == tmp_path / "full" / "flac-bass-a.flac"


@pytest.mark.parametrize(
    "name", [" spaces .wav", "-rf.wav", "日本語.wav", "dot..wav", "{stem}.wav", "%s.wav", "a\\b.wav"]
)
def test_odd_names_are_kept(name: str, tmp_path: Path) -> None:
    paths = output_paths([Path(name)], tmp_path, stems=STEMS)
    assert paths[Path(name)]["drums"] == tmp_path / Path(name).stem / "drums.wav"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("x/song.wav", "y/song.wav"),
        ("song.wav", "song.flac"),
        ("Song.wav", "sONG.flac"),
        ("caf\u00e9.wav", "cafe\u0301.flac"),
        ("stra\u00dfe.wav", "STRASSE.flac"),
    ],
)
def test_two_inputs_for_one_output_are_refused(first: str, second: str, tmp_path: Path) -> None:
    """If it failed, one song's stems would be written over another's, on some file systems only."""
    with pytest.raises(OutputCollision, match="--name-template") as caught:
        output_paths([Path(first), Path(second)], tmp_path, stems=STEMS)
    assert str(Path(first)) in str(caught.value)
    assert str(Path(second)) in str(caught.value)


def test_the_same_input_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputCollision, match="given twice"):
        output_paths([Path("a.wav"), Path("a.wav")], tmp_path, stems=STEMS)


def test_stems_that_share_a_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputCollision, match=r"\{stem\}"):
        output_paths([Path("a.wav")], tmp_path, "{track}.{ext}", STEMS)


@pytest.mark.parametrize("kind", ["same", "symlink", "hard link", "other input"])
def test_an_output_over_an_input_is_refused(kind: str, tmp_path: Path) -> None:
    """If it failed, the user's own recording would be destroyed."""
    original = tmp_path / "drums.wav"
    original.write_bytes(b"x")
    inputs = [original]
    folder = tmp_path
    if kind == "symlink":
        folder = tmp_path / "link"
        try:
            folder.symlink_to(tmp_path, target_is_directory=True)
        except OSError:
            pytest.skip("no symbolic links here")
    elif kind == "hard link":
        folder = tmp_path / "out"
        folder.mkdir()
        os.link(original, folder / "drums.wav")
    elif kind == "other input":
        inputs = [tmp_path / "song.wav", original]
    with pytest.raises(OutputCollision, match=r"drums\.wav: the drums of .* would be written over it"):
        output_paths(inputs, folder, "{stem}.{ext}", ["drums"])


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{artist}/{stem}.{ext}", r"unknown field \{artist\}"),
        ("{track.name}/{stem}", "unknown field"),
        ("{track!r}/{stem}", "unknown field"),
        ("{track:>9}/{stem}", "unknown field"),
        ("{}/{stem}", "unknown field"),
        ("{track", "expected"),
        ("../{stem}.{ext}", "outside"),
        ("{track}/../../{stem}", "outside"),
        ("/{track}/{stem}", "outside"),
        ("", "outside"),
        ("{stem}/", "no file name"),
        ("{track}" * 40 + "{stem}", "255 bytes"),
    ],
)
def test_templates_that_are_not_understood_or_leave_the_folder_are_refused(
    template: str, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=problem):
        output_paths([Path("long name.wav")], tmp_path, template, ["drums"])


def test_a_track_named_like_the_parent_folder_does_not_leave_the_folder(tmp_path: Path) -> None:
    """If it failed, a file called "...wav" would put its stems one folder above."""
    with pytest.raises(ConfigError, match="outside"):
        output_paths([Path("...wav")], tmp_path, stems=STEMS)
