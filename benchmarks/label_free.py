"""What benchmarks of label-free pretraining share: runs trained and measured where that is missing, one result file each as it comes.

A command that was stopped goes on where it was; a result of other settings is made anew.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import say
from kinshot.core.atomic import write_json
from kinshot.core.errors import Interrupted, KinshotError
from kinshot.fewshot.episodes import sample_episodes
from kinshot.fewshot.evaluate import build_head, episode_accuracy
from kinshot.learn.model import Model
from kinshot.recipes.recipe import Choice, Recipe, load_recipe, recipe_data
from kinshot.recipes.splits import own_split
from kinshot.runs.start import Options
from kinshot.runs.sweep import is_run_of
from kinshot.runs.train import train_recipe
from kinshot.studies.answers import features_of
from kinshot.studies.frozen.evaluation import Wanted, evaluate_frozen
from kinshot.studies.frozen.settings import Settings
from kinshot.studies.references import references
from kinshot.studies.study import Trained, labelled, load_runs


@dataclass(frozen=True)
class Exam:
    """How the encoder of a finished run is measured, frozen.

    Args:
        split: of the run's own data: the queries, and what episodes are drawn from.
        ks: neighbours that vote, each number on its own.
        bank_share: share of each class of the split that is the bank; 0 for split train, where its classes are the same.
        shots: support images of a class in few-shot episodes; empty for none.
        ways: classes of an episode, each number with each of shots.
        queries: query images of each class.
        episodes: how many.
        feature: what is measured, backbone or projector.
    """

    split: str = "test"
    ks: tuple[int, ...] = (20, 200)
    bank_share: float = 0.0
    shots: tuple[int, ...] = ()
    ways: tuple[int, ...] = (5,)
    queries: int = 10
    episodes: int = 2000
    feature: str = "backbone"

    def described(self) -> dict[str, Any]:
        """What a result file says of the episodes."""
        if not self.shots:
            return {}
        ways = " and ".join(map(str, self.ways))
        drawn = f"{self.episodes} of {ways} ways and {self.queries} queries each (seed 0), the same for every run; nearest class mean"
        return {"episodes": drawn, "episodes are drawn from": f"split {self.split}"}


@dataclass(frozen=True)
class Run:
    """One training and its measurement.

    Args:
        label: what rows call what is compared.
        recipe: a shipped recipe, or a file.
        settings: what it changes of that, but for the place of the data.
        seed: of everything that is drawn.
        root: of the data.
        out: folder of the run; its result lies beside it, as NAME.json.
        exam: how it is measured.
    """

    label: str
    recipe: str
    settings: tuple[str, ...]
    seed: int
    root: Path
    out: Path
    exam: Exam

    def read(self) -> Recipe:
        """The recipe. Raises ConfigError for settings that do not fit."""
        return load_recipe(self.recipe, [*self.settings, f"data.root={self.root}", f"seed={self.seed}"])

    @property
    def result(self) -> Path:
        """The file of its figures."""
        return self.out.with_name(f"{self.out.name}.json")

    @property
    def key(self) -> str:
        """A digest of all that decides the figures, wherever the data lie; what has a default now that it had not is no difference."""
        told = recipe_data(self.recipe, [*self.settings, f"seed={self.seed}"])
        told["data"].pop("root", None)
        text = json.dumps([told, asdict(self.exam)], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def known(self) -> dict[str, Any] | None:
        """The result, if it stands."""
        return _known(self.result, self.key)


def finished(runs: Sequence[Run]) -> tuple[dict[str, dict[str, Any]], int]:
    """Train and measure runs, one after another; a run that fails is said, and the others go on.

    Returns the results by folder, and how many failed. Raises SystemExit when stopped by a signal.
    """
    found, failed = {}, 0
    for run in runs:
        try:
            found[str(run.out)] = _finish(run)
        except Interrupted:
            raise SystemExit("stopped after a checkpoint; the same command goes on") from None
        except KinshotError as problem:
            say(f"{run.label}, seed {run.seed} failed: {problem}")
            failed += 1
    return found, failed


def _finish(run: Run) -> dict[str, Any]:
    stands = run.known()
    if stands is not None:
        return stands
    stale = run.result.is_file() and not is_run_of(run.out, run.read())
    run.out.parent.mkdir(parents=True, exist_ok=True)
    trained = train_recipe(run.read(), Options(run.out, "never" if stale else "auto", overwrite=stale, quiet=True), _silent)
    started = time.process_time()
    (loaded,) = load_runs([run.out])
    told = evaluate_frozen([run.out], _wanted(run, loaded), "cpu", _silent)
    figures = {row["metric"]: row["mean"] for row in told["rows"]} | _episodes(loaded.model, loaded, run.exam)
    found = {
        "key": run.key,
        "figures": figures,
        "cpu_minutes": trained["cpu_minutes"],
        "measuring_cpu_minutes": round((time.process_time() - started) / 60, 3),
        "epochs": loaded.recipe.train.epochs,
        "data": told["data"],
        "protocol": {**told["protocol"], **run.exam.described()},
        "trained_by": told["pretrained_by"],
        "versions": told["versions"],
    }
    write_json(run.result, found)
    shown = ", ".join(f"{value:.2f} {metric.removesuffix(', %')}" for metric, value in figures.items())
    say(f"{run.label}, seed {run.seed}: {shown}; {found['cpu_minutes']:.2f} CPU minutes")
    return found


def beside(run: Run, path: Path) -> dict[str, dict[str, float]]:
    """Figures of what any training must beat, by label: the run's samples without an encoder, and its encoder untrained; kept in a file."""
    stands = _known(path, run.key)
    if stands is not None:
        figures: dict[str, dict[str, float]] = stands["figures"]
        return figures
    (loaded,) = load_runs([run.out])
    told = evaluate_frozen([run.out], _wanted(run, loaded, reference=True), "cpu", _silent)
    others = references([loaded])
    found = {one.label: _episodes(one.model, loaded, run.exam) for one in others}
    for row in told["rows"]:
        if row["label"] in found:
            found[row["label"]][row["metric"]] = row["mean"]
    write_json(path, {"key": run.key, "figures": found})
    return found


def _wanted(run: Run, loaded: Trained, *, reference: bool = False) -> Wanted:
    """What is measured of a run between bank and queries."""
    exam = run.exam
    return Wanted(("knn", "linear"), Settings(ks=exam.ks), exam.feature, _part(loaded, exam), None, exam.bank_share, reference)


def _part(loaded: Trained, exam: Exam) -> Choice:
    """The measured split of a run's own data."""
    return own_split(loaded.recipe.data, exam.split) or loaded.recipe.data


def _episodes(model: Model | None, loaded: Trained, exam: Exam) -> dict[str, float]:
    """Mean accuracy of episodes by number of shots, in percent."""
    if not exam.shots:
        return {}
    source, labels = labelled(_part(loaded, exam), loaded.input, "--data")
    name = source.spec.raw_feature if model is None else exam.feature
    features, found = features_of(model, source, torch.device("cpu"))[name], {}
    for ways, shots in itertools.product(exam.ways, exam.shots):
        drawn = sample_episodes(labels, ways=ways, shots=shots, queries=exam.queries, episodes=exam.episodes, seed=0)
        accuracy = episode_accuracy(features, drawn, build_head("prototype"), ways)
        found[f"{ways}-way {shots}-shot accuracy, %"] = round(100 * float(np.mean(accuracy)), 3)
    return found


def _known(path: Path, key: str) -> dict[str, Any] | None:
    """What a file holds, if it is of this key."""
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found if found["key"] == key else None


def _silent(text: str) -> None:
    """Say nothing: runs have a line each when they are finished."""
