"""`fewshot generalized`: base and novel classes in one label space, on cached features.

Base classes are known from many images, novel classes from a few; an offset between them is chosen on validation classes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, suggest
from kinshot.core.progress import Work
from kinshot.core.runtime import resolve_device
from kinshot.core.statistics.means import RULE
from kinshot.datasets.base import Source
from kinshot.fewshot.generalized import Generalized
from kinshot.fewshot.imprinting import imprint_rows
from kinshot.fewshot.joint import Answers, Best, NovelDraw, Score, answers, best_of, mean_sweep, novel_draws
from kinshot.fewshot.transforms import class_means, squared_distance, unit
from kinshot.studies.answers import features_of
from kinshot.studies.base_classifier import base_classifier, needed_classifier
from kinshot.studies.joint_data import Images, JointChoices, JointData, joint_data
from kinshot.studies.seed_groups import named_groups
from kinshot.studies.study import Row, Say, Trained, check_run_features, feasible, load_runs, make_row, over_runs, same_data, study_result

HEADS = {
    "prototype": "nearest class mean of unit features, squared distance",
    "imprinted": "cosine to re-normalised class means",
    "rows": "cosine to the base classifier's rows and imprinted novel rows",
}
MEASURES: dict[str, Callable[[Generalized], float]] = {
    "base": lambda g: g.base,
    "novel": lambda g: g.novel,
    "harmonic": lambda g: g.harmonic,
    "arithmetic": lambda g: g.arithmetic,
    "micro": lambda g: g.micro,
    "base alone": lambda g: g.base_restricted,
    "novel alone": lambda g: g.novel_restricted,
    "base delta": lambda g: g.base_delta,
    "novel delta": lambda g: g.novel_delta,
}


@dataclass(frozen=True)
class Wanted:
    """What to measure.

    Args:
        choices: the data.
        heads: some of `HEADS`; empty for all that a run can have.
        features: some of the model's features; `rows` exists on the one that the classifier was trained on.
        shots: numbers of labelled images of each novel class.
        ways: novel classes in a draw; 0 is all.
        draws: draws of the labelled images.
        seed: key of the draws and of what is held out.
    """

    choices: JointChoices
    heads: list[str]
    features: list[str]
    shots: list[int]
    ways: int = 0
    draws: int = 20
    seed: int = 0


@dataclass(frozen=True)
class Classifier:
    """A head on one feature: rows of base classes, how rows are made of a few features, how both score."""

    base: Tensor
    rows_of: Callable[[Tensor, Tensor, int], Tensor]
    score: Score


def generalized(paths: list[Path], wanted: Wanted, device: str, say: Say) -> dict[str, Any]:
    """Measure runs of one training set; returns the result that `fewshot generalized --json` prints.

    Raises CheckpointError for a bad checkpoint, DataError and ConfigError for data and settings that do not fit, with the counts.
    """
    unknown = [name for name in wanted.heads if name not in HEADS]
    if unknown:
        raise ConfigError(f"--heads: unknown head {unknown[0]!r}: {suggest(unknown[0], HEADS)}")
    where, runs = resolve_device(device), load_runs(paths, say=say)
    same_data(runs)
    check_run_features(wanted.features, runs)
    data = joint_data(wanted.choices, runs[0].recipe.data, runs[0].input, wanted.seed, say)
    shots = feasible(wanted.shots, np.asarray(data.novel.labels), data.novel.name, say)
    if data.validation is not None:
        shots = feasible(shots, np.asarray(data.validation.labels), data.validation.name, say)
    tasks = _tasks(data, wanted, max(shots))
    work = Work(len(runs) * len(wanted.features) * len(wanted.heads or HEADS) * len(shots), say, "generalized evaluation")
    found = {run.label: _rows_of_run(run, data, tasks, shots, wanted, where, say, work) for run in runs}
    protocol = {
        "shots": ", ".join(map(str, shots)),
        "novel classes in a draw": len(tasks.test[0].exemplars),
        "draws": wanted.draws,
        "seed": wanted.seed,
        "offset": _offset_rule(data, tasks),
        "interval": f"{RULE.replace('episodes', 'draws of the novel images')}",
    }
    return study_result(
        runs, data.describe(), protocol, over_runs(found, named_groups(runs), always=True), where, {"novel": [data.novel] * len(runs)}
    )


@dataclass(frozen=True)
class Tasks:
    """Draws of novel classes to test on, and of validation classes."""

    test: list[NovelDraw]
    validation: list[NovelDraw]


def _tasks(data: JointData, wanted: Wanted, most: int) -> Tasks:
    test = _draws(data.novel, wanted.ways, most, wanted)
    if data.validation is None:
        return Tasks(test, [])
    # as many classes as in a test draw, where there are as many: the offset depends on their number
    ways = min(len(test[0].exemplars), len(data.validation.class_names))
    return Tasks(test, _draws(data.validation, ways, most, wanted))


def _draws(source: Source, ways: int, most: int, wanted: Wanted) -> list[NovelDraw]:
    labels = np.asarray(source.labels)
    return novel_draws(labels, ways=ways, most=most, draws=wanted.draws, seed=wanted.seed, class_names=source.class_names)


def _offset_rule(data: JointData, tasks: Tasks) -> str:
    if data.validation is None:
        return "none: there are no validation classes (--validation names some)"
    count = len(tasks.validation[0].exemplars)
    return f"largest harmonic mean on {count} validation classes and {len(data.held.rows)} held-out base images, never on test images"


def _rows_of_run(
    run: Trained,
    data: JointData,
    tasks: Tasks,
    shots: list[int],
    wanted: Wanted,
    device: torch.device,
    say: Say,
    work: Work,
) -> list[Row]:
    parts = {part: images for part, images in (("kept", data.kept), ("held", data.held), ("tested", data.tested))}
    sources = {id(images.source): images.source for images in parts.values()}
    of_source = {key: features_of(run.model, source, device) for key, source in sources.items()}
    novel = features_of(run.model, data.novel, device)
    validation = None if data.validation is None else features_of(run.model, data.validation, device)
    rows: list[Row] = []
    for feature in wanted.features:
        z = {part: of_source[id(images.source)][feature][images.rows] for part, images in parts.items()}
        for head in _heads(run, feature, wanted, data):
            classifier = _classifier(head, z["kept"], data.kept, run, len(data.base_names))
            test = _Joint(classifier, z["tested"], data.tested, novel[feature])
            tuned = None if validation is None else _Joint(classifier, z["held"], data.held, validation[feature])
            label = f"{feature}, {head}"
            for count in shots:
                rows += _rows_of_task(label, count, test, tuned, tasks)
                work.step()
            say(f"measured {run.label}, {label}")
    return rows


def _heads(run: Trained, feature: str, wanted: Wanted, data: JointData) -> list[str]:
    """The heads that a feature of a run can have. Raises ConfigError where `rows` was asked for and there are none."""
    found = base_classifier(run) if wanted.choices.base is None else None
    if "rows" in wanted.heads:
        if wanted.choices.base is not None:
            raise ConfigError("--heads rows: the classifier's rows are of the classes that were trained on: leave --base out")
        stands_on = needed_classifier(run, len(data.base_names)).feature
        if stands_on not in wanted.features:
            raise ConfigError(f"--heads rows: the classifier stands on the {stands_on}: add it to --features")
    has = found is not None and found.feature == feature
    return [name for name in (wanted.heads or HEADS) if name != "rows" or has]


def _classifier(head: str, kept: Tensor, images: Images, run: Trained, classes: int) -> Classifier:
    labels = torch.from_numpy(images.labels)
    if head == "prototype":
        return Classifier(_means(kept, labels, classes), _means, _closeness)
    if head == "imprinted":
        return Classifier(imprint_rows(kept, labels, classes), imprint_rows, _cosine(1.0))
    found = needed_classifier(run, classes)
    return Classifier(unit(found.weight), imprint_rows, _cosine(found.scale))


def _means(features: Tensor, labels: Tensor, ways: int) -> Tensor:
    return class_means(unit(features).unsqueeze(0), labels.unsqueeze(0), ways).squeeze(0)


def _closeness(features: Tensor, rows: Tensor) -> Tensor:
    return -squared_distance(unit(features).unsqueeze(0), rows.unsqueeze(0)).squeeze(0)


def _cosine(scale: float) -> Score:
    return lambda features, rows: scale * (unit(features) @ rows.mT)


class _Joint:
    """One classifier with the base images and the new classes of one side, test or validation; what no draw changes is computed once."""

    def __init__(self, classifier: Classifier, base: Tensor, images: Images, novel: Tensor) -> None:
        self.classifier, self.base, self.labels, self.novel = classifier, base, images.labels, novel
        self.base_by_base = best_of(base, classifier.base, classifier.score)
        self.novel_by_base = best_of(novel, classifier.base, classifier.score)

    def answers(self, draw: NovelDraw, shots: int) -> Answers:
        """Answers of the base images and of a draw's query images, with `shots` labelled images of each new class."""
        images, ways = draw.support(shots)
        rows = self.classifier.rows_of(self.novel[images], ways, len(draw.exemplars))
        by_novel: list[Best] = [best_of(z, rows, self.classifier.score) for z in (self.base, self.novel[draw.query])]
        return answers((self.base_by_base, by_novel[0], self.labels), (self.novel_by_base[draw.query], by_novel[1], draw.query_ways))


def _rows_of_task(label: str, shots: int, test: _Joint, validation: _Joint | None, tasks: Tasks) -> list[Row]:
    block = f"{shots}-shot, %"
    found = [test.answers(draw, shots) for draw in tasks.test]
    rows = _measures(label, block, [one.accuracy() for one in found])
    rows.append(make_row(label, block, "AUSUC", [100 * one.sweep().ausuc for one in found]))
    if validation is not None:
        offset = mean_sweep([validation.answers(draw, shots).sweep() for draw in tasks.validation]).best()
        rows += _measures(f"{label}, calibrated", block, [one.accuracy(offset) for one in found], joint=True)
        rows.append({**make_row(f"{label}, calibrated", f"{shots}-shot", "offset", [offset]), "block": block})
    return rows


def _measures(label: str, block: str, found: list[Generalized], *, joint: bool = False) -> list[Row]:
    """Every measure, or those that an offset changes."""
    kept = [name for name in MEASURES if not (joint and "alone" in name)]
    return [make_row(label, block, name, [100 * MEASURES[name](one) for one in found]) for name in kept]
