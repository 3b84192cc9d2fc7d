"""Foreign checkpoints: the right tensors from every format, and nothing in a file ever runs."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from danna_sep.errors import MissingWeights, UnknownCheckpoint
from danna_sep.weights.foreign import read_entries


class Inner(nn.Module):
    """Parameters, buffers, an integer buffer, half precision, and attributes that are no state at all."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)
        self.narrow = nn.Parameter(torch.ones(2, dtype=torch.float16), requires_grad=False)
        self.register_buffer("window", torch.hann_window(5, dtype=torch.float64))
        self.register_buffer("flag", torch.tensor(True))
        self.plain = torch.ones(4)
        self.listed = [torch.ones(1)]
        self.sizes = (1, 2.5, "x")
        self.device = torch.device("cpu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.linear(x)) + self.plain.sum() + self.listed[0] + self.sizes[0]


class Outer(nn.Module):
    """Nested as the released models are: lists of modules, a recurrent layer, one module under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Inner(), Inner()])
        self.lstm = nn.LSTM(2, 2, bidirectional=True)
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(2))])
        self.shared = self.blocks[0].linear
        self.transposed = nn.Parameter(torch.arange(6.0).reshape(2, 3).t())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x).repeat(1, 2)[:, :3]
        return x


class Traceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(1, 2, 3, bias=False), nn.GroupNorm(1, 2), nn.Conv1d(2, 1, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Hostile(nn.Module):
    """Loading it with torch.jit.load creates a file."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.ones(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.w

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, bool]:
        return self.w, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        self.training = state[1]
        self.w = torch.from_file("created_by_torchscript", shared=True, size=16)


class Bomb:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def scripted(module: nn.Module, path: Path, example: torch.Tensor | None = None) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        made = torch.jit.script(module) if example is None else torch.jit.trace(module, example)
        made.save(str(path))
    return path


def jit_state(path: Path) -> dict[str, torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(torch.jit.load(str(path)).state_dict())


def assert_same(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert set(got) == set(expected)
    for name, tensor in expected.items():
        assert got[name].dtype == tensor.dtype, name
        assert torch.equal(got[name], tensor), name


def assert_refused(path: Path, words: str = "") -> None:
    with pytest.raises(UnknownCheckpoint) as caught:
        read_entries(path)
    message = str(caught.value)
    assert str(path) in message
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize("module", [Outer(), Traceable(), nn.LSTM(2, 3)])
def test_torchscript_gives_the_entries_that_torch_itself_finds(tmp_path: Path, module: nn.Module) -> None:
    path = scripted(module, tmp_path / "model.pth")
    expected = {name: tensor for name, tensor in module.state_dict().items() if tensor is not None}
    assert_same(read_entries(path), expected)
    assert_same(read_entries(path), jit_state(path))


def test_traced_archives_are_read_like_scripted_ones(tmp_path: Path) -> None:
    module = Traceable()
    path = scripted(module, tmp_path / "model.pth", torch.ones(1, 1, 9))
    assert_same(read_entries(path), module.state_dict())


def test_a_program_inside_a_torchscript_archive_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = scripted(Hostile(), tmp_path / "model.pth")
    assert_refused(path, "state of its own making")
    assert not (tmp_path / "created_by_torchscript").exists()


def test_a_frozen_archive_without_parameters_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "frozen.pth"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.freeze(torch.jit.script(Traceable().eval())).save(str(path))
    assert_refused(path, "no state dict")


def test_a_malicious_pickle_inside_a_torchscript_archive_does_not_run(tmp_path: Path) -> None:
    original = scripted(Traceable(), tmp_path / "good.pth")
    evil, proof = tmp_path / "evil.pth", tmp_path / "proof"
    for protocol in (0, 2, 4):
        with zipfile.ZipFile(original) as source, zipfile.ZipFile(evil, "w") as target:
            for name in source.namelist():
                payload = pickle.dumps(Bomb(proof), protocol) if name.endswith("/data.pkl") else source.read(name)
                target.writestr(name, payload)
        assert_refused(evil)
        assert not proof.exists()


@pytest.mark.parametrize("place", ["alone", "model", "beside", "deep", "legacy", "legacy model"])
def test_a_malicious_pickle_in_a_checkpoint_does_not_run(tmp_path: Path, place: str) -> None:
    path, proof = tmp_path / "evil.pth", tmp_path / "proof"
    bomb = Bomb(proof)
    good = {"w": torch.ones(2)}
    content = {
        "alone": bomb,
        "model": {"model": bomb},
        "beside": {"model": good, "optimizer": bomb},
        "deep": {"model": {**good, "b": bomb}},
        "legacy": bomb,
        "legacy model": {"model": bomb},
    }[place]
    torch.save(content, path, _use_new_zipfile_serialization=not place.startswith("legacy"))
    assert_refused(path)
    assert not proof.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_bare_malicious_pickle_does_not_run(tmp_path: Path, protocol: int) -> None:
    path, proof = tmp_path / "evil.pth", tmp_path / "proof"
    path.write_bytes(pickle.dumps({"model": Bomb(proof)}, protocol))
    assert_refused(path)
    assert not proof.exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("nest", [None, "model", "state_dict", "both"])
@pytest.mark.parametrize("parallel", [True, False])
def test_state_dicts_and_training_checkpoints(tmp_path: Path, zipped: bool, nest: str | None, parallel: bool) -> None:
    """A wrong nest or prefix would make a good checkpoint look like no model we know."""
    module = Inner()
    state = module.state_dict()
    if parallel:
        state = OrderedDict((f"module.{name}", tensor) for name, tensor in state.items())
    optimiser = torch.optim.Adam(module.parameters())
    content: Any = state
    if nest == "both":
        content = {"model": {"state_dict": state}}
    elif nest:
        content = {"epoch": 3, "optimizer": optimiser.state_dict(), "args": {"lr": 1e-4}, nest: state, "best": None}
    path = tmp_path / "checkpoint.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert_same(read_entries(path), module.state_dict())


def test_a_prefix_on_some_names_only_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "some.pt"
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, path)
    assert set(read_entries(path)) == {"module.a", "b"}


def test_a_newer_pickle_protocol_is_read_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "p3.pt"
    torch.save({"a": torch.ones(1)}, path, pickle_protocol=3)
    assert_same(read_entries(path), {"a": torch.ones(1)})


def test_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = {name: tensor.contiguous() for name, tensor in Inner().state_dict().items()}
    save_file(state, tmp_path / "any.suffix")
    assert_same(read_entries(tmp_path / "any.suffix"), state)


def test_entries_have_memory_of_their_own(tmp_path: Path) -> None:
    """Else changing one entry would change another, or the file."""
    both = torch.arange(8.0)
    path = tmp_path / "views.pt"
    torch.save({"all": both, "half": both[:4], "t": nn.Parameter(both.reshape(2, 4).t())}, path)
    entries = read_entries(path)
    entries["all"].zero_()
    assert entries["half"].tolist() == [0, 1, 2, 3]
    assert entries["t"].is_contiguous()
    assert not entries["t"].requires_grad
    assert entries["half"].untyped_storage().nbytes() == 16


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_parameters_are_refused_by_name(tmp_path: Path, bad: float) -> None:
    torch.save({"a.fine": torch.ones(2), "a.bad": torch.tensor([1.0, bad])}, tmp_path / "nan.pt")
    assert_refused(tmp_path / "nan.pt", "'a.bad'")
    module = Traceable()
    with torch.no_grad():
        module.layers[0].weight[0, 0, 0] = bad
    assert_refused(scripted(module, tmp_path / "nan.pth"), "'layers.0.weight'")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "no state dict"),
        ([torch.ones(1)], "no state dict"),
        (torch.ones(1), "no state dict"),
        ({1: torch.ones(1)}, "not a name"),
        ({"a": torch.ones(1), "n": 3}, "'n' is no tensor"),
        ({"a": torch.ones(1).to_sparse()}, "dense"),
        ({"a": torch.ones(1, device="meta")}, "dense"),
        ({"a": torch.ones(1).expand(10**12)}, "larger than its stored"),
        ({"a": torch.ones(1).to(torch.float8_e4m3fn)}, "'a' has numbers of the type torch.float8_e4m3fn"),
        ({"a": torch.ones(1) * 1j}, "'a' has numbers of the type torch.complex64"),
    ],
)
def test_what_is_no_set_of_plain_tensors_is_refused(tmp_path: Path, content: Any, words: str) -> None:
    torch.save(content, tmp_path / "odd.pt")
    assert_refused(tmp_path / "odd.pt", words)


@pytest.mark.parametrize("kind", ["torchscript", "zip", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_truncated_files_are_refused(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / "cut.pt"
    state = {"a": torch.ones(1000), "b": torch.zeros(10)}
    if kind == "torchscript":
        scripted(Traceable(), path)
    elif kind == "safetensors":
        from safetensors.torch import save_file

        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert_refused(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"just some text\n" * 50, "not a checkpoint"),
        (b"  <!DOCTYPE html><html><title>Sign in</title></html>", "web page"),
        (b"<html>", "web page"),
        (b"PK\x03\x04" + b"\0" * 2000, "not a checkpoint"),
        (b"\x80\x02", "not a checkpoint"),
        (b"12345678{", "not a checkpoint"),
        (bytes(range(256)) * 20, "not a checkpoint"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "other.pth").write_bytes(content)
    assert_refused(tmp_path / "other.pth", words)


def test_tar_archives_are_refused_without_opening(tmp_path: Path) -> None:
    """Before torch 2.6 they got round its own safeguard."""
    import tarfile

    (tmp_path / "PK").write_bytes(pickle.dumps(Bomb(tmp_path / "proof")))
    with tarfile.open(tmp_path / "old.pth", "w") as archive:
        archive.add(tmp_path / "PK", "PK")
        archive.add(tmp_path / "PK", "pickle")
    assert_refused(tmp_path / "old.pth", "tar archive")
    assert not (tmp_path / "proof").exists()


def test_an_ordinary_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert_refused(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("x/constants.pkl", b"")
    assert_refused(tmp_path / "b.zip", "data.pkl")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match=r"nowhere\.pth: no such file"):
        read_entries(tmp_path / "nowhere.pth")
    assert_refused(tmp_path, "not a file")


@pytest.mark.parametrize("victim", ["data.pkl", "data/0", "code/"])
def test_a_flipped_byte_is_noticed(tmp_path: Path, victim: str) -> None:
    """Archives hold checksums: damaged numbers must not pass for weights."""
    path = scripted(Traceable(), tmp_path / "model.pth")
    with zipfile.ZipFile(path) as archive:
        info = next(i for i in archive.infolist() if i.filename.split("/", 1)[1].startswith(victim))
        payload = archive.open(info)
        position = payload._orig_compress_start  # type: ignore[attr-defined]
        payload.close()
    data = bytearray(path.read_bytes())
    data[position + 3] ^= 0x10
    path.write_bytes(data)
    assert_refused(path)


def rewritten(source: Path, target: Path, instructions: bytes) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, instructions if name.endswith("/data.pkl") else old.read(name))
    return target


def test_tensors_that_reach_outside_their_numbers_are_refused(tmp_path: Path) -> None:
    """A forged size, offset or stride would read foreign memory, or fill the machine's when copied."""

    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.arange(6.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.w

    good = scripted(One(), tmp_path / "good.pth")
    with zipfile.ZipFile(good) as archive:
        data = archive.read(next(n for n in archive.namelist() if n.endswith("/data.pkl")))
    view = b"K\x00(K\x06t(K\x01t"  # offset 0, size (6,), stride (1,)
    assert data.count(view) == 1
    forged = [b"K\x01(K\x06t(K\x01t", b"K\x00(K\x07t(K\x01t", b"K\x00(K\x06t(K\x02t", b"K\x00(K\xfft(K\x00t"]
    forged += [
        b"K\x00(J\xff\xff\xff\xfft(K\x01t",
        b"J\xff\xff\xff\xff(K\x02t(K\x01t",
        b"K\x05(K\x06t(J\xff\xff\xff\xfft",
    ]
    for bad in forged:
        assert_refused(rewritten(good, tmp_path / "bad.pth", data.replace(view, bad)), "larger than its numbers")
    fine = rewritten(good, tmp_path / "fine.pth", data.replace(view, b"K\x01(K\x02t(K\x03t"))
    assert read_entries(fine)["w"].tolist() == [1, 4]
    assert_refused(
        rewritten(good, tmp_path / "bad.pth", data.replace(b"FloatStorage", b"FlootStorage")), "unknown kind"
    )
