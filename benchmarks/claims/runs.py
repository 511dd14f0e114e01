"""Arms trained and measured: what is missing, one result file for each run as it comes, so that an audit goes on where it was stopped."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.claims.measures import MEASURES
from benchmarks.claims.plan import Task
from benchmarks.common import say
from kinshot.core.atomic import write_json, write_text
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe


@dataclass(frozen=True)
class Job:
    """One run of one arm.

    Args:
        task: whose.
        arm: its name.
        seed: of everything that is drawn.
        data: folder with the data in official layouts.
        out: folder of the audit.
        split: of the data that it is measured on.
    """

    task: Task
    arm: str
    seed: int
    data: Path
    out: Path
    split: str = "test"

    @property
    def folder(self) -> Path:
        """Where the run lies."""
        return self.out / self.task.name / self.arm / f"seed={self.seed}"

    @property
    def result(self) -> Path:
        """The file with its figures."""
        return self.folder.parent / f"seed={self.seed}.json"

    @property
    def settings(self) -> list[str]:
        """Overrides of the recipe, places filled in."""
        own = (*self.task.common, *self.task.arms[self.arm], f"seed={self.seed}")
        return [self.placed(text) for text in own]

    @property
    def asks(self) -> list[Mapping[str, Any]]:
        """The measures that are meant for its arm."""
        return [ask for ask in self.task.measure if self.arm in ask.get("arms", [self.arm])]

    @property
    def key(self) -> str:
        """A digest of all that decides the figures; a result of another one is made anew."""
        task = self.task
        settings = [*task.common, *task.arms[self.arm], self.seed, self.split]
        parts = [task.recipe, task.inline, settings, [{**ask, "arms": []} for ask in self.asks], dict(task.prepare)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def placed(self, text: str) -> str:
        """A setting with the places of data and audit, and the split, filled in."""
        return text.replace("{data}", str(self.data)).replace("{out}", str(self.out)).replace("{split}", self.split)

    def known(self) -> dict[str, Any] | None:
        """The result, if it stands."""
        if not self.result.is_file():
            return None
        found: dict[str, Any] = json.loads(self.result.read_text(encoding="utf-8"))
        return found if found["key"] == self.key else None


def jobs_of(task: Task, data: Path, out: Path, split: str = "test") -> Iterator[Job]:
    """Every run of a task, seed by seed, so that what stands after any time has all arms."""
    for seed in task.seeds:
        for arm in task.arms:
            yield Job(task, arm, seed, data, out, split)


def prepare(job: Job) -> None:
    """Run the commands that make a task's files, where these are not there."""
    for name, command in job.task.prepare.items():
        if not (job.out / name).exists():
            words = shlex.split(job.placed(command))
            job.out.mkdir(parents=True, exist_ok=True)
            subprocess.run([str(Path(sys.executable).parent / words[0]), *words[1:]], check=True)


def run(job: Job) -> dict[str, Any]:
    """Train and measure one run, or what of it is missing; writes its result."""
    stands = job.known()
    if stands is not None:
        return stands
    recipe = load_recipe(_recipe(job), job.settings)
    stale = job.result.is_file()
    options = Options(job.folder, "never" if stale else "auto", overwrite=stale, quiet=True)
    trained = train_recipe(recipe, options, lambda text: None)
    started = time.process_time()
    figures = measured(job)
    found = {
        "key": job.key,
        "figures": figures,
        "cpu_minutes": trained["cpu_minutes"],
        "measuring_cpu_minutes": round((time.process_time() - started) / 60, 3),
        "steps": trained["steps"],
        "versions": trained["versions"],
    }
    write_json(job.result, found)
    first = next(iter(figures))
    say(
        f"{job.task.name} {job.arm} seed {job.seed}: {figures.get(first, float('nan')):.2f} {first}, {found['cpu_minutes']:.2f} CPU minutes"
    )
    return found


def measured(job: Job) -> dict[str, float]:
    """The figures of a trained run: those of every measure of its task that is meant for its arm."""
    found: dict[str, float] = {}
    for ask in _filled(job.asks, job):
        found |= MEASURES[ask["by"]](job.folder, ask, job.seed)
    return found


def _recipe(job: Job) -> str:
    if job.task.recipe:
        return job.task.recipe
    path = job.out / job.task.name / "recipe.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, job.task.inline)
    return str(path)


def _filled(value: Any, job: Job) -> Any:
    """What a file says, places filled in."""
    if isinstance(value, str):
        return job.placed(value)
    if isinstance(value, Mapping):
        return {key: _filled(one, job) for key, one in value.items()}
    return [_filled(one, job) for one in value] if isinstance(value, list) else value
