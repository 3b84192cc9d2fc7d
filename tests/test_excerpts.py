"""Laws of random excerpts: what an item is depends on its number and the seed alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from danna_sep.errors import ConfigError, SongsError
from danna_sep.songs import Song, StemFile, find_songs
from danna_sep.training.excerpts import Excerpt, ExcerptDataset, ResumableSampler
from danna_sep.types import SOURCES

LENGTH = 3000


def value(song: int, source: int, frame: np.ndarray) -> np.ndarray:
    """Tells from a sample which song, stem and frame it is from."""
    return (song * 4 + source + 1) * 0.01 + frame * 1e-7


@pytest.fixture
def songs(tmp_path: Path) -> list[Song]:
    """Three songs of different lengths; the last one lacks bass, but has it in its mixture."""
    for song, n_frames in enumerate((10000, 7000, 5000)):
        folder = tmp_path / f"song {song}"
        folder.mkdir()
        stems = [value(song, source, np.arange(n_frames)) for source in range(4)]
        for source, name in enumerate(SOURCES):
            if (song, name) != (2, "bass"):
                soundfile.write(folder / f"{name}.wav", np.stack([stems[source]] * 2, 1), 44100, "FLOAT")
        soundfile.write(folder / "mixture.wav", np.stack([sum(stems)] * 2, 1), 44100, "FLOAT")
    return find_songs(tmp_path)


def origin(stem: torch.Tensor) -> tuple[int, int, int]:
    """Song, source and first frame, told by the values."""
    first = float(stem[0, 0].double())
    code = round((first - 0.0005) / 0.01) - 1
    return code // 4, code % 4, round((first - (code + 1) * 0.01) / 1e-7)


def same(one: Excerpt, other: Excerpt) -> bool:
    tensors = zip(one[:-1], other[:-1], strict=True)
    return all(torch.equal(a, b) for a, b in tensors) and one.seed == other.seed


def test_stems_are_parts_of_songs_that_have_them(songs: list[Song]) -> None:
    dataset = ExcerptDataset(songs, LENGTH, n_per_song=20)
    drawn = set()
    for number in range(len(dataset)):
        excerpt = dataset[number]
        assert excerpt.stems.shape == (4, 2, LENGTH)
        assert excerpt.stems.dtype == torch.float32
        assert excerpt.annotated.all()
        for source, stem in enumerate(excerpt.stems):
            song, own, start = origin(stem)
            assert own == source
            assert 0 <= start <= songs[song].n_frames - LENGTH
            expected = value(song, source, np.arange(LENGTH) + start)
            assert np.allclose(stem.numpy(), expected, atol=2e-6)
            drawn.add((source, song))
    assert drawn == {(source, song) for source in range(4) for song in range(3)} - {(1, 2)}


def test_mixing_draws_songs_and_places_independently(songs: list[Song]) -> None:
    dataset = ExcerptDataset(songs, LENGTH)
    origins = [[origin(stem)[::2] for stem in dataset[number].stems] for number in range(60)]
    assert len({song for song, _ in origins[0]}) > 1 or len({song for song, _ in origins[1]}) > 1
    assert sum(each[0] == each[3] for each in origins) < 3
    assert len({tuple(each) for each in origins}) == 60


def test_a_share_of_mixed_items_is_of_one_song_and_place(songs: list[Song]) -> None:
    """Else no item would have stems in tune with each other. Of the song without bass nothing could be learnt of it."""
    dataset = ExcerptDataset(songs, LENGTH, p_coherent=0.3)
    together = 0
    for number in range(200):
        excerpt = dataset[number]
        origins = {origin(stem)[::2] for stem in excerpt.stems}
        assert excerpt.annotated.all()
        if len(origins) == 1:
            together += 1
            assert origins.pop()[0] in (0, 1)
    assert 40 < together < 80
    always = ExcerptDataset(songs, LENGTH, p_coherent=1.0)
    assert all(len({origin(stem)[::2] for stem in always[number].stems}) == 1 for number in range(20))


def test_songs_are_drawn_as_often_as_their_odds_say(songs: list[Song]) -> None:
    """Else half an hour of real songs drowns in hours of made-up ones."""
    songs = [replace(song, odds=odds) for song, odds in zip(songs, (6.0, 3.0, 1.0), strict=True)]
    dataset = ExcerptDataset(songs, LENGTH)
    counts = np.zeros((4, 3))
    for number in range(300):
        for source, stem in enumerate(dataset[number].stems):
            counts[source, origin(stem)[0]] += 1
    for source, expected in enumerate(([0.6, 0.3, 0.1], [2 / 3, 1 / 3, 0], [0.6, 0.3, 0.1], [0.6, 0.3, 0.1])):
        assert np.allclose(counts[source] / 300, expected, atol=0.09), f"source {source}"
    with pytest.raises(ConfigError, match="odds"):
        ExcerptDataset([replace(songs[0], odds=0.0)], LENGTH)


def test_coherent_excerpts_are_of_one_song_and_place(songs: list[Song]) -> None:
    dataset = ExcerptDataset(songs, LENGTH, n_per_song=5, mixing=False)
    for number in range(2 * len(dataset)):
        excerpt = dataset[number]
        expected = number % 15 // 5
        origins = [origin(stem) for stem in excerpt.stems]
        assert {song for song, _, _ in origins} == {expected}
        starts = [start for _, _, start in origins]
        assert max(starts) - min(starts) <= 3  # to the rounding of the samples
    assert not same(dataset[0], dataset[15]), "the next epoch has other places"


def test_what_is_not_annotated_is_the_rest_of_the_mixture(songs: list[Song]) -> None:
    dataset = ExcerptDataset(songs, LENGTH, n_per_song=2, mixing=False)
    excerpt = dataset[4]
    assert excerpt.annotated.tolist() == [True, False, True, True]
    song, source, start = origin(excerpt.stems[1])
    assert (song, source) == (2, 1)
    mixture = songs[2].read(round(start), LENGTH).mixture
    assert np.allclose(excerpt.stems.sum(0).numpy(), mixture, atol=1e-5)


def test_of_sources_that_no_song_annotates_the_rest_of_mixtures_is_drawn(songs: list[Song]) -> None:
    """A model that is trained on must not learn that bass is never heard."""
    dataset = ExcerptDataset(songs[2:], LENGTH)
    starts = []
    for number in range(5):
        excerpt = dataset[number]
        assert excerpt.annotated.tolist() == [True, False, True, True]
        song, source, start = origin(excerpt.stems[1])
        assert (song, source) == (2, 1)
        assert np.allclose(excerpt.stems[1].numpy(), value(2, 1, np.arange(LENGTH) + start), atol=1e-5)
        starts.append((start, origin(excerpt.stems[0])[2]))
    assert any(abs(rest - drums) > 5 for rest, drums in starts), "from a place of its own"

    without = Song("no mixture", {name: files for name, files in songs[2].files.items() if name != "mixture"})
    with pytest.raises(SongsError, match="bass"):
        ExcerptDataset([without], LENGTH)
    assert ExcerptDataset([without], LENGTH, mixing=False)[0].stems.any()


def test_without_its_file_a_mixture_is_not_known(songs: list[Song]) -> None:
    """What it has besides is then not silence: also where mixed items have the mixtures of others."""
    without = Song("no mixture", {name: files for name, files in songs[2].files.items() if name != "mixture"})
    dataset = ExcerptDataset([songs[2], without], LENGTH, n_per_song=1, mixing=False)
    assert [bool(dataset[number].has_mixture) for number in range(4)] == [True, False] * 2
    dataset = ExcerptDataset([replace(songs[2], odds=1e-9), without], LENGTH, p_coherent=0.5)
    for number in range(20):
        excerpt = dataset[number]
        assert bool(excerpt.has_mixture) == bool(excerpt.stems[1].any())


def test_annotated_silence_is_drawn(songs: list[Song], tmp_path: Path) -> None:
    song = Song("instrumental", {"drums": songs[0].files["drums"]}, silent=frozenset({"bass", "other", "vocals"}))
    excerpt = ExcerptDataset([song], LENGTH)[3]
    assert excerpt.annotated.all()
    assert not excerpt.stems[1:].any()
    assert excerpt.stems[0].any()


def test_songs_shorter_than_an_excerpt_stand_between_zeros(songs: list[Song]) -> None:
    dataset = ExcerptDataset(songs[2:], 6000, n_per_song=20)
    fronts = set()
    for number in range(20):
        drums = dataset[number].stems[0, 0]
        heard = drums.nonzero()[:, 0]
        assert heard.shape == (5000,)
        front = int(heard[0])
        fronts.add(front)
        assert np.allclose(drums[front : front + 5000].numpy(), value(2, 0, np.arange(5000)), atol=2e-6)
    assert len(fronts) > 10


@pytest.mark.parametrize("mixing", [True, False])
def test_items_follow_from_seed_and_number(songs: list[Song], mixing: bool) -> None:
    first, again, other = (ExcerptDataset(songs, LENGTH, mixing=mixing, seed=seed) for seed in (1, 1, 2))
    backward = [again[number] for number in reversed(range(8))][::-1]
    for number, item in enumerate(backward):
        assert same(first[number], item)
        assert not same(first[number], other[number])
        assert not same(first[number], first[number + len(first)]), "each epoch has items of its own"


def test_workers_give_the_same_items(songs: list[Song]) -> None:
    """Whatever their number, and in the same order."""
    dataset = ExcerptDataset(songs, LENGTH, n_per_song=4)
    sampler = ResumableSampler(len(dataset), seed=3, epoch=2)
    alone, helped = (list(DataLoader(dataset, 4, sampler=sampler, num_workers=n)) for n in (0, 2))
    assert len(alone) == 3
    assert alone[0].stems.shape == (4, 4, 2, LENGTH)
    for one, other in zip(alone, helped, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_quiet_excerpts_are_rejected(tmp_path: Path) -> None:
    """In a song that is silent but for a tenth, almost all vocals are heard if that is asked for."""
    samples = np.zeros((100_000, 2))
    samples[50_000:60_000] = 0.1
    folder = tmp_path / "song"
    folder.mkdir()
    for source in SOURCES:
        soundfile.write(folder / f"{source}.wav", samples, 44100, "FLOAT")
    songs = find_songs(tmp_path)

    def share_heard(**options: float) -> float:
        dataset = ExcerptDataset(songs, 1000, **options)  # type: ignore[arg-type]
        return float(np.mean([bool(dataset[i].stems[3].any()) for i in range(100)]))

    assert share_heard() < 0.3
    assert share_heard(min_level_db=-40, p_reject=1.0) > 0.5
    assert share_heard(min_level_db=-40, p_reject=0.0) < 0.3


def test_an_interrupted_epoch_goes_on_where_it_stopped() -> None:
    for world_size in (1, 2, 3):
        for rank in range(world_size):
            whole = list(ResumableSampler(100, seed=5, epoch=4, rank=rank, world_size=world_size))
            rest = list(ResumableSampler(100, seed=5, epoch=4, n_done=9 * world_size, rank=rank, world_size=world_size))
            assert rest == whole[9:]
            assert len(ResumableSampler(100, n_done=9 * world_size, rank=rank, world_size=world_size)) == len(rest)


def test_processes_share_the_epoch_out() -> None:
    shares = [list(ResumableSampler(101, seed=1, epoch=3, rank=rank, world_size=4)) for rank in range(4)]
    assert {len(share) for share in shares} == {25}
    everything = sorted(number for share in shares for number in share)
    assert len(set(everything)) == 100
    assert set(everything) <= set(range(303, 404))


def test_epochs_and_seeds_have_their_own_order() -> None:
    orders = [[number % 50 for number in ResumableSampler(50, seed=s, epoch=e)] for s in (0, 1) for e in (0, 1)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert list(ResumableSampler(5, epoch=2, shuffle=False)) == [10, 11, 12, 13, 14]


def test_impossible_options_are_refused(songs: list[Song], tmp_path: Path) -> None:
    with pytest.raises(SongsError):
        ExcerptDataset([], LENGTH)
    with pytest.raises(ConfigError):
        ExcerptDataset(songs, 0)
    with pytest.raises(ConfigError):
        ExcerptDataset(songs, LENGTH, p_reject=2)
    with pytest.raises(ConfigError, match="p_coherent"):
        ExcerptDataset(songs, LENGTH, p_coherent=-0.1)
    with pytest.raises(IndexError):
        ExcerptDataset(songs, LENGTH)[-1]
    for options in ({"rank": 1}, {"n_done": 11}, {"epoch": -1}):
        with pytest.raises(ConfigError):
            ResumableSampler(10, **options)
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(Exception, match=r"text\.wav"):
        ExcerptDataset([Song("broken", {"drums": (StemFile(tmp_path / "text.wav"),)})], LENGTH, mixing=False)
