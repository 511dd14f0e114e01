"""Whether training without labels made the encoder of `init` better: the same queries and episodes before and after, and the difference.

Labels play no part in the training; where the data has them, they judge it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from kinshot.core.statistics.means import crossed
from kinshot.recipes.recipe import Recipe, train_command
from kinshot.runs.knn_probe import BACKBONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from kinshot.runs.job import Job
    from kinshot.runs.knn_probe import KnnProbe
    from kinshot.runs.validation import Validator

KNN = "kNN"
BETTER, WORSE, UNSHOWN, UNKNOWN = "better", "worse", "not shown", "not measured"
Figures = Mapping[str, Sequence[float]]
"""Percent of every query (100 or 0) and of every episode, by what was measured."""


def adapts(recipe: Recipe) -> bool:
    """Whether a recipe trains on, without labels, what another encoder knows."""
    return bool(recipe.init) and train_command(recipe) == "ssl pretrain"


def figures_of(job: Job, validator: Validator | None, probe: KnnProbe | None) -> dict[str, list[float]]:
    """What the encoder reaches now by the run's own kNN probe and in its validation episodes; nothing where there is neither."""
    found: dict[str, list[float]] = {}
    right = () if probe is None else probe.right(job, BACKBONE)
    if len(right):
        found[KNN] = [100.0 * bool(one) for one in right]
    if validator is not None:
        found[validator.task] = validator.figures(job).tolist()
    return found


@contextmanager
def with_encoder(job: Job, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, the run's encoder has these weights."""
    encoder = job.method.encoder
    live = {name: value.clone() for name, value in encoder.state_dict().items()}
    try:
        encoder.load_state_dict(weights)
        yield
    finally:
        encoder.load_state_dict(live)


def compared(recipe: Recipe, before: Figures, after: Figures) -> dict[str, Any]:
    """What a result says of it: each figure before and after, the difference with its 95 % interval, paired, and a verdict in words."""
    found: dict[str, Any] = {"init": recipe.init}
    bounds = []
    for name in (name for name in before if name in after):
        first, last = np.asarray(before[name]), np.asarray(after[name])
        gain = crossed(last - first)
        bounds.append((gain.mean - gain.half_width, gain.mean + gain.half_width))
        means = {"before": first.mean(), "after": last.mean(), "difference": gain.mean, "ci95": gain.half_width}
        found[name] = {key: round(float(value), 2) for key, value in means.items()} | {"of": len(first)}
    if not bounds:
        return {**found, "verdict": UNKNOWN}
    lower, upper = min(low for low, _ in bounds), min(high for _, high in bounds)
    return {**found, "verdict": BETTER if lower > 0 else WORSE if upper < 0 else UNSHOWN}


def told(recipe: Recipe, said: Mapping[str, Any], out: str) -> list[str]:
    """The same for people, and what to do."""
    lines = [
        f"{name}: {one['before']:.2f} % as init was, {one['after']:.2f} % now: {one['difference']:+.2f} ± {one['ci95']:.2f} (95 %, paired)"
        for name, one in said.items()
        if isinstance(one, dict)
    ]
    split = recipe.monitor.knn_split
    asked = f"split {split} of its data" if split else "its training data"
    judges = {KNN: f"labels of {asked}, which training did not see"}
    known = ", and ".join(dict.fromkeys(judges.get(name, "validation episodes") for name, one in said.items() if isinstance(one, dict)))
    again = "less of it can be changed (train.layer_decay, train.freeze), or for fewer epochs"
    verdicts = {
        BETTER: f"this training helped, by {known}",
        WORSE: f"this training did NOT help, it harmed, by {known}: use {recipe.init} as it is; {again}",
        UNSHOWN: f"that this training helped is not shown, by {known}: unless more data says so, use {recipe.init} as it is; {again}",
        UNKNOWN: (
            "whether this training helped is not known, as nothing here has labels: with class folders set data.labels=folders, which "
            f"judges and does not train, or run fewshot eval {out} --data folder:LABELLED, which shows init beside it"
        ),
    }
    return [*lines, verdicts[said["verdict"]]]
