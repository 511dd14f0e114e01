"""Run folders: the newest checkpoint, pruning, locks, and processes killed at any moment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kinshot.core.checkpoint import (
    RunLock,
    checkpoint_path,
    chosen,
    latest,
    load_checkpoint,
    prune,
    sweep,
)
from kinshot.core.checkpoint_files import MANIFEST
from kinshot.core.errors import CheckpointError, ConfigError
from kinshot.core.run_folder import read_best, write_best
from tests.saved import DEAD_PID, save

REPOSITORY = Path(__file__).resolve().parents[1]


def test_latest_is_by_number(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    (tmp_path / "checkpoints").mkdir()
    assert latest(tmp_path) is None
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        load_checkpoint(tmp_path)
    for step in (9, 10, 99_999_999, 100_000_000):
        save(checkpoint_path(tmp_path, step), step)
    assert latest(tmp_path) == checkpoint_path(tmp_path, 100_000_000)
    shutil.rmtree(checkpoint_path(tmp_path, 100_000_000))
    assert latest(tmp_path) == checkpoint_path(tmp_path, 99_999_999)
    shutil.rmtree(checkpoint_path(tmp_path, 99_999_999))
    assert latest(tmp_path) == checkpoint_path(tmp_path, 10)
    assert load_checkpoint(tmp_path).step == 10
    assert load_checkpoint(tmp_path / "checkpoints").step == 10
    for name in ("step-x", "step-00000200.bak", ".step-00000300", "best", f".step-00000400.tmp-{DEAD_PID}"):
        shutil.copytree(checkpoint_path(tmp_path, 9), tmp_path / "checkpoints" / name)
    assert latest(tmp_path) == checkpoint_path(tmp_path, 10)


def newer_version(checkpoint: Path) -> None:
    text = (checkpoint / MANIFEST).read_text()
    (checkpoint / MANIFEST).write_text(text.replace('"schema_version": 2', '"schema_version": 3'))


DAMAGES = {
    "encoder.safetensors is damaged": lambda path: os.truncate(path / "encoder.safetensors", 9),
    "upgrade kinshot": newer_version,
    "manifest.json: No such file": lambda path: (path / MANIFEST).unlink(),
    "state.json: No such file": lambda path: (path / "state.json").unlink(),
}


@pytest.mark.parametrize("reason", DAMAGES)
def test_no_other_checkpoint_stands_for_one_that_cannot_be_read(tmp_path: Path, reason: str) -> None:
    newest = [save(checkpoint_path(tmp_path, step), step) for step in (9, 10)][1]
    DAMAGES[reason](newest)
    for load in (latest, load_checkpoint):
        with pytest.raises(CheckpointError, match=reason) as caught:
            load(tmp_path)
        assert str(newest) in str(caught.value)
        assert str(checkpoint_path(tmp_path, 9)) in str(caught.value)  # what may be used instead, if somebody says so
    assert load_checkpoint(checkpoint_path(tmp_path, 9)).step == 9
    DAMAGES[reason](checkpoint_path(tmp_path, 9))
    with pytest.raises(CheckpointError, match="2 checkpoints that cannot be read"):
        latest(tmp_path)
    save(checkpoint_path(tmp_path, 11), 11)
    assert latest(tmp_path) == checkpoint_path(tmp_path, 11)  # what is older than a whole one plays no part


def test_a_checkpoint_is_of_the_step_that_its_name_says(tmp_path: Path) -> None:
    older = save(checkpoint_path(tmp_path, 9), 9)
    shutil.copytree(older, checkpoint_path(tmp_path, 10))
    for path in (tmp_path, checkpoint_path(tmp_path, 10)):
        with pytest.raises(CheckpointError, match="named after step 10 but holds step 9"):
            load_checkpoint(path)
    assert load_checkpoint(older.rename(tmp_path / "mine")).step == 9


def test_the_best_checkpoint_is_the_one_that_was_written_down_or_none(tmp_path: Path) -> None:
    for step in (9, 10):
        save(checkpoint_path(tmp_path, step), step)
    assert read_best(tmp_path) is None
    assert load_checkpoint(tmp_path).step == 10
    write_best(tmp_path, 9, {"accuracy": 50.0})
    assert read_best(tmp_path) == {"step": 9, "accuracy": 50.0}
    assert load_checkpoint(tmp_path).step == 9
    whole = (tmp_path / "best.json").read_text()
    for text, reason in (
        (whole[:20], "cannot be read"),
        ("[]", "no step"),
        (whole.replace("50.0", '"50"'), "no step"),
        (whole.replace("9", "7"), "step-00000007"),
        (whole.replace("9", "true"), "no step"),
        (whole.replace("9", "-9"), "no step"),
    ):
        (tmp_path / "best.json").write_text(text)
        for load in (read_best, load_checkpoint, chosen):
            with pytest.raises(CheckpointError, match=reason):
                load(tmp_path)
    (tmp_path / "best.json").write_text(whole)
    os.truncate(checkpoint_path(tmp_path, 9) / "encoder.safetensors", 9)
    with pytest.raises(CheckpointError, match=r"encoder\.safetensors is damaged"):
        load_checkpoint(tmp_path)


def test_what_may_not_be_looked_at_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(CheckpointError, match="checkpoints"):
        latest(tmp_path)
    with pytest.raises(CheckpointError, match="File name too long"):
        load_checkpoint(tmp_path / ("x" * 300))


def test_prune_keeps_the_newest_complete(tmp_path: Path) -> None:
    for step in range(1, 6):
        save(checkpoint_path(tmp_path, step), step)
    (checkpoint_path(tmp_path, 5) / MANIFEST).unlink()
    (checkpoint_path(tmp_path, 1) / MANIFEST).unlink()
    (tmp_path / "checkpoints" / "notes").mkdir()
    assert prune(tmp_path, 2) == [checkpoint_path(tmp_path, 2), checkpoint_path(tmp_path, 1)]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["notes", "step-00000003", "step-00000004", "step-00000005"]
    with pytest.raises(ConfigError, match="at least 1"):
        prune(tmp_path, 0)


def test_sweep_clears_up_after_the_dead_only(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    kept = save(checkpoint_path(tmp_path, 1), 1)
    alive = os.getppid()
    for name in (f".step-00000002.tmp-{DEAD_PID}", f".step-00000001.old-{DEAD_PID}", f".step-00000003.tmp-{os.getpid()}"):
        shutil.copytree(kept, folder / name)
    shutil.copytree(kept, folder / f".step-00000004.tmp-{alive}")
    (tmp_path / f".metrics.jsonl.tmp-{DEAD_PID}").write_text("x")
    (tmp_path / ".hidden").write_text("x")
    save(folder / f".step-00000007.old-{DEAD_PID}", 7)
    assert load_checkpoint(checkpoint_path(tmp_path, 7)).step == 7
    assert latest(tmp_path) == folder / f".step-00000007.old-{DEAD_PID}"
    assert len(sweep(tmp_path)) == 5
    assert sorted(p.name for p in folder.iterdir()) == [f".step-00000004.tmp-{alive}", "step-00000001", "step-00000007"]
    assert (tmp_path / ".hidden").exists()
    assert latest(tmp_path) == checkpoint_path(tmp_path, 7)
    assert sweep(tmp_path / "nowhere") == []


HOLDER = """
import sys, time
from kinshot.core.runlock import RunLock
with RunLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_process_is_refused_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"in use by process {holder.pid}"), RunLock(tmp_path):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with RunLock(tmp_path) as lock, pytest.raises(ConfigError, match=f"in use by process {os.getpid()}"):
        RunLock(tmp_path).acquire()
    lock.release()
    with RunLock(tmp_path):
        pass
    with pytest.raises(ConfigError, match="cannot lock"):
        RunLock(tmp_path / "nowhere").acquire()


# -- F2: killed while saving

KILLED_SAVES = """
import os, signal, sys
from pathlib import Path
import torch
from kinshot.core.checkpoint import checkpoint_path, latest, load_checkpoint, save_checkpoint, sweep
torch.set_num_threads(1)
root = Path(sys.argv[1])

def save(path, value, fsync=False):
    tensors = {"w": torch.full((8,), value)}
    state = {"step": int(path.name.removeprefix("step-")), "epoch": 0}
    parts = {"encoder": tensors, "projector": tensors, "training": tensors}
    save_checkpoint(path, parts=parts, state=state, config={"v": value}, fsync=fsync)

def value_of(checkpoint):
    values = {float(v) for part in checkpoint.tensors.values() for v in part["w"]} | {checkpoint.config["v"]}
    assert len(values) == 1, values
    return values.pop()

def die_at(k):  # kill this process at its k-th call to the file system; files grow by at most 500 bytes a call
    count = 0
    def lethal(call):
        def wrapped(*args, **kwargs):
            nonlocal count
            if count == k:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            return call(*args, **kwargs)
        return wrapped
    write = os.write
    os.fsync = lambda descriptor: None  # a kill loses nothing that fsync would save, and this takes long
    os.write = lethal(lambda descriptor, data: write(descriptor, data[:500]))
    for name in ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir"):
        setattr(os, name, lethal(getattr(os, name)))

for replaced in (True, False):
    seen, k, status = [], 0, 1
    while status:
        run = root / f"{replaced}-{k}"
        old = checkpoint_path(run, 9)
        save(old, 1.0)
        target = old if replaced else checkpoint_path(run, 10)
        child = os.fork()
        if child == 0:
            die_at(k)
            save(target, 2.0, fsync=True)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL, status
        before = value_of(load_checkpoint(run))
        if replaced:
            assert value_of(load_checkpoint(target)) == before
        gone = not old.exists()
        swept = sweep(run)
        assert not any(p.name.startswith(".") for p in (run / "checkpoints").iterdir())
        after = value_of(load_checkpoint(latest(run)))
        assert after == before, (before, after)
        assert old.exists()
        seen.append((after, bool(swept), gone))
        k += 1
    assert seen[0][0] == 1.0 and seen[-1] == (2.0, False, False), seen
    assert any(v == 1.0 and s for v, s, g in seen), "no kill left an orphan"
    assert any(g for v, s, g in seen) == replaced
    print(replaced, k)
"""


def test_killed_at_every_call_to_the_file_system(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", KILLED_SAVES, str(tmp_path)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    points = [int(line.split()[1]) for line in ran.stdout.splitlines()]
    assert len(points) == 2
    assert min(points) > 15
