"""Put songs' stems into a few small files, to be sent to a machine where `resident.py` trains on them.

    python bundle/pack.py --data SONGS --share drums=3,vocals=1 --data OTHERS --share 1 --out work/packed

A share is how often stems are drawn from a folder's songs: one figure, or one for each source that is drawn from it.
Songs of which nothing is known but that nobody sings (a manifest's `mixture`, and `"silent": ["vocals"]`) are packed as
accompaniments: other songs' vocals are put over them, and the rest is known as a whole only. `mixture` is their share
among themselves; how many there are of them is `pool.py`'s. Needs PyAV (`pip install ".[av]"`).

Stems are coded with Opus (some 150 kbit/s for four), which changes what is heard little and the size by a factor of
ten; as if 44.1 kHz were 48, so that nothing is resampled. The songs of the first `--data` come first, the others at
random: the first files alone have some of everything. Each is a tar archive of `N/manifest.json` and `N/SOURCE.opus`.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import tarfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from danna_sep.errors import SongsError
from danna_sep.songs import Song, find_songs
from danna_sep.songs.song import MIXTURE
from danna_sep.types import SOURCES

KBIT_S = {"drums": 48, "bass": 32, "other": 48, "vocals": 64, MIXTURE: 96}
NAMES = ", ".join(KBIT_S)
CODED_AS_HZ = 48_000


def coded(stem: npt.NDArray[np.float32], kbit_s: float) -> bytes:
    """A stem as an Opus file; with little effort, which takes a fifth of the time and loses half a decibel."""
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=CODED_AS_HZ, layout="stereo")
        stream.bit_rate, stream.options = round(1000 * kbit_s), {"compression_level": "3"}
        for start in range(0, stem.shape[1], CODED_AS_HZ):
            samples = np.ascontiguousarray(stem[:, start : start + CODED_AS_HZ].T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="stereo")
            frame.sample_rate, frame.pts = CODED_AS_HZ, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def shares(given: str) -> dict[str, float]:
    """By source, and for mixtures: "2", or "drums=2,vocals=0.5"; what is not named has none."""
    parts = [part.partition("=") for part in given.split(",")] if "=" in given else [(n, "", given) for n in KBIT_S]
    named: dict[str, float] = {}
    for name, _, figure in parts:
        if name not in KBIT_S or name in named:
            raise argparse.ArgumentTypeError(f"{name}: {'there twice' if name in named else 'not one of ' + NAMES}")
        try:
            named[name] = float(figure)
        except ValueError:
            named[name] = math.nan
        if not 0 <= named[name] < math.inf:
            raise argparse.ArgumentTypeError(f"{given}: a share is a number that is not negative")
    return named


def is_accompaniment(song: Song) -> bool:
    """Whether all that is known of it is that nobody sings."""
    return MIXTURE in song.files and song.annotated == ("vocals",) and "vocals" in song.silent


def names_of(song: Song) -> list[str]:
    """What is packed of it."""
    return [name for name in ((MIXTURE,) if is_accompaniment(song) else SOURCES) if name in song.files]


def packed(song: Song, odds: Mapping[str, float], rate: float) -> dict[str, bytes]:
    """The files of a song by name; all its stems quieter if one of them would clip."""
    stems = {name: song.read_stem(name, 0, song.n_frames) for name in names_of(song)}
    gain = np.float32(min(1.0, 1 / max(1e-9, *(float(np.abs(stem).max()) for stem in stems.values()))))
    files = {f"{source}.opus": coded(gain * stem, rate * KBIT_S[source]) for source, stem in stems.items()}
    manifest = {
        "name": song.name,
        "odds": odds,
        "n_frames": song.n_frames,
        "silent": [] if is_accompaniment(song) else sorted(song.silent),
    }
    return {"manifest.json": json.dumps(manifest).encode(), **files}


def write(songs: Iterator[dict[str, bytes]], folder: Path, most_bytes: float) -> None:
    """Songs into archives, each as full as may be."""
    n_bytes, n_archives = math.inf, 0
    for number, files in enumerate(songs):
        size = sum(len(content) + 1024 for content in files.values())
        if n_bytes + size > most_bytes:
            n_bytes, n_archives = 0.0, n_archives + 1
        with tarfile.open(folder / f"part-{n_archives - 1:02d}.tar", "a" if n_bytes else "w") as archive:
            for name, content in files.items():
                entry = tarfile.TarInfo(f"{number:05d}/{name}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        n_bytes += size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True, help="songs with stems; may be repeated")
    parser.add_argument("--share", type=shares, action="append", required=True, help="of what is drawn, one for each")
    parser.add_argument("--bit-rate", type=float, default=1.0, help="bit rates, times this")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, default=48, help="of a file, at most")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    if any(arguments.out.glob("*.tar")):
        parser.error(f"{arguments.out}: there are archives in it already; give another folder")
    arguments.out.mkdir(parents=True, exist_ok=True)
    if len(arguments.data) != len(arguments.share):
        parser.error("there must be one --share for each --data")
    chosen: list[tuple[Song, dict[str, float]]] = []
    n_first = 0
    for folder, share in zip(arguments.data, arguments.share, strict=True):
        try:
            songs = [song for song in find_songs(folder) if song.split in (None, "train")]
        except SongsError as error:
            parser.error(str(error))
        if not songs:
            parser.error(f"{folder}: no songs to train on")
        for song in songs:
            if not any(share.get(name) for name in names_of(song)):
                parser.error(f"{folder}: {song.name}: has nothing that has a share")
        length = sum(song.n_frames for song in songs)
        chosen += [(song, {name: of * song.n_frames / length for name, of in share.items()}) for song in songs]
        n_first = n_first or len(songs)
    order = [*range(n_first), *(n_first + np.random.default_rng(0).permutation(len(chosen) - n_first))]
    with ProcessPoolExecutor(arguments.processes) as pool:
        songs_packed = pool.map(
            partial(packed, rate=arguments.bit_rate),
            [chosen[place][0] for place in order],
            [chosen[place][1] for place in order],
        )
        write(songs_packed, arguments.out, arguments.megabytes * 1e6)


if __name__ == "__main__":
    main()
