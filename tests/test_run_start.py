"""Where runs start: what is replaced, continued and refused, and that nothing of anybody else's is touched."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from kinshot.cli.ssl import main
from kinshot.core.checkpoint import checkpoint_path, latest, load_checkpoint
from kinshot.core.checkpoint_files import MANIFEST
from kinshot.core.errors import CheckpointError, ConfigError, DivergedError, KinshotError
from kinshot.core.runlock import RunLock
from kinshot.recipes.recipe import Recipe, load_recipe
from kinshot.runs import rehearsal, train
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from tests.saved import DEAD_PID, resign
from tests.tiny import TINY
from tests.trees import write_folder

FAST = ["data.split=test", "train.epochs=1", "train.batch_size=90", "monitor.knn_every=0", "monitor.projector_points=0", "encoder.width=4"]
EPISODES = ["method=protonet", "views=clean", "method.ways=5", "method.shots=1", "method.queries=3", "validation.split=train"]


def recipe(*more: str) -> Recipe:
    return load_recipe(str(TINY), [*FAST, *more])


def go(out: Path, *more: str, resume: str = "never", overwrite: bool = False) -> list[str]:
    """One run; what it says."""
    said: list[str] = []
    train_recipe(recipe(*more), Options(out, resume, overwrite, quiet=True), said.append)
    return said


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    go(out)
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A finished run of one's own, with three checkpoints' worth of history."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def held(folder: Path) -> dict[str, Any]:
    """Every name below a folder with its content; links are not followed."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        found[name] = os.readlink(path) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
    return {name: content for name, content in found.items() if name != ".lock"}


# -- replacing a run


@pytest.mark.parametrize(
    "wrong",
    [
        ["train.batch_size=100000"],
        ["encoder=mlp"],
        [*EPISODES, "train.batch_size=20", "validation.ways=11"],
        ["data.size=64", "views.small_size=16", "views.small_epochs=1"],
        ["init=nowhere"],
        ["data=folder", "data.root=nowhere"],
    ],
)
def test_a_run_is_not_deleted_for_one_that_cannot_be_built(run: Path, wrong: list[str]) -> None:
    before = held(run)
    with pytest.raises(KinshotError):
        go(run, *wrong, overwrite=True)
    assert held(run) == before


def test_a_run_is_not_deleted_before_the_first_step_has_gone_through(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = held(run)

    def broken(job: Any) -> dict[str, torch.Tensor]:
        assert held(run) == before
        return {"loss": torch.tensor(math.nan)}

    monkeypatch.setattr(rehearsal, "first_step", broken)
    with pytest.raises(DivergedError, match="left as it is"):
        go(run, "train.lr=0.1", overwrite=True)
    assert held(run) == before


def test_a_replaced_run_is_gone_and_nothing_else_is(run: Path, tmp_path: Path) -> None:
    (run / "notes.txt").write_text("mine")
    (run / "checkpoints" / "plan.md").write_text("mine too")
    (run / "tensorboard" / "mine.txt").write_text("and mine")
    (run / f".step-00000001.tmp-{DEAD_PID}").mkdir()
    said = go(run, "seed=7", overwrite=True)
    assert any("stays" in line and "notes.txt" in line for line in said)
    go(tmp_path / "fresh", "seed=7")
    mine = {"notes.txt": b"mine", "checkpoints/plan.md": b"mine too", "tensorboard/mine.txt": b"and mine"}
    replaced, fresh = held(run), held(tmp_path / "fresh")
    assert {name for name in replaced if "tfevents" not in name} == {name for name in fresh if "tfevents" not in name} | mine.keys()
    assert {name: replaced[name] for name in mine} == mine
    assert replaced["metrics.jsonl"] == fresh["metrics.jsonl"]
    assert sum("tfevents" in name for name in replaced) == 1
    assert load_checkpoint(run).config["seed"] == 7


FOREIGN = {
    "checkpoints of another tool": {"checkpoints/epoch3.ckpt": "x", "src/a.py": "", "thesis.tex": "thesis"},
    "a file called checkpoints": {"checkpoints": "x", "thesis.tex": "thesis"},
    "a lock": {".lock": "", "thesis.tex": "thesis"},
    "records": {"metrics.jsonl": "{}\n"},
    "locked records of another tool": {".lock": "", "metrics.jsonl": "{}\n", "config.yaml": "name: other\n"},
    "a recipe of one's own": {"config.yaml": TINY.read_text(), ".lock": "", "checkpoints/x": ""},
    "a step of another tool": {"config.yaml": "a: 1", "checkpoints/step-00000001/model.pt": "x"},
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_folder_that_is_no_run_is_neither_emptied_nor_begun_in(kind: str, tmp_path: Path) -> None:
    for name, text in FOREIGN[kind].items():
        (tmp_path / "proj" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "proj" / name).write_text(text)
    before = held(tmp_path)
    for given in ({"overwrite": True}, {"resume": "auto"}, {}):
        with pytest.raises((ConfigError, CheckpointError), match="proj"):
            go(tmp_path / "proj", **given)  # type: ignore[arg-type]
    assert held(tmp_path) == before


@pytest.mark.parametrize("place", [".", "..", "HOME"])
def test_the_current_folder_and_the_home_are_never_emptied(place: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = run / "below"
    below.mkdir()
    monkeypatch.chdir(run if place == "." else below if place == ".." else tmp_path)
    monkeypatch.setenv("HOME", str(run))
    before = held(run)
    with pytest.raises(ConfigError, match="current folder or your home"):
        go(run if place == "HOME" else Path(place), overwrite=True)
    assert held(run) == before


def test_a_run_that_left_nothing_but_its_lock_or_died_early_is_no_obstacle(tmp_path: Path) -> None:
    early, locked = tmp_path / "early", tmp_path / "locked"
    for folder in (early, locked):
        folder.mkdir()
        (folder / ".lock").write_text(f"{DEAD_PID}\n")
    (early / "metrics.jsonl").touch()
    (early / f".config.yaml.tmp-{DEAD_PID}").write_text("na")
    (early / "tensorboard").mkdir()
    go(early, resume="auto")
    go(locked)
    assert held(early)["metrics.jsonl"] == held(locked)["metrics.jsonl"]


# -- going on


def damaged(path: Path) -> None:
    os.truncate(path / "training.safetensors", 99)


def of_a_newer_version(path: Path) -> None:
    text = (path / MANIFEST).read_text()
    (path / MANIFEST).write_text(text.replace('"schema_version": 2', '"schema_version": 3'))


@pytest.mark.parametrize("harm", [damaged, of_a_newer_version])
@pytest.mark.parametrize("all_of_them", [True, False])
def test_nothing_begins_over_checkpoints_that_cannot_be_read(run: Path, harm: Any, all_of_them: bool) -> None:
    newest = latest(run)
    assert newest is not None
    older = [path for path in (run / "checkpoints").iterdir() if path != newest]
    assert older
    for path in [newest, *older] if all_of_them else [newest]:
        harm(path)
    before = held(run)
    for resume in ("auto", str(run)):
        with pytest.raises(CheckpointError, match=str(newest)):
            go(run, resume=resume)
    assert held(run) == before
    if not all_of_them:  # what the message offers
        go(run, resume=str(older[0]))
        assert load_checkpoint(run).step == load_checkpoint(newest).step


def test_a_run_without_its_checkpoints_is_not_begun_anew(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    before = held(run)
    with pytest.raises(CheckpointError, match="none of its checkpoints"):
        go(run, resume="auto")
    assert held(run) == before


def test_what_a_kill_leaves_is_no_damage(run: Path) -> None:
    newest = latest(run)
    assert newest is not None
    half = newest.with_name(f".step-00000099.tmp-{DEAD_PID}")
    shutil.copytree(newest, half)
    os.truncate(half / "state.json", 5)
    newest.rename(newest.with_name(f".{newest.name}.old-{DEAD_PID}"))  # between the two renames of a replacement
    (run / "result.json").unlink()
    expected = load_checkpoint(run).step
    go(run, resume="auto")
    assert load_checkpoint(run).step == expected
    assert json.loads((run / "result.json").read_text())["steps"] == expected
    assert not [name for name in held(run / "checkpoints") if name.startswith(".")]


def test_a_finished_run_is_compared_with_the_data_before_it_says_so(tmp_path: Path) -> None:
    folder = ["data=folder", "data.size=16", "data.split=train", "train.batch_size=4"]
    for place in ("one", "other"):
        write_folder(tmp_path / place)
    for picture in list((tmp_path / "other/train/cat").iterdir())[:2]:  # one alone may go: another stands in
        picture.unlink()
    here, there = ([*folder, f"data.root={tmp_path / place}"] for place in ("one", "other"))
    go(tmp_path / "run", *here)
    before = held(tmp_path / "run")
    assert any("complete already" in line for line in go(tmp_path / "run", *here, resume="auto"))
    with pytest.raises(CheckpointError, match="other data"):
        go(tmp_path / "run", *there, resume="auto")
    assert held(tmp_path / "run") == before


def test_a_finished_run_is_compared_with_the_teacher_before_it_says_so(tmp_path: Path, run: Path) -> None:
    go(tmp_path / "other", "seed=3")
    student = ["method=student", "views.views=1", "distill.losses=[rkd_distance]"]
    go(tmp_path / "taught", *student, f"teacher={run}")
    assert any("complete already" in line for line in go(tmp_path / "taught", *student, f"teacher={run}", resume="auto"))
    with pytest.raises(CheckpointError, match="teachers have other weights"):
        go(tmp_path / "taught", *student, f"teacher={tmp_path / 'other'}", resume="auto")


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_slow_second_start_does_not_train_over_a_run_that_has_finished(
    resume: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, make = tmp_path / "run", train.open_folder
    faster: dict[str, Any] = {}

    def slow(place: Path) -> None:
        """Between looking at the folder and locking it, another run of the same recipe goes from its beginning to its end."""
        make(place)
        if not faster:
            faster["begun"] = True
            go(out)
            faster.update(held(out))

    monkeypatch.setattr(train, "open_folder", slow)
    if resume == "auto":
        assert any("complete already" in line for line in go(out, resume=resume))
    else:
        with pytest.raises(ConfigError, match="not empty"):
            go(out, resume=resume)
    del faster["begun"]
    assert held(out) == faster


def test_of_two_starts_at_once_one_is_refused(run: Path) -> None:
    before = held(run)
    with RunLock(run), pytest.raises(ConfigError, match=f"in use by process {os.getpid()}"):
        go(run, "seed=5", overwrite=True)
    assert held(run) == before


# -- links and names

WRITTEN = [".lock", "metrics.jsonl", "timing.jsonl", "result.json", "best.json", "diverged.json", "config.yaml", "tensorboard"]
WRITTEN += ["checkpoints", "tensorboard/00004", "tensorboard/projector_config.pbtxt", "metrics.csv", "loggers.json", "wandb", "mlruns"]


@pytest.mark.parametrize("kind", ["file", "folder", "nowhere", "pipe"])
@pytest.mark.parametrize("name", WRITTEN)
def test_nothing_is_written_through_a_link(name: str, kind: str, run: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (victim / "inner").mkdir(parents=True)
    (victim / "file").write_text("my thesis")
    path = run / name
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"file": victim / "file", "folder": victim / "inner", "nowhere": victim / "new"}[kind])
    before = held(victim)
    for given in ({"resume": "auto"}, {"overwrite": True}):
        with pytest.raises(ConfigError, match=re.escape(f"{path} is")):
            go(run, **given)  # type: ignore[arg-type]
    assert held(victim) == before


def test_a_lock_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("my thesis")
    with pytest.raises(ConfigError, match="no lock of kinshot"):
        RunLock(tmp_path).acquire()
    assert (tmp_path / ".lock").read_text() == "my thesis"


def test_the_run_folder_itself_may_be_a_link(run: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(run)
    assert any("complete already" in line for line in go(tmp_path / "linked", resume="auto"))
    go(tmp_path / "linked", "seed=4", overwrite=True)
    assert load_checkpoint(run).config["seed"] == 4
    assert (tmp_path / "linked").is_symlink()


@pytest.mark.parametrize("more", [["--resume", "auto"], ["--overwrite"], []])
def test_places_that_cannot_be_are_refused_with_words(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nowhere").symlink_to("gone")
    Path("round").symlink_to("round")
    Path("file").touch()
    for place in ("x" * 300, "nowhere", "round", "file", "file/below"):
        assert main(["pretrain", str(TINY), *FAST, "--out", place, "-q", *more]) == 2
        assert place in capsys.readouterr().err
    assert main(["pretrain", str(TINY), *FAST, "--resume", "y" * 300, "-q"]) in (2, 3)
    assert "internal" not in capsys.readouterr().err


# -- a state that was sealed again


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("step", "4"),
        ("step", True),
        ("step", -1),
        ("step", 10**30),
        ("epoch", 0.5),
        ("total_steps", []),
        ("cpu_seconds", "long"),
        ("cpu_seconds", math.nan),
        ("source", 7),
        ("input", []),
        ("input", {"kind": "image", "channels": 1, "size": "16", "mean": [0.1], "std": [0.3]}),
        ("input", {"kind": "image", "channels": 3, "size": 16, "mean": [0.1], "std": [0.3]}),
        ("input", {"kind": "image", "channels": 1, "size": 16, "mean": None, "std": [0.3]}),
        ("input", {"kind": ["image"]}),
        ("optimizer", 3),
        ("optimizer", {}),
        ("optimizer", {"groups": 1, "state": 2, "strides": 3}),
        ("optimizer", {"groups": [], "state": [], "strides": []}),
    ],
)
def test_a_state_of_wrong_types_is_refused_with_words(key: str, value: Any, run: Path) -> None:
    newest = latest(run)
    assert newest is not None
    state = json.loads((newest / "state.json").read_text())
    (newest / "state.json").write_text(json.dumps({**state, key: value}))
    resign(newest)
    with pytest.raises(CheckpointError, match=newest.name):
        go(run, resume="auto")


def test_a_state_beyond_the_end_is_refused(run: Path, tmp_path: Path) -> None:
    newest = latest(run)
    assert newest is not None
    beyond = newest.rename(checkpoint_path(run, 999))
    state = json.loads((beyond / "state.json").read_text())
    (beyond / "state.json").write_text(json.dumps({**state, "step": 999}))
    resign(beyond)
    with pytest.raises(CheckpointError, match="step 999"):
        go(run, resume="auto")
