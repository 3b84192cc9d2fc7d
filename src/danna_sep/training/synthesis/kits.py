"""Drum kits put together from recordings, and from computed drums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from danna_sep.training.synthesis.electronic_kit import Kit, electronic_kit
from danna_sep.training.synthesis.placing import RATE_HZ, Rng, Sound, fade, respeed, stereo
from danna_sep.training.synthesis.recordings import Recordings

_KITS: Final[Mapping[str, Mapping[str, str]]] = {
    "muldjord": {
        "kick": "instruments/drums/muldjordkit_mix/Kdrum*",
        "snare": "instruments/drums/muldjordkit_mix/Snare_*",
        "rim": "instruments/drums/muldjordkit_mix/SnareRest*",
        "hat": "instruments/drums/muldjordkit_mix/HihatClosed*",
        "open": "instruments/drums/muldjordkit_mix/HihatOpen*",
        "tom1": "instruments/drums/muldjordkit_mix/Tom1*",
        "tom2": "instruments/drums/muldjordkit_mix/Tom[23]*",
        "tom3": "instruments/drums/muldjordkit_mix/Tom4*",
        "crash": "instruments/drums/muldjordkit_mix/Crash*",
        "ride": "instruments/drums/muldjordkit_mix/Ride[LR]_*",
        "bell": "instruments/drums/muldjordkit_mix/Ride?Bell*",
        "china": "instruments/drums/muldjordkit_mix/China*",
    },
    "gogodze": {
        "kick": "instruments/drums/gogodze*/ks_*",
        "snare": "instruments/drums/gogodze*/sc_*",
        "rim": "instruments/drums/gogodze*/ss_*",
        "hat": "instruments/drums/gogodze*/h[ct]_*",
        "open": "instruments/drums/gogodze*/h[ol]_*",
        "tom1": "instruments/drums/gogodze*/th_*",
        "tom2": "instruments/drums/gogodze*/tm_*",
        "tom3": "instruments/drums/gogodze*/tl_*",
    },
}
_SNARES: Final = (
    "10_basic_sn", "12_basic_sn", "13b_basic_sn", "14a_basic_sn", "14d_basic_sn", "14p_basic_sn", "14p_muted_sm",
    "14s_basic_sn", "14t_basic_sn", "16_basic_sn", "18_prep_sn", "20_basic_sn", "20m_tight_sn", "22_basic_sn",
    "22_spring_sn", "symp_80s_sn", "ziggurat_lev1_sn", "13b_rimshot_sn", "13b_tamb_sn", "14a_rimshot_sr",
)  # fmt: skip
_SONIC_PI: Final[Mapping[str, tuple[str, ...]]] = {
    "kick": ("bd_808", "bd_ada", "bd_boom", "bd_fat", "bd_gas", "bd_haus", "bd_klub", "bd_pure", "bd_sone", "bd_tek",
             "bd_zome", "bd_zum", "drum_bass_hard", "drum_heavy_kick", "elec_hollow_kick"),
    "snare": ("sn_dolf", "sn_dub", "sn_zome", "drum_snare_hard", "drum_snare_soft", "elec_filt_snare", "elec_hi_snare",
              "elec_lo_snare", "elec_mid_snare", "elec_snare"),
    "hat": ("drum_cymbal_closed", "drum_cymbal_pedal"),
    "open": ("drum_cymbal_open",),
    "crash": ("drum_cymbal_hard", "drum_cymbal_soft", "drum_splash_hard"),
    "tom1": ("drum_tom_hi_hard", "drum_tom_hi_soft"),
    "tom2": ("drum_tom_mid_hard", "drum_tom_mid_soft"),
    "tom3": ("drum_tom_lo_hard", "drum_tom_lo_soft"),
    "snap": ("perc_snap", "perc_snap2"),
    "conga": ("tabla_ghe*", "tabla_tas*", "tabla_te?", "tabla_tun*"),
    "handdrum": ("tabla_ghe*", "tabla_ke?", "tabla_na*"),
}  # fmt: skip
_EXTRAS: Final = {
    "clap": "instruments/perc/body_percussion/handclap*",
    "snap": "instruments/perc/body_percussion/snap*",
    "stomp": "instruments/perc/body_percussion/stomp*",
    "shaker": "instruments/olpc_berklee/shaker*",
    "egg": "instruments/olpc_berklee/egg_shaker*",
    "tamb": "instruments/olpc_berklee/*tambourine*",
    "conga": "instruments/olpc_berklee/conga*",
    "handdrum": "instruments/olpc_berklee/hand_drum*",
    "block": "instruments/olpc_berklee/woodblock*",
    "cymbal": "instruments/olpc_berklee/c*cymbal*",
}
_MOST_HITS: Final = 10
"""Of a role, picked evenly from soft to hard."""

_TUNED: Final = ("kick", "snare", "tom1", "tom2", "tom3", "crash", "hat")


def build_kit(recordings: Recordings | None, rng: Rng, electronic: bool) -> Kit:
    """A kit, at times with parts of another one.

    Args:
        recordings: None, or without drums: all is computed.
        rng: Where it comes from.
        electronic: A computed kit, at times with some recorded drums.
    """
    kit = electronic_kit(rng)
    if recordings is None:
        return kit
    patterns: dict[str, str] = {}
    first, second = ("muldjord", "gogodze") if rng.random() < 0.6 else ("gogodze", "muldjord")
    if electronic:
        if rng.random() < 0.35:
            patterns["snare"] = _KITS["gogodze"]["snare"]
    else:
        patterns = dict(_KITS[first])
        for role, pattern in _KITS[second].items():
            if role not in patterns or rng.random() < 0.15:
                patterns[role] = pattern
        if rng.random() < 0.5:
            patterns["snare"] = f"instruments/drums/frankensnare_mix/{rng.choice(_SNARES)}_*"
            patterns["rim"] = "instruments/drums/frankensnare_mix/14a_basic_ss_*"
        if rng.random() < 0.1:
            del patterns["kick"]
        if rng.random() < 0.15:
            patterns["crash"] = _EXTRAS["cymbal"]
    likely = 0.5 if electronic else float(rng.choice([0.0, 0.08, 0.7], p=[0.5, 0.3, 0.2]))
    for role, names in _SONIC_PI.items():
        if rng.random() < likely:
            pattern = f"sonic-pi/{rng.choice(names)}"
            if recordings.files(pattern):
                patterns[role] = pattern
    for role, pattern in _EXTRAS.items():
        if role not in kit or not electronic:
            patterns.setdefault(role, pattern)
    for role in ("china", "bell"):
        patterns.setdefault(role, _KITS["muldjord"][role])
    for role, pattern in patterns.items():
        if found := hits(recordings, pattern):
            kit[role] = found
    for role in _TUNED:
        cents = int(rng.normal(0, 120) / 10) * 10
        if abs(cents) > 60:
            kit[role] = [respeed(hit, 2 ** (cents / 1200)) for hit in kit[role]]
    return kit


def hits(recordings: Recordings, pattern: str) -> list[Sound]:
    """The hits that a pattern finds, at most ten, soft ones first, stereo, without lead-in, with a peak of 1."""
    paths = sorted(recordings.files(pattern), key=lambda path: recordings.measured(path, "energy", _energy))
    if len(paths) > _MOST_HITS:
        paths = [paths[int(i)] for i in np.linspace(0, len(paths) - 1, _MOST_HITS)]
    return [recordings.prepared(path, "hit", _hit) for path in paths]


def _energy(sound: Sound) -> float:
    return float(np.square(sound).sum())


def _hit(sound: Sound) -> Sound:
    level = np.abs(sound).max(axis=0)
    start = max(0, int(np.argmax(level > level.max() * 0.05)) - 60)
    hit = stereo(sound)[:, start : start + int(4.5 * RATE_HZ)]
    return fade(hit / (np.abs(hit).max() + np.float32(1e-9)), 0.0005, 0.05)
