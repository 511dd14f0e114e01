"""`fewshot eval`: checkpoints on episodes of unseen classes, beside the references that they must beat.

Features of the whole split are computed once per model and cached by content; every model and head sees the same episodes.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinshot.core.features import weights_hash
from kinshot.core.runtime import resolve_device
from kinshot.fewshot.evaluate import takes
from kinshot.fewshot.statistics import RULE
from kinshot.recipes.answers import Protocol, Say, measure
from kinshot.recipes.choosing import Candidates, choose, chosen_text
from kinshot.recipes.embedder import Embedder
from kinshot.recipes.fields import Fields, shared_data
from kinshot.recipes.provenance import commands_behind, versions
from kinshot.recipes.reached import reached_text
from kinshot.recipes.references import references
from kinshot.recipes.results import CHOSEN, SEEN
from kinshot.recipes.seen import seen_fields
from kinshot.recipes.study import Trained, check_run_features, load_runs
from kinshot.recipes.summaries import (
    SEED_RULE,
    Difference,
    Line,
    Measured,
    beats,
    compared,
    head_differences,
    over_checkpoints,
    summarized,
)


def evaluate(paths: list[Path], protocol: Protocol, device: str, say: Say, candidates: Candidates | None = None) -> dict[str, Any]:
    """Measure checkpoints under a protocol; returns the result that `fewshot eval --json` prints.

    Every checkpoint meets the same episodes, rendered as its encoder was made for them. With candidates, heads' settings and features
    are chosen on validation episodes first, and nothing else is measured.

    Raises CheckpointError for a bad checkpoint, DataError for data that cannot give the episodes, ConfigError for settings.
    """
    where = resolve_device(device)
    runs = load_runs(paths, ("encoder", "projector", *["training"] * any(takes(name, "network") for _, name, _ in protocol.heads)))
    check_run_features(protocol.features, runs)
    checkpoints = [run.checkpoint for run in runs]
    fields = Fields(protocol.data or shared_data(checkpoints), [run.input for run in runs], protocol.drawing)
    chosen = None if candidates is None else choose(runs, protocol, candidates, fields, where, say)
    protocol = protocol if chosen is None else chosen.protocol
    lines: list[Line] = []
    differences: list[Difference] = []
    everything: list[Measured] = []
    for run in runs:
        measured = _measured(run.label, run.model, run, fields, protocol, where, say)
        lines += summarized(measured)
        differences += head_differences(measured)
        everything += measured
    if protocol.compare:
        lines = compared(lines, {run.label: run.recipe for run in runs}, protocol.compare) + lines
    elif len(runs) > 1:
        lines = over_checkpoints(lines) + lines
    if protocol.reference:
        for reference in references(runs):
            measured = _measured(reference.label, reference.model, reference.run, fields, protocol, where, say)
            lines += summarized(measured)
            everything += measured
    met = {"": fields} if chosen is None else {"": fields, "validation": chosen.fields}
    seen, said = seen_fields(checkpoints, {role: [one.of(run.input).source for run in runs] for role, one in met.items()})
    training = [round(float(run.checkpoint.state.get("cpu_seconds", 0.0)) / 60, 2) for run in runs]
    return {
        "checkpoints": [str(run.checkpoint.path) for run in runs],
        "weights": [weights_hash(run.checkpoint.encoder) for run in runs],
        "pretrained_by": commands_behind((run.path, run.checkpoint) for run in runs),
        "seeds": sorted({run.recipe.seed for run in runs}),
        "data": fields.describe(),
        "protocol": {
            **protocol.drawing.describe(fields.tasks),
            "interval": RULE if len(runs) == 1 else f"{RULE}; mean row: {SEED_RULE}",
            "support and query": "disjoint, checked",
            "training": reached_text(checkpoints),
            **said,
            **({CHOSEN: chosen_text(chosen.account)} if chosen is not None else {}),
        },
        SEEN: seen,
        **({CHOSEN: chosen.account} if chosen is not None else {}),
        **({"per episode": _per_episode(everything)} if protocol.per_episode else {}),
        "rows": [asdict(line) for line in lines],
        "heads paired": [asdict(difference) for difference in differences],
        "beats_references": beats(lines) if protocol.reference else None,
        "cpu_minutes": {"training of each": training, "evaluation of all": round(time.process_time() / 60, 2)},
        "versions": versions(checkpoints, where),
    }


def _per_episode(measured: list[Measured]) -> list[dict[str, Any]]:
    """The accuracy of every episode in percent, in the order of the episodes, which is the same for all."""
    return [{**vars(one), "accuracy": np.round(one.accuracy, 3).tolist()} for one in measured]


def _measured(
    label: str, model: Embedder | None, run: Trained, fields: Fields, protocol: Protocol, device: torch.device, say: Say
) -> list[Measured]:
    met = fields.of(run.input)
    return measure(label, model, run.checkpoint, met.source, met.tasks, protocol, device, say)
