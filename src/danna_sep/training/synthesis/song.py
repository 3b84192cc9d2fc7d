"""One song from its number: a plan, four stems that follow it, a mix."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from danna_sep.errors import Cancelled
from danna_sep.training.synthesis import accompaniment, bass, drums, mastering, treatment
from danna_sep.training.synthesis.arrange import arrange
from danna_sep.training.synthesis.grooves import Hit, groove
from danna_sep.training.synthesis.origins import Origin
from danna_sep.training.synthesis.placing import RATE_HZ, Sound
from danna_sep.training.synthesis.plan import Plan, random_plan
from danna_sep.training.synthesis.recordings import Recordings
from danna_sep.training.synthesis.scores import Score, read_score
from danna_sep.training.synthesis.studio import Studio
from danna_sep.types import SOURCES

_ELECTRONIC: Final = (0.4, 0.1)
"""Share of the songs whose drummer is a machine: of those that are made up, and of scores."""

_PUMPED: Final = (0.04, 0.4)
"""Share of basses, and of accompaniments, that give way to the bass drum: with another drummer, and with a machine."""


@dataclass(frozen=True)
class Song:
    """A song that was made.

    Attributes:
        stems: float32 (2, time) at 44.1 kHz for each of the four sources, silent where the song has none.
        plan: What it is built on.
        credits: The recordings, soundfonts and scores that it was made from.
        score: Name of the file that the band played from; empty if the music was made up.
    """

    stems: dict[str, Sound]
    plan: Plan
    credits: tuple[Origin, ...]
    score: str = ""


def make_song(studio: Studio, seed: int, index: int, length_s: tuple[float, float] = (60.0, 150.0)) -> dict[str, Sound]:
    """The stems of a song; see `produce`."""
    return produce(studio, seed, index, length_s).stems


def length_of(seed: int, index: int, length_s: tuple[float, float]) -> float:
    """Seconds of a song of a seed, between two limits; known before it is made."""
    return float(np.random.default_rng([seed, index, zlib.crc32(b"length")]).uniform(*length_s))


def produce(
    studio: Studio,
    seed: int,
    index: int,
    length_s: tuple[float, float] = (60.0, 150.0),
    cancelled: Callable[[], bool] = lambda: False,
) -> Song:
    """Make a song. The same studio, seed and index give the same samples, whatever was made before.

    Args:
        studio: What to play on; without voices, nobody sings.
        seed: Of all songs.
        index: Which song.
        length_s: Least and greatest length in seconds.
        cancelled: Asked every few seconds.

    Raises:
        Cancelled: When `cancelled` said so.
        AudioError: A recording cannot be read.
        SongsError: A soundfont or a score cannot be read.
    """

    def rng_for(part: str) -> np.random.Generator:
        return np.random.default_rng([seed, index, zlib.crc32(part.encode())])

    def check() -> None:
        if cancelled():
            raise Cancelled("cancelled")

    studio.forget_credits()
    n_samples = round(length_of(seed, index, length_s) * RATE_HZ)
    score = _score_for(studio, seed, index)
    written = None if score is None else arrange(rng_for("arrangement"), score, n_samples / RATE_HZ)
    plan = random_plan(rng_for("plan"), n_samples / RATE_HZ) if written is None else written.plan
    electronic = bool(rng_for("manner").random() < _ELECTRONIC[written is not None])
    hits = groove(rng_for("groove"), plan, electronic) if written is None else written.hits
    stems: dict[str, Sound] = {source: np.zeros((2, n_samples), dtype=np.float32) for source in SOURCES}
    for source in SOURCES:
        check()
        rng, spans = rng_for(source), plan.spans(source)
        if not spans:
            continue
        if source == "drums":
            sound = drums.play(studio, rng, hits, electronic, n_samples)
        elif source == "bass":
            line = bass.line(rng_for("line"), plan, hits) if written is None else written.bass
            sound = bass.play(studio, rng, line, electronic, n_samples)
        elif source == "other" and written is not None:
            sound = accompaniment.perform(studio, rng, written.layers, plan.beat_s, n_samples, check)
        elif source == "other":
            sound = accompaniment.play(studio, rng, plan, n_samples, check)
        elif studio.recordings is not None:
            sound = _vocals(studio.recordings, plan, rng, n_samples)
        else:
            continue
        if source in ("bass", "other"):
            sound = _pumped(sound, hits, rng_for(f"pump {source}"), electronic)
        stems[source] = _levelled(mastering.gate(sound, spans), source, spans, rng)
    stems = mastering.master(_ended(stems, rng_for("end")), rng_for("master"))
    used = studio.credits() if score is None else (*studio.credits(), score.origin)
    return Song(stems, plan, used, "" if score is None else score.path.name)


def _score_for(studio: Studio, seed: int, index: int) -> Score | None:
    """The score of a song, all of them in turn; None if there are none."""
    if not studio.scores:
        return None
    turn, place = divmod(index, len(studio.scores))
    order = np.random.default_rng([seed, turn, zlib.crc32(b"score")]).permutation(len(studio.scores))
    return read_score(studio.scores[int(order[place])])


def _vocals(recordings: Recordings, plan: Plan, rng: np.random.Generator, n_samples: int) -> Sound:
    from danna_sep.training.synthesis import voices

    sung: Sound = voices.vocal(recordings, plan, rng, n_samples)
    return sung


def _pumped(sound: Sound, hits: Sequence[Hit], rng: np.random.Generator, electronic: bool) -> Sound:
    """At times making room for the bass drum."""
    kicks = [hit.start_s for hit in hits if hit.role == "kick"]
    if not kicks or rng.random() > _PUMPED[electronic]:
        return sound
    return treatment.duck(sound, kicks, rng)


def _levelled(sound: Sound, source: str, spans: list[tuple[float, float]], rng: np.random.Generator) -> Sound:
    """At the level of its source where it sounds, 3.5 dB up or down (standard deviation; at most 7)."""
    now_db = mastering.level_db(sound, spans)
    wanted_db = mastering.LEVELS_DB[source] + float(np.clip(rng.normal(0, 3.5), -7, 7))
    levelled: Sound = sound * np.float32(10 ** ((wanted_db - max(now_db, -70)) / 20))
    return levelled


def _ended(stems: dict[str, Sound], rng: np.random.Generator) -> dict[str, Sound]:
    """All stems faded out together: some over many seconds, most as the last sound dies away."""
    n_samples = next(iter(stems.values())).shape[1]
    fade_s = float(rng.uniform(3, 10) if rng.random() < 0.25 else rng.uniform(0.05, 0.5))
    n_fade = min(int(fade_s * RATE_HZ), n_samples // 2)
    gain = np.ones(n_samples, dtype=np.float32)
    gain[n_samples - n_fade :] = np.cos(np.linspace(0, np.pi / 2, n_fade)) ** 2
    return {source: stem * gain for source, stem in stems.items()}
