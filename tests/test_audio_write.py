"""Writing stems: exact depth, no clipping, all files or none, and disks that are full."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from danna_sep.audio import AudioInfo, AudioReader, StemWriter, WriteReport, check_output, probe, resolve_bits, wav
from danna_sep.errors import ConfigError, DannaSepError, OutputCollision, OutputExists, WriteFailed
from ffmpeg_decoder import decoded_by_ffmpeg

RATE_HZ = 44100
STEMS = ("drums", "vocals")
KINDS = [
    ("wav", "16"),
    ("wav", "24"),
    ("wav", "float"),
    ("flac", "16"),
    ("flac", "24"),
    ("mp3", "float"),
    ("ogg", "float"),
]


def noise(n_frames: int, n_channels: int = 2, peak: float = 0.5, seed: int = 0) -> np.ndarray:
    signal = np.random.default_rng(seed).uniform(-1, 1, (n_channels, n_frames)).astype(np.float32)
    return signal * np.float32(peak / max(np.abs(signal).max(), 1e-9))


def tone(n_frames: int, peak: float = 0.5) -> np.ndarray:
    phase = 2 * np.pi * 441 / RATE_HZ * np.arange(n_frames)
    return (peak * np.stack([np.sin(phase), np.cos(phase)])).astype(np.float32)


def save(
    folder: Path,
    stems: dict[str, np.ndarray],
    format: str,
    bits: str,
    n_block: int = 3000,
    rate_hz: int = RATE_HZ,
    **options,
) -> tuple[dict[str, Path], WriteReport]:
    paths = {stem: folder / f"{stem}.{format}" for stem in stems}
    first = next(iter(stems.values()))
    options = {"n_frames": first.shape[1]} | options
    with StemWriter(paths, sample_rate=rate_hz, n_channels=len(first), format=format, bits=bits, **options) as writer:
        for start in range(0, first.shape[1], n_block):
            writer.write({stem: signal[:, start : start + n_block] for stem, signal in stems.items()})
        assert not any(path.exists() for path in paths.values())
        report = writer.commit()
    return paths, report


def load(path: Path) -> np.ndarray:
    with AudioReader(path, warn=pytest.fail) as reader:
        return np.concatenate(list(reader.blocks(5000)), axis=1)


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize(("format", "bits"), KINDS)
@pytest.mark.parametrize("n_channels", [1, 2])
def test_every_format_has_the_length_depth_and_samples(format: str, bits: str, n_channels: int, tmp_path: Path) -> None:
    """If it failed, stems would not null against the song, or would not be at the depth asked for."""
    stems = {"drums": tone(9001)[:n_channels], "vocals": tone(9001, 0.3)[:n_channels]}
    paths, report = save(tmp_path, stems, format, bits)
    subtypes = {"16": "PCM_16", "24": "PCM_24", "float": {"wav": "FLOAT", "mp3": "MPEG_LAYER_III", "ogg": "VORBIS"}}
    subtype = subtypes[bits] if bits != "float" else subtypes["float"][format]
    error = {"16": 0.5 / 2**15, "24": 0.5 / 2**23 + 2**-26, "float": 0.0 if format == "wav" else 0.05}[bits]
    for stem, path in paths.items():
        info = probe(path)
        assert (info.sample_rate, info.n_channels, info.n_frames) == (RATE_HZ, n_channels, 9001)
        assert (info.container, info.subtype) == (format.upper(), subtype)
        middle = slice(0, None) if error < 0.01 else slice(1000, -1000)
        assert np.abs(load(path) - stems[stem])[:, middle].max() <= error
    assert report == WriteReport(1.0, pytest.approx(0.5, rel=1e-3), 0, 9001)
    assert everything_in(tmp_path) == sorted(path.name for path in paths.values())


@pytest.mark.parametrize(("format", "bits"), [("wav", "16"), ("wav", "24"), ("flac", "16"), ("flac", "24")])
def test_integers_that_were_read_come_back_bit_for_bit(format: str, bits: str, tmp_path: Path) -> None:
    """If it failed, "sum of stems equals the song" could not hold on the integer grid."""
    full_scale = 2 ** (int(bits) - 1)
    codes = np.random.default_rng(0).integers(-full_scale, full_scale, (2, 5000))
    codes[0, :2] = full_scale - 1, -full_scale
    signal = (codes / full_scale).astype(np.float32)
    paths, report = save(tmp_path, {"drums": signal}, format, bits)
    np.testing.assert_array_equal(load(paths["drums"]), signal)
    assert report.clipped == 0


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    n_channels=st.integers(1, 2),
    n_frames=st.integers(1, 3000),
    n_block=st.integers(1, 4000),
)
def test_files_do_not_depend_on_the_blocks(
    kind: tuple[str, str], n_channels: int, n_frames: int, n_block: int, tmp_path_factory
) -> None:
    signal = noise(n_frames, n_channels)
    folder = tmp_path_factory.mktemp("blocks")
    whole, _ = save(folder / "a", {"bass": signal}, *kind, n_block=n_frames)
    pieces, _ = save(folder / "b", {"bass": signal}, *kind, n_block=max(n_block, n_frames // 50))
    assert load(whole["bass"]).shape == signal.shape
    if kind[0] != "ogg":  # whose stream number is drawn at random
        assert whole["bass"].read_bytes() == pieces["bass"].read_bytes()
    np.testing.assert_array_equal(load(whole["bass"]), load(pieces["bass"]))


@pytest.mark.parametrize("n_channels", [3, 6, 8])
@pytest.mark.parametrize(
    ("format", "bits"), [("wav", "16"), ("wav", "24"), ("wav", "float"), ("flac", "24"), ("ogg", "float")]
)
def test_more_than_two_channels(format: str, bits: str, n_channels: int, tmp_path: Path) -> None:
    signal = noise(1001, n_channels)
    paths, _ = save(tmp_path, {"drums": signal}, format, bits)
    written = load(paths["drums"])
    assert written.shape == signal.shape
    if format != "ogg":
        np.testing.assert_allclose(written, signal, atol=2e-5)


@pytest.mark.parametrize(
    ("n_channels", "layout"), [(3, "3.0"), (4, "quad"), (5, "5.0"), (6, "5.1"), (7, "6.1"), (8, "7.1")]
)
def test_ogg_has_every_speaker_where_players_look_for_it(n_channels: int, layout: str, tmp_path: Path) -> None:
    """If it failed, the centre of a 5.1 stem would be heard on the right, and LFE from behind."""
    peaks = 0.1 * np.arange(1, n_channels + 1)
    signal = np.outer(peaks, np.sin(2 * np.pi * 20 / RATE_HZ * np.arange(20000))).astype(np.float32)
    paths, _ = save(tmp_path, {"drums": signal}, "ogg", "float")
    found_layout, decoded = decoded_by_ffmpeg(paths["drums"])
    assert found_layout.removesuffix("(back)") == layout
    for found in (decoded, load(paths["drums"])):
        np.testing.assert_allclose(found[:, 4000:16000].std(axis=1) * 2**0.5, peaks, atol=0.03)  # LFE is coded coarsely


def test_plain_readers_understand_the_files(tmp_path: Path) -> None:
    """If it failed, only libsndfile would: the header is of our making."""
    import wave

    from scipy.io import wavfile

    signal = noise(1001)
    for bits in ("16", "24", "float"):
        paths, _ = save(tmp_path / bits, {"drums": signal}, "wav", bits)
        rate_hz, codes = wavfile.read(paths["drums"])
        scale = {"16": 2**15, "24": 2**31, "float": 1}[bits]
        assert rate_hz == RATE_HZ
        np.testing.assert_allclose(codes.T / scale, signal, atol=2e-5)
        if bits != "float":
            with wave.open(str(paths["drums"])) as file:
                assert (file.getnframes(), file.getsampwidth() * 8) == (1001, int(bits))
    av = pytest.importorskip("av")
    with av.open(str(paths["drums"])) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) == 1001


# Full scale


def test_float_never_clips_and_gets_no_gain(tmp_path: Path) -> None:
    signal = noise(5000, peak=100.0)
    paths, report = save(tmp_path, {"drums": signal}, "wav", "float", warn=pytest.fail)
    np.testing.assert_array_equal(load(paths["drums"]), signal)
    assert report.gain == 1.0
    assert report.peak == pytest.approx(100.0)


@pytest.mark.parametrize(("format", "bits"), [kind for kind in KINDS if kind != ("wav", "float")])
def test_one_gain_for_all_stems_when_one_would_clip(format: str, bits: str, tmp_path: Path) -> None:
    """If it failed, loud stems would be distorted, or the balance between the stems changed."""
    warnings: list[str] = []
    stems = {"drums": tone(9000, 2.0), "vocals": tone(9000, 0.25)}
    paths, report = save(tmp_path, stems, format, bits, warn=warnings.append)
    ceiling = 10 ** (-1 / 20) if format in ("mp3", "ogg") else 1.0
    assert report.gain == pytest.approx(ceiling / 2, rel=1e-3)
    assert report.peak == pytest.approx(2.0, rel=1e-3)
    assert report.clipped == 0
    for stem, path in paths.items():
        written = load(path)
        middle = slice(1000, -1000)
        assert np.abs(written[:, middle]).max() <= 1.0
        assert np.abs(written - report.gain * stems[stem])[:, middle].max() < 0.03
    assert len(warnings) == 1
    assert f"{20 * np.log10(report.gain):.2f} dB" in warnings[0]


@pytest.mark.parametrize(("format", "bits"), [("wav", "16"), ("flac", "24")])
def test_exactly_full_scale_needs_no_gain(format: str, bits: str, tmp_path: Path) -> None:
    signal = np.array([[1.0, -1.0, 0.5]], np.float32)
    paths, report = save(tmp_path, {"drums": signal}, format, bits, warn=pytest.fail)
    np.testing.assert_allclose(load(paths["drums"]), signal, atol=1.01 / 2 ** (int(bits) - 1))
    assert (report.gain, report.clipped) == (1.0, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_a_number_is_not_written(value: float, tmp_path: Path) -> None:
    signal = noise(100)
    signal[0, 50] = value
    with pytest.raises(WriteFailed, match="NaN or infinite"):
        save(tmp_path / "new", {"drums": signal}, "wav", "float")
    assert everything_in(tmp_path) == []


# Sizes beyond 4 GiB


@pytest.mark.parametrize("bits", ["16", "24", "float"])
@pytest.mark.parametrize("n_announced", [None, 10, 5000])
def test_beyond_the_limit_wav_becomes_rf64(
    bits: str, n_announced: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it failed, four hours of music would end in a header that has wrapped."""
    monkeypatch.setattr(wav, "RIFF_LIMIT_BYTES", 20000)
    signal = noise(5000)
    paths, _ = save(tmp_path, {"drums": signal}, "wav", bits, n_frames=n_announced)
    info = probe(paths["drums"])
    assert (info.container, info.n_frames) == ("RF64", 5000)
    np.testing.assert_allclose(load(paths["drums"]), signal, atol=2e-5)


def test_the_header_changes_exactly_where_the_size_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    for n_channels in (1, 2, 6):
        for bits, width in (("16", 2), ("24", 3), ("float", 4)):
            n_frames = (2**32 - 300) // (n_channels * width)
            plain = wav.wav_header(RATE_HZ, n_channels, bits, n_frames)
            large = wav.wav_header(RATE_HZ, n_channels, bits, n_frames + 300)
            assert plain[:4] == b"RIFF"
            assert large[:4] == b"RF64"
            assert len(plain) == len(large)
            assert struct.unpack_from("<Q", large, 28)[0] == (n_frames + 300) * n_channels * width


@pytest.mark.slow
def test_a_real_file_beyond_4_gib(tmp_path: Path) -> None:
    n_block, n_blocks = 1 << 20, 513
    block = noise(n_block)
    path = tmp_path / "drums.wav"
    with StemWriter({"drums": path}, sample_rate=RATE_HZ, n_channels=2) as writer:
        for _ in range(n_blocks):
            writer.write({"drums": block})
        writer.commit()
    assert path.stat().st_size > 2**32
    assert (probe(path).container, probe(path).n_frames) == ("RF64", n_block * n_blocks)
    with soundfile.SoundFile(path) as file:
        file.seek(n_block * (n_blocks - 1))
        np.testing.assert_array_equal(file.read(dtype="float32").T, block)


# All or nothing


@pytest.mark.parametrize(("format", "bits"), KINDS)
def test_leaving_without_commit_leaves_nothing(format: str, bits: str, tmp_path: Path) -> None:
    """If it failed, Ctrl-C would leave half a file that looks like a stem."""
    paths = {stem: tmp_path / "a" / "b" / f"{stem}.{format}" for stem in STEMS}
    with (  # noqa: PT012
        pytest.raises(KeyboardInterrupt),
        StemWriter(paths, sample_rate=RATE_HZ, n_channels=2, format=format, bits=bits) as writer,
    ):
        writer.write(dict.fromkeys(STEMS, noise(1000)))
        assert len(list((tmp_path / "a" / "b").iterdir())) == 2
        raise KeyboardInterrupt
    assert everything_in(tmp_path) == []


def test_stems_of_different_length_are_refused(tmp_path: Path) -> None:
    paths = {stem: tmp_path / f"{stem}.wav" for stem in STEMS}
    with (  # noqa: PT012
        pytest.raises(WriteFailed, match="drums 10, vocals 9"),
        StemWriter(paths, sample_rate=RATE_HZ, n_channels=2) as writer,
    ):
        writer.write({"drums": noise(10), "vocals": noise(9)})
        writer.commit()
    assert everything_in(tmp_path) == []


def test_existing_files_are_kept_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "vocals.wav").write_bytes(b"mine")
    stems = dict.fromkeys(STEMS, noise(100))
    with pytest.raises(OutputExists, match="--overwrite"):
        save(tmp_path, stems, "wav", "float")
    assert (tmp_path / "vocals.wav").read_bytes() == b"mine"
    assert everything_in(tmp_path) == ["vocals.wav"]
    paths = {stem: tmp_path / f"{stem}.wav" for stem in STEMS}
    with StemWriter(paths, sample_rate=RATE_HZ, n_channels=2, overwrite=True) as writer:
        writer.write(stems)
        assert paths["vocals"].read_bytes() == b"mine"
        writer.commit()
    assert everything_in(tmp_path) == ["drums.wav", "vocals.wav"]
    assert load(tmp_path / "vocals.wav").shape == (2, 100)


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    paths = {stem: tmp_path / f"{stem}.wav" for stem in STEMS}
    with (  # noqa: PT012
        pytest.raises(OutputExists),
        StemWriter(paths, sample_rate=RATE_HZ, n_channels=2) as writer,
    ):
        writer.write(dict.fromkeys(STEMS, noise(10)))
        paths["vocals"].write_bytes(b"theirs")
        writer.commit()
    assert everything_in(tmp_path) == ["vocals.wav"]
    assert paths["vocals"].read_bytes() == b"theirs"


def test_when_one_file_cannot_be_renamed_the_old_ones_come_back(tmp_path: Path) -> None:
    """If it failed, a song would be left with stems of two different runs."""
    paths = {stem: tmp_path / stem / "stem.wav" for stem in STEMS}
    for path in paths.values():
        path.parent.mkdir()
    paths["drums"].write_bytes(b"old")
    with (  # noqa: PT012
        pytest.raises(WriteFailed),
        StemWriter(paths, sample_rate=RATE_HZ, n_channels=2, overwrite=True) as writer,
    ):
        writer.write(dict.fromkeys(STEMS, noise(10)))
        for hidden in (tmp_path / "vocals").iterdir():
            hidden.unlink()
        writer.commit()
    assert paths["drums"].read_bytes() == b"old"
    assert everything_in(tmp_path) == ["drums", "drums/stem.wav", "vocals"]


@pytest.mark.parametrize("name", [" a b .wav", "-rf.wav", "日本語 é.wav", "dot.", "x" * 251 + ".wav", ".wav"])
def test_any_file_name_is_written(name: str, tmp_path: Path) -> None:
    """If it failed, the temporary name would be longer than file systems allow."""
    for format, bits in (("wav", "float"), ("flac", "16")):
        path = tmp_path / format / name
        with StemWriter({"drums": path}, sample_rate=RATE_HZ, n_channels=2, format=format, bits=bits) as writer:
            writer.write({"drums": noise(10)})
            writer.commit()
        assert everything_in(tmp_path / format) == [name]
        assert load(path).shape == (2, 10)


# Folders and disks


def test_a_folder_that_is_a_file_fails_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(WriteFailed, match="out: cannot write"):
        save(tmp_path / "out", {"drums": noise(10)}, "wav", "float")
    with pytest.raises(WriteFailed):
        save(tmp_path / "out" / "below", {"drums": noise(10)}, "wav", "float")


def test_a_name_that_is_too_long_fails_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(WriteFailed):
        StemWriter({"drums": tmp_path / ("x" * 300)}, sample_rate=RATE_HZ, n_channels=2)


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "drums.wav").mkdir()
    with pytest.raises(OutputExists, match="is a folder"):
        StemWriter({"drums": tmp_path / "drums.wav"}, sample_rate=RATE_HZ, n_channels=2, overwrite=True)


def test_a_folder_that_cannot_be_written_fails_before_any_work(tmp_path: Path) -> None:
    folder = tmp_path / "read only"
    folder.mkdir()
    folder.chmod(0o500)
    try:
        (folder / "probe").write_bytes(b"")
    except PermissionError:
        with (
            pytest.raises(WriteFailed, match="read only: cannot write"),
            StemWriter({"drums": folder / "drums.wav"}, sample_rate=RATE_HZ, n_channels=2),
        ):
            pass
    else:
        pytest.skip("this user may write everywhere")


def test_too_little_space_is_noticed_before_any_work(tmp_path: Path) -> None:
    with (
        pytest.raises(WriteFailed, match="not enough space"),
        StemWriter({"drums": tmp_path / "new" / "a.wav"}, sample_rate=RATE_HZ, n_channels=2, n_frames=10**15),
    ):
        pass
    assert everything_in(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("mounting needs Linux and root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(("format", "bits"), KINDS)
@pytest.mark.parametrize("n_frames", [60_000, 66_000, 100_000, 200_000])
def test_a_full_disk_leaves_nothing_and_says_so(format: str, bits: str, n_frames: int, small_disk: Path) -> None:
    """If it failed, a cut file would pass for a stem: libsndfile keeps a full disk to itself."""
    signal = noise(n_frames)
    try:
        paths, _ = save(small_disk / "song", dict.fromkeys(STEMS, signal), format, bits, n_frames=None)
    except WriteFailed as error:
        message = str(error)
    else:
        assert n_frames < 66_000
        for path in paths.values():
            assert load(path).shape == signal.shape
        return
    assert "No space left" in message
    assert str(small_disk) in message
    assert "\n" not in message
    assert everything_in(small_disk) == []


def test_a_read_only_disk_fails_before_any_work(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with (
        pytest.raises(WriteFailed, match="Read-only file system"),
        StemWriter({"drums": small_disk / "drums.wav"}, sample_rate=RATE_HZ, n_channels=2),
    ):
        pass


@pytest.mark.parametrize(("format", "bits"), KINDS)
def test_memory_does_not_grow_with_the_length(format: str, bits: str, tmp_path: Path) -> None:
    block = tone(8192)
    path = tmp_path / "drums"
    with StemWriter({"drums": path}, sample_rate=RATE_HZ, n_channels=2, format=format, bits=bits) as writer:
        tracemalloc.start()
        try:
            for _ in range(60):
                writer.write({"drums": block})
            writer.commit()
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert probe(path).n_frames == 60 * 8192
    assert peak_bytes < 1_000_000  # all of it would be 4 MB


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on file size here")
@pytest.mark.parametrize(("format", "bits"), KINDS)
def test_a_limit_on_file_size_leaves_nothing(format: str, bits: str, tmp_path: Path) -> None:
    program = f"""
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        from pathlib import Path
        import numpy as np
        from danna_sep.audio import StemWriter
        from danna_sep.errors import WriteFailed
        block = np.random.default_rng(0).uniform(-1, 1, (2, 50_000)).astype(np.float32)
        paths = {{"drums": Path("out/drums.x"), "bass": Path("out/bass.x")}}
        try:
            with StemWriter(paths, sample_rate=44100, n_channels=2, format={format!r}, bits={bits!r}) as writer:
                writer.write({{"drums": block, "bass": block}})
                writer.commit()
        except WriteFailed as error:
            print(error)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "out: cannot write" in result.stdout
    assert "File too large" in result.stdout
    assert result.stderr == ""
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize(("format", "bits"), [kind for kind in KINDS if kind[0] != "wav"])
@pytest.mark.parametrize("room", [0, 10, 5000, 50_000])
def test_an_encoder_that_meets_a_full_disk_is_noticed(
    format: str, bits: str, room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above where no disk can be mounted, and for the encoded file alone."""
    import errno

    from danna_sep.audio import encode

    class Full(encode._Tracked):
        def write(self, data) -> int:
            if self.tell() + len(data) > room:
                self._error = self._error or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return 0
            return super().write(data)

    monkeypatch.setattr(encode, "_Tracked", Full)
    with pytest.raises(WriteFailed, match="No space left"):
        save(tmp_path, {"drums": noise(100_000)}, format, bits)
    assert everything_in(tmp_path) == []


# What formats can hold


def test_bits_follow_the_input() -> None:
    def resolve(subtype: str, format: str) -> str:
        return resolve_bits(AudioInfo(Path("a"), 44100, 2, 1, "X", subtype), format)

    assert [resolve(s, "wav") for s in ("PCM_U8", "PCM_S8", "PCM_16", "ALAC_16")] == ["16"] * 4
    assert [resolve(s, "wav") for s in ("PCM_24", "PCM_32", "ALAC_24")] == ["24"] * 3
    assert [resolve(s, "wav") for s in ("FLOAT", "DOUBLE", "VORBIS", "MPEG_LAYER_III", "AAC", "OPUS")] == ["float"] * 6
    assert [resolve(s, "flac") for s in ("PCM_16", "PCM_24", "FLOAT", "AAC")] == ["16", "24", "24", "24"]
    assert [resolve("PCM_16", f) for f in ("mp3", "ogg")] == ["float"] * 2
    with pytest.raises(ConfigError, match="choose one of wav, flac, mp3, ogg"):
        resolve("PCM_16", "aiff")


@pytest.mark.parametrize(
    ("format", "bits", "rate_hz", "n_channels", "advice"),
    [
        ("aiff", "16", 44100, 2, "choose one of wav"),
        ("wav", "32", 44100, 2, "choose one of these"),
        ("flac", "float", 44100, 2, "--format wav"),
        ("mp3", "16", 44100, 2, "leave --bits out"),
        ("mp3", "float", 96000, 2, "choose --format wav, flac or ogg"),
        ("mp3", "float", 44101, 2, "choose --format wav, flac or ogg"),
        ("mp3", "float", 44100, 3, "--channels front"),
        ("flac", "24", 44100, 9, "--channels front"),
        ("flac", "24", 96001, 2, "choose --format wav"),
        ("ogg", "float", 44100, 256, "--channels front"),
        ("wav", "16", 44100, 0, "channels"),
    ],
)
def test_the_impossible_is_refused_at_once_with_advice(
    format: str, bits: str, rate_hz: int, n_channels: int, advice: str, tmp_path: Path
) -> None:
    """If it failed, hours of work would end in an encoder's error code."""
    with pytest.raises(ConfigError, match=advice):
        check_output(format, bits, rate_hz, n_channels)
    with pytest.raises(ConfigError, match=advice):
        StemWriter({"drums": tmp_path / "a"}, sample_rate=rate_hz, n_channels=n_channels, format=format, bits=bits)
    assert everything_in(tmp_path) == []


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS), n_channels=st.integers(1, 10),
    rate_hz=st.one_of(st.integers(8000, 192000), st.sampled_from([8000, 22050, 44100, 48000, 96000, 176400, 192000])),
)  # fmt: skip
def test_what_is_allowed_can_be_written(kind: tuple[str, str], n_channels: int, rate_hz: int, tmp_path_factory) -> None:
    """If it failed, the check before the work would promise what an encoder does not keep."""
    try:
        check_output(*kind, rate_hz, n_channels)
    except DannaSepError:
        return
    paths, _ = save(tmp_path_factory.mktemp("any"), {"bass": noise(500, n_channels)}, *kind, rate_hz=rate_hz)
    info = probe(paths["bass"])
    assert (info.sample_rate, info.n_channels, info.n_frames) == (rate_hz, n_channels, 500)


def test_two_stems_in_one_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputCollision):
        StemWriter(dict.fromkeys(STEMS, tmp_path / "a.wav"), sample_rate=RATE_HZ, n_channels=2)


def test_wrong_shapes_are_refused(tmp_path: Path) -> None:
    with StemWriter({"drums": tmp_path / "a.wav"}, sample_rate=RATE_HZ, n_channels=2) as writer:
        with pytest.raises(ValueError, match="expected"):
            writer.write({"drums": noise(10, 3)})
        with pytest.raises(KeyError):
            writer.write({"flute": noise(10)})
