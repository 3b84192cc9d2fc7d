"""Preset files: what was written is read and used, and what is wrong in one is said in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import danna_sep
from danna_sep import loading, preset_file, presets, weights
from danna_sep.blending import Blend
from danna_sep.errors import ConfigError, CorruptWeights, MissingWeights, WriteFailed
from danna_sep.mask_session import only_masks
from danna_sep.preset_file import CascadePart, FilePart, PluginPart, PresetFile, PresetPart, WeightsPart
from danna_sep.recurring import Recurring
from danna_sep.separators import MaskSeparator
from danna_sep.streaming import segment_grid
from danna_sep.types import SOURCES

ALL = dict.fromkeys(SOURCES, 1.0)


def write(path: Path, separators: Any = None, blend: Any = None, **fields: Any) -> Path:
    separators = {"a": {"preset": "unet"}} if separators is None else separators
    content = {"format": "danna-sep-preset/1", "separators": separators}
    content["blend"] = dict.fromkeys(separators, ALL) if blend is None else blend
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**content, **fields}))
    return path


def test_the_example_blends_half_of_each_one() -> None:
    """What the README tells users to type must be a preset of what exists, whose weights sum to one."""
    path = Path(__file__).parent.parent / "examples" / "danna-and-spleeter.json"
    preset = preset_file.read(path)
    assert preset.separators == {"danna": PresetPart("danna"), "spleeter": PluginPart("spleeter")}
    assert [sum(row.get(source, 0) for row in preset.blend.values()) for source in SOURCES] == [1, 1, 1, 1]
    presets.check(str(path), ("drums", "bass", "other"))  # these can do without Spleeter


def test_one_network_is_heard_through_two_windows(tmp_path: Path) -> None:
    """It must go through a track as `danna` does: in short segments, and averaged where the song repeats itself."""
    lower = WeightsPart("provisional-wide-unet", {"n_fft": 4608, "n_bins": 1152})
    preset = PresetFile(
        {"one": WeightsPart("provisional-wide-unet"), "lower": lower},
        {"one": {**ALL, "vocals": 0.6}, "lower": {"vocals": 0.4}},
        recurs=True,
    )
    preset_file.write(tmp_path / "two.json", preset)
    separator = danna_sep.load(tmp_path / "two.json")
    assert isinstance(separator, Recurring)
    assert isinstance(separator.separator, Blend)
    networks = {name: each for name, each in separator.separator.active.items() if isinstance(each, MaskSeparator)}
    assert {name: (each.n_fft, each.hop_length) for name, each in networks.items()} == {
        "one": (5376, 1536),
        "lower": (4608, 1536),
    }
    assert only_masks(separator, segment_grid())


def test_what_was_written_is_read(tmp_path: Path) -> None:
    preset = PresetFile(
        {
            "one": PresetPart("danna"),
            "two": WeightsPart("provisional-unet", {"n_fft": 8192, "mask_padding": False}),
            "three": FilePart(tmp_path / "elsewhere" / "mine.safetensors", {"input_power": 0.5}),
            "four": PluginPart("htdemucs", {"model": "htdemucs_ft", "shifts": 1, "fast": True, "share": 0.5}),
            "five": CascadePart(PluginPart("spleeter"), PresetPart(str(tmp_path / "other.json"))),
        },
        {
            "one": {"drums": 0.1, "bass": 1 / 3, "other": -0.5, "vocals": 0.0},
            "two": {"drums": 1e-300},
            "three": {},
            "four": ALL,
            "five": {"vocals": 1.0},
        },
        "five of them",
    )
    path = tmp_path / "folder" / "blend.json"
    preset_file.write(path, preset)
    read = preset_file.read(path)
    assert read.blend == preset.blend
    assert read.summary == preset.summary
    assert {name: read.separators[name] for name in ("one", "two", "four")} == {
        name: preset.separators[name] for name in ("one", "two", "four")
    }
    three, five = read.separators["three"], read.separators["five"]
    assert isinstance(three, FilePart)
    assert three.path.resolve() == (tmp_path / "elsewhere" / "mine.safetensors").resolve()
    assert three.config == {"input_power": 0.5}
    assert isinstance(five, CascadePart)
    assert isinstance(five.rest, PresetPart)
    assert Path(five.rest.name).resolve() == (tmp_path / "other.json").resolve()
    assert json.loads(path.read_text())["separators"]["three"] == {
        "file": "../elsewhere/mine.safetensors",
        "config": {"input_power": 0.5},
    }


def text(separators: str = '{"a": {"preset": "unet"}}', blend: str = '{"a": {"drums": 1}}', more: str = "") -> str:
    return f'{{"format": "danna-sep-preset/1", {more}"separators": {separators}, "blend": {blend}}}'


WRONG: dict[str, tuple[str, str]] = {
    "not JSON": ("{", "not a preset file"),
    "not text": ("\xff", "not a preset file"),
    "no object": ("[]", "must be an object"),
    "nested without end": ("[" * 100_000, "not a preset file"),
    "another format": ('{"format": "danna-sep-preset/2"}', "danna-sep-preset/2"),
    "no format": ("{}", "this version reads"),
    "unknown field": (text(more='"blnd": {}, '), "no field 'blnd'"),
    "no separators": (text("{}", "{}"), "names none"),
    "missing blend": ('{"format": "danna-sep-preset/1", "separators": {}}', "'blend' is missing"),
    "missing row": (text(blend="{}"), "'a' is missing"),
    "a row too many": (text(blend='{"a": {}, "b": {}}'), "no field 'b'"),
    "unknown source": (text(blend='{"a": {"guitar": 1}}'), "no field 'guitar'"),
    "text for a weight": (text(blend='{"a": {"drums": "1"}}'), "finite number, not '1'"),
    "truth for a weight": (text(blend='{"a": {"drums": true}}'), "finite number, not True"),
    "null for a weight": (text(blend='{"a": {"drums": null}}'), "finite number"),
    "NaN": (text(blend='{"a": {"drums": NaN}}'), "NaN is not a number"),
    "infinite": (text(blend='{"a": {"drums": 1e999}}'), "finite number"),
    "too long": (text(blend='{"a": {"drums": 1' + 400 * "0" + "}}"), "finite number"),
    "a list of weights": (text(blend='{"a": [1, 1, 1, 1]}'), "must be an object, not list"),
    "twice the same": (text(blend='{"a": {"drums": 1, "drums": 2}}'), "'drums' stands there twice"),
    "no kind": (text('{"a": {}}'), "just one of"),
    "two kinds": (text('{"a": {"preset": "unet", "weights": "x"}}'), "just one of"),
    "options without plug-in": (text('{"a": {"preset": "unet", "options": {}}}'), "no field 'options'"),
    "configured preset": (text('{"a": {"preset": "unet", "config": {}}}'), "no field 'config'"),
    "bad configuration": (text('{"a": {"weights": "x", "config": {"y": null}}}'), "config: 'y' must be text"),
    "configuration of no settings": (text('{"a": {"file": "x", "config": 1}}'), "config must be an object"),
    "number for a name": (text('{"a": {"preset": 1}}'), "must be text"),
    "empty name": (text('{"a": {"file": ""}}'), "must be text"),
    "bad option": (text('{"a": {"plugin": "x", "options": {"y": []}}}'), "'y' must be text"),
    "device": (text('{"a": {"plugin": "x", "options": {"device": "cuda"}}}'), "the device is not chosen here"),
    "cascade of nothing": (text('{"a": {"cascade": {}}}'), "'taken' is missing"),
    "cascade of a kazoo": (
        text('{"a": {"cascade": {"taken": ["kazoo"], "first": {}, "rest": {}}}}'),
        '"taken" must be a list',
    ),
    "summary of two lines": (text(more='"summary": "a\\nb", '), "one line"),
}


@pytest.mark.parametrize(("content", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(tmp_path: Path, content: str, said: str) -> None:
    """A typing error must not quietly become another blend; the line names file and place."""
    path = tmp_path / "bad.json"
    path.write_bytes(content.encode("latin1"))
    with pytest.raises(ConfigError) as caught:
        preset_file.read(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_the_text_that_the_wrong_ones_change_is_right(tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text(text())
    assert preset_file.read(tmp_path / "good.json").sources == ("drums",)


def test_the_manuals_examples_are_right(tmp_path: Path) -> None:
    """People will copy them."""
    manual = (Path(__file__).parent.parent / "docs" / "blending.md").read_text(encoding="utf-8")
    examples = re.findall(r"```json\n(.*?)```", manual, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        (tmp_path / "example.json").write_text(example)
        assert preset_file.read(tmp_path / "example.json").sources == SOURCES


def test_what_would_not_be_read_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "blend.json"
    with pytest.raises(ConfigError, match="finite"):
        preset_file.write(path, PresetFile({"a": PresetPart("unet")}, {"a": {"drums": float("nan")}}))
    (tmp_path / "file").touch()
    with pytest.raises(WriteFailed):
        preset_file.write(tmp_path / "file" / "blend.json", PresetFile({"a": PresetPart("unet")}, {"a": ALL}))
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.usefixtures("tiny")
def test_a_preset_file_is_used_as_a_preset(tmp_path: Path) -> None:
    """Its blend must be the one that its numbers say, of the separators that it names."""
    own = tmp_path / "mine.safetensors"
    file = weights.load("provisional-unet")
    weights.write(own, model=file.model, config=file.config, entries=file.entries, metadata={})
    write(tmp_path / "inner.json", {"d": {"preset": "demucs"}})
    path = write(
        tmp_path / "blend.json",
        {
            "mine": {"file": "mine.safetensors"},
            "registered": {"weights": "provisional-demucs"},
            "inner": {"preset": "inner.json"},
            "built in": {"preset": "xumx"},
        },
        {
            "mine": {"drums": 0.25, "vocals": 0.5},
            "registered": {"drums": 0.5, "bass": 2},
            "inner": {"vocals": 0.5, "bass": -1},
            "built in": {"other": 0.75},
        },
    )
    separator = danna_sep.load(path)
    assert isinstance(separator, Blend)
    mixture = torch.randn(2, 6000)
    unet, demucs, xumx = (danna_sep.load(name)(mixture) for name in ("unet", "demucs", "xumx"))
    expected = torch.stack([0.25 * unet[0] + 0.5 * demucs[0], demucs[1], 0.75 * xumx[2], 0.5 * (unet[3] + demucs[3])])
    assert torch.allclose(separator(mixture), expected, atol=1e-6)
    bass = danna_sep.load(path, stems=["bass"])
    assert isinstance(bass, Blend)
    assert sorted(bass.separators) == ["inner", "registered"]
    assert torch.allclose(bass(mixture), expected[[1]], atol=1e-6)
    by_name, as_loaded = (danna_sep.separate(mixture.numpy(), 44100, each) for each in (str(path), separator))
    assert by_name["vocals"] == pytest.approx(as_loaded["vocals"], abs=1e-6)
    assert by_name["vocals"] == pytest.approx(expected[3].numpy(), abs=1e-2), "bfloat16, in parts and whole"


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("kind", ["weights", "file"])
def test_weights_hear_what_a_preset_file_says(tmp_path: Path, kind: str) -> None:
    """The same weights may be there several times, each with another spectrum; what does not fit them is said."""
    own = weights.find("provisional-unet")
    name = str(own) if kind == "file" else "provisional-unet"
    long = {"n_fft": 8192, "hop_length": 2048, "n_bins": 900}
    parts = {"as it is": {kind: name}, "long": {kind: name, "config": long}}
    mixture = torch.randn(2, 20000)
    blend = {"as it is": {"drums": 1}, "long": dict.fromkeys(("bass", "vocals"), 1)}
    stems = danna_sep.load(write(tmp_path / "two.json", parts, blend), stems=["drums", "bass", "vocals"])(mixture)

    file = weights.load("provisional-unet")
    weights.write(
        tmp_path / "long.safetensors",
        model=file.model,
        config={**file.config, **long},
        entries=file.entries,
        metadata={},
    )
    as_it_is, expected = (danna_sep.load(each)(mixture) for each in ("unet", tmp_path / "long.safetensors"))
    assert torch.allclose(stems, torch.stack([as_it_is[0], expected[1], expected[3]]), atol=1e-6)
    assert not torch.allclose(as_it_is[1], expected[1], atol=1e-3)
    for config, error, said in (
        ({"n_fftt": 1}, ConfigError, "unet has no setting 'n_fftt'"),
        ({"n_fft": 4097}, ConfigError, "no spectrum has windows of 4097"),
        ({"n_fft": 4096, "growth": 3}, ConfigError, "a: config {'growth': 3} needs other weights than"),
        ({"input_power": -1}, ConfigError, "unet: input_power must be from 0.01 to 10, not -1.0"),
        # Of the same shapes, or without any: the weights fit, and were made for something else.
        ({"n_heads": 1, "head_width": 8}, ConfigError, "a: config {'n_heads': 1, 'head_width': 8} needs other weights"),
    ):
        with pytest.raises(error, match=re.escape(said)):
            danna_sep.load(write(tmp_path / "wrong.json", {"a": {kind: name, "config": config}}))
    danna_sep.load(write(tmp_path / "whole.json", {"a": {kind: name, "config": {"input_power": 1}}}))


@pytest.mark.usefixtures("tiny")
def test_weights_of_a_waveform_model_have_nothing_to_change(tmp_path: Path) -> None:
    """Another stride fits them and makes noise of them."""
    for config, said in (
        ({"stride": 2}, "config {'stride': 2} needs other weights than"),
        ({"stride": 0}, "demucs: stride must be at least 1, not 0"),
    ):
        with pytest.raises(ConfigError, match=re.escape(said)):
            danna_sep.load(write(tmp_path / "a.json", {"a": {"weights": "provisional-demucs", "config": config}}))


@pytest.mark.usefixtures("tiny")
def test_a_cascade_in_a_preset_file(tmp_path: Path) -> None:
    cascade = {"taken": ["vocals"], "first": {"preset": "unet"}, "rest": {"preset": "demucs"}}
    path = write(tmp_path / "cascade.json", {"both": {"cascade": cascade}})
    mixture = torch.randn(2, 6000)
    vocals = danna_sep.load("unet", stems=["vocals"])(mixture)[0]
    rest = danna_sep.load("demucs")(mixture - vocals)
    stems = danna_sep.load(path)(mixture)
    assert torch.allclose(stems, torch.stack([*rest[:3], vocals]), atol=1e-6)
    assert torch.allclose(danna_sep.load(path, stems=["vocals"])(mixture), vocals[None], atol=1e-6)
    assert torch.allclose(danna_sep.load(path, stems=["bass"])(mixture), rest[[1]], atol=1e-6)


@pytest.mark.usefixtures("tiny")
def test_what_a_preset_file_needs_is_looked_for(tmp_path: Path) -> None:
    """Before anything is loaded, and only what the stems wanted need."""
    missing = write(tmp_path / "a.json", {"a": {"file": "gone.safetensors"}, "b": {"preset": "unet"}},
                    {"a": {"vocals": 1}, "b": {"drums": 1}})  # fmt: skip
    for look in (presets.check, danna_sep.load):
        with pytest.raises(MissingWeights, match=r"gone\.safetensors: no such file"):
            look(str(missing), ["vocals"]) if look is presets.check else look(missing, stems=["vocals"])
    presets.check(str(missing), ["drums"])
    for separators, error, said in (
        ({"a": {"weights": "nobodys"}}, MissingWeights, "nobodys"),
        ({"a": {"plugin": "nobodys"}}, ConfigError, "no separator 'nobodys' is installed"),
        ({"a": {"preset": "nobodys"}}, ConfigError, "no preset 'nobodys'"),
        ({"a": {"preset": "gone.json"}}, ConfigError, "gone.json: cannot be read"),
        ({"a": {"file": "bad.safetensors"}}, CorruptWeights, "bad.safetensors"),
        ({"a": {"preset": "self.json"}}, ConfigError, "a part of itself"),
        ({"a": {"cascade": {"taken": ["bass"], "first": {"preset": "unet"}, "rest": {"preset": "self.json"}}}},
         ConfigError, "a part of itself"),
    ):  # fmt: skip
        (tmp_path / "bad.safetensors").write_bytes(b"nothing")
        path = write(tmp_path / "self.json", separators)
        with pytest.raises(error, match=said):
            presets.check(str(path))
        with pytest.raises(error, match=said):
            danna_sep.load(path)


@pytest.mark.usefixtures("tiny")
def test_stems_without_weights_are_not_made_up(tmp_path: Path) -> None:
    """Silence in the place of stems that nobody separates would look like a result."""
    path = write(tmp_path / "vocals.json", {"a": {"preset": "unet"}}, {"a": {"vocals": 1, "bass": 0}})
    with pytest.raises(ConfigError, match="no weights for drums, other; choose stems out of bass, vocals"):
        presets.check(str(path))
    with pytest.raises(ConfigError, match="all weights for bass are 0"):
        danna_sep.load(path, stems=["bass"])
    stems = danna_sep.load(path, stems=["bass", "vocals"])(torch.randn(2, 6000))
    assert not stems[0].any()
    assert stems[1].any()
    with pytest.raises(ConfigError, match="no weights at all"):
        presets.sources_of(str(write(tmp_path / "none.json", blend={"a": {}})))


RECURRING = {
    "format": "danna-sep-preset/1",
    "separators": {"u": {"weights": "provisional-unet"}},
    "blend": {"u": {"drums": 1, "bass": 1, "other": 1, "vocals": 1}},
    "recurrence": True,
}


def test_a_blend_may_be_averaged_where_a_song_repeats_itself(tmp_path: Path) -> None:
    """For one of its stems, too, all are computed, for they share what averaging leaves."""
    path, again = tmp_path / "mine.json", tmp_path / "again.json"
    path.write_text(json.dumps(RECURRING))
    preset_file.write(again, preset_file.read(path))
    for each in (path, again):
        separator = loading.load(str(each), sources=("vocals",))
        assert isinstance(separator, Recurring)
        assert separator.sources == ("vocals",)
        assert separator.separator.sources == SOURCES


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"recurrence": 1}, '"recurrence" must be true or false'),
        ({"blend": {"u": {"vocals": 1}}}, '"recurrence" is for blends of all of drums, bass, other, vocals'),
    ],
)
def test_what_cannot_be_averaged_is_refused(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**RECURRING, **changes}))
    with pytest.raises(ConfigError, match=re.escape(f"{path}: {says}")):
        preset_file.read(path)
