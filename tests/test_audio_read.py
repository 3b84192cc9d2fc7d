"""Reading audio files: every container, every kind of bad file, and independence of the block size."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import textwrap
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from danna_sep.audio import AudioReader, probe
from danna_sep.audio.pyav import PyAvDecoder
from danna_sep.audio.sndfile import SoundFileDecoder
from danna_sep.errors import AudioError, MissingExtra, NonFiniteAudio, UnreadableAudio, UnsupportedRate
from ffmpeg_decoder import decoded_by_ffmpeg

RATE_HZ = 44100


def music(n_frames: int, n_channels: int = 2, rate_hz: int = RATE_HZ, seed: int = 0) -> np.ndarray:
    """A smooth, broad signal, different in each channel and never repeating: (channel, time)."""
    t_s = np.arange(n_frames) / rate_hz
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n_channels):
        start_hz, phase = rng.uniform(200, 400), rng.uniform(0, 6)
        rows.append(0.4 * np.sin(phase + 2 * np.pi * (start_hz * t_s + 40 * t_s**2)))
    return np.stack(rows).astype(np.float32)


def read_all(path: Path, n_frames: int = 4096, **options) -> tuple[np.ndarray, list[str]]:
    warnings: list[str] = []
    with AudioReader(path, warn=warnings.append, **options) as reader:
        blocks = list(reader.blocks(n_frames))
        assert all(block.shape[1] == n_frames for block in blocks[:-1])
        samples = np.concatenate(blocks, axis=1)
        assert samples.shape == (reader.info.n_channels, reader.n_read)
    assert samples.dtype == np.float32
    return samples, warnings


# The largest error of a round trip through a coding. Rates and channels are what the coding can hold.
EXACT = {"FLOAT": 0.0, "DOUBLE": 0.0, "PCM_32": 1e-7, "ALAC_32": 1e-7, "PCM_24": 2e-7, "ALAC_24": 2e-7, "DWVW_24": 2e-7}
CLOSE = {"ALAC_20": 2e-6, "PCM_16": 4e-5, "ALAC_16": 4e-5, "DWVW_16": 4e-5, "DPCM_16": 4e-5}
ROUGH = {"PCM_S8": 0.01, "PCM_U8": 0.01, "ULAW": 0.03, "ALAW": 0.03, "VORBIS": 0.1, "OPUS": 0.3, "MPEG_LAYER_III": 0.1}
ERRORS = EXACT | CLOSE | ROUGH
CONTAINERS = ["WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF", "AU", "FLAC", "OGG", "MP3", "NIST", "IRCAM", "VOC", "PVF"]
WRITABLE = [
    (container, subtype)
    for container in CONTAINERS
    for subtype in soundfile.available_subtypes(container)
    # Listed, but not written by libsndfile; or with another rate than asked for.
    if subtype in ERRORS and (container, subtype) not in (("WAV", "MPEG_LAYER_III"), ("VOC", "PCM_U8"))
]


@pytest.mark.parametrize(("container", "subtype"), WRITABLE)
def test_reads_every_container_and_subtype(container: str, subtype: str, tmp_path: Path) -> None:
    """If it failed, a kind of file that people have would be refused, shifted, or scaled wrongly."""
    rate_hz = 48000 if subtype == "OPUS" else RATE_HZ
    n_channels = 1 if subtype.startswith("DWVW") else 2
    signal = music(9001, n_channels, rate_hz)
    path = tmp_path / "song.audio"
    soundfile.write(path, signal.T, rate_hz, format=container, subtype=subtype)

    info = probe(path)
    samples, warnings = read_all(path)

    assert (info.sample_rate, info.n_channels, info.n_frames) == (rate_hz, n_channels, 9001)
    assert (info.container, info.subtype) == (container, subtype)
    assert info.duration_s == pytest.approx(9001 / rate_hz)
    assert samples.shape == signal.shape
    middle = slice(1000, -1000)
    assert np.abs(samples - signal)[:, middle].max() <= ERRORS[subtype]
    assert warnings == []


@pytest.mark.parametrize("container", ["WAV", "FLAC", "MP3", "OGG"])
def test_compressed_and_plain_files_start_at_the_first_sample(container: str, tmp_path: Path) -> None:
    """If it failed, stems of an MP3 would be late by the encoder's delay (gapless decoding)."""
    signal = music(44100, 1)[0]
    path = tmp_path / "song"
    soundfile.write(path, signal, RATE_HZ, format=container)
    samples, _ = read_all(path)
    assert samples.shape == (1, 44100)
    assert int(np.argmax(np.correlate(signal, samples[0][2000:-2000], mode="valid"))) == 2000


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n_block=st.integers(1, 6000),
    container=st.sampled_from(["WAV", "FLAC", "MP3", "OGG", "M4A"]),
)
def test_samples_do_not_depend_on_the_block_size(n_block: int, container: str, tmp_path_factory) -> None:
    """If it failed, the same song would come out different for another --block."""
    folder = tmp_path_factory.getbasetemp() / "block_size"
    folder.mkdir(exist_ok=True)
    path = folder / f"song.{container.lower()}"
    if not path.exists():
        if container == "M4A":
            write_m4a(path, music(5003))
        else:
            soundfile.write(path, music(5003).T, RATE_HZ, format=container)
    whole, _ = read_all(path, 1 << 20)
    pieces, _ = read_all(path, n_block)
    np.testing.assert_array_equal(pieces, whole)


@pytest.mark.parametrize("n_channels", [1, 2, 3, 6, 8])
def test_channels_keep_their_order(n_channels: int, tmp_path: Path) -> None:
    signal = music(300, n_channels)
    soundfile.write(tmp_path / "a.wav", signal.T, RATE_HZ, subtype="FLOAT")
    samples, _ = read_all(tmp_path / "a.wav")
    np.testing.assert_array_equal(samples, signal)


# FFmpeg's names of the layouts that Vorbis and Opus have, whose channels it gives in WAV order.
SURROUND = {3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


def levels(n_channels: int, rate_hz: int = 48000) -> np.ndarray:
    """A bass note, which LFE channels take too, at another level in each channel: (channel, time)."""
    return np.outer(0.1 * np.arange(1, n_channels + 1), np.sin(np.arange(rate_hz // 2) * 2 * np.pi * 60 / rate_hz))


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("n_channels", SURROUND)
def test_ogg_has_its_speakers_in_wav_order(subtype: str, n_channels: int, tmp_path: Path) -> None:
    """If it failed, a downmix of 5.1 would take a surround for the right side and put LFE into the mix."""
    path = tmp_path / "song.ogg"
    signal = levels(n_channels)
    with soundfile.SoundFile(path, "w", 48000, n_channels, subtype, format="OGG") as file:
        for start in range(0, signal.shape[1], 4000):  # more at once overflows the stack of libsndfile's encoder
            file.write(signal[:, start : start + 4000].T)  # taken as it is: in the order of Vorbis
    layout, decoded = decoded_by_ffmpeg(path)
    assert layout.removesuffix("(back)") == SURROUND[n_channels]
    samples, warnings = read_all(path)
    middle = slice(4000, 20000)
    np.testing.assert_allclose(samples[:, middle].std(axis=1), decoded[:, middle].std(axis=1), rtol=0.02)
    assert warnings == []


@pytest.mark.parametrize("n_channels", [3, 4, 6, 8])  # FFmpeg's encoder itself swaps those of 5.0 and 6.1
@pytest.mark.parametrize("family", [1, 255])  # channels that belong to speakers, and such that do not
def test_surround_opus_of_another_encoder_comes_back_channel_by_channel(
    n_channels: int, family: int, tmp_path: Path
) -> None:
    path = tmp_path / "song.opus"
    signal = levels(n_channels)
    options = {"mapping_family": str(family)}
    write_m4a(path, signal.astype(np.float32), "libopus", 48000, "ogg", "flt", SURROUND[n_channels], options=options)
    assert path.read_bytes()[28 + 18] == family
    samples, _ = read_all(path)
    middle = slice(4000, 20000)
    np.testing.assert_allclose(samples[:, middle].std(axis=1), signal[:, middle].std(axis=1), rtol=0.02)


def test_one_sample_is_enough(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full((1, 2), 0.5), RATE_HZ)
    samples, _ = read_all(tmp_path / "a.wav")
    np.testing.assert_array_equal(samples, [[0.5], [0.5]])


def test_float_above_full_scale_is_kept(tmp_path: Path) -> None:
    """If it failed, loud float mixes would be clipped on the way in."""
    signal = 100 * music(500)
    soundfile.write(tmp_path / "a.wav", signal.T, RATE_HZ, subtype="FLOAT")
    samples, _ = read_all(tmp_path / "a.wav")
    np.testing.assert_array_equal(samples, signal)


def test_blocks_are_given_once(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", music(10).T, RATE_HZ)
    with AudioReader(tmp_path / "a.wav") as reader:
        list(reader.blocks(4))
        with pytest.raises(ValueError, match="once"):
            reader.blocks(4)
        with pytest.raises(ValueError, match="at least one"):
            reader.blocks(0)


# Files that are no audio


def bad_files(folder: Path) -> dict[str, Path]:
    def make(name: str, content: bytes) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    soundfile.write(folder / "no_frames.wav", np.zeros((0, 2)), RATE_HZ)
    return {
        "no such file": folder / "missing.wav",
        "is a folder": folder,
        "is empty": make("empty.wav", b""),
        "no samples": folder / "no_frames.wav",
        "text": make("text.wav", b"I am a text.\n" * 50),
        "text as mp3": make("text.mp3", b"I am a text.\n" * 50),
        "text as vox": make("text.vox", b"I am a text.\n" * 50),
        "text as raw": make("text.raw", b"I am a text.\n" * 50),
        "playlist": make("list.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1/x.aac\n"),
        "playlist as m4a": make("list.m4a", b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1/x.aac\n"),
        "zeros": make("zeros.mp3", bytes(5000)),
        "noise": make("noise.mp3", np.random.default_rng(0).bytes(5000)),
        "cut header": make("cut.wav", b"RIFF\x24\x08\x00\x00WAVEfmt "),
        "cut m4a": make("cut.m4a", b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(30)),
        "null in name": folder / "a\0b.wav",
    }


NAMES = [
    "no such file", "is a folder", "is empty", "no samples", "text", "text as mp3", "text as vox", "text as raw",
    "playlist", "playlist as m4a", "zeros", "noise", "cut header", "cut m4a", "null in name",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_audio_is_refused_in_one_line_that_names_it(name: str, tmp_path: Path) -> None:
    """If it failed, a user would see a traceback, or a batch would end at the first bad file."""
    path = bad_files(tmp_path)[name]
    for attempt in (probe, AudioReader):
        with pytest.raises(UnreadableAudio) as caught:
            attempt(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
    if name in ("no such file", "is a folder", "is empty"):
        assert name in message
    if name == "no samples":
        assert "has no samples" in message


def test_a_pipe_is_refused_at_once_and_not_waited_for(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(UnreadableAudio, match="not a regular file"):
        probe(tmp_path / "pipe.wav")


def test_an_unreadable_file_says_why(tmp_path: Path) -> None:
    path = tmp_path / "secret.wav"
    soundfile.write(path, music(10).T, RATE_HZ)
    path.chmod(0)
    try:
        path.read_bytes()
    except PermissionError:
        with pytest.raises(UnreadableAudio, match="cannot be opened"):
            probe(path)
    else:
        pytest.skip("this user may read everything")


@pytest.mark.parametrize("rate_hz", [4000, 7999, 192001, 384000])
def test_rates_outside_the_range_are_refused(rate_hz: int, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", music(100).T, rate_hz)
    with pytest.raises(UnsupportedRate, match=f"{rate_hz} Hz is outside 8000 to 192000"):
        probe(tmp_path / "a.wav")


@pytest.mark.parametrize("rate_hz", [8000, 192000])
def test_rates_at_the_limits_are_read(rate_hz: int, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", music(100).T, rate_hz)
    assert probe(tmp_path / "a.wav").sample_rate == rate_hz


@pytest.mark.parametrize("name", ["a b.wav", "-rf.wav", "-", "日本語 é ñ.wav", "dot.", "x" * 251 + ".wav", "%s{}.wav"])
def test_any_file_name_is_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, libsndfile would read standard input for "-", or an odd name would not open."""
    try:
        with (tmp_path / name).open("wb") as file:
            soundfile.write(file, music(100).T, RATE_HZ, format="WAV")
    except OSError:
        pytest.skip("this file system does not take the name")
    monkeypatch.chdir(tmp_path)
    assert probe(name).n_frames == 100
    assert probe(tmp_path / name).n_frames == 100


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode here")
def test_names_that_are_not_unicode_are_read(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    with path.open("wb") as file:
        soundfile.write(file, music(100).T, RATE_HZ, format="WAV")
    assert probe(path).n_frames == 100


# NaN and infinite samples


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_a_number_is_refused_with_its_time(value: float, tmp_path: Path) -> None:
    """If it failed, one NaN would spread over whole segments of all stems."""
    signal = music(RATE_HZ)
    signal[1, 22050] = value
    path = tmp_path / "bad.wav"
    soundfile.write(path, signal.T, RATE_HZ, subtype="FLOAT")
    with pytest.raises(NonFiniteAudio, match=r"at 0\.500000 s; mend the file \(`separate --repair` ") as caught:
        read_all(path, 1000)
    assert str(path) in str(caught.value)


def test_repair_puts_zeros_and_says_how_many(tmp_path: Path) -> None:
    signal = music(5000)
    signal[0, 10], signal[1, 4990] = np.nan, np.inf
    path = tmp_path / "bad.wav"
    soundfile.write(path, signal.T, RATE_HZ, subtype="FLOAT")
    samples, warnings = read_all(path, 1000, repair=True)
    np.testing.assert_array_equal(samples, np.where(np.isfinite(signal), signal, 0))
    assert warnings == [f"{path}: replaced 2 NaN or infinite samples by zero"]


def test_doubles_beyond_float32_are_not_made_infinite_in_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full((10, 2), 1e300), RATE_HZ, subtype="DOUBLE")
    with pytest.raises(NonFiniteAudio):
        read_all(tmp_path / "a.wav")


# Damaged files


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU"])
def test_header_longer_than_the_data_is_reported_with_both_counts(container: str, tmp_path: Path) -> None:
    """If it failed, a recording cut off by a crash would give shorter stems without a word."""
    path = tmp_path / "cut"
    signal = music(1000)
    soundfile.write(path, signal.T, RATE_HZ, format=container, subtype="PCM_16")
    path.write_bytes(path.read_bytes()[: -4 * 400])
    samples, warnings = read_all(path)
    np.testing.assert_allclose(samples, signal[:, :600], atol=4e-5)
    assert len(warnings) == 1
    assert "declares 1000 frames" in warnings[0]
    assert " 600 " in warnings[0]


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "ULAW"])
@pytest.mark.parametrize("size", ["as it was", "not known"])
def test_a_cut_caf_is_reported_unless_it_never_told_its_size(subtype: str, size: str, tmp_path: Path) -> None:
    """If it failed, an aborted copy would give shorter stems without a word, or a stream would be warned about."""
    pytest.importorskip("av")  # libsndfile refuses what is cut
    path = tmp_path / "cut.caf"
    signal = music(1000)
    soundfile.write(path, signal.T, RATE_HZ, subtype=subtype)
    content = path.read_bytes()
    place = content.index(b"data") + 4
    if size == "not known":
        content = content[:place] + b"\xff" * 8 + content[place + 8 :]
    else:
        n_bytes = {"PCM_16": 4, "PCM_24": 6, "FLOAT": 8, "ULAW": 2}[subtype]
        content = content[: place + 12 + 600 * n_bytes]
    path.write_bytes(content)
    samples, warnings = read_all(path)
    np.testing.assert_allclose(samples, signal[:, : samples.shape[1]], atol=ERRORS[subtype])
    if size == "not known":
        assert samples.shape[1] == 1000
        assert warnings == []
    else:
        assert 595 <= samples.shape[1] <= 600  # FFmpeg drops the last bytes of a cut file
        assert len(warnings) == 1
        assert f"declares 1000 frames, but {samples.shape[1]}" in warnings[0]


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_a_streamed_wav_without_a_known_length_is_read_whole(size: int, tmp_path: Path) -> None:
    """If it failed, output of programs that write into a pipe would be warned about, or refused."""
    path = tmp_path / "streamed.wav"
    soundfile.write(path, music(1000).T, RATE_HZ, subtype="PCM_16")
    content = path.read_bytes()
    riff = struct.pack("<I", min(size + 36, 0xFFFFFFFF) if size else 8)
    path.write_bytes(content[:4] + riff + content[8:40] + struct.pack("<I", size) + content[44:])
    samples, warnings = read_all(path)
    assert samples.shape == (2, 1000)
    assert warnings == []


def test_a_wrapped_wav_size_is_refused(tmp_path: Path) -> None:
    """If it failed, a 5 GiB file with a plain WAV header would be cut to 1 GiB without a word."""
    path = tmp_path / "wrapped.wav"
    soundfile.write(path, music(1000).T, RATE_HZ, subtype="PCM_16")
    with path.open("r+b") as file:
        file.truncate(44 + 4000 + (1 << 32))  # sparse
    with pytest.raises(UnreadableAudio, match="4 GiB"):
        probe(path)


def counting(content: bytes, n_bytes: int) -> bytes:
    """A WAV file of libsndfile's whose header counts so many bytes of samples."""
    place = content.index(b"data") + 4
    return content[:place] + struct.pack("<I", n_bytes) + content[place + 4 :]


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "IMA_ADPCM"])
@pytest.mark.parametrize("behind", [b"", b"LIST\4\0\0\0INFO"], ids=["nothing", "LIST"])
def test_a_wav_whose_header_counts_a_part_only_says_what_is_left_out(
    subtype: str, behind: bytes, tmp_path: Path
) -> None:
    """If it failed, a recording that crashed would end where it last wrote its header, without a word."""
    path = tmp_path / "crashed.wav"
    soundfile.write(path, music(20000).T, RATE_HZ, subtype=subtype)
    content = path.read_bytes()
    path.write_bytes(counting(content, 4096) + behind)
    samples, warnings = read_all(path)
    n_left_out = len(content) - content.index(b"data") - 8 - 4096 + len(behind)
    assert 0 < samples.shape[1] < 20000
    assert len(warnings) == 1
    assert f" {n_left_out} bytes behind the audio that its header counts" in warnings[0]
    assert f"; {samples.shape[1]} frames could be decoded" in warnings[0]


@pytest.mark.parametrize("container", ["WAV", "RF64"])
def test_a_wav_whose_header_was_never_completed_is_not_said_to_be_empty(container: str, tmp_path: Path) -> None:
    """If it failed, an hour's recording would be given up for lost, though all of it is there."""
    path = tmp_path / "crashed.wav"
    soundfile.write(path, music(1000).T, RATE_HZ, format=container, subtype="PCM_16")
    content = path.read_bytes()
    if container == "RF64":
        path.write_bytes(content[:28] + bytes(8) + content[36:])
    else:
        path.write_bytes(counting(content, 0))
    with pytest.raises(UnreadableAudio, match=r"header was never completed: .* 4000 bytes follow"):
        probe(path)


# Longer than what counts as junk.
INFO = b"LIST" + struct.pack("<I", 400) + b"INFO" + bytes(range(1, 199)) * 2
XML = b"iXML" + struct.pack("<I", 411) + b"<BWFXML>" * 51 + b"xxx"


@pytest.mark.parametrize(
    "behind",
    [
        b"",
        b"\0",
        b"\xff\xff\xff",
        bytes(5) + INFO,
        bytes(6) + INFO,
        XML + b"\0" + INFO,
        XML + INFO,
        XML + b"x" + INFO + b"ID3\4",
        XML + bytes(6) + XML + XML + INFO + bytes(1000),
        b"LIST\4\0\0\0INFO",
        b"id3 \7\0\0\0ID3\4\0\0\0",
        b"LIST\4\0\0\0INFOPEAK\x18\1\0\0" + bytes(range(256)) + bytes(24),
        b"ID3\4\0\0\0\0\x1d\x76" + bytes(range(256)) * 15,
        b"APETAGEX" + bytes(range(256)) * 4,
        b"TAG" + b"A title" * 17 + bytes(6),
        bytes(5000),
        b"LIST\4\0\0\0INFO" + bytes(5000),
    ],
    ids=[
        "nothing", "a zero", "junk", "5 zeros, LIST", "6 zeros, LIST", "iXML, LIST", "iXML without padding, LIST",
        "iXML with odd padding, LIST", "many chunks", "LIST", "id3", "PEAK", "ID3v2", "APE", "ID3v1", "zeros",
        "LIST and zeros",
    ],
)  # fmt: skip
@pytest.mark.parametrize("n_frames", [1000, 1001])
def test_what_else_stands_behind_the_audio_of_a_wav_is_not_warned_about(
    behind: bytes, n_frames: int, tmp_path: Path
) -> None:
    """If it failed, files with tags would be warned about, and warnings believed no more."""
    path = tmp_path / "tagged.wav"
    soundfile.write(path, music(n_frames, 1).T, RATE_HZ, subtype="PCM_U8")
    path.write_bytes(path.read_bytes() + behind)
    samples, warnings = read_all(path)
    assert samples.shape == (1, n_frames)
    assert warnings == []


# The name of the chunk with the samples, the layout of a chunk's size, and bytes in the chunk in front of the samples.
AUDIO_CHUNKS = {"AIFF": (b"SSND", ">I", 8), "CAF": (b"data", ">q", 4)}


def chunk_counting(content: bytes, container: str, n_bytes: int) -> bytes:
    """An AIFF or CAF file whose header counts so many bytes of samples, and an AIFF no more frames than these."""
    name, layout, n_in_front = AUDIO_CHUNKS[container]
    place = content.index(name) + 4
    size = struct.pack(layout, n_in_front + n_bytes)
    content = content[:place] + size + content[place + len(size) :]
    if container == "CAF":
        return content
    frames = content.index(b"COMM") + 10
    n_channels, bits = struct.unpack(">H4xH", content[frames - 2 : frames + 6])
    return content[:frames] + struct.pack(">I", max(0, n_bytes) * 8 // (bits * n_channels)) + content[frames + 4 :]


def chunk(container: str, name: bytes, body: bytes) -> bytes:
    return name + struct.pack(AUDIO_CHUNKS[container][1], len(body)) + body


@pytest.mark.parametrize("container", AUDIO_CHUNKS)
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "ULAW"])
@pytest.mark.parametrize("has_chunk", [False, True])
def test_an_aiff_or_caf_whose_header_counts_a_part_only_says_what_is_left_out(
    container: str, subtype: str, has_chunk: bool, tmp_path: Path
) -> None:
    """If it failed, a recording that crashed would end where it last wrote its header, without a word."""
    path = tmp_path / "crashed"
    soundfile.write(path, music(20000).T, RATE_HZ, format=container, subtype=subtype)
    content = path.read_bytes()
    behind = chunk(container, b"NAME", b"A song") if has_chunk else b""
    path.write_bytes(chunk_counting(content, container, 4096) + behind)
    samples, warnings = read_all(path)
    n_bytes = 40000 * {"PCM_16": 2, "FLOAT": 4, "ULAW": 1}[subtype]
    assert samples.shape[1] == 4096 * 20000 // n_bytes
    assert len(warnings) == 1
    assert f" {n_bytes - 4096 + len(behind)} bytes behind the audio that its header counts" in warnings[0]
    assert f"; {samples.shape[1]} frames could be decoded" in warnings[0]


@pytest.mark.parametrize("container", AUDIO_CHUNKS)
def test_an_aiff_or_caf_whose_header_was_never_completed_is_not_said_to_be_empty(
    container: str, tmp_path: Path
) -> None:
    path = tmp_path / "crashed"
    soundfile.write(path, music(1000).T, RATE_HZ, format=container, subtype="PCM_16")
    path.write_bytes(chunk_counting(path.read_bytes(), container, 0))
    with pytest.raises(UnreadableAudio, match=r"header was never completed: .* 4000 bytes follow"):
        probe(path)


@pytest.mark.parametrize("container", AUDIO_CHUNKS)
@pytest.mark.parametrize("behind", ["chunks", "ID3v1", "ID3v2", "zeros", "junk"])
@pytest.mark.parametrize("n_frames", [1000, 999])
def test_what_else_stands_behind_the_audio_of_an_aiff_or_caf_is_not_warned_about(
    container: str, behind: str, n_frames: int, tmp_path: Path
) -> None:
    """If it failed, files with tags would be warned about, and warnings believed no more."""
    path = tmp_path / "tagged"
    soundfile.write(path, music(1000, 1).T, RATE_HZ, format=container, subtype="PCM_S8")
    content = chunk_counting(path.read_bytes()[: n_frames - 1000 or None], container, n_frames)
    padding = b"\0" if container == "AIFF" and n_frames % 2 else b""
    chunks = [(b"MARK", bytes(range(200)) * 2), (b"ID3 ", b"ID3\4" + bytes(range(250)) * 100), (b"(c) ", b"me" * 200)]
    path.write_bytes(
        content
        + padding
        + {
            "chunks": b"".join(chunk(container, *each) for each in chunks),
            "ID3v1": b"TAG" + b"A title" * 17 + bytes(6),
            "ID3v2": id3v2(bytes(range(1, 250)) * 40),
            "zeros": bytes(5000),
            "junk": b"\xff\xff\xff",
        }[behind]
    )
    samples, warnings = read_all(path)
    assert samples.shape == (1, n_frames)
    assert warnings == []


@pytest.mark.parametrize("container", AUDIO_CHUNKS)
def test_a_streamed_aiff_or_caf_without_a_known_length_is_read_whole(container: str, tmp_path: Path) -> None:
    """If it failed, what FFmpeg writes into a pipe would be warned about, or refused."""
    path = tmp_path / "streamed"
    soundfile.write(path, music(1000).T, RATE_HZ, format=container, subtype="PCM_16")
    content = path.read_bytes()
    n_in_front = AUDIO_CHUNKS[container][2]
    path.write_bytes(chunk_counting(content, container, {"AIFF": 0, "CAF": -1}[container] - n_in_front))
    samples, warnings = read_all(path)
    assert samples.shape == (2, 1000)
    assert warnings == []


@pytest.mark.parametrize("size", [24, (1 << 63) - 1, (1 << 64) - 1])
def test_a_streamed_w64_without_a_known_length_is_read_whole(size: int, tmp_path: Path) -> None:
    """If it failed, what FFmpeg writes into a pipe would be said to lack quintillions of frames."""
    path = tmp_path / "streamed.w64"
    soundfile.write(path, music(1000).T, RATE_HZ, subtype="PCM_16")
    content = path.read_bytes()
    place = content.index(b"data") + 16
    path.write_bytes(content[:place] + struct.pack("<Q", size) + content[place + 8 :])
    samples, warnings = read_all(path)
    assert samples.shape == (2, 1000)
    assert warnings == []


@pytest.mark.parametrize("highest", [0x70, 0xF0])
def test_a_w64_chunk_that_claims_more_than_disks_hold_does_no_harm(highest: int, tmp_path: Path) -> None:
    """If it failed, one damaged byte in a header would end in the operating system's refusal to seek there."""
    path = tmp_path / "damaged.w64"
    signal = music(5000)
    soundfile.write(path, signal.T, RATE_HZ, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[63] = highest  # of the eight bytes that are the size of the chunk "fmt "
    path.write_bytes(content)
    samples, _ = read_all(path)
    np.testing.assert_allclose(samples, signal, atol=4e-5)


def test_a_cut_flac_gives_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "cut.flac"
    signal = music(60000)
    soundfile.write(path, signal.T, RATE_HZ)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    samples, warnings = read_all(path)
    n_frames = samples.shape[1]
    assert 30000 < n_frames < 40000
    np.testing.assert_allclose(samples, signal[:, :n_frames], atol=4e-5)
    assert len(warnings) == 1
    assert f"declares 60000 frames, but {n_frames}" in warnings[0]


def test_a_flac_of_unknown_length_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "streamed.flac"
    signal = music(60000)
    soundfile.write(path, signal.T, RATE_HZ)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the number of frames in STREAMINFO: 36 bits
    content[22:26] = bytes(4)
    path.write_bytes(content)
    samples, warnings = read_all(path)
    assert probe(path).n_frames is None
    np.testing.assert_allclose(samples, signal, atol=4e-5)
    assert warnings == []


def test_a_flac_behind_an_id3_tag_is_no_mp3(tmp_path: Path) -> None:
    path = tmp_path / "tagged.flac"
    soundfile.write(path, music(5000).T, RATE_HZ)
    path.write_bytes(b"ID3\x04\0\0\0\0\x02\0" + bytes(256) + path.read_bytes())
    assert (probe(path).container, probe(path).n_frames) == ("FLAC", 5000)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_joined_ogg_files_are_not_cut_in_silence(subtype: str, tmp_path: Path) -> None:
    contents = []
    for part in ("a", "b"):
        soundfile.write(tmp_path / part, music(50000).T, 48000, format="OGG", subtype=subtype)
        contents.append((tmp_path / part).read_bytes())
    path = tmp_path / "joined.ogg"
    path.write_bytes(b"".join(contents))
    _, warnings = read_all(path)
    assert len(warnings) == 1
    assert "more Ogg streams" in warnings[0]


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("damage", ["half", "last byte", "zeros", "noise", "behind"])
@pytest.mark.parametrize("n_s", [6, 16])
def test_an_ogg_without_its_end_is_reported(subtype: str, damage: str, n_s: int, tmp_path: Path) -> None:
    """If it failed, an aborted download would give shorter stems without a word: nothing in Ogg tells the length."""
    path = tmp_path / "cut.ogg"
    soundfile.write(path, music(n_s * 48000).T, 48000, format="OGG", subtype=subtype)
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(
        {
            "half": content[:half],
            "last byte": content[:-1],
            "zeros": content[:half] + bytes(len(content) - half),
            "noise": content[:half] + np.random.default_rng(0).bytes(len(content) - half),
            "behind": content + np.random.default_rng(0).bytes(5000),
        }[damage]
    )
    samples, warnings = read_all(path)
    assert 0 < samples.shape[1] < n_s * 48000 or damage == "behind"
    assert len(warnings) == 1
    assert "may be cut short" in warnings[0]
    assert f" {samples.shape[1]} frames could be decoded" in warnings[0] or f"but {samples.shape[1]}" in warnings[0]


COVER = bytes(range(250)) * 20


def ape_tag(cover: bytes) -> bytes:
    item = struct.pack("<II", len(cover), 0) + b"Cover\0" + cover
    head, foot = (
        b"APETAGEX" + struct.pack("<IIIIQ", 2000, len(item) + 32, 1, flags, 0) for flags in (0xA0000000, 1 << 31)
    )
    return head + item + foot


def id3v2(body: bytes) -> bytes:
    """A tag around a body of less than 2 MiB."""
    return b"ID3\3\0\0" + bytes((0, len(body) >> 14, len(body) >> 7 & 127, len(body) & 127)) + body


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("tag", [b"", ape_tag(COVER)], ids=["nothing", "APE"])
def test_an_ogg_that_does_not_say_where_it_ends_is_whole(subtype: str, tag: bytes, tmp_path: Path) -> None:
    """If it failed, recordings of live streams would be called cut, and be downloaded again for nothing."""
    path = tmp_path / "stream.ogg"
    soundfile.write(path, music(6 * 48000).T, 48000, format="OGG", subtype=subtype)
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"OggS")] + tag)
    samples, warnings = read_all(path)
    assert samples.shape[1] > 4 * 48000
    assert warnings == []


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize(
    "behind",
    [
        b"\0",
        b"\r\n",
        b"TAG" + b"A title" * 17 + bytes(6),
        ape_tag(COVER),
        ape_tag(COVER * 50),
        id3v2(bytes(range(1, 250)) * 40),
        bytes(200_000),
    ],
    ids=["a zero", "a line", "ID3v1", "APE", "a long APE", "ID3v2", "zeros"],
)
def test_what_stands_behind_the_last_page_of_an_ogg_does_no_harm(subtype: str, behind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "song.ogg"
    soundfile.write(path, music(50000).T, 48000, format="OGG", subtype=subtype)
    whole, _ = read_all(path)
    path.write_bytes(path.read_bytes() + behind)
    samples, warnings = read_all(path)
    np.testing.assert_array_equal(samples, whole)
    assert warnings == []


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are not listed here")
@pytest.mark.parametrize(
    ("container", "fails"),
    [
        ("WAV", "sndfile.declared_frames"),
        ("OGG", "sndfile.ogg_note"),
        ("M4A", "pyav.PyAvDecoder._claim"),
        ("M4A", "pyav._samples"),
    ],
)
def test_nothing_is_left_open_where_a_decoder_fails_as_it_opens(
    container: str, fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it failed, a folder full of bad files would end in "too many open files", or not be deleted on Windows."""
    path = tmp_path / f"song.{container.lower()}"
    if container == "M4A":
        write_m4a(path, music(5000))
    else:
        soundfile.write(path, music(5000).T, RATE_HZ, format=container)

    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(f"danna_sep.audio.{fails}", fail)
    with pytest.raises(OSError, match="the disk is gone") as caught:
        (PyAvDecoder if container == "M4A" else SoundFileDecoder)(path)
    opened = [file.readlink() for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
    assert path not in opened
    del caught  # till here it has kept alive what might have been closed by the garbage collector


@pytest.mark.parametrize("container", ["WAV", "FLAC", "MP3", "OGG", "M4A"])
def test_memory_does_not_grow_with_the_length(container: str, tmp_path: Path) -> None:
    """If it failed, a recording of ten hours would not fit into memory."""
    path = tmp_path / f"long.{container.lower()}"
    if container == "M4A":
        write_m4a(path, music(20 * RATE_HZ))
    else:
        soundfile.write(path, music(20 * RATE_HZ).T, RATE_HZ, format=container)
    with AudioReader(path) as reader:
        blocks = reader.blocks(10000)
        next(blocks)
        tracemalloc.start()
        try:
            n_read = sum(block.shape[1] for block in blocks)
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert n_read >= 19 * RATE_HZ
    assert peak_bytes < 1_000_000  # all of it would be 7 MB


def mp3(signal: np.ndarray, path: Path, mode: str = "CONSTANT") -> bytes:
    soundfile.write(
        path, signal.T, RATE_HZ, format="MP3", subtype="MPEG_LAYER_III", compression_level=0.5, bitrate_mode=mode
    )
    return path.read_bytes()


@pytest.mark.parametrize("damage", ["zeros", "noise", "missing"])
@pytest.mark.parametrize("n_bytes", [700, 9000])
def test_a_damaged_mp3_is_decoded_before_and_behind_the_damage(damage: str, n_bytes: int, tmp_path: Path) -> None:
    """If it failed, all behind a scratch would be missing: libsndfile gives up after one kilobyte."""
    path = tmp_path / "song.mp3"
    signal = music(4 * RATE_HZ)
    content = mp3(signal, path)
    whole, _ = read_all(path)
    middle = len(content) // 2
    patch = {"zeros": bytes(n_bytes), "noise": np.random.default_rng(3).bytes(n_bytes), "missing": b""}[damage]
    path.write_bytes(content[:middle] + patch + content[middle + n_bytes :])

    samples, warnings = read_all(path)

    n_lost = whole.shape[1] - samples.shape[1]
    assert 0 < n_lost < 1152 * (n_bytes / 417 + 6)
    np.testing.assert_array_equal(samples[:, :RATE_HZ], whole[:, :RATE_HZ])
    # Behind the damage the same samples follow, earlier by whole MPEG frames.
    end = whole[:, 3 * RATE_HZ : 3 * RATE_HZ + 4000]
    shifts = range(0, 1152 * 40, 1152)
    assert any(np.array_equal(samples[:, 3 * RATE_HZ - shift : 3 * RATE_HZ - shift + 4000], end) for shift in shifts)
    assert len(warnings) == 1
    assert f"declares {whole.shape[1]} frames, but {samples.shape[1]}" in warnings[0]


def without_xing(content: bytes) -> bytes:
    """Drop the first frame, which holds the Xing header. MPEG-1 layer III at 44.1 kHz."""
    kbit_s = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)[content[2] >> 4]
    return content[144000 * kbit_s // RATE_HZ + (content[2] >> 1 & 1) :]


def test_a_variable_rate_mp3_without_a_count_is_read_to_its_end(tmp_path: Path) -> None:
    """If it failed, more than half of such a file would be missing: libsndfile guesses its length."""
    path = tmp_path / "song.mp3"
    signal = music(4 * RATE_HZ)
    signal[:, RATE_HZ:] *= 1e-3
    signal[:, :RATE_HZ] = 0.3 * np.random.default_rng(0).standard_normal((2, RATE_HZ))
    content = mp3(signal, path, "VARIABLE")
    whole, _ = read_all(path)
    path.write_bytes(without_xing(content))
    samples, warnings = read_all(path)
    assert samples.shape[1] >= whole.shape[1]
    assert warnings == []
    # Without the header the encoder's delay is not known, so the file is a little longer at the start.
    delay = 1105 - 529
    np.testing.assert_array_equal(samples[:, delay : delay + whole.shape[1] - 2000], whole[:, :-2000])


@pytest.mark.parametrize("where", ["in front", "behind"])
def test_what_stands_around_the_frames_of_an_mp3_does_no_harm(where: str, tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    content = mp3(music(20000), path)
    whole, _ = read_all(path)
    path.write_bytes(bytes(3000) + content if where == "in front" else content + b"TAG" + bytes(125))
    samples, warnings = read_all(path)
    np.testing.assert_array_equal(samples, whole)
    assert warnings == []


def test_joined_mp3_files_are_read_to_the_end_of_the_last(tmp_path: Path) -> None:
    """If it failed, only the first would be read: its header counts its own frames."""
    path = tmp_path / "song.mp3"
    content = mp3(music(20000), path)
    path.write_bytes(content + content)
    samples, _ = read_all(path)
    assert samples.shape[1] > 40000


# Seen as MPEG layer I: marks of the byte order in front of texts in 16 bits, which follow one another as frames do.
UTF_16 = (b"\xff\xfeP\0" + bytes(168)) * 3  # of 172 bytes


@pytest.mark.parametrize("has_count", [False, True])
@pytest.mark.parametrize("between", ["ID3v2", "UTF-16", "ID3v1 and UTF-16", "APE, ID3v1 and ID3v2"])
def test_tags_between_the_parts_of_a_joined_mp3_are_no_damage(between: str, has_count: bool, tmp_path: Path) -> None:
    """If it failed, joined songs with tags would be warned about, or refused for what stands in their tags."""
    path = tmp_path / "song.mp3"
    content = mp3(music(20000), path)
    content = content if has_count else without_xing(content)
    path.write_bytes(content + content)
    whole, before = read_all(path)
    tags = {
        "ID3v2": id3v2(b"TIT2\0\0\0\6\0\0\0Title" + bytes(2048)),
        "UTF-16": id3v2(UTF_16 + bytes(2000)),
        "ID3v1 and UTF-16": b"TAG" + bytes(125) + id3v2(UTF_16 + bytes(2000)),
        "APE, ID3v1 and ID3v2": ape_tag(COVER) + b"TAG" + bytes(125) + id3v2(bytes(2000)),
    }
    path.write_bytes(content + tags[between] + content)
    samples, warnings = read_all(path)
    np.testing.assert_array_equal(samples, whole)
    assert warnings == before


def test_a_tag_that_claims_more_than_it_has_hides_nothing_of_a_joined_mp3(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    content = mp3(music(20000), path)
    path.write_bytes(content + content)
    whole, _ = read_all(path)
    path.write_bytes(content + id3v2(bytes(5000))[:3000] + content)
    samples, warnings = read_all(path)
    np.testing.assert_array_equal(samples, whole)
    assert "damaged: 3000 bytes" in warnings[0]


@pytest.mark.parametrize(("rate_hz", "n_channels"), [(48000, 2), (22050, 2), (RATE_HZ, 1)])
@pytest.mark.parametrize("between", [b"", b"ID3\4\0\0\0\0\0\x0a" + bytes(10), b"TAG" + bytes(125)])
@pytest.mark.parametrize("goes_back", [False, True])
def test_an_mp3_that_changes_its_rate_or_channels_is_refused(
    rate_hz: int, n_channels: int, between: bytes, goes_back: bool, tmp_path: Path
) -> None:
    """If it failed, all behind the change would be missing from the stems without a word."""
    path = tmp_path / "song.mp3"
    soundfile.write(path, music(2 * rate_hz, n_channels, rate_hz).T, rate_hz, format="MP3")
    other = path.read_bytes()
    content = mp3(music(2 * RATE_HZ), path)
    path.write_bytes(content + between + other + (content if goes_back else b""))
    with pytest.raises(UnreadableAudio, match=r"song\.mp3: sample rate or channels change at 2\.[01] s; convert it"):
        probe(path)


@pytest.mark.parametrize("damage", ["zeros", "noise"])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("behind", [b"", b"TAG" + bytes(125)], ids=["nothing", "ID3v1"])
def test_damage_up_to_the_end_of_an_mp3_without_a_count_is_reported(
    damage: str, mode: str, behind: bytes, tmp_path: Path
) -> None:
    """If it failed, half a song could be missing without a word: nothing else tells how long it should be."""
    path = tmp_path / "song.mp3"
    content = without_xing(mp3(music(4 * RATE_HZ), path, mode))
    half = len(content) // 2
    n_bytes = len(content) - half
    path.write_bytes(
        content[:half] + (bytes(n_bytes) if damage == "zeros" else np.random.default_rng(3).bytes(n_bytes)) + behind
    )
    samples, warnings = read_all(path)
    assert RATE_HZ < samples.shape[1] < 3 * RATE_HZ
    assert len(warnings) == 1
    n_damaged = int(warnings[0].split("damaged: ")[1].split()[0])
    assert n_damaged == pytest.approx(n_bytes, abs=1500)
    assert warnings[0].endswith(f"; {samples.shape[1]} frames could be decoded")


def musicmatch_tag(image: bytes, header: bytes = b"") -> bytes:
    version = b"18273645" + bytes(248)
    parts = [b"jpg ", struct.pack("<I", len(image)) + image, bytes(4), version, bytes(range(251)) * 31 + bytes(87)]
    offsets = np.cumsum([1000, *(len(part) for part in parts[:-1])])
    footer = b"Brava Software Inc.".ljust(32) + b"3.05".ljust(16)
    return header + b"".join(parts) + struct.pack("<5I", *offsets) + footer


LYRICS = b"LYRICSBEGIN" + b"LYR02000" + b"la " * 666


@pytest.mark.parametrize(
    "behind",
    [
        b"\xff\xff\xff",
        ape_tag(COVER),
        ape_tag(COVER) + b"TAG" + bytes(125),
        LYRICS + b"%06dLYRICS200" % len(LYRICS) + b"TAG" + bytes(125),
        LYRICS + b"LYRICSEND" + b"TAG" + bytes(125),
        b"ID3\4\0\0\0\0\x1f\x00" + bytes(range(256)) * 15 + bytes(128),
        musicmatch_tag(b""),
        musicmatch_tag(COVER, b"18273645" + bytes(248)) + b"TAG" + bytes(125),
    ],
    ids=["junk", "APE", "APE and ID3v1", "Lyrics3 2.0", "Lyrics3", "ID3v2", "MusicMatch", "MusicMatch and ID3v1"],
)
@pytest.mark.parametrize("has_count", [False, True])
def test_tags_behind_an_mp3_are_no_damage(behind: bytes, has_count: bool, tmp_path: Path) -> None:
    """If it failed, songs with covers and lyrics would be warned about, and warnings believed no more."""
    path = tmp_path / "song.mp3"
    content = mp3(music(20000), path)
    content = content if has_count else without_xing(content)
    path.write_bytes(content)
    whole, _ = read_all(path)
    path.write_bytes(content + behind)
    samples, warnings = read_all(path)
    np.testing.assert_array_equal(samples, whole)
    assert warnings == []


@pytest.mark.parametrize("has_count", [False, True])
@pytest.mark.parametrize("behind", [ape_tag(COVER), ape_tag(COVER) + b"TAG" + bytes(125)], ids=["APE", "APE and ID3v1"])
def test_a_tag_behind_a_last_frame_that_is_cut_changes_nothing(behind: bytes, has_count: bool, tmp_path: Path) -> None:
    """If it failed, the cover would be called damaged, or heard as the rest of the frame."""
    path = tmp_path / "song.mp3"
    content = mp3(music(20000), path)
    content = (content if has_count else without_xing(content))[:-60]
    path.write_bytes(content)
    whole, before = read_all(path)
    path.write_bytes(content + behind)
    samples, warnings = read_all(path)
    np.testing.assert_array_equal(samples, whole)
    assert warnings == before


@pytest.mark.parametrize("junk", [bytes(50_000), b"\r\nSome text." * 1000])
def test_what_stands_behind_as_many_frames_as_an_mp3_declares_is_no_damage(junk: bytes, tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    content = mp3(music(20000), path)
    path.write_bytes(content + junk)
    samples, warnings = read_all(path)
    assert samples.shape == (2, 20000)
    assert warnings == []


@pytest.mark.parametrize("n_frames", [1, 100, 1152, 3000])
@pytest.mark.parametrize("rate_hz", [8000, 22050, 48000])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_short_mp3_files_of_all_kinds_have_their_length(
    n_frames: int, rate_hz: int, n_channels: int, tmp_path: Path
) -> None:
    path = tmp_path / "song.mp3"
    soundfile.write(path, music(n_frames, n_channels).T, rate_hz, format="MP3")
    samples, warnings = read_all(path)
    assert samples.shape == (n_channels, n_frames)
    assert warnings == []


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_files_never_end_in_a_foreign_error(data: st.DataObject, tmp_path_factory) -> None:
    """If it failed, some damage would crash the program instead of giving one line."""
    folder = tmp_path_factory.getbasetemp() / "damage"
    folder.mkdir(exist_ok=True)
    container = data.draw(st.sampled_from(["WAV", "FLAC", "MP3", "OGG", "AIFF", "M4A", "CAF"]))
    good = folder / f"good.{container}"
    if not good.exists():
        if container == "M4A":
            write_m4a(good, music(6000))
        else:
            soundfile.write(good, music(6000).T, RATE_HZ, format=container)
    content = bytearray(good.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        content[start : start + data.draw(st.integers(0, 200))] = data.draw(st.binary(max_size=200))
    path = folder / f"bad.{container}"
    path.write_bytes(content)
    try:
        samples, _ = read_all(path, 1000)
    except AudioError as error:
        message = str(error)
    else:
        assert np.isfinite(samples).all()
        assert samples.shape[1] > 0
        return
    assert str(path) in message
    assert "\n" not in message


# M4A and video, through PyAV


def write_m4a(
    path: Path,
    signal: np.ndarray,
    codec: str = "aac",
    rate_hz: int = RATE_HZ,
    container: str = "mp4",
    sample_format: str | None = None,
    layout: str | None = None,
    tags: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
) -> None:
    av = pytest.importorskip("av")
    layout = layout or {1: "mono", 2: "stereo", 6: "5.1"}[len(signal)]
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate_hz, layout=layout, options=options or {})
        stream.metadata.update(tags or {})
        if codec == "aac":
            stream.bit_rate = 128_000 * len(signal)
        kind = sample_format or stream.codec_context.format.name
        stream.codec_context.format = kind
        planar = kind.endswith("p")
        scaled = {"f": signal, "s": np.round(signal * (2**15 if "16" in kind else 2**31))}[kind[0]]
        dtype = {"flt": np.float32, "s16": np.int16, "s32": np.int32}[kind.rstrip("p")]
        array = np.ascontiguousarray(scaled.astype(dtype))
        size = 1024
        for start in range(0, array.shape[1], size):
            piece = array[:, start : start + size]
            piece = piece if planar else piece.T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format=kind, layout=layout)
            frame.sample_rate, frame.pts = rate_hz, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def write_cover_only(path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=1)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        output.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        output.mux(stream.encode(None))


@pytest.mark.parametrize("rate_hz", [8000, 44100, 48000])
@pytest.mark.parametrize("n_channels", [1, 2, 6])
def test_m4a_is_read_aligned(rate_hz: int, n_channels: int, tmp_path: Path) -> None:
    """If it failed, stems of an M4A file would be late by the encoder's priming, or in the wrong channels."""
    signal = music(20000, n_channels, rate_hz)
    if n_channels == 6:
        signal[3] = 0  # the encoder takes the LFE channel's treble away
    path = tmp_path / "song.m4a"
    write_m4a(path, signal, rate_hz=rate_hz)
    info = probe(path)
    samples, warnings = read_all(path)
    assert (info.sample_rate, info.n_channels, info.subtype) == (rate_hz, n_channels, "AAC")
    assert abs(samples.shape[1] - 20000) <= 1024
    assert info.n_frames == pytest.approx(samples.shape[1], abs=1024)
    middle = slice(4000, 16000)
    for channel in set(range(n_channels)) - {3}:
        shifts = np.correlate(samples[channel], signal[channel, middle], mode="valid")
        assert int(np.argmax(shifts)) == 4000
        assert np.corrcoef(samples[channel, middle], signal[channel, middle])[0, 1] > 0.95
    assert warnings == []


def test_eight_channels_that_ffmpeg_gives_apart_are_read(tmp_path: Path) -> None:
    """If it failed, 7.1 in M4A or Matroska would end the program by a crash."""
    av = pytest.importorskip("av")
    path = tmp_path / "song.mka"
    signal = levels(8)
    soundfile.write(tmp_path / "song.ogg", signal[:, :4000].T, 48000, format="OGG", subtype="OPUS")
    with av.open(str(tmp_path / "song.ogg")) as source, av.open(str(path), "w", format="matroska") as output:
        stream = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    layout, decoded = decoded_by_ffmpeg(path)
    samples, _ = read_all(path)
    assert layout == "7.1"
    np.testing.assert_array_equal(samples, decoded)


def test_apple_lossless_is_exact(tmp_path: Path) -> None:
    signal = np.round(music(10000) * 2**15).astype(np.float32) / 2**15
    path = tmp_path / "song.m4a"
    write_m4a(path, signal, codec="alac", sample_format="s16p")
    samples, _ = read_all(path)
    assert probe(path).subtype == "ALAC_16"
    np.testing.assert_array_equal(samples, signal)


@pytest.mark.parametrize(
    ("container", "codec"), [("matroska", "aac"), ("mov", "pcm_s16le"), ("webm", "libopus"), ("adts", "aac")]
)
def test_other_containers_are_read(container: str, codec: str, tmp_path: Path) -> None:
    path = tmp_path / "song.xyz"
    write_m4a(path, music(30000, rate_hz=48000), codec, 48000, container)
    samples, warnings = read_all(path)
    assert samples.shape[1] >= 30000
    assert np.abs(samples).max() == pytest.approx(0.45, abs=0.15)
    assert warnings == []


def test_the_length_that_ffmpeg_guesses_of_plain_aac_declares_nothing(tmp_path: Path) -> None:
    """If it failed, most such files would be said to lack frames, or to have too many."""
    path = tmp_path / "song.aac"
    quiet = music(4 * 48000, rate_hz=48000)
    quiet[:, 48000:] *= 1e-5
    write_m4a(path, quiet, "aac", 48000, "adts")
    samples, warnings = read_all(path)
    assert abs(probe(path).n_frames - samples.shape[1]) > 48000
    assert samples.shape[1] == pytest.approx(4 * 48000, abs=4096)
    assert warnings == []


@pytest.mark.parametrize("rate_hz", [48000, RATE_HZ, 32000])
@pytest.mark.parametrize(
    ("container", "codec", "kbit_s"),
    [("ac3", "ac3", 96), ("ac3", "ac3", 224), ("eac3", "eac3", 192), ("mpegts", "aac", 128), ("mpegts", "ac3", 192)],
)
def test_a_cut_stream_that_never_tells_its_length_is_reported(
    container: str, codec: str, kbit_s: int, rate_hz: int, tmp_path: Path
) -> None:
    """If it failed, an aborted download would give shorter stems without a word, or whole files be warned about."""
    path = tmp_path / "song"
    write_m4a(path, music(3 * rate_hz, 2, rate_hz), codec, rate_hz, container, options={"b": f"{kbit_s}k"})
    content = path.read_bytes()
    piece = "packet" if container == "mpegts" else "frame"
    for n_bytes in (len(content), len(content) // 2 | 1, len(content) - 1):
        path.write_bytes(content[:n_bytes])
        samples, warnings = read_all(path)
        if n_bytes == len(content):
            assert samples.shape[1] >= 3 * rate_hz
            assert warnings == []
        else:
            assert len(warnings) == 1
            assert f"the last {piece} is not whole, so that the file may be cut short" in warnings[0]
            assert f"; {samples.shape[1]} frames could be decoded" in warnings[0]


@pytest.mark.parametrize("n_bytes", [1, 3, 5])
def test_an_ac3_that_is_cut_in_a_header_is_reported(n_bytes: int, tmp_path: Path) -> None:
    path = tmp_path / "song.ac3"
    write_m4a(path, music(48000), "ac3", 48000, "ac3", options={"b": "192k"})
    content = path.read_bytes()
    path.write_bytes(content[: 20 * 768 + n_bytes])
    assert content.startswith(b"\x0b\x77", 20 * 768)
    _, warnings = read_all(path)
    assert len(warnings) == 1
    assert "may be cut short" in warnings[0]


def test_what_stands_behind_the_packets_of_a_transport_stream_does_not_make_it_cut(tmp_path: Path) -> None:
    path = tmp_path / "song.ts"
    write_m4a(path, music(48000), "aac", 48000, "mpegts")
    path.write_bytes(path.read_bytes() + b"TAG" + b"A title" * 17 + bytes(6))
    _, warnings = read_all(path)
    assert warnings == []


@pytest.mark.parametrize(("container", "codec"), [("matroska", "aac"), ("matroska", "pcm_s16le"), ("webm", "libopus")])
@pytest.mark.parametrize("damage", ["none", "cut", "zeros"])
@pytest.mark.parametrize("tag", [True, False])
def test_what_is_missing_of_a_matroska_file_is_reported(
    container: str, codec: str, damage: str, tag: bool, tmp_path: Path
) -> None:
    """If it failed, an aborted download would give stems of its first half without a word."""
    path = tmp_path / "song.mka"
    write_m4a(path, music(6 * 48000, rate_hz=48000), codec, 48000, container)
    content = path.read_bytes()
    if not tag:
        content = content.replace(b"DURATION", b"ANY_NAME")
    half = len(content) // 2
    tail = {"none": content[half:], "cut": b"", "zeros": bytes(len(content) - half)}[damage]
    path.write_bytes(content[:half] + tail)
    samples, warnings = read_all(path)
    if damage == "none":
        assert samples.shape[1] >= 6 * 48000
        assert warnings == []
    else:
        assert 2 * 48000 < samples.shape[1] < 4 * 48000
        assert len(warnings) == 1
        declared = int(warnings[0].split("declares ")[1].split()[0])
        assert declared == pytest.approx(6 * 48000, abs=2000)
        assert f"but {samples.shape[1]} could be decoded" in warnings[0]


def test_the_length_that_a_matroska_file_had_before_it_was_cut_by_ffmpeg_does_not_count(tmp_path: Path) -> None:
    """If it failed, every excerpt of a film made by mkvmerge would be called damaged."""
    path = tmp_path / "excerpt.mka"
    write_m4a(path, music(96000, 1), "aac", 48000, "matroska", tags={"DURATION-eng": "01:40:00.000000000"})
    assert b"01:40:00" in path.read_bytes()
    samples, warnings = read_all(path)
    assert samples.shape[1] == pytest.approx(96000, abs=2048)
    assert warnings == []


def write_film(path: Path, film_s: int, sound_s: int, late_s: int = 0) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w", format="matroska") as output:
        picture, sound = output.add_stream("mpeg4", rate=1), output.add_stream("aac", rate=48000, layout="mono")
        picture.width = picture.height = 64
        picture.pix_fmt = "yuv420p"
        for second in range(film_s):
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.pts = second
            output.mux(picture.encode(frame))
        frame = av.AudioFrame.from_ndarray(music(sound_s * 48000, 1, 48000), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48000, late_s * 48000
        for stream, last in ((sound, frame), (sound, None), (picture, None)):
            output.mux(stream.encode(last))


def test_a_film_that_is_longer_than_its_sound_is_not_called_cut(tmp_path: Path) -> None:
    """If it failed, most films would be warned about."""
    path = tmp_path / "film.mkv"
    write_film(path, film_s=6, sound_s=2)
    for content in (path.read_bytes(), path.read_bytes().replace(b"DURATION", b"ANY_NAME")):
        path.write_bytes(content)
        samples, warnings = read_all(path)
        assert samples.shape[1] == pytest.approx(96000, abs=2048)
        assert warnings == []


@pytest.mark.parametrize("tag", ["the end", "the length"])
def test_sound_that_starts_late_in_a_film_is_not_called_cut(tag: str, tmp_path: Path) -> None:
    """If it failed, films made by mkvmerge would be warned about: it writes how long the sound is, not when it ends."""
    path = tmp_path / "film.mkv"
    write_film(path, film_s=7, sound_s=4, late_s=3)
    content = path.read_bytes()
    assert b"00:00:07.021" in content
    if tag == "the length":
        path.write_bytes(content.replace(b"00:00:07.021", b"00:00:04.021"))
    samples, warnings = read_all(path)
    assert samples.shape[1] == pytest.approx(4 * 48000, abs=2048)
    assert warnings == []


def test_subtitles_that_last_longer_than_the_sound_do_not_make_it_cut(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "song.mkv"
    with av.open(str(path), "w", format="matroska") as output:
        if not hasattr(output, "add_mux_stream"):
            pytest.skip("this PyAV writes no subtitles")
        sound, text = output.add_stream("aac", rate=48000, layout="mono"), output.add_mux_stream("subrip")
        frame = av.AudioFrame.from_ndarray(music(96000, 1, 48000), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48000, 0
        for last in (frame, None):
            output.mux(sound.encode(last))
        packet = av.Packet(b"la la la")
        packet.stream, packet.time_base = text, Fraction(1, 1000)
        packet.pts, packet.dts, packet.duration = 9000, 9000, 1000
        output.mux(packet)
    path.write_bytes(path.read_bytes().replace(b"DURATION", b"ANY_NAME"))
    samples, warnings = read_all(path)
    assert samples.shape[1] == pytest.approx(96000, abs=2048)
    assert warnings == []


def test_video_without_sound_says_so(tmp_path: Path) -> None:
    path = tmp_path / "cover.mp4"
    write_cover_only(path)
    with pytest.raises(UnreadableAudio, match="no audio stream"):
        probe(path)


def test_without_pyav_the_message_says_what_to_install(tmp_path: Path) -> None:
    """If it failed, users without the extra would get an ImportError, and WAV would need it too."""
    write_m4a(tmp_path / "song.m4a", music(3000))
    soundfile.write(tmp_path / "song.wav", music(3000).T, RATE_HZ)
    (tmp_path / "text.wav").write_text("I am a text.\n")
    program = """
        import sys
        sys.modules["av"] = None
        from danna_sep.audio import probe
        from danna_sep.errors import MissingExtra, UnreadableAudio
        assert probe("song.wav").n_frames == 3000
        assert "torch" not in sys.modules
        try:
            probe("text.wav")
        except UnreadableAudio:
            pass
        try:
            probe("song.m4a")
        except MissingExtra as error:
            print(error)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert 'song.m4a: this format needs PyAV; install with `pip install "av>=12"`' in result.stdout
    assert issubclass(MissingExtra, AudioError)
