"""Who sings along: doubled tracks, second voices, choirs; and the breath before a line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from danna_sep.training.synthesis.singing import SEMITONE, Note, contour, sing
from danna_sep.training.synthesis.treatment import RATE_HZ, Rng, Sound, cut, db, stereo
from danna_sep.training.synthesis.vocal_lines import Line, chord_part, second_voice, unison
from danna_sep.training.synthesis.vocal_material import Material
from danna_sep.training.synthesis.vocal_singers import Singer, cast, neighbour
from danna_sep.training.synthesis.vocal_ways import Part, held, in_tune
from danna_sep.training.synthesis.vocal_world import smooth

_INTENSE: Final = 0.8
"""Sections from here on are doubled and harmonised."""

_LATEST_FRAMES: Final = 6
_HARMONIES: Final[tuple[tuple[int, ...], ...]] = ((), (), (1,), (-1,), (1, -1), (12,), (-12,))
"""Second voices: above, below, an octave away."""


@dataclass(frozen=True)
class Member:
    """One of a choir.

    Attributes:
        singer: Whose voice.
        pan: From -1 to 1.
        tuned: Semitones off.
        unison: Sings the tune; otherwise a part of its own.
        gain: Factor.
    """

    singer: Singer
    pan: float
    tuned: float
    unison: bool
    gain: float


@dataclass(frozen=True)
class Ensemble:
    """How a song's lines are sung.

    Attributes:
        lead: The singer.
        doubles: How often the lead is sung again in intense sections.
        calm_doubles: In the others.
        harmonies: Second voices of intense sections: 1 above, -1 below, +-12 an octave away.
        behind_db: Level of what is added.
        spread: How far to the sides.
        choir: Who else there is in a choir; none otherwise.
    """

    lead: Singer
    doubles: int = 0
    calm_doubles: int = 0
    harmonies: tuple[int, ...] = ()
    behind_db: float = -6.0
    spread: float = 0.6
    choir: tuple[Member, ...] = ()

    @classmethod
    def random(cls, rng: Rng, lead: Singer, *, alone: bool = False, choir: bool = False) -> Ensemble:
        """A random one: with `alone`, without second voices; with `choir`, three to seven singers in all."""
        doubles = int(rng.choice([0, 1, 2], p=[0.45, 0.35, 0.2]))
        harmonies = _HARMONIES[int(rng.integers(len(_HARMONIES)))]
        return cls(
            lead=lead,
            doubles=doubles,
            calm_doubles=int(doubles > 0 and rng.random() < 0.2),
            harmonies=() if alone else harmonies,
            behind_db=float(rng.uniform(-12, -3)),
            spread=float(rng.uniform(0, 1)),
            choir=_choir(rng, lead) if choir else (),
        )

    def doubles_in(self, line: Line) -> int:
        """Of a line."""
        return self.doubles if line.intensity >= _INTENSE else self.calm_doubles

    def harmonies_in(self, line: Line) -> tuple[int, ...]:
        """Of a line."""
        return self.harmonies if line.intensity >= _INTENSE else ()


def _choir(rng: Rng, lead: Singer) -> tuple[Member, ...]:
    mixed, in_unison = rng.random() < 0.6, rng.random() < 0.35
    members = []
    for i in range(int(rng.integers(2, 7))):
        if i % 2 == 0:
            singer = neighbour(rng, lead)
        else:
            other = cast(rng, 0.0, "female" if (lead.sex == "male") == mixed else "male")
            # formants in relation to the lead's, whose recordings are not a man's
            apart = {"male": 0.0, "female": 3.0}
            formants = lead.formants * 2 ** ((apart[other.sex] - apart[lead.sex]) / 12)
            singer = neighbour(rng, replace(other, formants=formants))
        members.append(
            Member(
                singer=singer,
                pan=float(rng.uniform(-0.9, 0.9)),
                tuned=float(rng.normal(0, 0.07)),
                unison=in_unison or (i % 2 == 0 and rng.random() < 0.4),
                gain=db(rng.normal(-1, 2)),
            )
        )
    return tuple(members)


def sing_part(rng: Rng, part: Part, ensemble: Ensemble, line: Line) -> Sound:
    """A line by the lead singer, with the takes and second voices that its section has.

    Returns:
        Stereo (2, time), as long as the line's room.
    """
    out = stereo(sing(part.voice, part.log_pitch, ensemble.lead, part.gain)[None])
    harmonies = ensemble.harmonies_in(line)
    others = [0] * ensemble.doubles_in(line) + list(harmonies)
    for i, interval in enumerate(others):
        log_pitch = part.log_pitch if interval == 0 else _harmony(rng, part, ensemble.lead, line, interval)
        take = _again(rng, part, log_pitch, ensemble.lead)
        pan = (-1) ** i * ensemble.spread * rng.uniform(0.5, 1)
        out += np.float32(db(ensemble.behind_db + rng.normal(0, 1))) * stereo(take[None], float(pan))
    return out


def _harmony(rng: Rng, part: Part, singer: Singer, line: Line, interval: int) -> npt.NDArray[np.float64]:
    if abs(interval) == 12:
        # down, where up would be out of anyone's range
        higher = part.notes and max(note.midi for note in part.notes) + interval > 84
        return part.log_pitch + (-12 if higher else interval) * SEMITONE
    if part.notes:
        notes = second_voice(list(part.notes), line, interval)
        return contour(rng, singer, len(part.log_pitch), notes)
    return in_tune(part.log_pitch + interval * 3.6 * SEMITONE, line.chords[0].scale, 1.0)


def _again(rng: Rng, part: Part, log_pitch: npt.NDArray[np.float64], singer: Singer) -> npt.NDArray[np.float32]:
    """Another take: a little early or late, wandering off a little."""
    n = len(log_pitch)
    wander = smooth(rng.standard_normal(n), 80) * 1.2 + rng.normal(0, 0.06)
    late = np.clip(np.arange(n) - int(rng.integers(-_LATEST_FRAMES, _LATEST_FRAMES + 1)), 0, n - 1)
    return sing(part.voice.take(late), log_pitch[late] + wander * SEMITONE, singer, part.gain[late])


def sing_choir(rng: Rng, material: Material, ensemble: Ensemble, line: Line) -> Sound:
    """A line by a choir on held syllables: the lead's tune, and what the others sing to it.

    Returns:
        Stereo (2, time), as long as the line's room.
    """
    tune = line.in_frames()
    part = held(rng, material, line, ensemble.lead, tune)
    out = stereo(sing(part.voice, part.log_pitch, ensemble.lead, part.gain)[None], float(rng.uniform(-0.3, 0.3)))
    for member in ensemble.choir:
        middle = member.singer.middle
        notes: list[Note] = unison(tune, member.singer) if member.unison else chord_part(tune, line, middle)
        pitch = contour(rng, member.singer, len(part.log_pitch), notes) if notes else part.log_pitch
        other = Part(part.voice, pitch + member.tuned * SEMITONE, part.gain)
        out += np.float32(member.gain) * stereo(_again(rng, other, other.log_pitch, member.singer)[None], member.pan)
    together: Sound = out / np.float32(np.sqrt(1 + len(ensemble.choir)))
    return together


def breath(rng: Rng) -> Sound:
    """The sound of breathing in, 0.15 to 0.4 s, mono (1, time), of unit mean power before its edges."""
    n = int(rng.uniform(0.15, 0.4) * RATE_HZ)
    noise = cut(rng.standard_normal((1, n)).astype(np.float32), rng.uniform(500, 1200), rng.uniform(4000, 9000))
    swell = np.hanning(n).astype(np.float32)
    return np.asarray(noise / np.sqrt(np.square(noise).mean()) * swell, dtype=np.float32)
