"""Songs to judge the small weights by, and to fit their blend on: voices that no training may hear, and a real song.

    danna-sep synthesise --recordings DIR --out work/held-out --songs 9 --seed 999 --longest 60
    python bundle/judge.py --band work/held-out --voices DIR --song SONGS --out work/judge

Writes folders with drums, bass, other and vocals. Each song of the band gives 30 s from its middle, its singer replaced
by recordings of voices that no training heard, such as those whose licence keeps them out of it: one `--voices` a song,
in turn. Without any, the band's own singers stay. The real song gives three excerpts of 30 s, twice: as they are, and
with each stem at the level that it has in most songs, for one whose vocals are hardly heard tells little of vocals.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from danna_sep.audio import AudioReader
from danna_sep.errors import SongsError
from danna_sep.songs import Song, find_songs
from danna_sep.training.synthesis.phrases import in_a_row, prepared, produce
from danna_sep.training.synthesis.placing import RATE_HZ, respeed
from danna_sep.types import SOURCES

LENGTH_S = 30
PLACES = (0.38, 0.51, 0.81)
"""Where the real song's excerpts begin, as shares of its length."""

LEVELS_DB = {"drums": -19.0, "bass": -21.0, "other": -20.0, "vocals": -19.0}
BEAT_S = 0.5
SEED = 990
N_PHRASES = 12

Stems = dict[str, npt.NDArray[np.float32]]


def levelled(stems: Stems, spread_db: float, rng: np.random.Generator) -> Stems:
    """Each stem at its usual level, give or take; silent ones stay."""
    out = {}
    for source, stem in stems.items():
        now_db = 10 * np.log10(np.square(stem).mean() + 1e-12)
        wanted_db = LEVELS_DB[source] + spread_db * rng.standard_normal()
        out[source] = stem * np.float32(10 ** ((wanted_db - now_db) / 20)) if now_db > -80 else stem
    return out


def write(folder: Path, stems: Stems) -> None:
    """Stems as files, quieter if their sum would clip."""
    gain = min(1.0, 0.9 / float(np.abs(sum(stems.values())).max()))
    folder.mkdir(parents=True, exist_ok=True)
    for source, stem in stems.items():
        soundfile.write(folder / f"{source}.flac", (gain * stem).T, RATE_HZ, subtype="PCM_24")


def recording(path: Path) -> npt.NDArray[np.float32]:
    """A recording at 44.1 kHz, trimmed, its loud parts at -20 dB."""
    with AudioReader(path) as reader:
        sound = np.concatenate(list(reader.blocks(2**20)), axis=1)
        return prepared(respeed(sound, reader.info.sample_rate / RATE_HZ))


def singer(folder: Path, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Half a minute of one voice's recordings in a row, mixed as vocals are."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".ogg", ".flac", ".wav"))
    if not paths:
        raise SystemExit(f"{folder}: no recordings in it")
    sounds = [recording(paths[i]) for i in rng.choice(len(paths), min(N_PHRASES, len(paths)), replace=False)]
    return produce(in_a_row(rng, sounds, LENGTH_S, float(rng.uniform(0.9, 1.1)), BEAT_S), rng, BEAT_S)


def excerpt(song: Song, start_s: float) -> Stems:
    """Half a minute from there on, or what there is."""
    start = round(start_s * RATE_HZ)
    stems = song.read(start, min(LENGTH_S * RATE_HZ, song.n_frames - start)).stems
    return dict(zip(SOURCES, stems, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--band", type=Path, required=True, help="songs of the synthetic band")
    parser.add_argument("--voices", type=Path, action="append", default=[], help="recordings of one voice")
    parser.add_argument("--song", type=Path, required=True, help="folder that holds the real song, or several")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        band, real = find_songs(arguments.band), find_songs(arguments.song)
    except SongsError as error:
        parser.error(str(error))
    for index, song in enumerate(band):
        rng = np.random.default_rng([SEED, index])
        stems = excerpt(song, max(0.0, song.n_frames / RATE_HZ / 2 - LENGTH_S / 2))
        if arguments.voices:
            voice = singer(arguments.voices[index % len(arguments.voices)], rng)
            stems["vocals"] = voice[:, : stems["drums"].shape[1]]
        write(arguments.out / song.name, levelled(stems, 3.0, rng))
    for song in real:
        for place in PLACES:
            stems = excerpt(song, place * song.n_frames / RATE_HZ)
            name = f"{song.name}-{round(100 * place)}"
            write(arguments.out / f"{name}-as-it-is", stems)
            write(arguments.out / f"{name}-levelled", levelled(stems, 0.0, np.random.default_rng(SEED)))


if __name__ == "__main__":
    main()
