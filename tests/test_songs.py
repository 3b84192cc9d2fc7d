"""Songs with stems: every layout is found, and any part of a song is that part of the whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from danna_sep.audio import AudioReader, StreamResampler, read_excerpt
from danna_sep.errors import SongsError, UnreadableAudio
from danna_sep.songs import Song, StemFile, find_songs

SOURCES = ("drums", "bass", "other", "vocals")


def write(path: Path, n_frames: int = 3000, rate: int = 44100, n_channels: int = 2, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.random.default_rng(seed).standard_normal((n_frames, n_channels))
    soundfile.write(path, samples, rate, **({"subtype": "FLOAT"} if path.suffix == ".wav" else {}))
    return path


def song_folder(folder: Path, sources: tuple[str, ...] = SOURCES, **options: int) -> Path:
    for seed, source in enumerate(sources):
        write(folder / f"{source}.wav", seed=seed, **options)
    return folder


def whole(path: Path, rate_hz: int, stream: int = 0) -> np.ndarray:
    with AudioReader(path, stream=stream) as reader:
        resampler = StreamResampler(reader.info.sample_rate, rate_hz, reader.info.n_channels)
        return np.concatenate([*(resampler.push(block) for block in reader.blocks(1000)), resampler.finish()], 1)


@pytest.mark.parametrize("rate", [44100, 48000, 22050, 96000])
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_an_excerpt_is_that_part_of_the_whole(tmp_path: Path, suffix: str, rate: int) -> None:
    if suffix == ".mp3" and rate == 96000:
        pytest.skip("MP3 has no such rate")
    path = write(tmp_path / f"song{suffix}", n_frames=40000, rate=rate)
    expected = whole(path, 44100)
    padded = np.pad(expected, ((0, 0), (0, 9000)))
    for start, n_frames in ((0, 10), (1234, 5000), (expected.shape[1] - 100, 4000), (expected.shape[1] + 5000, 50)):
        excerpt = read_excerpt(path, start, n_frames, 44100)
        assert excerpt.shape == (2, n_frames)
        reference = padded[:, start : start + n_frames] if start < expected.shape[1] else np.zeros((2, n_frames))
        # MP3's bit reservoir makes what follows a jump a little different.
        assert np.abs(excerpt - reference).max() < (2e-3 if suffix == ".mp3" else 2e-6)


def test_streams_of_a_stem_mp4_are_read_from_their_middle(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "train" / "Band - Song.stem.mp4"
    path.parent.mkdir()
    rng = np.random.default_rng(0)
    container = av.open(str(path), "w", format="mp4")
    # Without the coder's noise substitution, whose noise depends on where decoding began.
    options = {"aac_pns": "0"}
    streams = [container.add_stream("aac", rate=44100, layout="stereo", options=options) for _ in range(5)]
    for index, stream in enumerate(streams):
        clock = np.arange(100_000) / 44100
        tone = 0.3 * np.sin(2 * np.pi * 220 * (index + 1) * clock) + 0.01 * rng.standard_normal((2, 100_000))
        for first in range(0, 100_000, 1024):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(tone[:, first : first + 1024], np.float32), "fltp", "stereo"
            )
            frame.sample_rate, frame.pts = 44100, first
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    container.close()

    (song,) = find_songs(tmp_path, "train")
    assert song.name == "Band - Song"
    assert song.annotated == SOURCES
    excerpt = song.read(30_000, 20_000)
    for index, source in enumerate(SOURCES):
        expected = whole(path, 44100, stream=index + 1)[:, 30_000:50_000]
        assert np.abs(excerpt.stems[index] - expected).max() < 1e-4, source
    assert np.abs(excerpt.mixture - whole(path, 44100)[:, 30_000:50_000]).max() < 1e-4


def test_blocks_are_the_song(tmp_path: Path) -> None:
    song_folder(tmp_path / "a", rate=48000, n_channels=1)
    (song,) = find_songs(tmp_path)
    everything = song.read()
    assert everything.mixture.shape == (2, song.n_frames)
    for n_frames in (song.n_frames, 1000, 777):
        blocks = list(song.blocks(n_frames))
        assert [block.mixture.shape[1] for block in blocks[:-1]] == [n_frames] * (len(blocks) - 1)
        assert np.allclose(np.concatenate([block.stems for block in blocks], 2), everything.stems, atol=2e-6)
        assert np.allclose(np.concatenate([block.mixture for block in blocks], 1), everything.mixture, atol=2e-6)


def test_a_song_is_as_long_as_its_shortest_stem(tmp_path: Path) -> None:
    song_folder(tmp_path / "a")
    write(tmp_path / "a" / "bass.wav", n_frames=2500)
    (song,) = find_songs(tmp_path)
    assert song.n_frames == 2500
    assert not song.read(2400, 200).stems[:, :, 100:].any()
    assert sum(block.mixture.shape[1] for block in song.blocks(999)) == 2500


def test_the_mixture_is_the_file_or_the_sum(tmp_path: Path) -> None:
    song_folder(tmp_path / "a")
    (song,) = find_songs(tmp_path)
    assert np.allclose(song.read().mixture, song.read().stems.sum(0), atol=1e-6)
    mixture = write(tmp_path / "a" / "mixture.wav", seed=9)
    (song,) = find_songs(tmp_path)
    assert np.array_equal(song.read().mixture, whole(mixture, 44100))


def test_a_missing_stem_is_not_annotated(tmp_path: Path) -> None:
    song_folder(tmp_path / "a", ("drums", "vocals"))
    (song,) = find_songs(tmp_path)
    assert song.annotated == ("drums", "vocals")
    assert not song.read().stems[1:3].any()


def test_splits_are_folders_and_the_official_validation_songs(tmp_path: Path) -> None:
    for name in ("train/One", "train/Meaxic - Take A Step", "test/Three"):
        song_folder(tmp_path / name)
    (tmp_path / "train" / "notes").mkdir()
    assert [song.name for song in find_songs(tmp_path)] == ["Three", "One", "Meaxic - Take A Step"]
    assert [song.name for song in find_songs(tmp_path, "train")] == ["One"]
    assert [song.name for song in find_songs(tmp_path, "valid")] == ["Meaxic - Take A Step"]
    assert len(find_songs(tmp_path, "train+valid")) == 2


def test_official_validation_songs_are_so_without_a_folder_that_says_it(tmp_path: Path) -> None:
    """MUSDB18's train folder may be given itself, or listed in a manifest: else they are trained on."""
    names = ("One", "Meaxic - Take A Step", "Triviul - Angelsaint")
    for name in names:
        song_folder(tmp_path / name)
    assert [(song.name, song.split) for song in find_songs(tmp_path)] == [
        ("One", None),
        ("Meaxic - Take A Step", "valid"),
        ("Triviul - Angelsaint", "valid"),
    ]
    songs = [
        {"name": name, "split": split, "stems": {"drums": f"{name}/drums.wav"}}
        for name, split in zip(names, ("train", "train", "test"), strict=True)
    ]
    (tmp_path / "songs.json").write_text(json.dumps({"format": "danna-sep songs", "version": 1, "songs": songs}))
    assert [song.split for song in find_songs(tmp_path)] == ["test", "train", "valid"]


def test_moisesdb_groups_become_four_stems(tmp_path: Path) -> None:
    folder = tmp_path / "provider" / "0001"
    for stem, track in (("vocals", "v"), ("guitar", "g"), ("piano", "p"), ("drums", "d")):
        write(folder / stem / f"{track}.wav", seed=ord(track))
    stems = [
        {"stemName": stem, "tracks": [{"id": track, "extension": "wav"}]}
        for stem, track in (("vocals", "v"), ("guitar", "g"), ("piano", "p"), ("drums", "d"))
    ]
    (folder / "data.json").write_text(json.dumps({"artist": "Band", "song": "Tune", "stems": stems}))
    (song,) = find_songs(tmp_path)
    assert song.name == "Band - Tune"
    assert song.annotated == SOURCES
    excerpt = song.read()
    guitar, piano = whole(folder / "guitar/g.wav", 44100), whole(folder / "piano/p.wav", 44100)
    assert np.allclose(excerpt.stems[2], guitar + piano)
    assert not excerpt.stems[1].any()


def test_a_manifest_tells_what_lies_where(tmp_path: Path) -> None:
    for seed, name in enumerate(("kick", "snare", "line")):
        write(tmp_path / f"x/{name}.wav", seed=seed)
    manifest = {
        "format": "danna-sep songs",
        "version": 1,
        "songs": [
            {
                "name": "One",
                "split": "train",
                "stems": {"drums": ["x/kick.wav", "x/snare.wav"], "bass": "x/line.wav"},
                "silent": ["vocals"],
            }
        ],
    }
    (tmp_path / "songs.json").write_text(json.dumps(manifest))
    (song,) = find_songs(tmp_path, "train")
    assert song.annotated == ("drums", "bass", "vocals")
    drums = whole(tmp_path / "x/kick.wav", 44100) + whole(tmp_path / "x/snare.wav", 44100)
    assert np.allclose(song.read().stems[0], drums)
    assert find_songs(tmp_path / "songs.json") == find_songs(tmp_path)


@pytest.mark.parametrize(
    ("songs", "said"),
    [
        ([{"name": "One", "stems": {"drums": "no.wav"}}], "no.wav is missing"),
        ([{"name": "One", "stem": {}}], "no field 'stem'"),
        ([{"name": "One", "stems": {"piano": "a.wav"}}], "must map some of drums"),
        ([{"name": "One", "stems": {"drums": "a.wav"}, "silent": ["drums"]}], "silent"),
        ([{"name": "One", "stems": {"drums": "a.wav"}, "silent": [["bass"]]}], '"silent" must list sources'),
        ([{"name": "One", "stems": {"drums": "a.wav"}, "split": ["train"]}], "split"),
        ([{"name": "One", "stems": {"drums": 3}}], "path or a list"),
        ([{"name": "One", "stems": {"drums": "a.wav"}, "split": "dev"}], "split"),
        ([{"name": "One"}], "has no files"),
        ([{"stems": {"drums": "a.wav"}}], "name"),
        ([{"name": "One", "stems": {"drums": "a.wav"}}] * 2, "two songs"),
        ({}, "must be a list"),
    ],
)
def test_a_bad_manifest_is_refused(tmp_path: Path, songs: object, said: str) -> None:
    write(tmp_path / "a.wav")
    (tmp_path / "songs.json").write_text(json.dumps({"format": "danna-sep songs", "version": 1, "songs": songs}))
    with pytest.raises(SongsError, match=said) as caught:
        find_songs(tmp_path)
    assert str(tmp_path / "songs.json") in str(caught.value)


def test_the_mixture_is_known_or_it_is_not(tmp_path: Path) -> None:
    """A source that is annotated as silent adds nothing to the sum; one that is not annotated may add anything."""
    drums = (StemFile(song_folder(tmp_path, ("drums",)) / "drums.wav"),)
    Song("a", dict.fromkeys(SOURCES, drums)).check_mixture()
    Song("a", {"drums": drums}, silent=frozenset(SOURCES[1:])).check_mixture()
    Song("a", {"drums": drums, "mixture": drums}).check_mixture()
    with pytest.raises(SongsError, match=r"^a: bass, other not annotated .* list them as silent in songs\.json$"):
        Song("a", {"drums": drums}, silent=frozenset(["vocals"])).check_mixture()
    with pytest.raises(SongsError, match=r"^a: bass not annotated .* list it as silent in songs\.json$"):
        Song("a", {"drums": drums}, silent=frozenset(["vocals", "other"])).check_mixture()


def test_what_holds_no_songs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SongsError, match="no such folder"):
        find_songs(tmp_path / "nowhere")
    with pytest.raises(SongsError, match="no songs in it"):
        find_songs(tmp_path)
    song_folder(tmp_path / "train" / "a")
    with pytest.raises(SongsError, match="no songs of the split 'test'"):
        find_songs(tmp_path, "test")
    with pytest.raises(SongsError, match="no split 'dev'"):
        find_songs(tmp_path, "dev")
    with pytest.raises(SongsError, match=f"is a song itself; give the folder that holds it, {tmp_path / 'train'}$"):
        find_songs(tmp_path / "train" / "a")
    write(tmp_path / "train" / "a" / "bass.flac")
    with pytest.raises(SongsError, match="both its bass"):
        find_songs(tmp_path)


def test_files_that_cannot_be_stems_are_named(tmp_path: Path) -> None:
    surround = write(tmp_path / "a" / "drums.wav", n_channels=6)
    (song,) = find_songs(tmp_path)
    with pytest.raises(SongsError, match=r"drums\.wav: has 6 channels"):
        song.read()
    surround.write_bytes(b"no audio at all")
    with pytest.raises(UnreadableAudio, match=r"drums\.wav"):
        Song("a", {"drums": (StemFile(surround),)}).read()
