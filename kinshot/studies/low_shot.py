"""`fewshot lowshot`: a linear probe over all classes of a source, trained on a few labelled images of each, on cached features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.progress import Work
from kinshot.core.runtime import resolve_device
from kinshot.core.statistics.means import RULE
from kinshot.datasets.base import Source
from kinshot.fewshot.evaluate import build_head, takes
from kinshot.fewshot.low_shot import low_shot_probe
from kinshot.learn.model import Model
from kinshot.recipes.recipe import Choice
from kinshot.recipes.splits import measured_data
from kinshot.samples.spec import Spec
from kinshot.studies.answers import features_of
from kinshot.studies.fields import distinct_inputs
from kinshot.studies.references import references
from kinshot.studies.seed_groups import named_groups
from kinshot.studies.study import (
    Row,
    Say,
    check_run_features,
    feasible,
    labelled,
    load_runs,
    make_row,
    over_runs,
    same_data,
    study_result,
)


@dataclass(frozen=True)
class Probe:
    """What to measure.

    Args:
        data: source of the labelled images; None is the split test of the run's own data, or that data where it has none.
        test: images to test on, of classes of the same names; None is what each draw leaves out.
        shots: numbers of labelled images of each class.
        draws: draws of the labelled images.
        seed: key of the draws.
        heads: (text, name, settings) of each classifier.
        features: some of the model's features.
        reference: measure raw pixels and the untrained encoder too.
    """

    data: Choice | None
    test: Choice | None
    shots: list[int]
    draws: int
    seed: int
    heads: list[tuple[str, str, dict[str, Any]]]
    features: list[str]
    reference: bool = True


def low_shot(paths: list[Path], wanted: Probe, device: str, say: Say) -> dict[str, Any]:
    """Measure runs; returns the result that `fewshot lowshot --json` prints.

    Raises CheckpointError for a bad checkpoint, DataError and ConfigError for data and settings that do not fit, with the counts.
    """
    for text, name, settings in wanted.heads:
        if takes(name, "base") or takes(name, "encoder") or settings.get("transform") == "cl2n":
            problem = f"--heads {text}: needs base classes or the encoder itself, and a low-shot probe gives features alone"
            raise ConfigError(f"{problem}: choose another, logistic for example")
    where, runs = resolve_device(device), load_runs(paths, say=say)
    check_run_features(wanted.features, runs)
    if wanted.data is None:
        same_data(runs)
    own = runs[0].recipe.data
    images = {
        key: _images(wanted.data or measured_data(own), wanted.test, spec)
        for key, spec in distinct_inputs([run.input for run in runs]).items()
    }
    source, test = images[min(images)]
    labels = np.asarray(source.labels)
    shots = feasible(wanted.shots, labels, source.name, say, beside=1 if test is None else 0)
    others = references(runs, say) if wanted.reference else []
    models = [*(run.model for run in runs), *(other.model for other in others)]
    count = sum(1 if model is None else len(wanted.features) for model in models)
    work = Work(count * len(wanted.heads) * sum(shots) * wanted.draws, say, "low-shot probes")
    found = {run.label: _rows(run.label, run.model, *images[run.input.meets], shots, wanted, where, say, work) for run in runs}
    rows = over_runs(found, named_groups(runs), always=True)
    for other in others:
        own_images = images[other.run.input.meets]
        rows += over_runs({other.label: _rows(other.label, other.model, *own_images, shots, wanted, where, say, work)}, {}, always=True)
    protocol = {
        "labelled images of each class": ", ".join(map(str, shots)),
        "draws": wanted.draws,
        "seed": wanted.seed,
        "tested on": "the images that each draw leaves out" if test is None else f"{len(test.rows)} images of {test.source.name}",
        "interval": RULE.replace("episodes", "draws of the labelled images"),
    }
    data = {"name": source.name, "classes": len(source.class_names), "images": len(source)}
    return study_result(runs, data, protocol, rows, where, {"": [images[run.input.meets][0] for run in runs]})


@dataclass(frozen=True)
class _Test:
    """Images to test on: rows of a source, and the class of each in the labelled source."""

    source: Source
    rows: np.ndarray
    labels: np.ndarray


def _images(data: Choice, test: Choice | None, input: Spec) -> tuple[Source, _Test | None]:
    """The labelled images, and those to test on, as an encoder of this input sees them."""
    source, _ = labelled(data, input, "--data")
    return source, None if test is None else _test_images(test, source, input)


def _test_images(choice: Choice, labelled_images: Source, input: Spec) -> _Test:
    source, labels = labelled(choice, input, "--test")
    if source.fingerprint() == labelled_images.fingerprint():
        raise ConfigError(f"--test {source.name}: these are the labelled images: leave it out to test on what each draw leaves out")
    place = {name: number for number, name in enumerate(labelled_images.class_names)}
    found = np.array([place.get(name, -1) for name in source.class_names], dtype=np.int64)[labels]
    rows = np.flatnonzero(found >= 0)
    if not len(rows):
        raise DataError(f"{source.name} has no image of a class of {labelled_images.name}, by name: give --test with the same classes")
    return _Test(source, rows, found[rows])


def _rows(
    name: str,
    model: Model | None,
    source: Source,
    test: _Test | None,
    shots: list[int],
    wanted: Probe,
    device: torch.device,
    say: Say,
    work: Work,
) -> list[Row]:
    features = features_of(model, source, device)
    others = None if test is None else features_of(model, test.source, device)
    rows: list[Row] = []
    for feature in wanted.features if model is not None else [source.spec.raw_feature]:
        asked = None if test is None or others is None else (others[feature][test.rows], test.labels)
        for text, head, settings in wanted.heads:
            rows += _probed(f"{feature}, {text}", features[feature], source, asked, shots, wanted, build_head(head, settings), work)
            say(f"measured {name}, {feature}, {text}")
    return rows


def _probed(
    label: str,
    features: Tensor,
    source: Source,
    test: tuple[Tensor, np.ndarray] | None,
    shots: list[int],
    wanted: Probe,
    head: Any,
    work: Work,
) -> list[Row]:
    labels = np.asarray(source.labels)
    found = low_shot_probe(features, labels, shots=shots, draws=wanted.draws, seed=wanted.seed, test=test, head=head, done=work.step)
    measures = {"accuracy over images, %": "accuracy", "mean accuracy over classes, %": "class_mean"}
    return [make_row(label, block, f"{one.shots} per class", 100 * getattr(one, name)) for block, name in measures.items() for one in found]
