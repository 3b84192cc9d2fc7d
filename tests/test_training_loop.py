"""Training: killed and gone on with it ends as if nothing had been, and what cannot go on says why."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from command_line import Outcome, call
from command_line import run as command_line
from danna_sep import load, weights
from danna_sep.errors import Cancelled, ConfigError, CorruptWeights, MissingWeights, SongsError, TrainingFailed
from danna_sep.songs import Song, find_songs
from danna_sep.training import events, loop, running
from danna_sep.training.recipe import Recipe, with_settings
from danna_sep.training.recipes import RECIPES, find_recipe
from danna_sep.training.schedule import Plateau, learning_rate
from danna_sep.training.validate import song_sdr_db
from danna_sep.types import SOURCES

TINY = {
    "xumx": ["config.hidden=8", "config.n_lstm_layers=2"],
    "unet": [
        "config.n_bins=64",
        "config.growth=2",
        "config.n_layers=[1,1]",
        "config.bottleneck_width=8",
        "config.n_heads=2",
        "config.head_width=4",
    ],
    "demucs": ["config.width=4", "config.n_layers=3"],
}
SHORT = [
    "data.excerpt_s=0.3",
    "data.excerpts_per_track=4",
    "data.valid_s=0.5",
    "optimiser.batch_size=2",
    "optimiser.accumulate=2",
    "optimiser.ema=0.9",
    "epochs=2",
]
"""Three songs: twelve excerpts, six passes and three steps an epoch."""


def tiny(name: str, *settings: str) -> Recipe:
    recipe = find_recipe(name)
    return with_settings(recipe, [*TINY[recipe.model], *SHORT, *settings])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Songs of two seconds: clicks, a low tone, a chord, and a tone that trembles."""
    folder = tmp_path_factory.mktemp("songs")
    rng = np.random.default_rng(0)
    clock = np.arange(2 * 44100) / 44100
    for index, name in enumerate(("train/a", "train/b", "train/c", "valid/d")):
        pitch = 200 * 1.2**index
        stems = {
            "drums": rng.standard_normal(len(clock)) * (clock % 0.5 < 0.03),
            "bass": np.sin(2 * np.pi * pitch / 4 * clock),
            "other": np.sin(2 * np.pi * pitch * clock) + np.sin(2 * np.pi * pitch * 1.5 * clock),
            "vocals": np.sin(2 * np.pi * 2 * pitch * clock + 3 * np.sin(2 * np.pi * 5 * clock)),
        }
        (folder / name).mkdir(parents=True)
        for source, stem in stems.items():
            soundfile.write(folder / name / f"{source}.flac", 0.1 * np.stack([stem, 0.7 * stem], 1), 44100)
    return folder


def songs_of(data: Path) -> tuple[list[Song], list[Song]]:
    return find_songs(data, "train"), find_songs(data, "valid")


def run(recipe: Recipe, data: Path, folder: Path, **options: Any) -> list[events.Event]:
    settings = running.Options(**{"device": "cpu", "n_workers": 0, **options})
    return list(loop.train(recipe, *songs_of(data), folder, options=settings))


def entries(path: Path) -> dict[str, torch.Tensor]:
    return weights.read(path).entries


def same(one: Path, other: Path) -> bool:
    before, after = entries(one), entries(other)
    return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def gradients(data: Path, folder: Path, n_processes: int, name: str) -> dict[str, torch.Tensor]:
    """Of the first step: Adam's first average is a tenth of it."""
    settings = [*TINY[name], *SHORT, "optimiser.batch_size=4", "config.dropout=0.0"][: None if name != "demucs" else -1]
    command = [sys.executable, "-m", "danna_sep", "train", "xumx-baseline" if name == "xumx" else name]
    if n_processes > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}"]
        command = [*launcher, *command[1:]]
    command += ["--data", str(data), "--out", str(folder), "--workers", "0", "--stop-after", "0", "--device", "cpu"]
    command += [part for setting in settings for part in ("--set", setting)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    state = load_file(folder / "state.safetensors")
    return {key: value for key, value in state.items() if key.endswith(".exp_avg") or "running" in key}


@pytest.mark.parametrize("name", ["xumx", "unet"])
def test_two_processes_are_one_with_the_doubled_batch(data: Path, tmp_path: Path, name: str) -> None:
    """Gradients, and the statistics of batch norm, of which both models have many."""
    one, two = (gradients(data, tmp_path / str(n), n, name) for n in (1, 2))
    assert one.keys() == two.keys()
    assert sum(key.endswith(".exp_avg") for key in one) > 20
    largest = max(float(value.abs().max()) for key, value in one.items() if key.endswith(".exp_avg"))
    for key, value in one.items():
        scale = max(float(value.abs().max()), 1e-3 * largest)
        assert float((two[key] - value).abs().max()) < 1e-4 * scale, key


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are seen in /proc")
def test_a_process_of_several_ends_its_exchange_before_python_does(data: Path, tmp_path: Path) -> None:
    """Else a thread that drops its last tensor too late aborts the process, once in a few hundred trainings."""
    program = tmp_path / "program.py"
    program.write_text("""
import atexit
from contextlib import suppress
from pathlib import Path

def threads():
    names = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has just ended
            names.append((task / "comm").read_text())
    return names

during = []
atexit.register(lambda: print("gloo" in "".join(during), "gloo" in "".join(threads())))

from danna_sep.cli import main
from danna_sep.training import learner

objective = learner.objective
def seen(*arguments):
    during.extend(threads())
    return objective(*arguments)
learner.objective = seen
main()
""")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(program),
        "train",
    ]
    command += ["unet", "--data", str(data), "--out", str(tmp_path / "run"), "--workers", "0", "--stop-after", "0"]
    command += ["--device", "cpu", *(part for setting in [*TINY["unet"], *SHORT] for part in ("--set", setting))]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line[:4] in ("True", "Fals")] == ["True False"] * 2, done


@pytest.mark.parametrize("n_iterations", [0, 1])
def test_weights_ask_for_the_filter_that_they_were_validated_with(
    data: Path, tmp_path: Path, n_iterations: int
) -> None:
    """Else whoever separates with them gets another SDR than the training said."""
    recipe = tiny("xumx-baseline", "epochs=1", f"n_wiener_iterations={n_iterations}")
    (validated,) = [event for event in run(recipe, data, tmp_path) if isinstance(event, events.Validated)]
    preset = {
        "format": "danna-sep-preset/1",
        "separators": {"xumx": {"file": "last.safetensors"}},
        "blend": {"xumx": dict.fromkeys(SOURCES, 1)},
    }
    (tmp_path / "preset.json").write_text(json.dumps(preset))
    separator = load(str(tmp_path / "preset.json"))
    (song,) = songs_of(data)[1]
    sdr_db = song_sdr_db(separator, song, recipe.data.valid_s)
    expected = torch.tensor(validated.scores.per_source_db, dtype=torch.float64)
    torch.testing.assert_close(sdr_db, expected, rtol=0, atol=0.01)


@pytest.mark.parametrize("name", ["xumx-baseline", "unet", "demucs"])
def test_gone_on_with_anywhere_it_ends_the_same(data: Path, tmp_path: Path, name: str) -> None:
    recipe = tiny(name)
    run(recipe, data, tmp_path / "through")
    n_stops = 0
    while True:
        # Stops after every single step.
        last = run(recipe, data, tmp_path / "stopped", stop_after_s=0.0)[-1]
        assert isinstance(last, events.Stopped)
        if last.is_over:
            break
        n_stops += 1
    assert n_stops == 6, "one for every step"
    assert same(tmp_path / "through" / "last.safetensors", tmp_path / "stopped" / "last.safetensors")
    assert same(tmp_path / "through" / "best.safetensors", tmp_path / "stopped" / "best.safetensors")


def train_command(data: Path, folder: Path, epochs: int, save_every_s: int) -> list[str]:
    settings = [*TINY["unet"], *SHORT, f"epochs={epochs}"]
    command = [sys.executable, "-m", "danna_sep", "train", "unet", "--data", str(data), "--out", str(folder)]
    command += ["--workers", "1", "--threads", "1", "--save-every", str(save_every_s), "--device", "cpu", "--json"]
    return command + [part for setting in settings for part in ("--set", setting)]


def kill_and_go_on(data: Path, folder: Path, n_kills: int, epochs: int) -> None:
    """Train through the command line, killed at random times while it makes steps."""
    command = train_command(data, folder, epochs, save_every_s=0)
    rng = random.Random(0)
    for kill in range(n_kills + 1):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert process.stdout is not None
        steps_to_live = rng.randint(1, 4) if kill < n_kills else 10**9
        for line in process.stdout:
            steps_to_live -= json.loads(line)["event"] == "stepped"
            if steps_to_live <= 0:
                time.sleep(rng.uniform(0, 0.05))
                os.killpg(process.pid, signal.SIGKILL)
                break
        process.stdout.close()
        code = process.wait()
        assert code == (-signal.SIGKILL if kill < n_kills else 0)


def test_several_folders_are_drawn_by_their_shares(data: Path, tmp_path: Path) -> None:
    """The folder belongs to the shares as it does to the songs: others would go on with other batches."""
    (tmp_path / "more").mkdir()
    shutil.copytree(data / "train" / "a", tmp_path / "more" / "e")
    command = [*train_command(data, tmp_path / "run", 1, 0), "--data", str(tmp_path / "more"), "--stop-after", "0"]

    def call(*shares: str) -> tuple[int, str]:
        parts = [part for share in shares for part in ("--share", share)]
        done = subprocess.run([*command, *parts], capture_output=True, text=True)
        return done.returncode, done.stderr

    assert call("3", "1") == (0, "")
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert told["songs"]["names"] == ["a", "b", "c", "e"]
    assert told["valid_songs"]["names"] == ["d"]
    assert call("3", "1") == (0, "")
    for shares, expected in (
        (("1", "1"), "other songs"),
        (("1",), "1 --share for 2 --data"),
        (("0", "1"), "more than"),
    ):
        code, said = call(*shares)
        assert code == 2
        assert expected in said


def test_killed_it_ends_the_same(data: Path, tmp_path: Path) -> None:
    kill_and_go_on(data, tmp_path / "killed", n_kills=1, epochs=2)
    kill_and_go_on(data, tmp_path / "through", n_kills=0, epochs=2)
    assert same(tmp_path / "through" / "last.safetensors", tmp_path / "killed" / "last.safetensors")


@pytest.mark.skipif(sys.platform == "win32", reason="interrupts of other processes are a POSIX matter")
@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(
            signal.SIGTERM, 143, marks=pytest.mark.skipif(sys.platform != "linux", reason="who sent it is not told")
        ),
    ],
)
def test_a_signal_saves_and_the_same_command_goes_on(
    data: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """A terminal or a batch system sends it to the reading processes too; they must not die of it."""
    command = train_command(data, tmp_path / "run", 2, save_every_s=3600)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "stepped":
            os.killpg(process.pid, number)
            break
    # Its last events are still to come: a reader that leaves before would end it by a broken pipe.
    _, errors = process.communicate()
    said = errors.splitlines()
    assert process.returncode == code
    assert len(said) == 1, said
    assert "goes on from here" in said[0]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first = json.loads(done.stdout.splitlines()[0])
    assert (first["epoch"], first["batch"]) != (0, 0)
    run_through = train_command(data, tmp_path / "through", 2, save_every_s=3600)
    subprocess.run(run_through, capture_output=True, check=True)
    assert same(tmp_path / "through" / "last.safetensors", tmp_path / "run" / "last.safetensors")


def processes_of(group: int) -> list[int]:
    """The processes of a group that still run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, _, its_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            found += [int(folder.name)] * (int(its_group) == group and state != "Z")
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="processes are seen in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_stays_behind(data: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Those that read end with the one that trains, however it ends, though a signal alone does not end them."""
    command = train_command(data, tmp_path / "run", 1000, save_every_s=3600)
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "start_new_session": True}
    with subprocess.Popen(command, **options) as process:
        try:
            for line in process.stdout:
                if json.loads(line)["event"] == "stepped":
                    break
            readers = [each for each in processes_of(process.pid) if each != process.pid]
            assert readers
            for reader in readers:
                os.kill(reader, signal.SIGTERM)
            assert json.loads(process.stdout.readline())["event"] == "stepped"
            os.kill(process.pid, number)
            assert process.wait(60) == (143 if number == signal.SIGTERM else -number)
            until = time.monotonic() + 20  # whether their parent lives they look every 5 s
            while processes_of(process.pid) and time.monotonic() < until:
                time.sleep(0.1)
            assert not processes_of(process.pid)
        finally:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are seen in /proc")
def test_the_death_of_a_reader_is_told_in_one_line(data: Path, tmp_path: Path) -> None:
    """Where memory runs out, the system kills the one or the other."""
    command = train_command(data, tmp_path / "run", 1000, save_every_s=3600)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, start_new_session=True) as process:
        try:
            for line in process.stdout:
                if json.loads(line)["event"] == "stepped":
                    break
            for reader in set(processes_of(process.pid)) - {process.pid}:
                os.kill(reader, signal.SIGKILL)
            _, said = process.communicate(timeout=60)
        finally:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 1
    assert said.startswith(f"danna-sep: {tmp_path / 'run'}: a process that reads songs was ended from outside")
    assert said.count("\n") == 1


@pytest.mark.parametrize(("stopping", "kind"), [(True, Cancelled), (False, TrainingFailed)])
@pytest.mark.parametrize(
    "raised",
    [
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated. "),
        RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"),
        # When it was to hand over what it had announced.
        ConnectionResetError(104, "Connection reset by peer"),
        ConnectionRefusedError(111, "Connection refused"),
        EOFError(),
    ],
)
def test_a_reader_that_dies_of_the_signal_to_stop_is_no_failure(
    tmp_path: Path, stopping: bool, kind: type[Exception], raised: Exception
) -> None:
    """As on systems that do not tell who sent a SIGTERM: there, what a batch system sends ends the readers, too."""
    with (
        pytest.raises(kind, match="the state that was saved last"),
        running.lost_readers_told(tmp_path, lambda: stopping),
    ):
        raise raised
    with pytest.raises(RuntimeError, match="something else"), running.lost_readers_told(tmp_path, lambda: stopping):
        raise RuntimeError("something else")


@pytest.mark.slow
def test_killed_five_times_it_ends_the_same(data: Path, tmp_path: Path) -> None:
    kill_and_go_on(data, tmp_path / "killed", n_kills=5, epochs=10)
    kill_and_go_on(data, tmp_path / "through", n_kills=0, epochs=10)
    assert same(tmp_path / "through" / "last.safetensors", tmp_path / "killed" / "last.safetensors")


def test_workers_do_not_change_the_result(data: Path, tmp_path: Path) -> None:
    recipe = tiny("unet", "epochs=1")
    run(recipe, data, tmp_path / "none", n_workers=0)
    run(recipe, data, tmp_path / "two", n_workers=2)
    assert same(tmp_path / "none" / "last.safetensors", tmp_path / "two" / "last.safetensors")


@pytest.mark.parametrize("setting", ["data.mixing=false", "data.coherent=1"])
def test_a_stem_that_nothing_tells_of_is_not_trained_to_silence(data: Path, tmp_path: Path, setting: str) -> None:
    """Songs without bass and without a mixture know nothing of it, though their mixtures are sums of the others."""
    for name in "abc":
        shutil.copytree(data / "train" / name, tmp_path / "songs" / name)
        (tmp_path / "songs" / name / "bass.flac").unlink()
    songs = find_songs(tmp_path / "songs")
    if setting == "data.coherent=1":  # which is for songs that could be mixed, too
        bass = find_songs(data, "valid")[0].files["bass"]
        songs.append(Song("bass alone", {"bass": bass}))
    biases = []
    for lr in ("0", "1e-3"):
        recipe = tiny("demucs", "epochs=1", "optimiser.ema=0", f"optimiser.lr={lr}", setting)
        options = running.Options(device="cpu", n_workers=0)
        list(loop.train(recipe, songs, songs_of(data)[1], tmp_path / lr, options=options))
        biases.append(entries(tmp_path / lr / "last.safetensors")["decoder.2.widen.bias"].reshape(len(SOURCES), 2))
    assert (biases[0] != biases[1]).any(1).tolist() == [True, False, True, True]


def test_the_seed_changes_the_result(data: Path, tmp_path: Path) -> None:
    recipe = tiny("unet", "epochs=1")
    run(recipe, data, tmp_path / "one", seed=1)
    run(recipe, data, tmp_path / "two", seed=2)
    assert not same(tmp_path / "one" / "last.safetensors", tmp_path / "two" / "last.safetensors")


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_trains(data: Path, tmp_path: Path, name: str) -> None:
    recipe = tiny(name)
    init = None
    if recipe.init:
        run(tiny(recipe.init, "epochs=1"), data, tmp_path / "init")
        init = tmp_path / "init" / "best.safetensors"
    options = running.Options(device="cpu", n_workers=0)
    told = list(loop.train(recipe, *songs_of(data), tmp_path / "run", init=init, options=options))
    losses = [event.loss for event in told if isinstance(event, events.Stepped)]
    assert len(losses) == 6
    assert np.isfinite(losses).all()
    validated = [event for event in told if isinstance(event, events.Validated)]
    assert [event.epoch for event in validated] == [0, 1]
    assert all(np.isfinite(event.scores.per_source_db).all() for event in validated)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["recipe"]["model"] == recipe.model
    assert (record["init"] is None) == (init is None)
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [each["event"] for each in log] == ["started", *["stepped"] * 3, "validated"] + ["stepped"] * 3 + [
        "validated",
        "stopped",
    ]


def test_a_folder_of_another_training_is_refused(data: Path, tmp_path: Path) -> None:
    run(tiny("unet", "epochs=1"), data, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    with pytest.raises(ConfigError, match="loss"):
        run(tiny("unet", "epochs=1", "loss.kind=real"), data, tmp_path)
    with pytest.raises(ConfigError, match="seed 0 instead of 3"):
        run(tiny("unet", "epochs=1"), data, tmp_path, seed=3)
    options = running.Options(device="cpu", n_workers=0)
    with pytest.raises(ConfigError, match="other songs"):
        list(loop.train(tiny("unet", "epochs=1"), songs_of(data)[1], songs_of(data)[1], tmp_path, options=options))
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}


def test_a_loss_that_is_not_finite_stops_with_the_batch(data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"not finite in epoch 0, batch \d+ \(excerpts \d+, \d+\)"):
        run(tiny("unet", "optimiser.lr=1e35", "optimiser.accumulate=1", "epochs=3"), data, tmp_path)


def test_asked_to_stop_it_saves_and_says_so(data: Path, tmp_path: Path) -> None:
    recipe = tiny("unet")
    told: list[events.Event] = []
    options = running.Options(device="cpu", n_workers=0)

    def cancelled() -> bool:
        return sum(isinstance(event, events.Stepped) for event in told) == 2

    told_later = loop.train(recipe, *songs_of(data), tmp_path, options=options, cancelled=cancelled)
    with pytest.raises(Cancelled, match="goes on from here"):
        told.extend(told_later)
    started = next(iter(loop.train(recipe, *songs_of(data), tmp_path, options=options)))
    assert isinstance(started, events.Started)
    assert (started.epoch, started.batch) == (0, 4)


def test_a_damaged_state_is_named(data: Path, tmp_path: Path) -> None:
    recipe = tiny("unet")
    run(recipe, data, tmp_path, stop_after_s=0.0)
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CorruptWeights, match=r"state\.safetensors: cannot be gone on from"):
        run(recipe, data, tmp_path)


def test_weights_to_start_from_bring_their_size(data: Path, tmp_path: Path) -> None:
    run(tiny("unet", "epochs=1"), data, tmp_path / "first")
    init = tmp_path / "first" / "best.safetensors"
    options = running.Options(device="cpu", n_workers=0)
    recipe = replace(tiny("unet", "epochs=1", "optimiser.lr=0"), config={})
    list(loop.train(recipe, *songs_of(data), tmp_path / "second", init=init, options=options))
    before, after = entries(init), entries(tmp_path / "second" / "last.safetensors")
    moving = ("running_mean", "running_var", "num_batches_tracked")
    assert all(torch.equal(before[name], after[name]) for name in before if not name.endswith(moving))
    assert json.loads((tmp_path / "second" / "run.json").read_text())["config"]["growth"] == 2
    with pytest.raises(ConfigError, match="weights of unet, but the recipe trains demucs"):
        list(loop.train(tiny("demucs"), *songs_of(data), tmp_path / "third", init=init, options=options))


def test_settings_change_what_weights_to_start_from_bring(data: Path, tmp_path: Path) -> None:
    """Where these weights serve; else they are refused: nobody must believe that they were heeded."""
    run(tiny("unet", "epochs=1"), data, tmp_path / "first")
    init, folder = tmp_path / "first" / "best.safetensors", tmp_path / "run"

    def train(*settings: str) -> Outcome:
        parts = [part for setting in (*SHORT, *settings) for part in ("--set", setting)]
        options = ("--init", init, "--out", folder, "--device", "cpu", "--workers", 0, "--stop-after", 0, "--json")
        return command_line("train", "small-unet", "--data", data, *options, *parts)

    refused = train("config.growth=4")
    assert refused.code == 2
    assert "config {'growth': 4} needs other weights than" in refused.complaint()
    assert not folder.exists()
    changes = ("config.n_fft=2048", "config.dropout=0.25")
    assert train(*changes).code == 0
    config = json.loads((folder / "run.json").read_text())["config"]
    assert (config["n_fft"], config["dropout"], config["growth"]) == (2048, 0.25, 2)
    again = train(*changes)
    assert again.code == 0, again.err
    assert again.events[0]["batch"] > 0
    assert "config {" in train("config.n_fft=2048").complaint()


def test_a_start_that_fails_claims_no_folder(data: Path, tmp_path: Path) -> None:
    """Else what the message advises is refused as another training."""
    folder = tmp_path / "run"
    with pytest.raises(ConfigError, match=r"raise data\.excerpts_per_track"):
        run(tiny("unet", "optimiser.batch_size=16"), data, folder)
    assert not folder.exists()
    with pytest.raises(ConfigError, match="no setting 'size'"):
        run(tiny("unet", "config.size=3"), data, folder)
    recipe = tiny("unet", "optimiser.batch_size=16", "data.excerpts_per_track=6")
    assert isinstance(run(recipe, data, folder, stop_after_s=0.0)[-1], events.Stopped)


def test_a_torn_line_of_the_log_goes(data: Path, tmp_path: Path) -> None:
    """A kill can tear it; what is written next would be joined with it, and both be lost."""
    recipe = tiny("unet", "epochs=1")
    run(recipe, data, tmp_path, stop_after_s=0.0)
    log = tmp_path / "log.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"event": "step')
    run(recipe, data, tmp_path, stop_after_s=0.0)
    assert log.read_bytes().startswith(whole + b'{"event": "started"')
    assert all(json.loads(line) for line in log.read_text().splitlines())
    log.write_bytes(b"{")
    run(recipe, data, tmp_path, stop_after_s=0.0)
    assert json.loads(log.read_text().splitlines()[0])["event"] == "started"


def test_weights_that_are_not_there_leave_no_folder(data: Path, tmp_path: Path) -> None:
    options = running.Options(device="cpu", n_workers=0)
    missing, folder = tmp_path / "none.safetensors", tmp_path / "run"
    with pytest.raises(MissingWeights, match=r"none\.safetensors"):
        list(loop.train(tiny("unet"), *songs_of(data), folder, init=missing, options=options))
    assert not folder.exists()


@pytest.mark.parametrize(("device", "said"), [("gpu", "no device 'gpu'"), ("cpu:0", "CUDA_VISIBLE_DEVICES")])
def test_an_unknown_device_is_refused(data: Path, tmp_path: Path, device: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        list(loop.train(tiny("unet"), *songs_of(data), tmp_path, options=running.Options(device=device)))


def test_an_epoch_without_a_batch_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fewer than a batch"):
        run(tiny("unet", "optimiser.batch_size=64"), data, tmp_path)


def test_songs_without_sound_cannot_validate(data: Path, tmp_path: Path) -> None:
    (tmp_path / "silent" / "one").mkdir(parents=True)
    for name in ("vocals", "mixture"):
        soundfile.write(tmp_path / "silent" / "one" / f"{name}.wav", np.zeros((44100, 2)), 44100)
    options = running.Options(device="cpu", n_workers=0)
    silent = find_songs(tmp_path / "silent")
    with pytest.raises(SongsError, match="to validate on are silent"):
        list(loop.train(tiny("unet"), songs_of(data)[0], silent, tmp_path / "run", options=options))


def test_norms_stand_still_where_they_shall(data: Path, tmp_path: Path) -> None:
    """Their statistics come out as they went in, and all that is learnt moves on; also with the average."""
    run(tiny("unet", "epochs=1"), data, tmp_path / "first")
    init = tmp_path / "first" / "last.safetensors"
    recipe = tiny("unet", "epochs=1", "optimiser.still=true")
    list(
        loop.train(
            recipe, *songs_of(data), tmp_path / "on", init=init, options=running.Options(device="cpu", n_workers=0)
        )
    )
    before, after = entries(init), entries(tmp_path / "on" / "last.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if "running" not in name and "num_batches" not in name}


def test_it_stops_early(data: Path, tmp_path: Path) -> None:
    told = run(tiny("unet", "optimiser.lr=0", "optimiser.ema=0", "epochs=20", "early_stop=2"), data, tmp_path)
    n_epochs = sum(isinstance(event, events.Validated) for event in told)
    assert n_epochs < 20
    last = told[-1]
    assert isinstance(last, events.Stopped)
    assert last.is_over
    assert last.best_epoch == n_epochs - 3


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("optimiser.lr=fast", "must be float"),
        ("optimiser.rate=1", "no 'rate'"),
        ("optimiser=1", "must be OptimiserConfig"),
        ("epochs=1.5", "must be int"),
        ("epochs.n=1", "single value"),
        ("epochs=0", "epochs must be at least 1"),
        ("n_wiener_iterations=4", "n_wiener_iterations must be at most 3"),
        ("n_wiener_iterations=-1", "n_wiener_iterations must be at least 0"),
        ("loss.n_wiener_iterations=-1", r"loss\.n_wiener_iterations must be at least 0"),
        ("optimiser.clip_norm=NaN", r"optimiser\.clip_norm must be a finite number, not nan"),
        ("optimiser.clip_norm=-1", r"optimiser\.clip_norm must be at least 0"),
        ("optimiser.lr=NaN", r"optimiser\.lr must be a finite number"),
        ("optimiser.weight_decay=-1", r"optimiser\.weight_decay must be at least 0"),
        ("optimiser.ema=1", r"optimiser\.ema must be less than 1"),
        ("early_stop=-1", "early_stop must be at least 0"),
        ("data.valid_s=-3", r"data\.valid_s must be at least 0"),
        ("data.excerpt_s=Infinity", r"data\.excerpt_s must be a finite number, not inf"),
        ("data.redraw=1.5", r"data\.redraw must be at most 1"),
        ("data.coherent=-1", r"data\.coherent must be at least 0"),
        ("schedule.factor=-1", r"schedule\.factor must be at least 0"),
        ("schedule.warmup_steps=-5", r"schedule\.warmup_steps must be at least 0"),
        ("config.dropout=NaN", r"config\.dropout must be a finite number"),
        ("augment.gain=[1]", r"must be tuple as \(0\.25, 1\.25\) is, not \[1\]"),
        ('augment.gain=["a",2]', r"augment\.gain: must be tuple"),
        ("augment.gain=[NaN,2]", "gain must be two factors"),
        ("augment.gain=[2,1]", "gain must be two factors"),
        ("augment.semitones=[1.5]", r"augment\.semitones: must be tuple"),
        ("augment.semitones=[]", "semitones must be some of"),
        ("augment.speeds=[true]", r"augment\.speeds: must be tuple"),
        ("augment.p_pitch=NaN", "p_pitch is a probability"),
        ("loss.kind=waveform", "loss.kind of unet"),
        ("epochs", "NAME=VALUE"),
    ],
)
def test_a_wrong_setting_is_named(setting: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        with_settings(find_recipe("unet"), [setting])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("command", [("train", "unet", "--data", "songs"), ("reproduce", "--tiny")])
def test_a_seed_below_zero_is_refused(capfd: pytest.CaptureFixture[str], command: tuple[str, ...]) -> None:
    outcome = call(capfd, *command, "--seed", "-1")
    assert outcome.code == 2
    assert "--seed" in outcome.err


def test_lists_are_taken_as_what_they_stand_for() -> None:
    recipe = with_settings(find_recipe("unet"), ["augment.gain=[1,2]", "augment.speeds=[95]"])
    assert recipe.augment.gain == (1.0, 2.0)
    assert recipe.augment.speeds == (95,)


def test_settings_change_what_they_name() -> None:
    recipe = with_settings(find_recipe("unet"), ["optimiser.lr=1", "config.growth=3", "config.n_layers=[1,2]"])
    assert recipe.optimiser.lr == 1.0
    assert recipe.config == {"growth": 3, "n_layers": (1, 2)}
    assert find_recipe("unet").config == {}


def test_the_papers_constants() -> None:
    """The table of the paper, row by row."""
    xumx, unet, demucs = (find_recipe(name) for name in ("xumx", "unet", "demucs"))
    assert [each.data.excerpt_s for each in (xumx, unet, demucs)] == [6.0, 11.88, 10.0]
    assert [each.data.excerpts_per_track for each in (xumx, unet, demucs)] == [64, 32, 150]
    batches = [(each.optimiser.batch_size, each.optimiser.accumulate) for each in (xumx, unet, demucs)]
    assert batches == [(4, 1), (16, 1), (3, 21)]
    assert [each.optimiser.lr for each in (xumx, unet, demucs)] == [1e-4, 2e-4, 3e-4]
    assert [each.optimiser.weight_decay for each in (xumx, unet, demucs)] == [1e-5, 0, 0]
    assert [each.epochs for each in (xumx, unet, demucs)] == [70, 700, 340]
    assert [each.config for each in (xumx, unet, demucs)] == [{}, {}, {}]
    rates = [learning_rate(xumx, epoch, 0, 1, Plateau()) for epoch in (44, 45)]
    assert rates == pytest.approx([1e-4, 3e-5])
    rates = [learning_rate(unet, epoch, 0, 1, Plateau()) for epoch in (559, 560)]
    assert rates == pytest.approx([2e-4, 6e-5])


def test_the_plateau_waits_for_its_patience() -> None:
    recipe = with_settings(find_recipe("demucs"), ["schedule.patience=2"])
    plateau = Plateau()
    rates = []
    for epoch, sdr_db in enumerate([1.0, 2.0, 1.0, 2.0, 1.9, 1.8, 3.0]):
        plateau = plateau.after(epoch, sdr_db, 2)
        rates.append(learning_rate(recipe, epoch + 1, 0, 1, plateau))
    assert rates == pytest.approx([3e-4] * 4 + [9e-5] * 3)
    assert (plateau.best_epoch, plateau.best_sdr_db) == (6, 3.0)


def test_trained_weights_separate(data: Path, tmp_path: Path) -> None:
    """What a training keeps is a file of weights as any other: it loads, and gives the sources."""
    run(tiny("demucs", "epochs=1"), data, tmp_path)
    file = weights.read(tmp_path / "best.safetensors")
    assert file.model == "demucs"
    assert file.metadata["epoch"] == "0"
    assert float(file.metadata["validation_sdr_db"]) == pytest.approx(float(file.metadata["validation_sdr_db"]))
    assert len(SOURCES) == file.config["n_sources"]
