"""`ssl subclasses`: what lies inside classes: sub-classes that training found, or that features show, against finer labels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from kinshot.core.atomic import make_folder, write_text
from kinshot.core.errors import ConfigError, DataError, suggest
from kinshot.core.runtime import resolve_device
from kinshot.datasets.base import Source
from kinshot.kin.subclasses import agreement, check_divided, divided
from kinshot.learn.features import weights_hash
from kinshot.learn.model import EXPORTED
from kinshot.recipes.recipe import Choice
from kinshot.studies.answers import build_source, features_of
from kinshot.studies.lineage import Lineage
from kinshot.studies.provenance import commands_behind
from kinshot.studies.results import SEEN
from kinshot.studies.seen import seen_fields
from kinshot.studies.study import Say, Trained, check_run_features, load_runs, seeds_of

KIN = "subclasses"
FOUND, DIVIDED = "found in training", "divided now"


@dataclass(frozen=True)
class Division:
    """How classes are divided.

    Args:
        classes: attribute whose classes are divided; empty for the label.
        truth: attribute with finer classes, to compare with; empty for none.
        count: sub-classes of a class at most.
        fit: kmeans or em.
        feature: backbone, projector, joint, or an output of the projector, at unit length.
        seed: key of the starts.
        data: samples; None for the data that each run was trained on.
    """

    classes: str = ""
    truth: str = ""
    count: int = 2
    fit: Literal["kmeans", "em"] = "kmeans"
    feature: str = "projector"
    seed: int = 0
    data: Choice | None = None


def subclasses(paths: Sequence[Path], asked: Division, out: Path | None, device: str, say: Say) -> dict[str, Any]:
    """Sub-classes of runs: those that a kin of their terms found in training, where there is one, and those of their features now.

    Args:
        paths: runs, checkpoints or backbones.
        asked: how classes are divided.
        out: CSV file for the sub-class of every sample, of one run; None for none.
        device: where features are computed.
        say: where messages go.

    Returns:
        What `ssl subclasses --json` prints: what is behind the runs and what they had seen, and `rows`, one for each run and way, with
        `agreement` where there is a truth.

    Raises:
        ConfigError: an attribute or a feature that there is not, or a file for several runs.
        CheckpointError: a bad checkpoint.
        DataError: data without classes.
    """
    check_divided(asked.count, asked.fit)
    runs = load_runs(paths, (*EXPORTED, "training"), say=say)
    if out is not None and len(runs) != 1:
        raise ConfigError(f"--out takes the sub-classes of one run, and there are {len(runs)}: give one, or leave it out")
    check_run_features([asked.feature], runs)
    rows: list[dict[str, Any]] = []
    met: list[Source] = []
    for run in runs:
        if asked.data is None and run.checkpoint.origin:
            raise ConfigError(f"{run.path} was not trained here and has no data of its own: say what to divide with --data")
        source = build_source(asked.data or run.recipe.data, run.input)
        met.append(source)
        truth = _classes(source, asked.truth) if asked.truth else None
        ways = _ways(run, source, asked, device)
        for way, (y, parts) in ways.items():
            figures = {} if truth is None else agreement(y, parts, truth)
            groups = {"subclasses": np.unique(np.stack([y, parts])[:, parts >= 0], axis=1).shape[1]}
            rows.append({"run": str(run.path), "way": way, "weights": weights_hash(run.checkpoint.encoder)[:12], **groups, **figures})
        if out is not None:
            make_folder(out.parent)
            write_text(out, _csv(source, ways, asked))
    lineage = Lineage((run.path, run) for run in runs)
    seen, said = seen_fields(runs, {"": met}, lineage)
    return {
        "pretrained_by": commands_behind(((run.path, run) for run in runs), lineage),
        "seeds": seeds_of(runs),
        "data": source.name,
        "classes": asked.classes or "label",
        "truth": asked.truth or "none",
        DIVIDED: f"{asked.feature} at unit length, {asked.fit} inside each class, at most {asked.count} sub-classes, seed {asked.seed}",
        **({} if out is None else {"out": str(out)}),
        "protocol": said,
        SEEN: seen,
        "rows": rows,
    }


def _ways(run: Trained, source: Source, asked: Division, device: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Classes and sub-classes of the samples, by the way they were found."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for number, term in enumerate(run.recipe.all_terms):
        if term.kin.name == KIN and asked.data is None:
            assigned = run.checkpoint.training[f"terms/{number}.kin.assigned"].numpy()
            if not source.known_as(str(run.checkpoint.state.get("source"))):
                raise DataError(f"{run.path} was trained on other samples than {source.name} holds now: say with --data what to divide")
            count = term.kin.settings["count"]
            found[FOUND if not found else f"{FOUND}, term {number}"] = np.where(assigned < 0, -1, assigned // count), assigned % count
    y = _classes(source, asked.classes)
    z = torch.nn.functional.normalize(features_of(run.model, source, resolve_device(device))[asked.feature], dim=1)
    found[DIVIDED] = y, divided(z.numpy(), y, asked.count, fit=asked.fit, seed=asked.seed)
    return {way: (y, np.where(y < 0, -1, parts)) for way, (y, parts) in found.items()}


def _classes(source: Source, attribute: str) -> np.ndarray:
    """Classes of a source's samples by its label or an attribute. Raises DataError or ConfigError where there are none."""
    if not attribute:
        if source.labels is None:
            raise DataError(f"{source.name} has no labels, and sub-classes are of classes: name an attribute with --classes")
        return np.asarray(source.labels)
    if attribute not in source.attributes or source.attributes[attribute].ndim != 1:
        known = [name for name, values in source.attributes.items() if values.ndim == 1]
        raise ConfigError(f"{source.name} has no attribute {attribute!r} of one class a sample: {suggest(attribute, known)}")
    return np.asarray(source.attributes[attribute])


def _csv(source: Source, ways: dict[str, tuple[np.ndarray, np.ndarray]], asked: Division) -> str:
    """A row for each sample: its number, its class by name, its sub-class by each way, and the truth by name."""
    import csv

    names = source.class_names if not asked.classes else source.attribute_names.get(asked.classes, ())
    columns: dict[str, list[Any]] = {"sample": list(range(len(source))), "class": _named(_classes(source, asked.classes), names)}
    columns |= {way.replace(" ", "_").replace(",", ""): parts.tolist() for way, (_, parts) in ways.items()}
    if asked.truth:
        columns[asked.truth] = _named(_classes(source, asked.truth), source.attribute_names.get(asked.truth, ()))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _named(values: np.ndarray, names: Sequence[str]) -> list[Any]:
    return [names[value] if 0 <= value < len(names) else value for value in values.tolist()]
