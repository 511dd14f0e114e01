"""`fewshot eval`: checkpoints on episodes of unseen classes, beside the references that they must beat.

Features of the whole split are computed once per model and cached by content; every model and head sees the same episodes.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kinshot.core.checkpoint import Checkpoint, load_checkpoint
from kinshot.core.errors import DataError
from kinshot.core.features import weights_hash
from kinshot.core.runtime import resolve_device
from kinshot.datasets.class_lists import other_part
from kinshot.fewshot.evaluate import takes
from kinshot.fewshot.statistics import RULE
from kinshot.recipes.answers import Protocol, Say, build_source, measure
from kinshot.recipes.embedder import from_checkpoint, input_spec, untrained
from kinshot.recipes.provenance import commands_behind, versions
from kinshot.recipes.reached import reached_text
from kinshot.recipes.recipe import Choice, parse
from kinshot.recipes.results import SEEN
from kinshot.recipes.seen import seen_fields
from kinshot.recipes.specs import check_features
from kinshot.recipes.summaries import (
    REFERENCES,
    SEED_RULE,
    Difference,
    Line,
    beats,
    compared,
    head_differences,
    over_checkpoints,
    summarized,
)
from kinshot.recipes.sweep import runs_of
from kinshot.recipes.tasks import make_tasks


def evaluate(paths: list[Path], protocol: Protocol, device: str, say: Say) -> dict[str, Any]:
    """Measure checkpoints under a protocol; returns the result that `fewshot eval --json` prints.

    Raises CheckpointError for a bad checkpoint, DataError for data that cannot give the episodes, ConfigError for settings.
    """
    where, paths = resolve_device(device), runs_of(paths)
    parts = ("encoder", "projector", *["training"] * any(takes(name, "network") for _, name, _ in protocol.heads))
    checkpoints = [load_checkpoint(path, parts=parts) for path in paths]
    for checkpoint in checkpoints:
        check_features(protocol.features, parse(checkpoint.config, "").projector.paths)
    data = protocol.data or own_data(checkpoints[0])
    source = build_source(data, input_spec(checkpoints[0]))
    if source.labels is None:
        raise DataError(f"{source.name} has no labels, and episodes need classes: give --data with one folder per class")
    tasks = make_tasks(source, protocol.drawing)
    lines: list[Line] = []
    differences: list[Difference] = []
    for path, checkpoint in zip(paths, checkpoints, strict=True):
        label = str(path) if len(paths) > 1 else "pretrained"
        measured = measure(label, from_checkpoint(checkpoint), checkpoint, source, tasks, protocol, where, say)
        lines += summarized(measured)
        differences += head_differences(measured)
    if protocol.compare:
        lines = compared(lines, {str(p): parse(c.config, "") for p, c in zip(paths, checkpoints, strict=True)}, protocol.compare) + lines
    elif len(paths) > 1:
        lines = over_checkpoints(lines) + lines
    if protocol.reference:
        for label, model in zip(REFERENCES, (untrained(checkpoints[0]), None), strict=True):
            lines += summarized(measure(label, model, checkpoints[0], source, tasks, protocol, where, say))
    seen, said = seen_fields(checkpoints, {"": [source] * len(checkpoints)})
    training = [round(float(c.state.get("cpu_seconds", 0.0)) / 60, 2) for c in checkpoints]
    return {
        "checkpoints": [str(c.path) for c in checkpoints],
        "weights": [weights_hash(c.encoder) for c in checkpoints],
        "pretrained_by": commands_behind(zip(paths, checkpoints, strict=True)),
        "seeds": sorted({parse(c.config, "").seed for c in checkpoints}),
        "data": {"name": source.name, **data.settings, "classes": len(source.class_names), "images": len(source)},
        "protocol": {
            **protocol.drawing.describe(tasks),
            "interval": RULE if len(paths) == 1 else f"{RULE}; mean row: {SEED_RULE}",
            "support and query": "disjoint, checked",
            "training": reached_text(checkpoints),
            **said,
        },
        SEEN: seen,
        "rows": [asdict(line) for line in lines],
        "heads paired": [asdict(difference) for difference in differences],
        "beats_references": beats(lines) if protocol.reference else None,
        "cpu_minutes": {"training of each": training, "evaluation of all": round(time.process_time() / 60, 2)},
        "versions": versions(checkpoints, where),
    }


def own_data(checkpoint: Checkpoint) -> Choice:
    """The test split of the data that the checkpoint was trained on."""
    own = parse(checkpoint.config, "").data
    settings = dict(own.settings)
    if "split" in settings:
        settings["split"] = other_part(str(settings["split"]), "test")
    return Choice(own.name, settings)
