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
    latest,
    load_checkpoint,
    prune,
    sweep,
)
from kinshot.core.checkpoint_files import MANIFEST
from kinshot.core.errors import CheckpointError, ConfigError
from tests.saved import DEAD_PID, save

REPOSITORY = Path(__file__).resolve().parents[1]


def test_latest_is_by_number_and_complete(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        load_checkpoint(tmp_path)
    for step in (9, 10, 99_999_999, 100_000_000):
        save(checkpoint_path(tmp_path, step), step)
    assert latest(tmp_path) == checkpoint_path(tmp_path, 100_000_000)
    (checkpoint_path(tmp_path, 100_000_000) / MANIFEST).unlink()
    assert latest(tmp_path) == checkpoint_path(tmp_path, 99_999_999)
    (checkpoint_path(tmp_path, 99_999_999) / MANIFEST).unlink()
    assert latest(tmp_path) == checkpoint_path(tmp_path, 10)
    assert load_checkpoint(tmp_path).step == 10
    assert load_checkpoint(tmp_path / "checkpoints").step == 10
    (checkpoint_path(tmp_path, 10) / "training.safetensors").write_bytes(b"short")
    assert latest(tmp_path) == checkpoint_path(tmp_path, 9)
    for name in ("step-x", "step-00000200.bak", ".step-00000300", "best", f".step-00000400.tmp-{DEAD_PID}"):
        shutil.copytree(checkpoint_path(tmp_path, 9), tmp_path / "checkpoints" / name)
    assert latest(tmp_path) == checkpoint_path(tmp_path, 9)


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
    kept = save(checkpoint_path(tmp_path, 1))
    alive = os.getppid()
    for name in (f".step-00000002.tmp-{DEAD_PID}", f".step-00000001.old-{DEAD_PID}", f".step-00000003.tmp-{os.getpid()}"):
        shutil.copytree(kept, folder / name)
    shutil.copytree(kept, folder / f".step-00000007.old-{DEAD_PID}")
    shutil.copytree(kept, folder / f".step-00000004.tmp-{alive}")
    (tmp_path / f".metrics.jsonl.tmp-{DEAD_PID}").write_text("x")
    (tmp_path / ".hidden").write_text("x")
    assert load_checkpoint(checkpoint_path(tmp_path, 7)).step == 3
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
    state = {"step": 1, "epoch": 0}
    save_checkpoint(path, encoder=tensors, projector=tensors, training=tensors, state=state, config={"v": value}, fsync=fsync)

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
