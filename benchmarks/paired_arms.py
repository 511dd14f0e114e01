"""Arms that differ in a setting, trained at several seeds and compared seed by seed: what the comparisons of InterCLR share."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.common import say
from benchmarks.label_free import Exam, Run, finished
from kinshot.core.atomic import make_folder, write_json
from kinshot.core.runtime import describe_machine, set_threads
from kinshot.core.statistics.means import mean_of
from kinshot.core.statistics.pairing import paired_by

RULE = "95 %, Student's t over seeds; of a difference over the differences of runs of one seed, its p not corrected for their number"


@dataclass(frozen=True)
class Arm:
    """What is trained at every seed.

    Args:
        label: what rows call it.
        folder: of its runs, below that of the comparison.
        recipe: a shipped recipe.
        settings: what it changes of that.
        data: which of the comparison's data it is trained on.
        exam: how it is measured.
    """

    label: str
    folder: str
    recipe: str
    settings: tuple[str, ...]
    data: str
    exam: Exam


@dataclass(frozen=True)
class Comparison:
    """A benchmark of arms.

    Args:
        module: its name, for its command.
        says: its first line.
        data: names of the data that it needs, and what lies in the folder of each.
        arms: by name.
        pairs: (arm, what it is compared with, what the difference is called).
        notes: what a reader must know.
    """

    module: str
    says: str
    data: Mapping[str, str]
    arms: Mapping[str, Arm]
    pairs: Sequence[tuple[str, str, str]]
    notes: Sequence[str]

    def run(self) -> int:
        """Train and measure what is missing, seed by seed, writing the table after every run; returns the exit code."""
        told = self._asked()
        set_threads(1)
        runs = {(name, seed): self._run(name, seed, told) for seed in told.seeds for name in self.arms}
        failed = 0
        for (name, _), run in runs.items():
            if not told.dry_run and (not told.arms or name in told.arms):
                failed += finished([run])[1]
                self._write(runs, told)
        self._write(runs, told)
        return int(failed > 0)

    def _asked(self) -> argparse.Namespace:
        given = argparse.ArgumentParser(prog=f"python -m benchmarks.{self.module}", description=self.says)
        for name, what in self.data.items():
            given.add_argument(f"--{name}", type=Path, required=True, help=f"folder that holds {what}")
        given.add_argument("--out", type=Path, required=True, help="folder of runs and their figures")
        given.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
        given.add_argument("--arms", nargs="+", choices=list(self.arms), metavar="ARM", help=f"train only these: {', '.join(self.arms)}")
        given.add_argument("--split", default="test", help="what is measured; val, with another --out, is for choosing settings")
        given.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of every run, to try something out")
        given.add_argument("--dry-run", action="store_true", help="train and measure nothing")
        given.add_argument("--json", type=Path, help="write the table of what there is to this file")
        return given.parse_args()

    def _run(self, name: str, seed: int, told: argparse.Namespace) -> Run:
        arm = self.arms[name]
        exam = replace(arm.exam, split=told.split)
        place = told.out / arm.folder / f"seed={seed}"
        return Run(arm.label, arm.recipe, (*arm.settings, *told.set), seed, getattr(told, arm.data), place, exam)

    def _write(self, runs: Mapping[tuple[str, int], Run], told: argparse.Namespace) -> None:
        known: dict[str, dict[int, dict[str, Any]]] = {}
        for (name, seed), run in runs.items():
            found = run.known()
            if found is not None:
                known.setdefault(name, {})[seed] = found
        if known and told.json:
            make_folder(told.json.parent)
            write_json(told.json, self.document(known, told))
        elif known:
            for row in self.rows(known):
                say(f"{row['label']:<60} {row['metric']:<28} {row['mean']:+.2f} ± {row['ci95']:.2f}")

    def document(self, known: Mapping[str, Mapping[int, Mapping[str, Any]]], told: argparse.Namespace) -> dict[str, Any]:
        """The result file of what is measured so far; it names what is not."""
        every = [one for found in known.values() for one in found.values()]
        missing = [f"{name} seed {seed}" for seed in told.seeds for name in self.arms if seed not in known.get(name, {})]
        places = [word for name in self.data for word in (f"--{name}", f"data/{name}")]
        asked = ["--set", *told.set] if told.set else []
        seeds = [] if told.seeds == [0, 1, 2] else ["--seeds", *map(str, told.seeds)]
        words = [*places, "--out", f"runs/{self.module}", *seeds, *asked, "--json", str(told.json)]
        return {
            "name": told.json.stem,
            "command": shlex.join(["python", "-m", f"benchmarks.{self.module}", *words]),
            "data": {
                "measured on": f"split {told.split}",
                "measured": protocol_text(every[0]),
                "interval": RULE,
                "not measured yet": ", ".join(missing) or "none",
            },
            "seeds": sorted({seed for found in known.values() for seed in found}),
            "cpu_minutes": {
                "training of each": {arm: [one["cpu_minutes"] for one in found.values()] for arm, found in known.items()},
                "evaluation of all": round(sum(one["measuring_cpu_minutes"] for one in every), 2),
            },
            "versions": {**every[0]["versions"], "training": "; ".join(dict.fromkeys(one["versions"]["training"] for one in every))},
            "machine": describe_machine(),
            "settings": {name: {"recipe": arm.recipe, "set": [*arm.settings, *told.set]} for name, arm in self.arms.items()},
            "notes": list(self.notes),
            "rows": self.rows(known),
        }

    def rows(self, known: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> list[dict[str, Any]]:
        """Differences paired by seed, then the mean of every arm over its seeds, with what it cost."""
        figures = {arm: {seed: _with_cost(one) for seed, one in found.items()} for arm, found in known.items()}
        found = []
        for arm, over, says in self.pairs:
            both = paired_by(figures.get(arm, {}), figures.get(over, {}))
            found += [
                _row(says, metric, [one[metric] - two[metric] for one, two in both.values()], tested=True) for metric in _shared(both)
            ]
        for arm, by_seed in figures.items():
            first = next(iter(by_seed.values()))
            found += [_row(self.arms[arm].label, metric, [one[metric] for one in by_seed.values()]) for metric in first]
        return found


def protocol_text(found: Mapping[str, Any]) -> dict[str, Any]:
    """How runs were measured, without what was chosen for each."""
    told = {name: one for name, one in found["protocol"].items() if name in ("knn", "linear", "episodes", "checkpoint")}
    return {
        name: {key: value for key, value in one.items() if not key.endswith(" chosen")} if isinstance(one, Mapping) else one
        for name, one in told.items()
    }


def _with_cost(one: Mapping[str, Any]) -> dict[str, float]:
    return {**one["figures"], "CPU minutes": one["cpu_minutes"]}


def _shared(both: Mapping[int, tuple[Mapping[str, float], Mapping[str, float]]]) -> list[str]:
    return list(next(iter(both.values()))[0]) if both else []


def _row(label: str, metric: str, values: Sequence[float], *, tested: bool = False) -> dict[str, Any]:
    over = mean_of(values)
    p = {"p": float(f"{over.p:.2g}")} if tested and len(values) > 1 else {}
    return {"label": label, "metric": metric, "mean": round(over.mean, 3), "ci95": round(over.half_width, 3), "n": len(values), **p}
