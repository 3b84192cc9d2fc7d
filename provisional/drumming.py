"""Drum clips: patterns in many styles, played on free sampled kits and on synthesised electronic drums."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import sound as snd

# kit: role -> files below samples/instruments
KITS: dict[str, dict[str, str]] = {
    "muldjord": {
        "kick": "drums/muldjordkit_mix/Kdrum*",
        "snare": "drums/muldjordkit_mix/Snare_*",
        "rim": "drums/muldjordkit_mix/SnareRest*",
        "hat": "drums/muldjordkit_mix/HihatClosed*",
        "open": "drums/muldjordkit_mix/HihatOpen*",
        "tom1": "drums/muldjordkit_mix/Tom1*",
        "tom2": "drums/muldjordkit_mix/Tom[23]*",
        "tom3": "drums/muldjordkit_mix/Tom4*",
        "crash": "drums/muldjordkit_mix/Crash*",
        "ride": "drums/muldjordkit_mix/Ride[LR]_*",
        "bell": "drums/muldjordkit_mix/Ride?Bell*",
        "china": "drums/muldjordkit_mix/China*",
    },
    "gogodze": {
        "kick": "drums/gogodze*/ks_*",
        "snare": "drums/gogodze*/sc_*",
        "rim": "drums/gogodze*/ss_*",
        "hat": "drums/gogodze*/h[ct]_*",
        "open": "drums/gogodze*/h[ol]_*",
        "tom1": "drums/gogodze*/th_*",
        "tom2": "drums/gogodze*/tm_*",
        "tom3": "drums/gogodze*/tl_*",
    },
}
SNARES = ("10_basic_sn", "12_basic_sn", "13b_basic_sn", "14a_basic_sn", "14d_basic_sn", "14p_basic_sn",
          "14p_muted_sm", "14s_basic_sn", "14t_basic_sn", "16_basic_sn", "18_prep_sn", "20_basic_sn",
          "20m_tight_sn", "22_basic_sn", "22_spring_sn", "symp_80s_sn", "ziggurat_lev1_sn",
          "13b_rimshot_sn", "13b_tamb_sn", "14a_rimshot_sr")  # fmt: skip
SONIC_PI = "/usr/share/sonic-pi/samples/"  # Debian: sonic-pi-samples (the files named here are CC0)
SONIC = {
    "kick": ("bd_808", "bd_ada", "bd_boom", "bd_fat", "bd_gas", "bd_haus", "bd_klub", "bd_pure", "bd_sone",
             "bd_tek", "bd_zome", "bd_zum", "drum_bass_hard", "drum_heavy_kick", "elec_hollow_kick"),
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
EXTRAS = {
    "clap": "perc/body_percussion/handclap*",
    "snap": "perc/body_percussion/snap*",
    "stomp": "perc/body_percussion/stomp*",
    "shaker": "olpc_berklee/shaker*",
    "egg": "olpc_berklee/egg_shaker*",
    "tamb": "olpc_berklee/*tambourine*",
    "conga": "olpc_berklee/conga*",
    "handdrum": "olpc_berklee/hand_drum*",
    "block": "olpc_berklee/woodblock*",
    "cymbal": "olpc_berklee/c*cymbal*",
}
Hit = np.ndarray
Kit = dict[str, list[Hit]]


@functools.lru_cache(maxsize=400)
def layers(data: Path, pattern: str) -> list[Hit]:
    """The hits a file pattern finds, soft ones first, each peak-normalised, stereo, without lead-in."""
    hits = []
    folder, ending = (
        (Path(SONIC_PI), ".flac") if pattern.startswith("sonic:") else (data / "samples/instruments", ".ogg")
    )
    for path in sorted(folder.glob(pattern.removeprefix("sonic:") + ending)):
        hit = snd.stereo(snd.load(path))
        level = np.abs(hit).max(axis=0)
        start = max(0, int(np.argmax(level > level.max() * 0.05)) - 60)
        hit = hit[:, start : start + int(4.5 * snd.RATE_HZ)]
        hits.append((float(np.square(hit).sum()), snd.fade(hit / (level.max() + 1e-9), 0.0005, 0.05)))
    hits.sort(key=lambda pair: pair[0])
    return [hit for _, hit in hits]


def beep_kit(rng: np.random.Generator) -> Kit:
    """Electronic drums: swept sines, noise bursts, metallic squares."""

    def decay(n_s: float, rate: float) -> tuple[np.ndarray, np.ndarray]:
        t = np.arange(int(n_s * snd.RATE_HZ)) / snd.RATE_HZ
        return t, np.exp(-t * rate)

    def done(x: np.ndarray) -> list[Hit]:
        x = snd.fade(snd.stereo(x.astype(np.float32)), 0.0005, 0.02)
        return [x / (np.abs(x).max() + 1e-9)]

    def sweep(low_hz: float, high_hz: float, fall: float, n_s: float, rate: float) -> np.ndarray:
        t, envelope = decay(n_s, rate)
        hz = low_hz + (high_hz - low_hz) * np.exp(-t * fall)
        return np.sin(2 * np.pi * np.cumsum(hz) / snd.RATE_HZ) * envelope

    noise = rng.standard_normal(int(1.5 * snd.RATE_HZ)).astype(np.float32)
    body = sweep(rng.uniform(40, 60), rng.uniform(120, 600), rng.uniform(15, 60), 0.8, rng.uniform(4, 18))
    click = snd.cut(noise[None, : len(body)], rng.uniform(1000, 4000))[0] * np.exp(-np.arange(len(body)) / 120)
    kick = np.tanh(rng.uniform(0.8, 5) * (body + rng.uniform(0, 0.25) * click))
    t, short = decay(0.5, rng.uniform(10, 30))
    snare = snd.cut(noise[None, : len(t)], rng.uniform(500, 2000), rng.uniform(6000, 16_000))[0] * short
    snare = snare + rng.uniform(0.1, 1) * sweep(rng.uniform(150, 220), 330, 40, 0.5, 25)[: len(t)]
    bursts = sum(np.roll(np.exp(-t * 120) * (t > 0), int(d * snd.RATE_HZ)) for d in (0, 0.011, 0.022))
    clap = snd.cut(noise[None, : len(t)], 700, 5000)[0] * (bursts + 0.5 * np.exp(-t * rng.uniform(12, 30)))
    base = rng.uniform(300, 600)
    t, _ = decay(1.2, 1.0)
    metal = sum(np.sign(np.sin(2 * np.pi * base * r * t)) for r in (1, 1.34, 1.53, 1.81, 2.6, 2.74))
    blend = rng.uniform(0, 1)
    metal = (1 - blend) * metal / 3 + blend * noise[: len(t)]
    metal = snd.cut(metal[None].astype(np.float32), rng.uniform(5000, 8500))[0]
    kit = {
        "kick": done(kick),
        "snare": done(snare),
        "clap": done(clap),
        "hat": done((metal * np.exp(-t * rng.uniform(30, 90)))[: int(0.25 * snd.RATE_HZ)]),
        "open": done((metal * np.exp(-t * rng.uniform(5, 12)))[: int(0.7 * snd.RATE_HZ)]),
        "crash": done(metal * np.exp(-t * rng.uniform(2.5, 4))),
        "rim": done(sweep(rng.uniform(800, 1700), 2500, 200, 0.08, 60)),
    }
    for i, hz in enumerate((190, 140, 95), 1):
        kit[f"tom{i}"] = done(sweep(hz * rng.uniform(0.8, 1.1), hz * rng.uniform(1.2, 2), 12, 0.6, rng.uniform(5, 12)))
    return kit


def build_kit(data: Path, rng: np.random.Generator) -> tuple[Kit, bool]:
    """A kit, at times with parts of another one; and whether it is electronic."""
    electronic = rng.random() < 0.27
    if electronic:
        kit = beep_kit(rng)
        if rng.random() < 0.35:
            kit["snare"] = layers(data, KITS["gogodze"]["snare"])
    else:
        name = "muldjord" if rng.random() < 0.6 else "gogodze"
        kit = {role: layers(data, pattern) for role, pattern in KITS[name].items()}
        other = KITS["gogodze" if name == "muldjord" else "muldjord"]
        for role, pattern in other.items():
            if role not in kit or rng.random() < 0.15:
                kit[role] = layers(data, pattern)
        if rng.random() < 0.5:
            kit["snare"] = layers(data, f"drums/frankensnare_mix/{rng.choice(SNARES)}_*")
            kit["rim"] = layers(data, "drums/frankensnare_mix/14a_basic_ss_*")
        if rng.random() < 0.1:
            kit["kick"] = beep_kit(rng)["kick"]
        if rng.random() < 0.15:
            kit["crash"] = layers(data, EXTRAS["cymbal"])
    if Path(SONIC_PI).is_dir():
        likely = 0.5 if electronic else float(rng.choice([0.0, 0.08, 0.7], p=[0.5, 0.3, 0.2]))
        for role, stems in SONIC.items():
            if rng.random() < likely:
                kit[role] = layers(data, f"sonic:{rng.choice(stems)}")
    for role, pattern in EXTRAS.items():
        kit.setdefault(role, layers(data, pattern))
    for role in ("china", "ride", "bell"):
        kit.setdefault(role, layers(data, KITS["muldjord"][role]))
    tune = {role: int(rng.normal(0, 120) / 10) * 10 for role in kit}
    tuned = {}
    for role, hits in kit.items():
        if role in ("kick", "snare", "tom1", "tom2", "tom3", "crash", "hat") and abs(tune[role]) > 60:
            some = hits if len(hits) <= 10 else [hits[i] for i in np.linspace(0, len(hits) - 1, 10).astype(int)]
            hits = [snd.respeed(hit, 2 ** (tune[role] / 1200)) for hit in some]
        tuned[role] = hits
    return tuned, electronic


Event = tuple[float, str, float]  # step, role, velocity


def bar(rng: np.random.Generator, style: str, time_role: str) -> list[Event]:
    """One bar of sixteen steps."""
    e: list[Event] = []

    def put(role: str, velocity: float, *steps: float) -> None:
        e.extend((step, role, velocity) for step in steps)

    if style == "rock":
        put("kick", 0.95, 0, *(s for s in (6, 7, 8, 10, 11, 14) if rng.random() < (0.7 if s == 8 else 0.25)))
        put("snare", 0.95, 4, 12)
        put(time_role, 0.75, 0, 4, 8, 12)
        put(time_role, 0.5, 2, 6, 10, 14)
    elif style == "half":
        put("kick", 0.95, 0, *(s for s in (3, 6, 10, 14) if rng.random() < 0.3))
        put("snare", 0.98, 8)
        put(time_role, 0.7, 0, 4, 8, 12)
    elif style == "sixteenths":
        put("kick", 0.9, 0, *(s for s in (3, 6, 7, 10, 11, 14) if rng.random() < 0.35))
        put("snare", 0.95, 4, 12)
        put("snare", 0.25, *(s for s in (1, 7, 9, 15) if rng.random() < 0.35))
        for s in range(16):
            put(time_role, 0.75 if s % 4 == 0 else 0.55 if s % 2 == 0 else 0.38, s)
    elif style == "house":
        put("kick", 0.98, 0, 4, 8, 12)
        put("clap" if rng.random() < 0.6 else "snare", 0.8, 4, 12)
        put("open", 0.6, *(s for s in (2, 6, 10, 14) if rng.random() < 0.9))
        put("hat", 0.45, *(s for s in range(16) if s % 4 != 2 and rng.random() < 0.6))
    elif style == "ballad":
        put("kick", 0.8, 0, *(s for s in (7, 8, 14) if rng.random() < 0.45))
        put("rim" if rng.random() < 0.4 else "snare", 0.8, 8)
        put(time_role, 0.5, 0, 2, 4, 6, 8, 10, 12, 14)
    elif style == "punk":
        put("kick", 0.95, 0, 3, 8, 11) if rng.random() < 0.5 else put("kick", 0.95, 0, 4, 8, 12)
        put("snare", 0.95, *((2, 6, 10, 14) if rng.random() < 0.5 else (4, 12)))
        put(time_role, 0.8, *range(0, 16, 2))
    elif style == "metal":
        put("kick", 0.9, *(range(16) if rng.random() < 0.4 else (0, 2, 3, 6, 8, 10, 11, 14)))
        put("snare", 0.98, *((4, 12) if rng.random() < 0.6 else (8,)))
        put("china" if rng.random() < 0.2 else time_role, 0.85, 0, 4, 8, 12)
    elif style == "motown":
        put("snare", 0.85, 0, 4, 8, 12)
        put("kick", 0.85, 0, 6, 8, *(s for s in (10, 14) if rng.random() < 0.4))
        put("tamb", 0.5, 2, 6, 10, 14)
    elif style == "train":
        for s in range(16):
            put("snare", 0.8 if s in (4, 12) else rng.uniform(0.2, 0.4), s)
        put("kick", 0.75, 0, 8)
    elif style == "breakbeat":
        put("kick", 0.95, 0, 2, 10, *(s for s in (11, 7) if rng.random() < 0.5))
        put("snare", 0.95, 4, 12)
        put("snare", 0.35, *(s for s in (7, 9, 14, 15) if rng.random() < 0.6))
        put(time_role, 0.6, *range(0, 16, 2))
    elif style == "trap":
        put("kick", 0.98, 0, *(s for s in (5, 6, 10, 13) if rng.random() < 0.4))
        put("clap" if rng.random() < 0.5 else "snare", 0.9, 8)
        for s in range(0, 16, 2):
            n = int(rng.choice([1, 2, 3, 4], p=[0.55, 0.25, 0.1, 0.1]))
            put("hat", rng.uniform(0.4, 0.7), *(s + 2 * i / n for i in range(n)))
    elif style == "toms":
        put("kick", 0.9, 0, 8, *(s for s in (6, 14) if rng.random() < 0.5))
        for s in range(0, 16, 2):
            put(str(rng.choice(["tom1", "tom2", "tom3", "tom3"])), rng.uniform(0.5, 0.9), s)
        put("snare", 0.8, *((12,) if rng.random() < 0.5 else ()))
    elif style == "bossa":
        put("kick", 0.7, 0, 6, 8, 14)
        put("rim", 0.7, 0, 6, 12)
        put(time_role, 0.4, *range(0, 16, 2))
    elif style == "hands":
        put("conga", 0.7, *(s for s in range(16) if rng.random() < 0.35))
        put("handdrum", 0.7, 0, *(s for s in range(0, 16, 2) if rng.random() < 0.4))
        put("clap", 0.6, 4, 12)
        put("stomp", 0.8, *((0, 8) if rng.random() < 0.5 else ()))
    return e


STYLES = {"rock": 5, "half": 2, "sixteenths": 2, "house": 2, "ballad": 2, "punk": 1, "metal": 1, "motown": 0.7,
          "train": 0.7, "breakbeat": 1, "trap": 1, "toms": 0.7, "bossa": 0.5, "hands": 0.5}  # fmt: skip


def fill(rng: np.random.Generator) -> tuple[int, list[Event]]:
    """A fill at the end of a bar: its first step and its hits."""
    start = int(rng.choice([8, 12, 12, 14]))
    roles = ["snare", "snare", "tom1", "tom2", "tom3"]
    e = []
    for step in range(start, 16):
        if rng.random() < 0.85:
            place = int((step - start) / (16 - start) * 3.99) + int(rng.integers(0, 2))
            e.append((float(step), roles[min(place, 4)], float(rng.uniform(0.6, 1))))
    return start, e


def groove(rng: np.random.Generator, n_s: float, electronic: bool) -> list[tuple[float, str, float]]:
    """What a drummer plays: (seconds, role, velocity)."""
    names = ["house", "trap", "breakbeat", "rock", "half"] if electronic else list(STYLES)
    weights = np.array([STYLES[name] for name in names])
    styles = [names[rng.choice(len(names), p=weights / weights.sum())] for _ in range(2)]
    step_s = 60 / rng.uniform(66, 172) / 4
    swing = rng.uniform(0, 0.33) if rng.random() < 0.25 else 0.0
    loose_s = 0.0005 if electronic else rng.uniform(0.002, 0.009)
    overall = rng.uniform(0.6, 1.0)
    section = int(rng.choice([4, 8]))
    extra = str(rng.choice(["tamb", "shaker", "egg", "clap", "snap", "block"])) if rng.random() < 0.3 else ""
    steady: dict[int, list[Event]] = {}
    played = []
    for i_bar in range(int(np.ceil(n_s / (16 * step_s)))):
        part = (i_bar // section) % 2
        if i_bar % section == 0:
            time_role = str(rng.choice(["hat", "open", "ride", "bell", "crash"], p=[0.6, 0.1, 0.2, 0.04, 0.06]))
            steady = {k: bar(rng, styles[part], time_role) for k in range(2)}
        events = list(steady[i_bar % 2]) if rng.random() < 0.8 else bar(rng, styles[part], time_role)
        if extra:
            events += [(float(s), extra, 0.6 if s % 4 == 0 else 0.35) for s in range(0, 16, 2)]
        if i_bar % section == 0 and rng.random() < 0.75:
            events.append((0.0, "china" if rng.random() < 0.1 else "crash", 0.95))
        if (i_bar + 1) % (section // 2) == 0 and rng.random() < 0.55:
            start, hits = fill(rng)
            events = [x for x in events if x[0] < start] + hits
        for step, role, velocity in events:
            late = swing * step_s if int(step) % 2 == 1 else 0.0
            at_s = (i_bar * 16 + step) * step_s + late + rng.normal(0, loose_s)
            loudness = float(np.clip(velocity * overall * rng.normal(1, 0.07), 0.05, 1))
            played.append((max(at_s, 0.0), role, loudness))
    return played


LEVELS_DB = {"hat": -7, "open": -8, "ride": -7, "bell": -8, "crash": -4, "china": -6, "tamb": -11, "shaker": -13,
             "egg": -13, "rim": -6, "snap": -10, "conga": -5, "block": -12, "clap": -5}  # fmt: skip


def clip(data: Path, rng: np.random.Generator, n_s: float) -> np.ndarray:
    kit, electronic = build_kit(data, rng)
    out = np.zeros((2, int(n_s * snd.RATE_HZ)), dtype=np.float32)
    gains = {role: snd.db(rng.normal(LEVELS_DB.get(role, 0), 2.5)) for role in kit}
    pans = {role: float(rng.normal(0, 0.15)) for role in kit}
    for role, side in {"tom1": -0.4, "tom2": 0.1, "tom3": 0.5, "hat": -0.25, "ride": 0.4, "conga": 0.4}.items():
        pans[role] += side * rng.choice([-1, 1])
    pans["kick"] = pans["snare"] = 0.0
    for at_s, role, loudness in groove(rng, n_s, electronic):
        hits = kit.get(role)
        if not hits:
            continue
        i = int(np.clip(round(loudness * (len(hits) - 1) + rng.normal(0, 0.8)), 0, len(hits) - 1))
        hit = hits[i]
        if role == "hat":
            hit = snd.fade(hit[:, : int(0.6 * snd.RATE_HZ)], 0, 0.05)
        snd.add(out, snd.stereo(hit, pans[role]), at_s, gains[role] * loudness**1.4)
    return finish(out, rng)


def finish(out: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A drum bus's usual treatment."""
    out = snd.colour(out, rng, 22.0, float(rng.choice([2e4, 2e4, 14e3])), 4.0)
    if rng.random() < 0.6:
        out = snd.compress(out, rng)
    if rng.random() < 0.45:
        out = snd.saturate(out, rng.uniform(0.8, 4))
    if rng.random() < 0.08:
        out = np.repeat(out.mean(axis=0, keepdims=True), 2, axis=0)
    return snd.maybe_reverberate(out, rng, 0.6, 1.8, 0.35)
