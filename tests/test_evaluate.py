"""Songs through systems: what is measured, what is left out, what is refused; results and reports."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import soundfile
import torch

from danna_sep import SOURCES, api, preset_file
from danna_sep.errors import Cancelled, EvaluationError, MissingWeights, OutputExists, SongsError
from danna_sep.evaluation import report
from danna_sep.evaluation.bss_eval import bss_eval
from danna_sep.evaluation.evaluate import Failure, evaluate_song, evaluate_songs
from danna_sep.evaluation.metrics import mdx_sdr_db
from danna_sep.evaluation.results import (
    MEASURES,
    Failed,
    Results,
    SongResult,
    finite,
    read_results,
    write_results,
)
from danna_sep.evaluation.spool import Spool
from danna_sep.evaluation.systems import PresetSystem, StemFolder, choose
from danna_sep.models.precision import has_fast_bf16
from danna_sep.options import Options
from danna_sep.songs import Song, find_songs
from danna_sep.types import SAMPLE_RATE

N_FRAMES = 3 * SAMPLE_RATE + 500


def samples(seed: int, n_frames: int = N_FRAMES) -> np.ndarray:
    """Noise (time, channel) that 16 bits hold exactly."""
    noise = 0.1 * np.random.default_rng(seed).standard_normal((n_frames, 2))
    return np.rint(noise * 2**15) / 2**15


def write_stems(folder: Path, stems: dict[str, np.ndarray], rate: int = SAMPLE_RATE, ending: str = "wav") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, stem in stems.items():
        soundfile.write(folder / f"{name}.{ending}", stem, rate, **({"subtype": "FLOAT"} if ending == "wav" else {}))
    return folder


def true_stems(seed: int = 0) -> dict[str, np.ndarray]:
    return {source: samples(10 * seed + place) for place, source in enumerate(SOURCES)}


def estimated(stems: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    mixture = sum(stems.values())
    return {source: 0.9 * stem + 0.1 * mixture for source, stem in stems.items()}


def only_song(folder: Path) -> Song:
    (song,) = find_songs(folder)
    return song


def test_a_song_is_measured_as_its_arrays_are(tmp_path: Path) -> None:
    """What goes through files, blocks and the spool must be what the measures say of the samples themselves."""
    stems = {source: stem for source, stem in true_stems().items() if source in ("bass", "vocals")}
    stems["bass"][SAMPLE_RATE : 2 * SAMPLE_RATE] = 0
    guesses = estimated(stems)
    write_stems(tmp_path / "data" / "One", stems)
    write_stems(tmp_path / "stems" / "One", guesses)
    result = evaluate_song(only_song(tmp_path / "data"), StemFolder(tmp_path / "stems"))
    references = torch.from_numpy(np.stack([stem.T for stem in stems.values()]))
    estimates = torch.from_numpy(np.stack([guess.T for guess in guesses.values()]).astype(np.float32))
    windows = bss_eval(references, estimates)
    whole = mdx_sdr_db(references, estimates).tolist()
    assert (result.name, result.n_frames, result.annotated) == ("One", N_FRAMES, ("bass", "vocals"))
    for place, source in enumerate(result.annotated):
        assert result.mdx_sdr_db[source] == pytest.approx(whole[place], abs=1e-4)
        for row, measure in enumerate(MEASURES):
            expected = [None if np.isnan(value) else value for value in windows[row, place].tolist()]
            assert [value is None for value in expected] == [False, True, False]
            assert list(result.windows[source][measure]) == pytest.approx(expected, abs=1e-4)
            there = [value for value in expected if value is not None]
            assert result.bss_eval_db(source, measure) == pytest.approx(median(there), abs=1e-4)


def test_sources_are_rounded_to_16_bits(tmp_path: Path) -> None:
    """What a lossy coder leaves of silence must count as silence; and a source with nothing in it has no value."""
    stems = {"drums": samples(0), "vocals": 1e-6 * samples(3)}
    write_stems(tmp_path / "data" / "One", stems)
    write_stems(tmp_path / "stems" / "One", estimated(stems))
    result = evaluate_song(only_song(tmp_path / "data"), StemFolder(tmp_path / "stems"))
    assert result.mdx_sdr_db["vocals"] is None
    assert result.bss_eval_db("vocals") is None
    assert result.silent == ("vocals",)
    assert None not in result.windows["drums"]["SDR"]


@pytest.mark.parametrize(("gain", "counts"), [(10 ** (-39 / 20), True), (10 ** (-41 / 20), False)])
def test_a_source_below_60_db_has_no_sdr_of_mdx(tmp_path: Path, gain: float, counts: bool) -> None:
    """Noise at -20 dB and a gain: one ratio to next to nothing would spoil a mean. BSS Eval keeps museval's rule."""
    stems = {"drums": samples(0), "vocals": gain * samples(3)}
    write_stems(tmp_path / "data" / "One", stems)
    write_stems(tmp_path / "stems" / "One", estimated(stems))
    result = evaluate_song(only_song(tmp_path / "data"), StemFolder(tmp_path / "stems"))
    assert result.silent == (() if counts else ("vocals",))
    assert (result.mdx_sdr_db["vocals"] is not None) is counts
    assert result.mdx_sdr_db["drums"] is not None
    assert None not in result.windows["vocals"]["SDR"]


def test_what_is_not_annotated_or_not_separated_is_left_out(tmp_path: Path) -> None:
    """A song without a stem of the bass says nothing about the bass; and stems of vocals alone can be judged."""
    stems = {source: stem for source, stem in true_stems().items() if source != "other"}
    guesses = estimated(true_stems())
    for name in ("One", "Two"):
        kept = {source: stem for source, stem in stems.items() if source != "bass" or name == "Two"}
        write_stems(tmp_path / "data" / name, kept)
        write_stems(tmp_path / "all" / name, guesses, ending="flac")
        write_stems(tmp_path / "vocals" / name, {"vocals": guesses["vocals"]}, ending="flac")
    songs = find_songs(tmp_path / "data")
    with_all = [evaluate_song(song, StemFolder(tmp_path / "all")) for song in songs]
    with_one = [evaluate_song(song, StemFolder(tmp_path / "vocals")) for song in songs]
    assert with_all[0].annotated == ("drums", "vocals")
    assert with_all[0].mdx_sdr_db["bass"] is None
    assert "bass" not in with_all[0].windows
    for several, single in zip(with_all, with_one, strict=True):
        assert list(single.windows) == ["vocals"]
        for measure in MEASURES:
            assert single.windows["vocals"][measure] == pytest.approx(several.windows["vocals"][measure], abs=1e-4)
    results = Results({}, {}, with_all)
    assert results.n_songs() == {"drums": 2, "bass": 1, "other": 0, "vocals": 2}
    assert results.bss_eval_db()["bass"] == with_all[1].bss_eval_db("bass")
    assert results.bss_eval_db()["drums"] == pytest.approx(median([song.bss_eval_db("drums") for song in with_all]))
    assert results.mdx_sdr_db()["vocals"] == pytest.approx(np.mean([song.mdx_sdr_db["vocals"] for song in with_all]))
    assert results.mdx_sdr_db()["other"] is None
    assert results.mdx_sdr_db()["mean"] is None  # of three sources would not compare with that of four


def test_stems_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    """Stems of another length or rate would give figures, and wrong ones."""
    stems = true_stems()
    write_stems(tmp_path / "data" / "One", stems)
    song = only_song(tmp_path / "data")

    def refused(name: str, said: str, stems: dict[str, np.ndarray], **options: int) -> None:
        write_stems(tmp_path / name / "One", stems, **options)
        for only_mdx in (True, False):
            with pytest.raises(SongsError, match=said) as caught:
                evaluate_song(song, StemFolder(tmp_path / name), only_mdx=only_mdx)
            assert "One" in str(caught.value)

    refused("short", f"{N_FRAMES - 1} frames", {**stems, "bass": stems["bass"][:-1]})
    refused("long", f"{N_FRAMES + 1} frames", {**stems, "bass": samples(1, N_FRAMES + 1)})
    refused("all-short", f"{N_FRAMES - 1} frames", {source: stem[:-1] for source, stem in stems.items()})
    refused("rate", "48000 Hz", stems, rate=48000)
    refused("channels", "5 channels", {"bass": np.zeros((N_FRAMES, 5))})
    write_stems(tmp_path / "else" / "Another", stems)
    with pytest.raises(SongsError, match="no stems of this song"):
        evaluate_song(song, StemFolder(tmp_path / "else"))
    write_stems(tmp_path / "data" / "One", {"bass": stems["bass"]}, ending="flac")
    with pytest.raises(SongsError, match="keep one"):
        StemFolder(tmp_path / "data").describe()
    with pytest.raises(SongsError, match="nothing to compare"):
        evaluate_song(Song("One", {"drums": song.files["drums"]}), OneStem("vocals"))
    with pytest.raises(SongsError, match="no stems to compare with"):
        evaluate_song(Song("One", {"mixture": song.files["drums"]}), OneStem("vocals"))


class OneStem:
    """The mixture as one stem of every song."""

    def __init__(self, source: str) -> None:
        self.source = source

    def describe(self) -> dict[str, object]:
        return {"kind": "test", "name": self.source}

    def stems(
        self, song: Song, mixture: Iterator[np.ndarray], cancelled: Callable[[], bool]
    ) -> Iterator[dict[str, np.ndarray]]:
        return ({self.source: block} for block in mixture)


def test_mono_stems_are_both_channels(tmp_path: Path) -> None:
    stems = {"vocals": samples(0)}
    write_stems(tmp_path / "data" / "One", stems)
    mono = samples(0)[:, :1]
    write_stems(tmp_path / "mono" / "One", {"vocals": mono})
    write_stems(tmp_path / "stereo" / "One", {"vocals": np.repeat(mono, 2, 1)})
    song = only_song(tmp_path / "data")
    assert evaluate_song(song, StemFolder(tmp_path / "mono")) == evaluate_song(song, StemFolder(tmp_path / "stereo"))


@pytest.mark.parametrize("whole", [False, True])
def test_a_preset_is_measured_as_users_run_it(tmp_path: Path, tiny: Path, whole: bool) -> None:
    """Figures must be those of the stems that `separate` gives, with the same options."""
    stems = true_stems()
    write_stems(tmp_path / "One", stems)
    options = Options(whole=True) if whole else Options(segment_s=1.5, overlap=0.4)
    system = choose("unet", options)
    assert isinstance(system, PresetSystem)
    result = evaluate_song(only_song(tmp_path), system, only_mdx=True)
    references = np.stack([stems[source].T for source in SOURCES]).astype(np.float32)
    separated = api.separate(references.sum(0), SAMPLE_RATE, "unet", options)
    estimates = torch.from_numpy(np.stack([separated[source] for source in SOURCES]))
    expected = mdx_sdr_db(torch.from_numpy(references), estimates).tolist()
    assert list(result.mdx_sdr_db.values()) == pytest.approx(expected, abs=1e-3)
    assert result.windows == {}
    about = system.describe()
    assert about["options"] == {
        "segment_s": options.segment_s,
        "overlap": options.overlap,
        "shifts": 1,
        "whole": whole,
        "precision": api.resolve_precision("auto", "cpu", whole),
        "bfloat16": has_fast_bf16() and not whole,
        "rounds_for_memory": not whole,
    }
    assert re.fullmatch("[0-9a-f]{64}", about["weights"]["unet"]["sha256"])


def test_results_tell_presets_apart_that_share_weights(tmp_path: Path) -> None:
    """By the blend, and by whatever else their files and those within them say, such as what a model hears."""
    outer, inner = tmp_path / "outer.json", tmp_path / "inner.json"
    unet = preset_file.WeightsPart("provisional-unet", {"n_edge_bins": 3})
    preset_file.write(inner, preset_file.PresetFile({"unet": unet}, {"unet": {"drums": 1.0}}))
    within = preset_file.PresetPart(str(inner))
    cascade = preset_file.CascadePart(within, preset_file.PresetPart("fast"), ("drums",))
    itself = preset_file.PresetPart(str(outer))
    blend = {"a": {"drums": 0.5}, "b": {"drums": 0.5}, "unused": {"drums": 0.0}}
    preset_file.write(outer, preset_file.PresetFile({"a": within, "b": cascade, "unused": itself}, blend))
    about = PresetSystem(str(outer)).describe()
    assert about["blend"] == blend
    outside, inside = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (outer, inner))
    assert about["preset_files"] == {"outer": outside, "outer/a/inner": inside, "outer/b/first/inner": inside}
    assert PresetSystem("unet").describe()["preset_files"] == {}


def test_a_preset_without_weights_is_refused_at_once() -> None:
    """Not after the first hour."""
    with pytest.raises(MissingWeights):
        PresetSystem("original").describe()


def test_several_processes_give_what_one_gives(tmp_path: Path) -> None:
    """And a song that fails must not take the others with it."""
    for seed, name in enumerate(("One", "Two", "Three")):
        stems = true_stems(seed)
        write_stems(tmp_path / "data" / name, stems)
        write_stems(tmp_path / "stems" / name, estimated(stems))
    (tmp_path / "stems" / "Two" / "bass.wav").write_bytes(b"no audio")
    songs, system = find_songs(tmp_path / "data"), StemFolder(tmp_path / "stems")
    outcomes = {jobs: list(evaluate_songs(songs, system, only_mdx=True, jobs=jobs)) for jobs in (1, 2)}
    for results in outcomes.values():
        assert sorted(result.name for result in results) == ["One", "Three", "Two"]
        (failure,) = (result for result in results if isinstance(result, Failure))
        assert str(failure.error).startswith(str(tmp_path / "stems" / "Two" / "bass.wav"))
        assert "Traceback" in failure.where
    one, two = (
        {result.name: result for result in results if isinstance(result, SongResult)} for results in outcomes.values()
    )
    assert one == two
    with pytest.raises(Cancelled):
        list(evaluate_songs(songs, system, only_mdx=True, jobs=2, cancelled=lambda: True))
    assert not multiprocessing.active_children()


def test_a_stop_is_heard(tmp_path: Path) -> None:
    write_stems(tmp_path / "One", true_stems())
    answers = iter([False] * 4)
    with pytest.raises(Cancelled):
        list(evaluate_songs(find_songs(tmp_path), OneStem("bass"), cancelled=lambda: next(answers, True)))


def test_spool_gives_back_what_it_got() -> None:
    rng = np.random.default_rng(0)
    blocks = [rng.standard_normal((3, 2, length), dtype=np.float32) for length in (1, 1000, 7, 333)]
    whole = np.concatenate(blocks, -1)
    with Spool((3, 2)) as spool:
        for block in blocks:
            spool.append(block)
        assert spool.n_frames == 1341
        for n_frames in (1, 100, 1341, 5000):
            for _ in range(2):
                parts = list(spool.blocks(n_frames))
                assert {part.shape[-1] for part in parts[:-1]} <= {n_frames}
                np.testing.assert_array_equal(np.concatenate(parts, -1), whole)


MEMORY = """
import resource, sys
import numpy as np
from pathlib import Path
from danna_sep.evaluation import evaluate
from danna_sep.evaluation.bss_eval import bss_eval_of_blocks
from danna_sep.songs import SongExcerpt

class Noise:
    name, split, annotated, n_frames = "Noise", None, ("bass",), int(sys.argv[1]) * 44100
    def blocks(self, n_frames):
        stems = np.random.default_rng(0).standard_normal((4, 2, n_frames), dtype=np.float32)
        for start in range(0, self.n_frames, n_frames):
            yield SongExcerpt(stems[0], stems, self.annotated)

class Copies:
    def stems(self, song, mixture, cancelled):
        return ({"bass": block} for block in mixture)

evaluate.bss_eval_of_blocks = lambda *a, **k: bss_eval_of_blocks(*a, **k, n_taps=8)
assert evaluate.evaluate_song(Noise(), Copies()).bss_eval_db("bass") is not None
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_does_not_depend_on_the_length() -> None:
    """Holding the longer song's source once, as float32, would add 48 MB or more."""

    def peak_mb(seconds: int) -> int:
        command = [sys.executable, "-c", MEMORY, str(seconds)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert peak_mb(160) < peak_mb(20) + 25


# Results and reports


def some_results() -> Results:
    windows = {"SDR": (1.5, None, 3.5), "ISR": (1.0, None, 2.0), "SIR": (None, None, None), "SAR": (0.0, None, -4.0)}
    mdx = {"drums": 1.0, "bass": None, "other": -2.0, "vocals": 3.123456789}
    one = SongResult("One <script>", None, 44100, ("drums", "other", "vocals"), mdx, {"drums": windows})
    two = SongResult("Zwei “ü”", "test", 88200, SOURCES, dict.fromkeys(SOURCES, 2.0), {"drums": windows}, ("bass",))
    about = {"kind": "preset", "name": "danna", "weights": {"unet": {"name": "x", "sha256": "0" * 64}}}
    return Results(about, {"name": "data", "split": None}, [one, two], [Failed("Bad", "Bad: no & such file")])


def test_results_survive_their_file(tmp_path: Path) -> None:
    """Other programs read it: JSON has no NaN, and no value may be lost."""
    results = some_results()
    path = tmp_path / "a" / "results.json"
    write_results(path, results)

    def refuse(token: str) -> float:
        raise AssertionError(f"{token} is no JSON")

    content = json.loads(path.read_text(), parse_constant=refuse)
    assert content["songs"][0]["windows_db"]["drums"]["SDR"] == [1.5, None, 3.5]
    assert content["songs"][0]["bss_eval_db"]["drums"] == {"SDR": 2.5, "ISR": 1.5, "SIR": None, "SAR": -2.0}
    assert content["aggregate"]["mdx_sdr_db"] == {
        "drums": 1.5, "bass": 2.0, "other": 0.0, "vocals": 2.56173, "mean": 1.51543,
    }  # fmt: skip
    assert content["aggregate"]["bss_eval_db"]["SDR"]["drums"] == 2.5
    assert content["aggregate"]["bss_eval_db"]["SIR"]["drums"] is None
    assert content["aggregate"]["n_songs"] == {"drums": 2, "bass": 1, "other": 2, "vocals": 2}
    again = read_results(path)
    assert again == read_results(path.parent) == read_results(str(path)) == read_results(str(path.parent))
    assert again.songs[1] == results.songs[1]
    assert again.failed == list(results.failed)
    assert again.system == results.system
    del content["songs"][1]["silent"]  # as earlier versions wrote it
    (tmp_path / "earlier.json").write_text(json.dumps(content))
    assert read_results(tmp_path / "earlier.json").songs[1].silent == ()
    write_results(tmp_path / "again.json", again)
    assert (tmp_path / "again.json").read_text() == path.read_text()


def test_nan_and_infinite_have_no_value() -> None:
    assert [finite(value) for value in (float("nan"), float("inf"), -float("inf"), 1.25)] == [None, None, None, 1.25]


def test_damaged_results_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with pytest.raises(EvaluationError, match="no such file"):
        read_results(path)
    write_results(path, some_results())
    whole = path.read_text()
    assert "[1.5," in whole
    content = json.loads(whole)
    for damaged, said in {
        whole[:100]: "cannot be read",
        "[]": "no results",
        json.dumps({**content, "version": 99}): "version 99",
        json.dumps({**content, "songs": [{}]}): "damaged",
        json.dumps({**content, "songs": [{**content["songs"][0], "mdx_sdr_db": {"drums": "loud"}}]}): "damaged",
        whole.replace("[1.5,", "[NaN,", 1): "damaged",
    }.items():
        path.write_text(damaged)
        with pytest.raises(EvaluationError, match=said) as caught:
            read_results(path)
        assert str(path) in str(caught.value)


def test_the_page_stands_alone(tmp_path: Path) -> None:
    """It is sent by mail and opened years later; and a song's name must not become part of its code."""
    written = report.write_report(tmp_path / "out", some_results())
    assert [path.name for path in written] == ["results.json", "report.html", "boxplot.png"]
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "One &lt;script&gt;" in text
    assert "Zwei “ü”" in text
    assert "no &amp; such file" in text
    assert "<svg" in text
    assert not re.search(r"(src|href)=\"(?!#)", text)
    assert (tmp_path / "out" / "boxplot.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(OutputExists, match="overwrite"):
        report.check_folder(tmp_path / "out", overwrite=False)
    report.check_folder(tmp_path / "out", overwrite=True)
    report.check_folder(tmp_path / "new", overwrite=False)


def test_a_perfect_estimate_is_explained(tmp_path: Path) -> None:
    """Its ratio is infinite, which no file can hold: the page must not let it pass for what was never separated."""
    stems = {"drums": samples(0), "vocals": samples(3)}
    write_stems(tmp_path / "One", stems)
    result = evaluate_song(only_song(tmp_path), StemFolder(tmp_path))
    assert result.bss_eval_db("vocals") is None
    assert "or without any error" in report.page(Results({}, {}, [result]), None)


def test_reports_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures must not depend on an extra; and an older picture must not lie beside newer figures."""
    report.write_report(tmp_path, some_results())
    monkeypatch.setattr(report, "can_plot", lambda: False)
    written = report.write_report(tmp_path, some_results())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in written)
    assert "<svg" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "2.50" in (tmp_path / "report.html").read_text(encoding="utf-8")
