"""A run that was stopped anywhere and resumed ends with the very weights of the run that never stopped."""

from __future__ import annotations

import json
import os
import pty
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.errors import CheckpointError
from kinshot.learn import METHODS as REGISTERED
from kinshot.learn.features import weights_hash
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from tests.steps import alone, each_method, of_images
from tests.tiny import METHODS, TINY, arguments, command, environment, result, run
from tests.trees import write_folder


def hashes(path: Path) -> dict[str, str]:
    """Hashes of everything a run leaves: exported weights and the whole training state."""
    checkpoint = load_checkpoint(path)
    return {
        "encoder": weights_hash(checkpoint.encoder),
        "projector": weights_hash(checkpoint.projector),
        "training": weights_hash(checkpoint.training),
    }


def quiet(recipe, out: Path, resume: str = "never") -> None:
    """One run in this process."""
    train_recipe(recipe, Options(out, resume, quiet=True), lambda text: None)


@pytest.mark.parametrize("method", [*METHODS, "ours", "structure"])
def test_resume_from_every_checkpoint_ends_with_the_same_state(method: str, tmp_path: Path) -> None:
    recipe = load_recipe(str(TINY), [*arguments(method)[2:], "monitor.keep=100", "train.ema=0.9", "monitor.tensorboard=false"])
    quiet(recipe, tmp_path / "whole")
    expected = hashes(tmp_path / "whole")
    points = sorted((tmp_path / "whole" / "checkpoints").iterdir())
    assert len(points) >= 8  # steps inside epochs as well as between them
    for point in points[:-1]:
        out = tmp_path / point.name
        quiet(recipe, out, resume=str(point))
        assert hashes(out) == expected, f"resumed at {point.name}"


def others_of_images() -> list[str]:
    """Methods that learn from images without labels or teachers, beside those of which every checkpoint is tried."""
    known = [name for name in REGISTERED.names() if not {"supervised", "by_terms", "fields"} & REGISTERED.entry(name).flags.keys()]
    return [name for name in known if name not in METHODS and of_images(name)]


@pytest.mark.parametrize("method", each_method(others_of_images()))
def test_every_method_of_images_resumes_in_its_middle(method: str, tmp_path: Path) -> None:
    given = [*arguments()[2:], *alone(method), "monitor.keep=100", "monitor.tensorboard=false"]
    recipe = load_recipe(str(TINY), given)
    quiet(recipe, tmp_path / "whole")
    points = sorted((tmp_path / "whole" / "checkpoints").iterdir())
    quiet(recipe, tmp_path / "again", resume=str(points[len(points) // 2]))
    assert hashes(tmp_path / "again") == hashes(tmp_path / "whole")


def test_the_data_may_move_but_not_change(tmp_path: Path) -> None:
    write_folder(tmp_path / "here")
    folder = ["data=folder", "data.size=16", "data.split=train", "train.batch_size=4", "monitor.keep=100", "monitor.tensorboard=false"]
    quiet(load_recipe(str(TINY), [*folder, f"data.root={tmp_path / 'here'}"]), tmp_path / "whole")
    point = min((tmp_path / "whole/checkpoints").iterdir())
    moved = load_recipe(str(TINY), [*folder, f"data.root={(tmp_path / 'here').rename(tmp_path / 'there')}"])
    quiet(moved, tmp_path / "moved", resume=str(point))
    assert hashes(tmp_path / "moved") == hashes(tmp_path / "whole")
    for file in list((tmp_path / "there/train/cat").iterdir())[:2]:  # one alone may go: another stands in
        file.unlink()
    with pytest.raises(CheckpointError, match="other data"):
        quiet(moved, tmp_path / "changed", resume=str(point))


@pytest.mark.parametrize("method", [*METHODS, "structure"])
def test_kill_at_an_arbitrary_moment_then_resume_equals_never_stopped(method: str, tmp_path: Path) -> None:
    whole = run("ssl", *arguments(method, "--out", "whole", "--json", "-q"), cwd=tmp_path)
    expected = result(whole)["weights"]
    killed = command("ssl", *arguments(method, "train.workers=2", "--out", "killed", "-q"))
    process = subprocess.Popen(killed, cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "killed").glob("checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.Random(method).uniform(0.0, 0.8))  # anywhere: in a step, in a save, between
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = run("ssl", *arguments(method, "--out", "killed", "--resume", "auto", "--json", "-q"), cwd=tmp_path)
    assert result(again)["weights"] == expected
    assert hashes(tmp_path / "killed") == hashes(tmp_path / "whole")
    assert records(tmp_path / "killed") == records(tmp_path / "whole")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_leaves_a_checkpoint_at_a_step_boundary(signum: int, code: int, tmp_path: Path) -> None:
    args = arguments("interclr", "train.epochs=200", "--out", "run")
    process = subprocess.Popen(command("ssl", *args), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not len(records(tmp_path / "run")) >= 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signum)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "--resume auto" in errors
    step = load_checkpoint(tmp_path / "run").state["step"]
    assert f"after step {step}" in errors
    assert run("ssl", "inspect", "run", cwd=tmp_path).returncode == 0


def test_a_closed_terminal_leaves_a_checkpoint(tmp_path: Path) -> None:
    """A real terminal with a progress bar on it, taken away in the middle of a run with loader processes."""
    args = arguments("simclr", "train.epochs=200", "train.workers=2", "--out", "run")
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
        os.chdir(tmp_path)
        os.execve(sys.executable, command("ssl", *args), environment(TERM="xterm"))
    deadline = time.monotonic() + 60
    while len(records(tmp_path / "run")) < 3 and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.02)[0]:
            os.read(terminal, 65536)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 129
    step = records(tmp_path / "run")[-1]["step"]
    assert step <= load_checkpoint(tmp_path / "run").state["step"] < step + 2, "the last step done is the one that was saved"


def records(folder: Path) -> list[dict]:
    """The records of a run without timings, which differ between any two runs."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return [row for row in ({k: v for k, v in row.items() if not k.startswith("time")} for row in rows) if len(row) > 2]
