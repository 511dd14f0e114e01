"""A run killed at any moment and resumed leaves the records, the best step and the result of one that was never stopped."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kinshot.core.checkpoint import load_checkpoint
from kinshot.learn.features import weights_hash
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from tests.tiny import TINY, command, environment, run

SMALL = ["train.batch_size=160", "monitor.keep=1", "monitor.checkpoint_every=1", "monitor.log_every=1"]
SMALL += ["monitor.tensorboard=false", "monitor.knn_samples=40"]
VALIDATED = ["method=protonet", "views=clean", "train.lr=0.05", "method.ways=5", "method.shots=1", "method.queries=31"]
VALIDATED += ["validation.split=train", "validation.episodes=20", "train.ema=0.5"]
RUNS = {
    "validation": [*SMALL, *VALIDATED, "train.epochs=3"],
    "graph": [*SMALL, "method=simclr", "graph=labels", "structure.weight=0.3", "train.epochs=1"],
}


def quiet(overrides: list[str], out: Path, resume: str = "never") -> None:
    train_recipe(load_recipe(str(TINY), overrides), Options(out, resume, quiet=True), lambda text: None)


def left(out: Path) -> dict[str, Any]:
    """What a run leaves, but for times."""
    result = json.loads((out / "result.json").read_text())
    best = out / "best.json"
    return {
        "result": {key: value for key, value in result.items() if key not in ("cpu_minutes", "wall_minutes")},
        "metrics": (out / "metrics.jsonl").read_text(),
        "best": best.read_text() if best.exists() else None,
        "checkpoints": sorted(path.name for path in (out / "checkpoints").iterdir()),
        "weights": weights_hash(load_checkpoint(max((out / "checkpoints").iterdir())).training),
    }


class Moments:
    """Copies of a run folder at every moment at which a kill would leave another one: before each renaming and each record."""

    def __init__(self, out: Path, copies: Path, patch: pytest.MonkeyPatch) -> None:
        self.out, self.copies, self.seen = out, copies, set[str]()
        for name in ("rename", "replace", "write"):
            patch.setattr(os, name, self._before(getattr(os, name), recorded=name == "write"))

    def _before(self, call: Callable[..., Any], *, recorded: bool) -> Callable[..., Any]:
        def called(*args: Any, **more: Any) -> Any:
            if not recorded or self._is_record(args[0]):
                self.keep()
            return call(*args, **more)

        return called

    def _is_record(self, descriptor: int) -> bool:
        path = self.out / "metrics.jsonl"
        return path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())

    def keep(self) -> None:
        """Copy the folder as it is, unless it was so before."""
        digest = hashlib.sha256()
        for path in sorted(self.out.rglob("*")):
            if path.is_file() and path.name != "timing.jsonl":
                digest.update(str(path).encode() + path.read_bytes())
        if digest.hexdigest() not in self.seen:
            self.seen.add(digest.hexdigest())
            if self.out.exists():
                shutil.copytree(self.out, self.copies / f"{len(self.seen):03d}")


@pytest.mark.parametrize("kind", RUNS)
def test_wherever_a_run_is_killed_the_files_become_the_same(kind: str, tmp_path: Path) -> None:
    out, copies = tmp_path / "run", tmp_path / "copies"
    copies.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        moments = Moments(out, copies, patch)
        quiet(RUNS[kind], out)
        moments.keep()
    expected = left(out)
    assert expected["result"]["metrics"].keys() >= {"train/loss", "eval/knn/backbone"}
    assert (expected["best"] is None) == (kind == "graph")
    found = sorted(copies.iterdir())
    assert len(found) >= 10
    for copy in found:
        shutil.rmtree(out)
        shutil.copytree(copy, out)
        quiet(RUNS[kind], out, "auto")
        assert left(out) == expected, f"killed at moment {copy.name}, {sorted(p.name for p in copy.iterdir())}"


def test_a_real_kill_between_the_best_checkpoint_and_its_note(tmp_path: Path) -> None:
    """The process is killed by its own kernel, in the middle of what it does."""
    arguments = ["train", str(TINY), *RUNS["validation"], "--out", "run", "-q"]
    assert run("fewshot", *arguments, cwd=tmp_path).returncode == 0
    expected = left(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    killed = "import os, sys\nfrom kinshot.runs import validation\n"
    killed += "validation.Validator.write = lambda self: os.kill(os.getpid(), 9)\n"
    killed += "from kinshot.cli.fewshot import main\nmain(sys.argv[1:])\n"
    line = [command("fewshot")[0], "-c", killed, *arguments]
    ended = subprocess.run(line, cwd=tmp_path, env=environment(), capture_output=True, timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "best.json").exists()
    assert run("fewshot", *arguments, "--resume", "auto", cwd=tmp_path).returncode == 0
    assert left(tmp_path / "run") == expected
