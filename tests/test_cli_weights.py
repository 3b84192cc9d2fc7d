"""`danna-sep weights import` and `fetch`, with a server of our own."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from fill import fill

from command_line import call, song
from danna_sep.weights import originals

REFERENCE = Path(__file__).parent / "reference"
CHECKPOINTS = {"xumx": "xumx_mwf.pth", "unet": "unet_attention.pth", "demucs": "demucs_4_decoders.pth"}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files like the original's: its U-Net in full, of the other two the names of all entries with wrong shapes."""
    folder = tmp_path_factory.mktemp("released")
    for model, entries in json.loads((REFERENCE / "state_dicts.json").read_text()).items():
        if model not in CHECKPOINTS:
            continue
        values = {}
        for name, (shape, _) in entries.items():
            whole = model == "unet"
            values[name] = torch.from_numpy(fill(1, f"{model}.{name}", tuple(shape))) if whole else torch.zeros(3)
        torch.save(values, folder / CHECKPOINTS[model])
    return folder


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(released: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(released))) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_fetch(
    capfd: pytest.CaptureFixture[str], server: str, released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was fetched must be kept and imported, and whose it is be said."""
    monkeypatch.setattr(originals, "ORIGINAL", {"unet": originals.ORIGINAL["unet"]})
    home = tmp_path / "danna-sep-home"
    outcome = call(capfd, "weights", "fetch", "original", "--base-url", f"{server}/")
    assert (outcome.code, outcome.err) == (0, "")
    unet = home / "downloads" / CHECKPOINTS["unet"]
    assert unet.read_bytes() == (released / CHECKPOINTS["unet"]).read_bytes()
    assert outcome.out.startswith(f"{unet}: unet by Chin-Yun Yu")
    assert "MIT" in outcome.out
    assert outcome.out.endswith("registered as original-unet\n")
    assert call(capfd, "weights", "verify", "original-unet").out == "original-unet: ok\n"
    outcome = call(capfd, song(tmp_path / "a.wav"), "--preset", "original")
    assert outcome.code == 4
    assert "original-unet" not in outcome.complaint()


def test_fetched_files_that_are_not_the_models_are_not_kept(
    capfd: pytest.CaptureFixture[str], server: str, tmp_path: Path
) -> None:
    """Else their hash would be on record, and the true file refused ever after."""
    home = tmp_path / "danna-sep-home"
    for _ in range(2):
        outcome = call(capfd, "weights", "fetch", "original", "--base-url", f"{server}/")
        assert outcome.code == 4
        assert str(home / "downloads" / CHECKPOINTS["xumx"]) in outcome.complaint()
        assert "shape" in outcome.complaint()
        assert not (home / "downloads" / CHECKPOINTS["xumx"]).exists()
        assert not (home / "downloads" / originals.RECORD).exists()
        assert not (home / "weights").exists()


def test_fetch_that_fails(capfd: pytest.CaptureFixture[str], server: str, tmp_path: Path) -> None:
    """A server without the files, and a name that we do not know, must give one line each."""
    outcome = call(capfd, "weights", "fetch", "original", "--base-url", f"{server}/nowhere")
    assert outcome.code == 4
    assert "nowhere" in outcome.complaint()
    outcome = call(capfd, "weights", "fetch", "kazoo")
    assert outcome.code == 2
    assert "original" in outcome.complaint()


def test_import(capfd: pytest.CaptureFixture[str], released: Path, tmp_path: Path) -> None:
    """One file that is no checkpoint must not keep the others from being imported."""
    text = tmp_path / "notes.pth"
    text.write_text("not a checkpoint")
    outcome = call(capfd, "weights", "import", text, tmp_path / "missing.pth", released / CHECKPOINTS["unet"])
    assert outcome.code == 4
    assert [line.split(": ")[1] for line in outcome.err.splitlines()] == [str(text), str(tmp_path / "missing.pth")]
    assert "original-unet" in outcome.out
    listed = call(capfd, "weights", "list").out
    assert "Kin-Wai Cheuk" in listed
    assert "Kin-Wai Cheuk" in (tmp_path / "danna-sep-home" / "weights" / "registry.json").read_text()


def test_import_replaces_nothing_unasked(
    capfd: pytest.CaptureFixture[str], server: str, released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any file with the entries of a model passes for the authors': it must not silently take the place of theirs."""
    monkeypatch.setattr(originals, "ORIGINAL", {"unet": originals.ORIGINAL["unet"]})
    whole = released / CHECKPOINTS["unet"]
    weights_folder = tmp_path / "danna-sep-home" / "weights"
    entries = torch.load(whole, weights_only=True)
    first = next(name for name, value in entries.items() if value.is_floating_point())
    torch.save({**entries, first: entries[first] + 1}, tmp_path / "other.pth")
    outcome = call(capfd, "weights", "import", tmp_path / "other.pth")
    assert outcome.code == 0
    assert "(taken to be theirs by its entries); licence: MIT" in outcome.out
    assert "if it is theirs" in outcome.out
    before = (weights_folder / "original-unet.safetensors").read_bytes()
    for command in (("import", whole), ("fetch", "original", "--base-url", server)):
        outcome = call(capfd, "weights", *command)
        assert outcome.code == 3, outcome.err
        assert "other weights are registered as original-unet; --overwrite replaces them" in outcome.complaint()
        assert (weights_folder / "original-unet.safetensors").read_bytes() == before
    # What was fetched is kept.
    assert call(capfd, "weights", "fetch", "original", "--base-url", server, "--overwrite").code == 0
    assert (weights_folder / "original-unet.safetensors").read_bytes() != before
    # The same values again are no others, and damaged ones are in nobody's way.
    assert call(capfd, "weights", "import", whole).code == 0
    (weights_folder / "original-unet.safetensors").write_bytes(b"")
    assert call(capfd, "weights", "import", tmp_path / "other.pth").code == 0
    assert call(capfd, "weights", "import", whole, "--overwrite").code == 0


def test_a_damaged_registry_is_said(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """And what ships is listed all the same."""
    registry = tmp_path / "danna-sep-home" / "weights" / "registry.json"
    registry.parent.mkdir(parents=True)
    registry.write_text("{")
    for command in ("list", "verify"):
        outcome = call(capfd, "weights", command)
        assert outcome.code == 4
        assert "provisional-unet" in outcome.out
        assert f"{registry}: not a registry of weights" in outcome.complaint()
