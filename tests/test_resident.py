"""Training on packed songs that stay in the device's memory, as on a machine with a GPU; here on a CPU, and tiny."""

from __future__ import annotations

import json
import math
import queue
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from command_line import STEMS
from danna_sep import weights
from danna_sep.loading import load
from danna_sep.songs import Song

BUNDLE = Path(__file__).parent.parent / "bundle"
pytestmark = pytest.mark.skipif(not BUNDLE.exists(), reason="the package without its sources")
pytest.importorskip("av", reason="pack.py codes with PyAV")

RATE = 44100
TINY = """
import sys
sys.path.insert(0, {bundle!r})
import resident
resident.AUGMENTATION = ()
resident.RECIPES = {{
    "small-unet": (("config.growth=2", "config.n_layers=[1,1,1]", "config.bottleneck_width=8"), 1.0),
    "small-demucs": (("config.width=2", "config.n_layers=3"), 0.5),
    "small-xumx": (("config.hidden=8",), 0.5),
}}
resident.main()
"""


def tone(frequency_hz: float, n_seconds: float = 3) -> np.ndarray:
    time_s = np.arange(round(RATE * n_seconds)) / RATE
    return 0.3 * np.sin(2 * np.pi * frequency_hz * time_s[:, None] + [0, 1])


def packed(folder: Path) -> list[Path]:
    """Two songs, of which one tells only of its other, in an archive each."""
    for index, source in enumerate(STEMS):
        (folder / "songs" / "all").mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / "songs" / "all" / f"{source}.flac", tone(200.0 * (index + 1)), RATE)
    (folder / "guitars" / "one").mkdir(parents=True)
    soundfile.write(folder / "guitars" / "one" / "other.flac", tone(500), RATE)
    command = [sys.executable, str(BUNDLE / "pack.py"), "--out", str(folder / "packed"), "--megabytes", "0.01"]
    for name, share in (("songs", "3"), ("guitars", "1")):
        command += ["--data", str(folder / name), "--share", share]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return sorted((folder / "packed").iterdir())


@pytest.fixture
def bundle_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BUNDLE))


@pytest.mark.usefixtures("bundle_modules")
def test_what_is_packed_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its shares, each stem where it was to within what the coding changes, zeros beyond the end, some absent."""
    import pool as pools
    from pool import Pool

    assert [path.name for path in packed(tmp_path)] == ["part-00.tar", "part-01.tar"]
    pool = Pool(tmp_path / "packed", torch.device("cpu"))
    pool.take_in()
    pool.take_in()
    assert [song.odds["other"] for song in pool.songs] == [3, 1], "taken in once"
    whole = pool.songs[0]
    for index, source in enumerate(STEMS):
        stem = whole.stems[source]
        assert stem is not None
        given = tone(200.0 * (index + 1)).T
        error = stem.samples[:, : given.shape[1]].numpy() / 2**14 - given
        assert 10 * np.log10(np.square(given).mean() / np.square(error).mean()) > 15, source
    pool.rng = np.random.default_rng(5)
    stems, annotated, _ = pool.draw(80, RATE // 10)
    silent = (stems[pools.n_coherent(80) :].square().amax((2, 3)) == 0).float().mean()
    assert float(silent) == pytest.approx(pools.P_ABSENT, abs=0.08)
    assert annotated.all(), "it is known that they are silent"
    monkeypatch.setattr(pools, "P_ABSENT", 0.0)
    stems, annotated, seeds = pool.draw(8, 4 * RATE)
    assert (stems.shape, seeds.shape) == ((8, 4, 2, 4 * RATE), (8,))
    assert annotated.all()
    assert not stems[..., 3 * RATE + 1000 :].any()
    assert stems[:, :, :, :RATE].square().mean((2, 3)).min() > 0.01, "tones have no silence"
    others = [pool._song("other").odds["other"] for _ in range(400)]
    assert others.count(1) == pytest.approx(100, abs=40)
    assert {pool._song("bass").odds["bass"] for _ in range(50)} == {3}


@pytest.mark.usefixtures("bundle_modules")
def test_accompaniments_get_other_songs_vocals_and_shares_are_by_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only is known as a whole must teach vocals and the sum of the rest, and nothing else."""
    import resident
    from pool import Pool

    from danna_sep.training.combinations import COMBINATIONS
    from danna_sep.training.recipe import with_settings
    from danna_sep.training.recipes import find_recipe

    songs = tmp_path / "songs" / "all"
    songs.mkdir(parents=True)
    for index, source in enumerate(STEMS):
        soundfile.write(songs / f"{source}.flac", tone(200.0 * (index + 1)), RATE)
    game = tmp_path / "game" / "one"
    game.mkdir(parents=True)
    for name in ("guitar.ogg", "song.ogg", "choir.ogg"):
        soundfile.write(game / name, tone(3000), RATE)
    (tmp_path / "game" / "origin.json").write_text('{"bank": "a game"}')
    listed = tmp_path / "instrumentals"
    program = [sys.executable, str(BUNDLE / "instrumentals.py"), str(game.parent), "--out", str(listed)]
    done = subprocess.run([*program, "--except", "choir"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"1 songs in {listed}\n"), done.stderr
    assert json.loads((listed / "origins.json").read_text()) == [{"bank": "a game"}]
    command = [sys.executable, str(BUNDLE / "pack.py"), "--data", str(songs.parent), "--data", str(listed)]
    command += ["--share", "drums=1,bass=1,other=1,vocals=0.5", "--share", "1", "--out", str(tmp_path / "packed")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pool = Pool(tmp_path / "packed", torch.device("cpu"))
    pool.take_in()
    assert pool.songs[0].odds == {"drums": 1, "bass": 1, "other": 1, "vocals": 0.5, "": 0.5}
    stems, annotated, _ = pool.draw(16, RATE)
    assert annotated[:13].all()
    assert annotated[13:].tolist() == [[False, False, False, True]] * 3
    spectra = torch.fft.rfft(stems[13:, :, 0]).abs()
    assert not stems[13:, 1:3].any()
    assert (spectra[:, 0].argmax(-1) - 3000).abs().max() <= 1
    assert (spectra[:, 3].argmax(-1) - 800).abs().max() <= 1

    ready: queue.Queue[resident.Batch | BaseException] = queue.Queue(1)
    stop = threading.Event()
    recipe = with_settings(find_recipe("small-unet"), ["augment.p_speed=0"])
    making = threading.Thread(daemon=True, target=resident.batches, args=(pool, recipe, 16, 9 * 1024, ready, stop))
    making.start()
    batch = ready.get(timeout=60)
    stop.set()
    making.join(60)
    assert not making.is_alive(), "what nobody takes keeps no thread"
    assert isinstance(batch, resident.Batch)
    assert batch.known[:13].all()
    vocals, the_rest = COMBINATIONS.index((3,)), COMBINATIONS.index((0, 1, 2))
    assert [row.nonzero().flatten().tolist() for row in batch.known[13:]] == [[vocals, the_rest]] * 3


@pytest.mark.parametrize(
    ("share", "said"),
    [
        ("drum=1", "drum: not one of drums, bass, other, vocals, mixture"),
        ("drums=1,drums=2", "drums: there twice"),
        ("drums=1,bass", "a share is a number"),
        ("-1", "a share is a number"),
        ("nan", "a share is a number"),
        ("vocals=1", "guitars: one: has nothing that has a share"),
    ],
)
def test_shares_that_mean_nothing_are_refused(tmp_path: Path, share: str, said: str) -> None:
    (tmp_path / "guitars" / "one").mkdir(parents=True)
    soundfile.write(tmp_path / "guitars" / "one" / "other.flac", tone(500), RATE)
    command = [sys.executable, str(BUNDLE / "pack.py"), "--data", str(tmp_path / "guitars"), f"--share={share}"]
    done = subprocess.run([*command, "--out", str(tmp_path / "x")], capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]


def test_music_of_unknown_owners_is_refused(tmp_path: Path) -> None:
    """So are words that leave nothing out, for what they were to leave out would be taken for music without voices."""
    folder = tmp_path / "game"

    def error(*options: str) -> str:
        program = [sys.executable, str(BUNDLE / "instrumentals.py"), str(folder), "--out", str(tmp_path / "out")]
        done = subprocess.run([*program, *options], capture_output=True, text=True)
        assert done.returncode != 0
        assert not (tmp_path / "out").exists()
        return done.stderr.splitlines()[-1]

    assert "no audio files in it" in error()
    folder.mkdir()
    soundfile.write(folder / "song.ogg", tone(500), RATE)
    assert "must say whose the music is" in error()
    (folder / "origin.json").write_text("{}")
    assert "--except choir: no song has that in its name" in error("--except", "choir")


def test_songs_that_never_come_end_it(tmp_path: Path) -> None:
    """Not as weights that learnt nothing; archives of some stems alone are waited with for others."""
    _, guitars = packed(tmp_path)
    (tmp_path / "some").mkdir()
    guitars.rename(tmp_path / "some" / "part-00.tar")
    command = [sys.executable, "-c", TINY.format(bundle=str(BUNDLE)), "--songs", str(tmp_path / "some")]
    done = subprocess.run([*command, "--out", str(tmp_path / "out"), "--seconds", "5"], capture_output=True, text=True)
    assert done.returncode != 0
    assert "none with a share of drums or bass or vocals" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("bundle_modules")
def test_training_goes_on_from_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their configuration, at the rate that is asked for; those of a model that is not trained are refused."""
    import resident

    cpu = torch.device("cpu")
    monkeypatch.setitem(resident.RECIPES, "small-xumx", (("config.hidden=8",), 0.5))
    (first,) = resident.learners_of(["xumx"], [], 1.0, [], cpu)
    first.write(tmp_path / "first.safetensors", {})
    monkeypatch.setitem(resident.RECIPES, "small-xumx", (("config.hidden=16",), 0.5))
    settings = ["optimiser.ema=0.5"]
    (second,) = resident.learners_of(["xumx"], [tmp_path / "first.safetensors"], 0.5, settings, cpu)
    assert second.recipe.optimiser.ema == 0.5
    assert second.recipe.config["hidden"] == 8
    assert second.recipe.optimiser.lr == 0.5 * first.recipe.optimiser.lr
    for name, entry in first.model.state_dict().items():
        assert torch.allclose(second.model.state_dict()[name].double(), entry.double(), atol=1e-3), name
    assert second.share == 1, "alone, a model is trained till the end"
    for models, begun, said in (
        (["demucs"], ["first"], "first.safetensors: weights of xumx, which is not trained"),
        (["xumx"], ["first", "first"], "has others of that name"),
        (["xumx"], ["none"], "none.safetensors"),
    ):
        with pytest.raises(SystemExit, match=said):
            resident.learners_of(models, [tmp_path / f"{name}.safetensors" for name in begun], 1.0, [], cpu)
    for setting, said in (("config.hidden=4", "first: .* do not fit"), ("data.workers=1", "not one of config")):
        with pytest.raises(SystemExit, match=said):
            resident.learners_of(["xumx"], [tmp_path / "first.safetensors"], 1.0, [setting], cpu)
    with pytest.raises(SystemExit, match="nonsense"):
        resident.learners_of(["xumx"], [], 1.0, ["config.nonsense=1"], cpu)
    second.write(tmp_path / "second.safetensors", {})
    both = resident.learners_of([], [tmp_path / "first.safetensors", tmp_path / "second.safetensors"], 1.0, [], cpu)
    assert {"first", "second"} <= {learner.name for learner in both}
    second.write(tmp_path / "first-early.safetensors", {})
    with pytest.raises(SystemExit, match=r"first-early\.safetensors: would be written twice"):
        resident.learners_of([], [tmp_path / f"{name}.safetensors" for name in ("first", "first-early")], 1.0, [], cpu)


@pytest.mark.usefixtures("bundle_modules")
@pytest.mark.parametrize(
    ("fastest", "compiler"),
    [
        ("as it is", "fails"),
        ("aligned", "fails"),
        ("compiled", "works"),
        ("compiled", "has gradients of its own"),
        ("compiled", "meets a batch that is not finite"),
        ("compiled", "takes long"),
    ],
)
def test_a_unet_is_trained_in_its_fastest_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fastest: str, compiler: str
) -> None:
    """What is written is a U-Net of its own size whatever the form; a compiler that fails or errs ends nothing."""
    import resident
    from aligned import AlignedUNet
    from learner import Batch, Learner, Trial

    tiny = ("config.growth=2", "config.n_layers=[1,1]", "config.bottleneck_width=8", "config.n_bins=131")
    monkeypatch.setitem(resident.RECIPES, "small-unet", (tiny, 1.0))
    (learner,) = resident.learners_of(["unet"], [], 1.0, [], torch.device("cpu"))
    before = {name: entry.clone() for name, entry in learner.model.state_dict().items()}
    tried: list[str] = []

    def trial(self: Learner, batch: Batch) -> Trial:
        tried.append(("as it is", "aligned", "compiled")[len(tried)])
        if tried[-1] == "compiled" and compiler == "fails":
            raise RuntimeError("no compiler")
        if tried[-1] == "compiled" and compiler == "takes long":
            time.sleep(30)
        for module in self.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                assert module.running_mean is not None
                module.running_mean += 1
        errs = tried[-1] == "compiled" and compiler == "has gradients of its own"
        took_s = 1.0 if tried[-1] == fastest else 1.5 if tried[-1] == "aligned" else 2.0
        return Trial(took_s, math.nan if compiler.endswith("not finite") else 0.5, 3.0 if errs else 1.0)

    monkeypatch.setattr(Learner, "_try", trial)
    monkeypatch.setattr("learner.COMPILING_S", 1 if compiler == "takes long" else 60)
    monkeypatch.setattr(torch, "compile", lambda model: model.forward)
    batch = Batch(0.1 * torch.randn(2, 4, 2, 9000), torch.ones(2, 14, dtype=torch.bool), None)
    learner.choose_form(batch)
    assert isinstance(learner.model, AlignedUNet) == (fastest != "as it is" and not compiler.endswith("not finite"))
    assert (learner.compute is learner.model) == (compiler != "works")
    said = {"fails": "RuntimeError('no compiler')", "takes long": "TimeoutError('not within 1 s')"}
    out = capsys.readouterr().out
    assert ("cannot be compiled" in out) == (compiler in said)
    assert f"cannot be compiled: {said.get(compiler, '')}" in out or compiler not in said
    own = learner.model.entries() if isinstance(learner.model, AlignedUNet) else learner.model.state_dict()
    assert all(torch.equal(own[name], entry) for name, entry in before.items()), "trials leave nothing behind"
    learner.compute = learner.model
    learner.learn(batch, 0.1)
    learner.write(tmp_path / "unet.safetensors", {})
    load(str(tmp_path / "unet.safetensors"), device="cpu")


@pytest.mark.usefixtures("bundle_modules")
def test_a_trial_computes_what_a_step_does_and_leaves_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forms are compared by it: of another loss or gradient, they would be trained or refused by chance."""
    import resident
    from learner import Batch, Trial

    from danna_sep.training.objective import objective

    tiny = ("config.growth=2", "config.n_layers=[1,1]", "config.bottleneck_width=8", "config.n_bins=131")
    monkeypatch.setitem(resident.RECIPES, "small-unet", ((*tiny, "config.dropout=0.0"), 1.0))
    (learner,) = resident.learners_of(["unet"], [], 1.0, [], torch.device("cpu"))
    batch = Batch(0.1 * torch.randn(2, 4, 2, 9000), torch.ones(2, 14, dtype=torch.bool), None)
    loss = objective(learner.network, batch.stems, batch.known, learner.recipe.loss, learner.config).loss
    loss.backward()
    norm = torch.stack([entry.grad.norm() for entry in learner.parameters if entry.grad is not None]).norm()
    learner.model.zero_grad()
    trial = learner._try(batch)
    assert trial.batch_s > 0
    assert (trial.loss, trial.gradient) == pytest.approx((loss.item(), norm.item()), rel=1e-3)
    assert all(entry.grad is None or not entry.grad.any() for entry in learner.parameters)
    assert trial.agrees(trial)
    for other in (Trial(1, 2 * trial.loss, trial.gradient), Trial(1, trial.loss, float("nan"))):
        assert not other.agrees(trial)


@pytest.mark.usefixtures("bundle_modules")
def test_batches_are_augmented_together_as_each_would_be_alone() -> None:
    """How many go together is a matter of speed only."""
    import resident
    from pool import Drawn

    from danna_sep.training.augment import augment, margin
    from danna_sep.training.recipe import with_settings
    from danna_sep.training.recipes import find_recipe

    way = with_settings(find_recipe("small-unet"), resident.AUGMENTATION).augment
    shape = (3, 4, 2, 8000 + margin(8000, way))
    known = torch.ones(3, 4, dtype=torch.bool)
    drawn = [Drawn(torch.randn(shape), known, torch.randint(2**62, (3,))) for _ in range(2)]
    together = resident.augmented(drawn, slice(1, 3), 8000, way)
    for each, stems in zip(drawn, together, strict=True):
        torch.testing.assert_close(stems, augment(each.stems[1:], each.seeds[1:], 8000, way), atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("bundle_modules")
def test_excerpts_have_256_frames_of_the_longest_hop() -> None:
    """So that a network whose hops are longer hears no less of its context."""
    import resident

    cpu = torch.device("cpu")
    by_hop = {
        hop: resident.learners_of(["unet"], [], 1.0, [f"config.n_fft={4 * hop}", f"config.hop_length={hop}"], cpu)
        for hop in (1024, 1536)
    }
    demucs = resident.learners_of(["demucs"], [], 1.0, [], cpu)
    assert resident.n_samples_of(by_hop[1024], 256) == resident.n_samples_of(demucs, 256) == 255 * 1024
    assert resident.n_samples_of([*by_hop[1024], *by_hop[1536], *demucs], 256) == 255 * 1536


@pytest.mark.usefixtures("bundle_modules")
def test_songs_that_would_clip_are_packed_quieter(monkeypatch: pytest.MonkeyPatch) -> None:
    """All stems by the same gain, so that they still belong together."""
    import pack

    stems = {"drums": tone(200).T.astype(np.float32) * 5, "bass": tone(300).T.astype(np.float32)}
    monkeypatch.setattr(pack, "coded", lambda stem, kbit_s: stem)
    monkeypatch.setattr(Song, "read_stem", lambda self, source, start, n_frames: stems[source])
    monkeypatch.setattr(Song, "n_frames", 1000)
    files = pack.packed(Song("loud", dict.fromkeys(stems, ())), {"drums": 1.0}, 1.0)
    assert np.abs(files["drums.opus"]).max() == pytest.approx(1)
    assert np.allclose(files["bass.opus"] * 1.5, stems["bass"], atol=1e-5)


def test_an_archive_that_cannot_be_read_ends_it(tmp_path: Path) -> None:
    (tmp_path / "part-00.tar").write_bytes(b"no archive")
    command = [sys.executable, str(BUNDLE / "resident.py"), "--songs", str(tmp_path), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "part-00.tar" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "said"), [("0/notes.txt", "0/notes.txt"), ("7/drums.opus", "7: has no manifest")])
def test_what_pack_does_not_write_is_refused(tmp_path: Path, name: str, said: str) -> None:
    """Rather than a training without the songs that someone meant to be there."""
    archive = packed(tmp_path)[0]
    with tarfile.open(archive, "a") as opened:
        opened.addfile(tarfile.TarInfo(name))
    (tmp_path / "samples").mkdir()
    command = [sys.executable, str(BUNDLE / "unpacking.py"), str(archive), str(tmp_path / "samples")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert said in done.stderr.splitlines()[-1]
    assert not (tmp_path / "samples" / "songs.json").exists()


def test_archives_are_not_mixed_with_older_ones(tmp_path: Path) -> None:
    packed(tmp_path)
    command = [sys.executable, str(BUNDLE / "pack.py"), "--data", str(tmp_path / "songs"), "--share", "1"]
    done = subprocess.run([*command, "--out", str(tmp_path / "packed")], capture_output=True, text=True)
    assert done.returncode == 2
    assert "archives in it already" in done.stderr


@pytest.mark.usefixtures("bundle_modules")
def test_steps_without_a_finite_gradient_are_left_out() -> None:
    from resident import Batch, Learner

    from danna_sep.training.recipe import with_settings
    from danna_sep.training.recipes import find_recipe

    recipe = with_settings(find_recipe("small-xumx"), ["config.hidden=8", "config.dropout=0.0"])
    learner = Learner("xumx", recipe, 1.0, torch.device("cpu"))
    stems, known = 0.1 * torch.randn(2, 4, 2, 9000), torch.ones(2, 14, dtype=torch.bool)
    learner.learn(Batch(stems, known, None), 0.1)
    before = [parameter.detach().clone() for parameter in learner.parameters]
    learner.learn(Batch(stems * float("nan"), known, None), 0.1)
    assert all(torch.equal(a, b) for a, b in zip(before, learner.parameters, strict=True))


def test_models_are_trained_side_by_side_until_time_is_up(tmp_path: Path) -> None:
    """Weights that load and separate; songs that come later are taken in; the file `deadline` ends it early."""
    _, second = packed(tmp_path)
    late = tmp_path / "late.tar"
    second.rename(late)
    command = [sys.executable, "-c", TINY.format(bundle=str(BUNDLE)), "--songs", str(tmp_path / "packed")]
    command += ["--out", str(tmp_path / "out"), "--seconds", "600", "--batch", "2", "--frames", "10"]
    command += ["--training", "a test"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("part-00"):
            late.rename(second)
        if "part-01" in line:
            (tmp_path / "packed" / "deadline").write_text("0")
    errors = process.communicate()[1]
    assert process.returncode == 0, errors
    assert lines[-1] == "written\n"
    for model in ("unet", "demucs", "xumx"):
        path = tmp_path / "out" / f"{model}.safetensors"
        file = weights.read(path)
        assert (file.model, file.metadata["training"]) == (model, "a test")
        assert int(file.metadata["steps"]) > 0
        assert load(str(path))(torch.randn(2, 9000)).isfinite().all()
    assert weights.read(tmp_path / "out" / "unet.safetensors").metadata["wiener_iterations"] == "0"
    assert json.loads(json.dumps(weights.read(tmp_path / "out" / "unet.safetensors").config))["growth"] == 2
