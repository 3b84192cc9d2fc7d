"""Which songs are trained on: none that is validated on, and each folder's as often as asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from danna_sep.errors import ConfigError, SongsError
from danna_sep.songs import Song
from danna_sep.training.choice import choose_songs


def songs_in(folder: Path, *names: str, files: tuple[str, ...] = ("drums", "mixture")) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        for file in files:
            soundfile.write(folder / name / f"{file}.wav", np.zeros((10, 2)), 44100)
    return folder


def names(songs: list[Song]) -> list[str]:
    return [song.name for song in songs]


def test_songs_beside_a_folder_for_validation_are_trained_on(tmp_path: Path) -> None:
    songs_in(tmp_path, "a", "b", "valid/c", "test/d")
    choice = choose_songs([tmp_path])
    assert names(choice.songs) == ["a", "b"]
    assert names(choice.valid_songs) == ["c"]
    assert not choice.held_out
    assert names(choose_songs([tmp_path], split="train+valid").songs) == ["a", "b", "c"]
    songs_in(tmp_path, "train/e")
    assert names(choose_songs([tmp_path]).songs) == ["a", "b", "e"]


def test_official_validation_songs_are_not_trained_on(tmp_path: Path) -> None:
    """Also where the folder of MUSDB18's training songs is given itself."""
    choice = choose_songs([songs_in(tmp_path, "a", "Leaf - Summerghost", "z")])
    assert names(choice.songs) == ["a", "z"]
    assert names(choice.valid_songs) == ["Leaf - Summerghost"]


def test_no_songs_to_train_on_are_named(tmp_path: Path) -> None:
    songs_in(tmp_path, "valid/a", "test/b")
    with pytest.raises(SongsError, match="no songs of the split 'train'"):
        choose_songs([tmp_path])
    with pytest.raises(SongsError, match="no split 'all'"):
        choose_songs([tmp_path], split="all")


def test_every_folder_keeps_its_share_and_its_songs(tmp_path: Path) -> None:
    """Whatever is held out: else the folder that is first loses some of its share, or all of it."""
    one = songs_in(tmp_path / "one", "only")
    few = songs_in(tmp_path / "few", *"abc")
    many = songs_in(tmp_path / "many", *(f"{number:02}" for number in range(20)))
    choice = choose_songs([one, few, many], [1.0, 2.0, 3.0])
    assert choice.held_out
    assert names(choice.valid_songs) == ["a", "00", "10"]
    assert not set(names(choice.songs)) & {"a", "00", "10"}
    assert len(choice.songs) == 21
    for folder, share in ((one, 1.0), (few, 2.0), (many, 3.0)):
        drawn = sum(song.odds for song in choice.songs if song.files["drums"][0].path.is_relative_to(folder))
        assert drawn == pytest.approx(share)


def test_with_too_few_songs_all_are_validated_on(tmp_path: Path) -> None:
    choice = choose_songs([songs_in(tmp_path, "a", "b")])
    assert names(choice.songs) == ["a", "b"]
    assert choice.valid_songs == choice.songs
    assert not choice.held_out


def test_no_song_is_held_out_of_which_the_mixture_is_not_known(tmp_path: Path) -> None:
    """If it failed, training would refuse songs that it can learn from, or validate on something that is no song."""
    folder = songs_in(tmp_path / "some", "a", "c", files=("drums",))
    choice = choose_songs([songs_in(folder, "b", "d")])
    assert choice.held_out
    assert names(choice.valid_songs) == ["b"]
    few = songs_in(tmp_path / "few", "a", files=("drums", "vocals"))
    choice = choose_songs([songs_in(few, "b")])
    assert names(choice.songs) == ["a", "b"]
    assert names(choice.valid_songs) == ["b"]


def test_a_folder_to_validate_on_gives_its_split(tmp_path: Path) -> None:
    """Else `--valid musdb18hq` would choose the best epoch by training and test songs."""
    data = songs_in(tmp_path / "data", "train/a", "train/b", "valid/c", "test/d")
    assert names(choose_songs([data], valid=data).valid_songs) == ["c"]
    flat = songs_in(tmp_path / "flat", "e", "f")
    assert names(choose_songs([data], valid=flat).valid_songs) == ["e", "f"]
    (tmp_path / "link").symlink_to(data / "train")
    with pytest.raises(SongsError, match=r"a: is to be trained on and in .*link"):
        choose_songs([data], valid=tmp_path / "link")


@pytest.mark.parametrize(("shares", "said"), [([1.0], "1 --share for 2 --data"), ([1.0, float("nan")], "more than 0")])
def test_shares_that_say_nothing_are_refused(tmp_path: Path, shares: list[float], said: str) -> None:
    folders = [songs_in(tmp_path / name, "x") for name in "ab"]
    with pytest.raises(ConfigError, match=said):
        choose_songs(folders, shares)
