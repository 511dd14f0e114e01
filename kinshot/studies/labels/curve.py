"""`ssl labels`: how well frozen encoders do with few labels, beside what needs no pretraining, on the same drawn labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinshot.core.errors import ConfigError
from kinshot.core.progress import Work
from kinshot.core.runtime import resolve_device
from kinshot.core.statistics.agreement import accuracy, accuracy_by, macro_f1
from kinshot.core.statistics.means import RULE
from kinshot.fewshot.draws import pool_of
from kinshot.fewshot.linear_probe import Scaling, probe_predictions
from kinshot.learn.model import Model
from kinshot.recipes.amounts import Amount
from kinshot.studies.answers import features_of
from kinshot.studies.labels.amounts import Drawn, drawn
from kinshot.studies.labels.arms import Arm, Cell, Member, differences, rows_of, verdicts
from kinshot.studies.labels.bench import Bench, Subject, bench_of
from kinshot.studies.labels.parts import Choices, Parts
from kinshot.studies.labels.supervised import Training, encoder_of, supervised_predictions
from kinshot.studies.study import study_result

Say = Callable[[str], None]
ACCURACY, F1 = "accuracy, %", "macro-F1, %"
WORST, SPREAD = "accuracy of the worst person, %", "spread of accuracy over people, points"
POINTS = {ACCURACY: "accuracy, points", F1: "macro-F1, points"}
"""The measures that are compared, and what a difference is called."""


@dataclass(frozen=True)
class Wanted:
    """What to measure.

    Args:
        amounts: how many samples have labels.
        choices: which data.
        draws: draws of the labelled samples.
        seed: key of the draws.
        feature: backbone, projector, joint, or an output of the projector.
        C: of the logistic regression, the same for all rows and amounts.
        reference: measure the references that are not trained, too.
        training: how the network is trained from scratch.
        supervised: draws on which it is, at most; 0 leaves it out.
    """

    amounts: Sequence[Amount]
    choices: Choices = field(default_factory=Choices)
    draws: int = 10
    seed: int = 0
    feature: str = "backbone"
    C: float = 1.0
    reference: bool = True
    training: Training = field(default_factory=Training)
    supervised: int = 5

    def __post_init__(self) -> None:
        if self.draws < 1 or self.supervised < 0 or not self.C > 0:
            got = f"{self.draws}, {self.supervised} and {self.C:g}"
            raise ConfigError(f"--draws must be at least 1, --supervised-draws at least 0 and --c above 0, got {got}")


def label_curve(paths: Sequence[Path], wanted: Wanted, device: str, say: Say, *, names: Sequence[str] = ()) -> dict[str, Any]:
    """Measure runs; returns the result that `ssl labels --json` prints.

    Samples to be labelled are drawn of every class of the training part, by keys that make the draws the same for all rows; larger draws
    extend smaller ones. Features are frozen and standardised over the whole training part, which needs no labels. On the drawn samples a
    logistic regression is fitted, whose penalty is fixed beforehand: with one label to a class there is nothing to choose it by.

    Raises CheckpointError for a bad checkpoint, DataError and ConfigError for data and settings that do not fit.
    """
    where = resolve_device(device)
    bench = bench_of(paths, names or [""] * len(paths), wanted.choices, wanted.feature, say)
    parts = bench.any
    draws = drawn(wanted.amounts, pool_of(parts.train_labels), parts.classes, wanted.draws, wanted.seed, say)
    references = [*bench.untrained(), *bench.statistics()] if wanted.reference else []
    scratch = bench.scratch() if wanted.supervised else []
    study = _Study(bench, wanted, draws, where, say)
    arms = [study.probed(subject) for subject in [*bench.subjects(), *references]]
    arms += [study.trained(subject) for subject in scratch]
    beside = {
        label: tuple(subject.label for subject in [*references, *scratch] if label in subject.of) for label in (arm.label for arm in arms)
    }
    compared = [replace(arm, beside=beside[arm.label]) for arm in arms]
    rows = rows_of(compared)
    met = {"": [bench.of(run).test for run in bench.runs]}
    found = study_result(bench.runs, parts.describe(), _protocol(wanted, draws, bool(scratch)), rows, where, met)
    return {
        **found,
        "labels per class": {one.amount.text: one.per_class for one in draws},
        "references": [arm.label for arm in compared if arm.reference],
        "paired": [asdict(difference) for difference in differences(compared, POINTS)],
        "verdicts": verdicts(compared, rows, F1),
        "people": study.people,
    }


class _Study:
    """Measures one row after another on the same draws."""

    def __init__(self, bench: Bench, wanted: Wanted, draws: Sequence[Drawn], device: torch.device, say: Say) -> None:
        self.bench, self.wanted, self.draws, self.device, self.say = bench, wanted, draws, device, say
        self.people: list[dict[str, Any]] = []

    def probed(self, subject: Subject) -> Arm:
        """A row of frozen features."""
        parts = self.bench.of(subject.run)
        members = []
        for name, seed, model in subject.models:
            train, queries = self._features(model, parts)
            predicted = {
                one.amount.text: probe_predictions(train, parts.train_labels, one.rows, queries, self.wanted.C) for one in self.draws
            }
            members.append(Member(name, seed, self._figures(name, predicted, parts)))
            self.say(f"measured {name}")
        return Arm(subject.label, tuple(members), reference=bool(subject.of), fixed=subject.fixed)

    def trained(self, subject: Subject) -> Arm:
        """A row of networks that are trained on the drawn samples alone, on the first of the draws."""
        parts, run, wanted = self.bench.of(subject.run), subject.run, self.wanted
        encoder = encoder_of(run)
        todo = [(one, number) for one in self.draws for number in range(min(wanted.supervised, len(one.rows)))]
        work = Work(sum(wanted.training.length(one.rows.shape[1]) for one, _ in todo), self.say, f"training {subject.label}")
        predicted: dict[str, list[np.ndarray]] = {}
        for one, number in todo:
            given = parts, one.rows[number], number, wanted.training, wanted.seed, self.device
            predicted.setdefault(one.amount.text, []).append(supervised_predictions(run, encoder, *given))
            work.step(wanted.training.length(one.rows.shape[1]))
        self.say(f"measured {subject.label}")
        figures = self._figures(subject.label, {text: np.stack(found) for text, found in predicted.items()}, parts)
        return Arm(subject.label, (Member(subject.label, None, figures),), reference=True)

    def _features(self, model: Model | None, parts: Parts) -> tuple[torch.Tensor, torch.Tensor]:
        """Standardised features of the training part and of the samples that are tested on."""
        name = parts.train.spec.raw_feature if model is None else self.wanted.feature
        train, test = (features_of(model, source, self.device)[name] for source in (parts.train, parts.test))
        scaling = Scaling.of(train)
        return scaling(train), scaling(test[torch.from_numpy(parts.rows)])

    def _figures(self, name: str, predicted: dict[str, np.ndarray], parts: Parts) -> dict[Cell, np.ndarray]:
        """Figures (E,) of what was predicted (E, M), by block and column."""
        people, found = parts.people, {}
        for column, said in predicted.items():
            found[ACCURACY, column] = 100 * accuracy(said, parts.labels)
            found[F1, column] = 100 * macro_f1(said, parts.labels, len(parts.classes))
            if people is not None and len(people[0]) > 1:
                by_person = 100 * accuracy_by(said, parts.labels, people[1])
                found[WORST, column], found[SPREAD, column] = by_person.min(axis=1), by_person.std(axis=1, ddof=1)
                named = dict(zip(people[0], by_person.mean(axis=0).round(3).tolist(), strict=True))
                self.people.append({"label": name, "column": column, "accuracy, %": named})
        return {cell: found[cell] for cell in sorted(found, key=lambda cell: [ACCURACY, F1, WORST, SPREAD].index(cell[0]))}


def _protocol(wanted: Wanted, draws: Sequence[Drawn], scratch: bool) -> dict[str, Any]:
    most = max(len(one.rows) for one in draws)
    count = min(wanted.supervised, most)
    return {
        "labelled samples": ", ".join(one.amount.text for one in draws),
        "draws": wanted.draws,
        "seed": wanted.seed,
        "feature": wanted.feature,
        "classifier": f"logistic regression, C {wanted.C:g} for every row and number of labels, not tuned",
        "standardised over": "all samples to learn from, without their labels",
        **({"supervised from scratch": f"on {count} of {most} draws; {wanted.training}"} if scratch else {}),
        "interval": RULE.replace("episodes", "draws of the labelled samples"),
    }
