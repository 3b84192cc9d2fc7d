"""Weights files and their registries: what is written comes back, and what is damaged or missing is said plainly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from danna_sep import weights
from danna_sep.errors import ConfigError, CorruptWeights, MissingWeights, WriteFailed
from danna_sep.weights import registry

ENTRIES = {
    "layer.weight": torch.linspace(-2, 2, 12).reshape(3, 4),
    "layer.bias": torch.tensor([0.1, 1e-3, 7.0]),
    "count": torch.tensor(2**40 + 1),
    "mask": torch.tensor([True, False, True]),
    "bytes": torch.arange(5, dtype=torch.uint8),
    "empty": torch.empty(0, 3),
}
CONFIG = {"n_fft": 4096, "name": "é", "nested": {"list": [1, 2.5, None]}}
NOTES = {"licence": "MIT", "origin": "made in a test", "note": "two\nlines", "sdr": "6.9"}


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user and a package of this test's own, and nothing remembered from other tests."""
    monkeypatch.setenv("DANNA_SEP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(registry, "shipped_folder", lambda: tmp_path / "bundle")
    monkeypatch.setattr(registry, "_verified", set())


def make(path: Path, model: str = "xumx", value: float = 1.0, **notes: str) -> Path:
    weights.write(path, model=model, config={}, entries={"w": torch.full((8,), value)}, metadata={**NOTES, **notes})
    return path


def make_own(name: str, **notes: str) -> Path:
    return make(weights.user_folder() / f"{name}.safetensors", **notes)


def flip(path: Path, position: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def forge(path: Path, metadata: dict[str, str] | None, entries: dict[str, torch.Tensor] | None = None) -> Path:
    from safetensors.torch import save_file

    save_file(entries or {"w": torch.ones(2)}, path, metadata)
    return path


# --- the files


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.safetensors"
    sha256 = weights.write(path, model="demucs", config=CONFIG, entries=ENTRIES, metadata=NOTES)
    from danna_sep.atomic import sha256_of

    assert sha256 == sha256_of(path)
    back = weights.read(path)
    assert (back.model, back.config, back.metadata) == ("demucs", CONFIG, NOTES)
    assert set(back.entries) == set(ENTRIES)
    for name, tensor in ENTRIES.items():
        assert back.entries[name].dtype == tensor.dtype
        assert torch.equal(back.entries[name], tensor)


def test_the_safetensors_library_reads_our_files(tmp_path: Path) -> None:
    """We write the format ourselves: others must be able to read it."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    weights.write(tmp_path / "a", model="unet", config=CONFIG, entries=ENTRIES, metadata=NOTES)
    assert all(torch.equal(tensor, ENTRIES[name]) for name, tensor in load_file(tmp_path / "a").items())
    with safe_open(tmp_path / "a", framework="pt") as file:
        assert file.metadata() == {"format": "danna-sep/1", "model": "unet", "config": json.dumps(CONFIG), **NOTES}


def test_equal_weights_give_equal_bytes_in_any_process(tmp_path: Path) -> None:
    """Else the same weights would have many hashes."""
    shuffled = dict(reversed(ENTRIES.items()))
    first = weights.write(tmp_path / "a", model="m", config=CONFIG, entries=ENTRIES, metadata=NOTES)
    again = weights.write(
        tmp_path / "b", model="m", config=CONFIG, entries=shuffled, metadata=dict(reversed(NOTES.items()))
    )
    assert first == again


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_narrow_storage_comes_back_as_float32_and_integers_are_kept(tmp_path: Path, dtype: torch.dtype) -> None:
    entries = {
        "w": torch.linspace(-1, 1, 1000).reshape(10, 100),
        "n": torch.tensor([300, 2**30 + 1]),
        "variance": torch.tensor([1e-9, 1e9]),
    }
    weights.write(tmp_path / "a", model="m", config={}, entries=entries, metadata={}, dtype=dtype)
    assert (tmp_path / "a").stat().st_size < 1000 * dtype.itemsize + 500
    back = weights.read(tmp_path / "a").entries
    assert back["w"].dtype == torch.float32
    assert torch.equal(back["w"], entries["w"].to(dtype).float())
    assert torch.equal(back["n"], entries["n"])
    assert torch.equal(back["variance"], entries["variance"]), "vectors range too widely for float16"


def test_eight_bits_are_half_a_step_off_at_most_and_take_a_byte_each(tmp_path: Path) -> None:
    """Each row by its own largest value, whatever the others; what comes back is stored again as the same bytes."""
    rows = (
        torch.randn(8, 3, 5, 7, generator=torch.Generator().manual_seed(0))
        * 10.0 ** torch.arange(-4, 4)[:, None, None, None]
    )
    rows[5] = 0
    entries = {"w": rows, "bias": torch.tensor([1e-9, 1e9]), "n": torch.arange(6).reshape(2, 3), "none": rows[:0]}
    sha256 = weights.write(tmp_path / "a", model="m", config={}, entries=entries, metadata={}, dtype=torch.int8)
    assert (tmp_path / "a").stat().st_size < rows.numel() + 700
    back = weights.read(tmp_path / "a").entries
    assert {name: (entry.dtype, entry.shape) for name, entry in back.items()} == {
        name: (entry.dtype, entry.shape) for name, entry in entries.items()
    }
    largest = rows.abs().amax((1, 2, 3), keepdim=True)
    assert ((back["w"] - rows).abs() <= largest / 254 * (1 + 1e-5)).all()
    assert torch.allclose(back["w"].abs().amax((1, 2, 3), keepdim=True), largest)
    assert all(torch.equal(back[name], entries[name]) for name in ("bias", "n", "none"))
    assert sha256 == weights.write(tmp_path / "b", model="m", config={}, entries=back, metadata={}, dtype=torch.int8)


def test_what_changed_by_less_than_half_a_step_is_kept_by_other_steps(tmp_path: Path) -> None:
    """Else nothing is left in a file of eight bits of a training that goes on from one in small changes."""
    rng = torch.Generator().manual_seed(0)
    old = torch.randn(16, 4000, generator=rng)
    old = (old / old.abs().amax(1, keepdim=True) * 127).round() / 127
    change = 0.4 / 127 * (2 * torch.rand(old.shape, generator=rng) - 1) * (old.abs() < 1)
    kept = {}
    for n_steps in (127, 120.3):
        weights.write(
            tmp_path / "a",
            model="m",
            config={},
            entries={"w": old + change},
            metadata={},
            dtype=torch.int8,
            n_steps=n_steps,
        )
        back = weights.read(tmp_path / "a").entries["w"]
        assert float((back - old - change).abs().max()) <= 0.5 / n_steps * 1.001
        kept[n_steps] = float(((back - old) * change).sum() / change.square().sum())
    assert abs(kept[127]) < 0.01
    assert kept[120.3] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("n_steps", [0.5, 128, float("nan")])
def test_more_steps_than_eight_bits_have_are_refused(tmp_path: Path, n_steps: float) -> None:
    with pytest.raises(ConfigError, match="127"):
        weights.write(tmp_path / "a", model="m", config={}, entries={}, metadata={}, dtype=torch.int8, n_steps=n_steps)
    assert not (tmp_path / "a").exists()


def test_files_of_eight_bits_ask_older_versions_to_be_upgraded(tmp_path: Path) -> None:
    """These would take the integers for the weights."""
    from safetensors import safe_open

    for dtype, version in ((torch.int8, "danna-sep/2"), (torch.float16, "danna-sep/1")):
        weights.write(tmp_path / "a", model="m", config={}, entries={"w": torch.ones(2, 2)}, metadata={}, dtype=dtype)
        with safe_open(tmp_path / "a", framework="pt") as file:
            assert file.metadata()["format"] == version


@pytest.mark.parametrize("scale", [torch.ones(3), torch.tensor([1.0, float("nan")]), torch.ones(2, 2)])
def test_scales_that_do_not_fit_are_damage(tmp_path: Path, scale: torch.Tensor) -> None:
    entries = {"w": torch.ones(2, 2, dtype=torch.int8), "w@scale": scale}
    forge(tmp_path / "a", {"format": "danna-sep/2", "model": "m", "config": "{}"}, entries)
    with pytest.raises(CorruptWeights):
        weights.read(tmp_path / "a")


@settings(max_examples=30, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=5),
    kinds=st.lists(st.sampled_from([torch.float32, torch.int64, torch.bool, torch.int8]), min_size=5, max_size=5),
)
def test_any_shapes_and_types_come_back(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[list[int]], kinds: list[torch.dtype]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    entries = {f"e{i}": (torch.rand(s) * 99).to(k) for i, (s, k) in enumerate(zip(shapes, kinds, strict=False))}
    weights.write(path, model="m", config={}, entries=entries, metadata={})
    back = weights.read(path).entries
    assert all(torch.equal(back[name], tensor) and back[name].shape == tensor.shape for name, tensor in entries.items())


def test_entries_read_do_not_hang_on_the_file(tmp_path: Path) -> None:
    path = make(tmp_path / "a", value=3.0)
    entry = weights.read(path).entries["w"]
    with path.open("r+b") as file:
        file.truncate(10)
    assert entry.tolist() == [3.0] * 8


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_values_are_neither_written_nor_read(tmp_path: Path, bad: float) -> None:
    entries = {"good": torch.ones(1), "bad.w": torch.tensor([0.0, bad])}
    with pytest.raises(CorruptWeights, match=r"'bad\.w'"):
        weights.write(tmp_path / "a", model="m", config={}, entries=entries, metadata={})
    assert not list(tmp_path.iterdir())
    forge(tmp_path / "b", {"format": weights.FORMAT, "model": "m", "config": "{}"}, entries)
    with pytest.raises(CorruptWeights, match=r"'bad\.w'"):
        weights.read(tmp_path / "b")


def test_values_too_large_for_float16_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'w' has values too large for torch\.float16"):
        weights.write(
            tmp_path / "a",
            model="m",
            config={},
            entries={"w": torch.tensor([[7e4]])},
            metadata={},
            dtype=torch.float16,
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        {"metadata": {"format": "mine"}},
        {"metadata": {"sdr": 6.9}},
        {"config": {"a": float("nan")}},
        {"config": {"a": object()}},
        {"entries": {"c": torch.ones(1, dtype=torch.complex64)}},
        {"entries": {"__metadata__": torch.ones(1)}},
        {"entries": {"w@scale": torch.ones(2, 2)}, "dtype": torch.int8},
    ],
)
def test_what_the_format_cannot_hold_is_refused(tmp_path: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        weights.write(tmp_path / "a", **{"model": "m", "config": {}, "entries": ENTRIES, "metadata": {}, **arguments})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (None, "no 'format'"),
        ({"model": "m", "config": "{}"}, "no 'format'"),
        ({"format": "danna-sep/1", "config": "{}"}, "no 'model'"),
        ({"format": "danna-sep/1", "model": "m"}, "no 'config'"),
        ({"format": "danna-sep/3", "model": "m", "config": "{}"}, "upgrade"),
        ({"format": "danna-sep/1", "model": "m", "config": "[1]"}, "JSON object"),
        ({"format": "danna-sep/1", "model": "m", "config": "{"}, "JSON object"),
    ],
)
def test_other_headers_are_refused(tmp_path: Path, metadata: dict[str, str] | None, words: str) -> None:
    with pytest.raises(CorruptWeights, match=words) as caught:
        weights.read(forge(tmp_path / "a.safetensors", metadata))
    assert "a.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"text", b"\xff" * 100, b"\x08\0\0\0\0\0\0\0{}      " + b"x"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(CorruptWeights, match="fetch or import it again"):
        weights.read(tmp_path / "a")
    with pytest.raises(MissingWeights):
        weights.read(tmp_path / "b")
    with pytest.raises(CorruptWeights):
        weights.read(tmp_path)


def test_cut_files_are_refused(tmp_path: Path) -> None:
    whole = make(tmp_path / "a").read_bytes()
    for n in (4, 100, len(whole) - 1):
        (tmp_path / "a").write_bytes(whole[:n])
        with pytest.raises(CorruptWeights):
            weights.read(tmp_path / "a")


def test_a_folder_that_cannot_be_made_is_a_write_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WriteFailed):
        make(tmp_path / "file" / "a")


# --- the registries


def test_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert weights.home() == tmp_path / "home"
    monkeypatch.delenv("DANNA_SEP_HOME")
    assert weights.home().name == "danna-sep"
    monkeypatch.setenv("DANNA_SEP_HOME", "")
    assert weights.home().is_absolute()


def test_without_any_registry_there_are_no_entries() -> None:
    assert weights.entries() == []
    assert weights.verify() == []


def test_shipped_and_recorded_weights_are_found_and_loaded(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    make(bundle / "provisional-xumx.safetensors")
    make(bundle / "provisional-unet.safetensors", model="unet", provisional="yes")
    shipped = weights.register_shipped(bundle)
    own = weights.record("original-demucs", make_own("original-demucs", model="demucs"), licence="MIT (by setup.py)")
    assert [entry.name for entry in weights.entries()] == ["provisional-unet", "provisional-xumx", "original-demucs"]
    assert weights.entries()[:2] == shipped
    assert weights.entries()[2] == own
    assert (own.model, own.licence, own.origin) == ("demucs", "MIT (by setup.py)", NOTES["origin"])
    assert own.n_bytes == weights.find("original-demucs").stat().st_size
    loaded = weights.load("provisional-unet")
    assert (loaded.model, loaded.metadata["provisional"]) == ("unet", "yes")
    assert all(result.ok for result in weights.verify())
    assert [result.name for result in weights.verify("provisional-xumx")] == ["provisional-xumx"]


def test_registering_shipped_weights_again_drops_what_is_gone(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    old = make(bundle / "old.safetensors")
    make(bundle / "kept.safetensors")
    weights.register_shipped(bundle)
    before = (bundle / "registry.json").read_bytes()
    weights.register_shipped(bundle)
    assert (bundle / "registry.json").read_bytes() == before
    old.unlink()
    weights.register_shipped(bundle)
    assert [entry.name for entry in weights.entries()] == ["kept"]


def test_weights_without_licence_or_origin_do_not_ship(tmp_path: Path) -> None:
    for key in ("licence", "origin"):
        make(tmp_path / "bundle" / "a.safetensors", **{key: ""})
        with pytest.raises(ConfigError, match="licence"):
            weights.register_shipped(tmp_path / "bundle")
    assert not (tmp_path / "bundle" / "registry.json").exists()


def test_a_users_entry_goes_before_a_shipped_one(tmp_path: Path) -> None:
    make(tmp_path / "bundle" / "a.safetensors", value=1.0)
    weights.register_shipped(tmp_path / "bundle")
    weights.record("a", make_own("a", value=2.0))  # type: ignore[arg-type]
    assert len(weights.entries()) == 1
    assert weights.load("a").entries["w"][0] == 2.0


def test_what_ships_needs_no_folder_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In containers the home folder is often another user's: separating with what ships must not need to look there."""
    make(tmp_path / "bundle" / "a.safetensors")
    weights.register_shipped(tmp_path / "bundle")
    (tmp_path / "file").touch()
    monkeypatch.setenv("DANNA_SEP_HOME", str(tmp_path / "file"))
    assert weights.find("a").name == "a.safetensors"
    assert [result.ok for result in weights.verify()] == [True]
    with pytest.raises(MissingWeights, match="`danna-sep weights fetch original`"):
        weights.find("original-xumx")


def test_unknown_names_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match=r"weights fetch original.*weights import FILE"):
        weights.find("original-xumx")
    with pytest.raises(MissingWeights, match="reinstall"):
        weights.find("provisional-xumx")
    make(tmp_path / "bundle" / "a.safetensors")
    weights.register_shipped(tmp_path / "bundle")
    with pytest.raises(MissingWeights, match="choose one of a"):
        weights.verify("b")


def test_missing_files_say_what_to_do(tmp_path: Path) -> None:
    make(tmp_path / "bundle" / "a.safetensors").rename(tmp_path / "bundle" / "b.safetensors")
    weights.register_shipped(tmp_path / "bundle")
    weights.record("original-xumx", make_own("x"))
    (tmp_path / "bundle" / "b.safetensors").unlink()
    (weights.user_folder() / "x.safetensors").unlink()
    with pytest.raises(MissingWeights, match=r"b\.safetensors.*reinstall danna-sep"):
        weights.find("b")
    with pytest.raises(MissingWeights, match=r"x\.safetensors.*fetch or import them again"):
        weights.find("original-xumx")
    assert [result.ok for result in weights.verify()] == [False, False]
    for name, said in (("c", "no such file"), (300 * "c", "too long")):
        with pytest.raises(MissingWeights, match=said):
            weights.read(tmp_path / f"{name}.safetensors")


def test_a_flipped_byte_is_noticed() -> None:
    path = make_own("mine")
    weights.record("mine", path)
    flip(path)
    for act in (weights.find, weights.load):
        with pytest.raises(CorruptWeights, match=r"mine\.safetensors: damaged.*fetch or import them again") as caught:
            act("mine")
        assert "\n" not in str(caught.value)
    (result,) = weights.verify()
    assert not result.ok
    assert result.problem == str(caught.value)


def test_a_byte_flipped_after_the_first_check_is_noticed_too() -> None:
    """By the file's time, or, where even that was kept, by verify."""
    import os

    path = make_own("mine")
    weights.record("mine", path)
    weights.find("mine")
    state = path.stat()
    flip(path)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    weights.find("mine")  # hashed once per process, as promised
    assert not weights.verify("mine")[0].ok
    with pytest.raises(CorruptWeights):
        weights.find("mine")


def test_a_wrong_size_is_noticed_without_hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_own("mine")
    weights.record("mine", path)
    path.write_bytes(path.read_bytes()[:-1])
    monkeypatch.delattr(registry, "sha256_of")
    with pytest.raises(CorruptWeights, match="bytes instead of"):
        weights.find("mine")


def test_only_good_files_in_the_users_folder_are_recorded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only files in"):
        weights.record("a", make(tmp_path / "elsewhere.safetensors"))
    with pytest.raises(MissingWeights):
        weights.record("a", weights.user_folder() / "none.safetensors")
    for name in ("", "../a", "a b", "-a", "a/b"):
        with pytest.raises(ConfigError, match="cannot name weights"):
            weights.record(name, make_own("a"))
    with pytest.raises(ConfigError, match="cannot name weights"):
        weights.record("a", make_own("a b"))
    (weights.user_folder() / "bad.safetensors").write_bytes(b"text")
    with pytest.raises(CorruptWeights):
        weights.record("a", weights.user_folder() / "bad.safetensors")
    assert weights.entries() == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": "danna-sep-registry/1"}',
        '{"format": "danna-sep-registry/1", "entries": [{}]}',
        '{"format": "danna-sep-registry/9", "entries": []}',
        json.dumps(
            {
                "format": "danna-sep-registry/1",
                "entries": [
                    {
                        **dict.fromkeys(("name", "model", "licence", "origin", "note"), "x"),
                        "filename": "../../secret",
                        "sha256": "0" * 64,
                        "n_bytes": 1,
                    }
                ],
            }
        ),
    ],
)
def test_a_damaged_registry_is_named(content: str) -> None:
    """And one that points out of its folder is not followed."""
    weights.user_folder().mkdir(parents=True)
    (weights.user_folder() / "registry.json").write_text(content)
    with pytest.raises(CorruptWeights, match=r"registry\.json: ") as caught:
        weights.entries()
    assert "\n" not in str(caught.value)


def test_a_damaged_registry_of_ones_own_does_not_stop_what_ships(tmp_path: Path) -> None:
    """It is still said wherever all weights are looked at, and of names that only it can have."""
    make(tmp_path / "bundle" / "shipped.safetensors")
    weights.register_shipped(tmp_path / "bundle")
    own = weights.user_folder() / "registry.json"
    own.parent.mkdir(parents=True)
    own.write_text("{")
    assert weights.find("shipped").is_file()
    assert [entry.name for entry in weights.entries(readable=True)] == ["shipped"]
    damaged, shipped = weights.verify()
    assert (damaged.path, shipped.name, shipped.ok) == (own, "shipped", True)
    assert "not a registry of weights" in (damaged.problem or "")
    assert weights.verify("shipped")[0].ok
    for look in (weights.entries, lambda: weights.find("mine"), lambda: weights.verify("mine")):
        with pytest.raises(CorruptWeights, match=r"registry\.json: not a registry"):
            look()


def test_concurrent_processes_lose_no_entry() -> None:
    """Each of four processes records its own five: all twenty must be there."""
    code = (
        "import sys; from danna_sep import weights\n"
        "for i in range(5):\n"
        "    weights.record(f'{sys.argv[1]}-{i}', weights.user_folder() / 'shared.safetensors')\n"
    )
    make_own("shared")
    processes = [subprocess.Popen([sys.executable, "-c", code, f"p{n}"]) for n in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert {entry.name for entry in weights.entries()} == {f"p{n}-{i}" for n in range(4) for i in range(5)}
    assert {p.name for p in weights.user_folder().iterdir()} == {"registry.json", "shared.safetensors"}


def test_the_command_line_can_list_weights_without_torch(tmp_path: Path) -> None:
    """Importing torch takes seconds; listing, finding and recording must not need it."""
    make_own("a")
    code = (
        "import sys, danna_sep.weights as w, danna_sep.weights.download, danna_sep.weights.originals\n"
        "w.record('a', w.user_folder() / 'a.safetensors'); w.find('a'); w.entries(); w.verify()\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_packages_own_registry_is_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real shipped registry, whatever it lists now, and every file in it."""
    monkeypatch.undo()
    monkeypatch.setenv("DANNA_SEP_HOME", str(tmp_path))
    assert [result.problem for result in weights.verify() if not result.ok] == []


def test_values_that_the_wanted_type_cannot_hold_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "wide.safetensors"
    weights.write(path, model="m", config={}, entries={"w": torch.tensor([[1e300]], dtype=torch.float64)}, metadata={})
    with pytest.raises(CorruptWeights, match="'w' holds NaN or infinite values"):
        weights.read(path)
    assert weights.read(path, {"w": torch.float64}).entries["w"].item() == 1e300
