"""What was measured of several models, as rows: means over seeds, differences to one of them paired by seed or by episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kinshot.core.statistics.means import crossed, mean_of
from kinshot.recipes.specs import Task
from kinshot.studies.footprint import Footprint
from kinshot.studies.latency import Latency

TEACHER, STUDENT, DISTILLED, INT8 = "teacher", "student", "distilled", "int8"
"""Roles: the first model, others, those that learned from a teacher, and quantised ones."""


@dataclass(frozen=True)
class Estimate:
    """A mean and the half-width of its 95 % interval (0 for a single value) over n values."""

    mean: float
    ci95: float
    n: int


@dataclass(frozen=True)
class RunAccuracy:
    """What one run reaches, in percent: accuracy in every episode (E,) of each task, and of kNN; `seed` is the run's."""

    seed: int
    episodes: Mapping[Task, np.ndarray]
    knn: float


@dataclass(frozen=True)
class MeasuredModel:
    """One row to be: a model, with all its runs, which differ by their seed alone.

    Args:
        label: what it is called, and no other.
        name: what it and perhaps others of its kind are called, of another size or in int8.
        role: one of the roles.
        footprint: what it weighs, the same for all runs.
        runs: what each of them reaches.
    """

    label: str
    name: str
    role: str
    footprint: Footprint
    runs: tuple[RunAccuracy, ...]


def estimate(values: Sequence[float] | np.ndarray) -> Estimate:
    """Mean and interval of one figure per run or episode."""
    found = mean_of(values)
    return Estimate(found.mean, found.half_width, len(values))


def accuracy_of(model: MeasuredModel, task: Task) -> Estimate:
    """Accuracy on a task: over the episodes of a single run, else over the runs and the episodes that they share."""
    found = [run.episodes[task] for run in model.runs]
    return _over(found)


def difference_to(model: MeasuredModel, reference: MeasuredModel, task: Task) -> Estimate | None:
    """Points more than another model: over runs paired by seed and the episodes that they share, of one pair over those; None without one.

    A reference with a single run is paired with every run of the model.
    """
    of_seed = {run.seed: run for run in reference.runs}
    alone = reference.runs[0] if len(reference.runs) == 1 else None
    pairs = [(run, other) for run in model.runs if (other := of_seed.get(run.seed, alone)) is not None]
    if not pairs:
        return None
    return _over([run.episodes[task] - other.episodes[task] for run, other in pairs])


def _over(rows: Sequence[np.ndarray]) -> Estimate:
    found = crossed(np.stack(rows))
    return Estimate(found.mean, found.half_width, len(rows) if len(rows) > 1 else len(rows[0]))


def row_of(model: MeasuredModel, latency: Sequence[Latency], reference: MeasuredModel) -> dict[str, Any]:
    """One model as plain data: `ssl measure --json` prints it."""
    cost = model.footprint
    return {
        "label": model.label,
        "name": model.name,
        "role": model.role,
        "seeds": [run.seed for run in model.runs],
        "parameters": cost.parameters,
        "macs": cost.macs,
        "file_bytes": cost.file_bytes,
        "latency_ms": [vars(of_batch) for of_batch in latency],
        "to": reference.label,
        "accuracy": [_task_row(model, reference, task) for task in model.runs[0].episodes],
        "knn": vars(estimate([run.knn for run in model.runs])),
    }


def _task_row(model: MeasuredModel, reference: MeasuredModel, task: Task) -> dict[str, Any]:
    difference = None if model is reference else difference_to(model, reference, task)
    ways, shots = task
    return {"ways": ways, "shots": shots, **vars(accuracy_of(model, task)), "difference": vars(difference) if difference else None}


def result_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a result file: `{label, metric, mean, ci95, n}`; for latency the median and half the distance of the quartiles."""
    found = []
    for row in rows:

        def add(metric: str, mean: float, ci95: float = 0.0, n: int = 1, label: str = row["label"]) -> None:
            found.append({"label": label, "metric": metric, "mean": round(mean, 3), "ci95": round(ci95, 3), "n": n})

        add("parameters, thousands", row["parameters"] / 1e3)
        add("MACs, millions", row["macs"] / 1e6)
        add("file, kB", row["file_bytes"] / 1e3)
        for latency in row["latency_ms"]:
            half = (latency["high"] - latency["low"]) / 2
            add(
                f"latency at batch {latency['batch']}, ms (median ± half the interquartile range)",
                latency["median"],
                half,
                latency["calls"],
            )
        for task in row["accuracy"]:
            name = f"{task['ways']}-way {task['shots']}-shot accuracy"
            add(f"{name}, %", task["mean"], task["ci95"], task["n"])
            if task["difference"]:
                add(f"{name} minus {row['to']}, points", **task["difference"])
        add("kNN accuracy, %", **row["knn"])
    return found
