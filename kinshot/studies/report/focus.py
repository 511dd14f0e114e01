"""The answers behind the details of a report: every head on one task, with one feature of one checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch

from kinshot.core.errors import ConfigError
from kinshot.datasets.base import Source
from kinshot.fewshot.records import Records
from kinshot.studies.answers import Protocol, answers
from kinshot.studies.fields import Field, Fields, shared_data
from kinshot.studies.report.fitting import check_shots, fitted
from kinshot.studies.study import Trained
from kinshot.studies.tasks import Drawing


def field_of(runs: Sequence[Trained], protocol: Protocol, free: Collection[str] = ()) -> tuple[Field, Drawing, list[str]]:
    """The source as the first run sees it, and the episodes that all of them share; how they were drawn, and what the data decided.

    `free` names what of the drawing may follow the data (`fitting.fitted`).

    Raises:
        DataError: no labels, too few classes, or shot counts that the classes are too small for, with the counts.
    """
    decided: list[str] = []

    def fit(source: Source, wanted: Drawing) -> Drawing:
        labels = np.asarray(source.labels)
        drawing, said = fitted(wanted, labels, free)
        decided.extend(said)
        check_shots(labels, source.class_names, source.name, drawing)
        return drawing

    inputs = [run.input for run in runs]
    fields = Fields(protocol.data or shared_data(runs), inputs, protocol.drawing, fit)
    return fields.of(inputs[0]), fields.drawing, decided


def focus_records(field: Field, run: Trained, protocol: Protocol, device: torch.device) -> tuple[str, dict[str, Records]]:
    """The feature of the details, and the answers of every head that works on it, by its text, on the first task of a protocol.

    The feature is the first that some head works on: heads with trained parts know a feature of their own.

    Args:
        field: source and episodes.
        run: loaded with the parts of its model.
        protocol: what is measured.
        device: where features are computed.

    Raises:
        ConfigError: no head works on any of the features.
    """
    task, episodes = next(iter(field.tasks.items()))
    found: dict[str, dict[str, Records]] = {}
    for answered in answers("", run.model, run, field.source, {task: episodes}, protocol, device):
        found.setdefault(answered.feature, {})[answered.head] = answered.records[0]
    if found:
        return next(iter(found.items()))
    raise ConfigError(f"no head works on the features {', '.join(protocol.features)}: add backbone, which all but a few know")
