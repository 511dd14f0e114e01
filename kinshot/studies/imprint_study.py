"""`fewshot imprint`: weight imprinting measured in the shape of its paper.

A few exemplars of new classes join a network that was trained on base classes with a cosine classifier. Accuracy is over base and new
classes jointly: on images of new classes, and on images of all classes.

Paper: Qi, Brown, Lowe, 2018, arXiv 1712.07136
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinshot.core.errors import ConfigError, suggest
from kinshot.core.progress import Work
from kinshot.core.runtime import resolve_device
from kinshot.core.statistics.means import RULE
from kinshot.datasets.base import Source
from kinshot.encoders.build import keyed_initialisation
from kinshot.encoders.cosine_rows import CosineRows
from kinshot.fewshot.generalized import Generalized
from kinshot.fewshot.joint import novel_draws
from kinshot.fewshot.transforms import unit
from kinshot.runs.embedder import untrained
from kinshot.studies.answers import features_of
from kinshot.studies.base_classifier import needed_classifier, network_of
from kinshot.studies.imprint_arms import STARTS, TUNINGS, Bench, Fixed, Side, Tuning, measure, recipe_views, train_network
from kinshot.studies.joint_data import Images, JointChoices, JointData, joint_data
from kinshot.studies.seed_groups import named_groups
from kinshot.studies.study import Row, Say, Trained, feasible, load_runs, make_row, over_runs, same_data, study_result

STEPS, LEARNING_RATES = (100,), (0.01, 0.001)
BLOCKS = {
    "images of novel classes, %": lambda g: g.novel,
    "images of all classes, %": lambda g: g.micro,
    "images of base classes, %": lambda g: g.base,
    "harmonic mean of base and novel, %": lambda g: g.harmonic,
}
JOINTLY = "all classes jointly"
UNSIGNED = (
    "the classifier's features are never negative, so that imprinted rows lie close to every image and trained rows lose against them; "
    "the paper's classifier stands on a linear embedding, whose features have either sign"
)


@dataclass(frozen=True)
class Study:
    """What to measure.

    Args:
        choices: the data.
        shots: numbers of exemplars of each new class.
        starts: some of `STARTS`.
        tunings: some of `TUNINGS`.
        steps: steps of fine-tuning to choose from; empty for the default.
        lrs: learning rates to choose from; empty for the defaults, of which the first is taken where there is nothing to choose on.
        draws: draws of the exemplars.
        tuning_draws: draws of validation classes that settings are chosen on.
        jointly: training of the untrained network on base images and exemplars alike, from random rows; None leaves it out.
        fixed: what is the same in every arm.
    """

    choices: JointChoices
    shots: list[int]
    starts: list[str]
    tunings: list[str]
    steps: list[int] = field(default_factory=list)
    lrs: list[float] = field(default_factory=list)
    draws: int = 5
    tuning_draws: int = 1
    jointly: Tuning | None = None
    fixed: Fixed = field(default_factory=Fixed)


def imprint_study(paths: list[Path], study: Study, device: str, say: Say) -> dict[str, Any]:
    """Measure runs of one training set; returns the result that `fewshot imprint --json` prints.

    Raises CheckpointError for a bad checkpoint, DataError and ConfigError for data and settings that do not fit, with the counts.
    """
    for option, names, known in (("--starts", study.starts, STARTS), ("--tunings", study.tunings, TUNINGS)):
        for name in names:
            if name not in known:
                raise ConfigError(f"{option}: unknown {name!r}: {suggest(name, known)}")
    where, runs = resolve_device(device), load_runs(paths, say=say)
    same_data(runs)
    if study.choices.base is not None:
        raise ConfigError("the base classes are those of the classifier that was trained: leave --base out")
    data = joint_data(study.choices, runs[0].recipe.data, runs[0].input, study.fixed.seed, say)
    candidates = _candidates(study, data)
    shots = feasible(study.shots, np.asarray(data.novel.labels), data.novel.name, say)
    if len(candidates) > 1 and data.validation is not None:
        shots = feasible(shots, np.asarray(data.validation.labels), data.validation.name, say)
    found, chosen = {}, {}
    work = Work(len(runs) * _work(study, candidates, len(shots)), say, "imprinting")
    for run in runs:
        found[run.label], chosen[run.label] = _rows_of_run(run, data, study, candidates, shots, where, say, work)
    protocol = {
        "exemplars": ", ".join(map(str, shots)),
        "draws": study.draws,
        "seed": study.fixed.seed,
        "views averaged": study.fixed.views if "views" in study.starts else "none",
        "fine-tuning": _fine_tuning(study, candidates, data),
        "interval": RULE.replace("episodes", "draws of the exemplars"),
    }
    result = study_result(runs, data.describe(), protocol, over_runs(found, named_groups(runs)), where, {"novel": [data.novel] * len(runs)})
    return {**result, "chosen on validation classes": chosen}


def _candidates(study: Study, data: JointData) -> list[Tuning]:
    """Settings of fine-tuning to choose from. Raises ConfigError where several were asked for and nothing is there to choose on."""
    if set(study.tunings) == {"none"}:
        return [Tuning(0, 0.0)]
    found = [Tuning(steps, lr) for steps, lr in product(study.steps or STEPS, study.lrs or LEARNING_RATES)]
    if data.validation is not None or len(found) == 1:
        return found
    if len(study.steps) > 1 or len(study.lrs) > 1:
        raise ConfigError(
            "several --steps or --lr are chosen from on validation classes, and there are none: give --validation, or one value"
        )
    return found[:1]


def _cost(tuned: str, tuning: Tuning) -> float:
    """About how long an arm takes, in passes of a batch through the network."""
    return {"none": 1.0, "rows": 1 + 0.05 * tuning.steps}.get(tuned, 1.0 + 3 * tuning.steps)


def _work(study: Study, candidates: list[Tuning], shots: int) -> float:
    """The cost of one run: arms on test classes, and choosing among several candidates."""
    mean = {name: sum(_cost(name, tuning) for tuning in candidates) / len(candidates) for name in study.tunings}
    choosing = sum(mean[name] for name in study.tunings if name != "none") * len(candidates) * study.tuning_draws
    jointly = 0.0 if study.jointly is None else study.draws * _cost("network", study.jointly)
    return shots * (len(study.starts) * study.draws * sum(mean.values()) + (choosing if len(candidates) > 1 else 0.0) + jointly)


def _fine_tuning(study: Study, candidates: list[Tuning], data: JointData) -> str:
    if set(study.tunings) == {"none"}:
        return "none"
    settings = ", ".join(f"{c.steps} steps at lr {c.lr:g}" for c in candidates)
    fixed = f"SGD with momentum 0.9, batches of {study.fixed.batch} with classes drawn uniformly, batch norm: {study.fixed.batch_norm}"
    if len(candidates) > 1:
        return f"{settings}, chosen for each number of exemplars by harmonic mean on validation classes and held-out base images; {fixed}"
    reason = "as given" if (study.lrs and study.steps) or data.validation is not None else "not chosen, there are no validation classes"
    return f"{settings} ({reason}); {fixed}"


def _rows_of_run(
    run: Trained,
    data: JointData,
    study: Study,
    candidates: list[Tuning],
    shots: list[int],
    device: torch.device,
    say: Say,
    work: Work,
) -> tuple[list[Row], dict[str, str]]:
    bench = _bench(run, data, study.fixed, device)
    if bool((bench.base_features >= 0).all()):
        say(f"{run.path}: {UNSIGNED}")
    test = _side(bench, data.novel, data.tested, max(shots), study.draws)
    tuned = [name for name in study.tunings if name != "none"]
    settings = {(name, count): candidates[0] for name in study.tunings for count in shots}
    if len(candidates) > 1 and data.validation is not None:
        side = _side(bench, data.validation, data.held, max(shots), study.tuning_draws)
        start = "imprinted" if "imprinted" in study.starts else study.starts[0]
        for name, count in product(tuned, shots):
            settings[name, count] = _choose(bench, side, count, start, name, candidates, work)
            say(f"chose {settings[name, count]} for {name}, n = {count}, on {data.validation.name}")
    rows: list[Row] = []
    for start, name in product(study.starts, study.tunings):
        for count in shots:
            found = []
            for number in range(study.draws):
                found.append(measure(bench, test, number, count, start, name, settings[name, count]))
                work.step(_cost(name, settings[name, count]))
            rows += _blocks(STARTS[start] + TUNINGS[name], count, found)
        say(f"measured {run.label}, {STARTS[start]}{TUNINGS[name]}")
    if study.jointly is not None:
        for count in shots:
            rows += _blocks(JOINTLY, count, _jointly(run, bench, test, count, study.jointly, work))
        say(f"measured {run.label}, {JOINTLY}")
    chosen = {f"{name}, n = {count}": f"{s.steps} steps at lr {s.lr:g}" for (name, count), s in settings.items() if name != "none"}
    return rows, chosen if len(candidates) > 1 else {}


def _bench(run: Trained, data: JointData, fixed: Fixed, device: torch.device) -> Bench:
    classifier = needed_classifier(run, len(data.base_names))
    features = features_of(run.model, data.kept.source, device)[classifier.feature][data.kept.rows]
    network = network_of(run.model, classifier.feature)
    return Bench(run.model, network, recipe_views(run.recipe, run.input), classifier, data.kept, features, fixed, device)


def _side(bench: Bench, novel: Source, base: Images, most: int, draws: int) -> Side:
    drawn = novel_draws(np.asarray(novel.labels), ways=0, most=most, draws=draws, seed=bench.fixed.seed, class_names=novel.class_names)
    features, of_base = (features_of(bench.model, source, bench.device)[bench.classifier.feature] for source in (novel, base.source))
    return Side(novel, features, drawn, base, of_base[base.rows])


def _choose(bench: Bench, side: Side, shots: int, start: str, tuned: str, candidates: list[Tuning], work: Work) -> Tuning:
    """The settings with the largest harmonic mean on validation classes; of equal ones the first."""

    def value(tuning: Tuning) -> float:
        found = []
        for number in range(len(side.draws)):
            found.append(measure(bench, side, number, shots, start, tuned, tuning))
            work.step(_cost(tuned, tuning))
        return float(np.mean([one.harmonic for one in found]))

    return max(candidates, key=value)


def _jointly(run: Trained, bench: Bench, side: Side, shots: int, tuning: Tuning, work: Work) -> list[Generalized]:
    """The network as it was before any training, trained on augmented views of base images and exemplars at once."""
    fresh = network_of(untrained(run).to(bench.device), bench.classifier.feature)
    found = []
    for number, draw in enumerate(side.draws):
        with keyed_initialisation(bench.fixed.seed + number, "init classifier"):
            rows = CosineRows(side.features.shape[1], len(bench.classifier.weight) + len(draw.exemplars))
        weight, scale = unit(rows.weight.detach()), float(rows.scale.detach())
        found.append(train_network(bench, side, number, shots, fresh, weight, scale, tuning, augment=True))
        work.step(_cost("network", tuning))
    return found


def _blocks(label: str, shots: int, found: list[Generalized]) -> list[Row]:
    return [make_row(label, block, f"n = {shots}", [100 * value(one) for one in found]) for block, value in BLOCKS.items()]
