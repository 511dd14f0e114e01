"""`ssl embed`: features of a source as a file, with the labels and attributes of its samples, for other tools and for heads on top."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kinshot.core.atomic import make_folder, write_bytes
from kinshot.core.errors import ConfigError
from kinshot.core.runtime import resolve_device
from kinshot.datasets.base import Source
from kinshot.learn.model import BACKBONE
from kinshot.recipes.recipe import Choice
from kinshot.recipes.splits import measured_data
from kinshot.studies.answers import build_source, features_of
from kinshot.studies.study import check_run_features, load_runs

FEATURES, LABEL = "features", "label"


def embed(path: Path, data: Choice | None, feature: str, out: Path, device: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Write `features` float32 (N, D), `label` and each attribute as names, or numbers where they have none, to an .npz file.

    Args:
        path: a run, a checkpoint or a backbone.
        data: what to embed; None for the run's own data, split test where there is one.
        feature: backbone, projector, joint, or an output of the projector.
        out: file to write or to replace, .npz.
        device: where features are computed.
        say: where messages go.

    Returns:
        What `ssl embed --json` prints.

    Raises:
        ConfigError: several runs, a feature that the run does not give, or an attribute called like a column of its own.
        CheckpointError: a bad checkpoint.
        DataError: samples of another kind, or a file that cannot be written.
    """
    runs = load_runs([path], say=say)
    if len(runs) != 1:
        raise ConfigError(f"{path} holds {len(runs)} runs, and a file has the features of one: name it")
    run = runs[0]
    check_run_features([feature], runs)
    if data is None and run.checkpoint.origin:
        raise ConfigError(f"{path} was not trained here and has no data of its own: say what to embed with --data")
    source = build_source(data or measured_data(run.recipe.data), run.input)
    features = features_of(run.model, source, resolve_device(device))[feature].numpy()
    columns = {FEATURES: features.astype(np.float32), **_columns(source)}
    buffer = io.BytesIO()
    np.savez(buffer, **columns)  # type: ignore[arg-type]
    make_folder(out.parent)
    write_bytes(out, buffer.getvalue())
    beside = [name for name in columns if name not in (FEATURES, LABEL)]
    return {
        "out": str(out),
        "data": source.name,
        "samples": len(source),
        "feature": f"{feature} of {run.path}" if feature != BACKBONE or not run.checkpoint.origin else str(run.path),
        "numbers": features.shape[1],
        "columns": list(columns),
        "as a source": _as_source(out, LABEL in columns, beside),
    }


def _columns(source: Source) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    if source.labels is not None:
        found[LABEL] = _named(np.asarray(source.labels), source.class_names)
    for name, values in source.attributes.items():
        if name in (FEATURES, LABEL):
            raise ConfigError(f"{source.name} has an attribute {name!r}, which is a column of the file's own: leave it out of the source")
        if values.ndim == 1:
            found[name] = _named(values, source.attribute_names.get(name, ()))
    return found


def _named(values: np.ndarray, names: Any) -> np.ndarray:
    """Values as names, empty where unknown; as they are where they have none."""
    if not len(names):
        return values
    return np.array([*names, ""], dtype=np.str_)[values]


def _as_source(out: Path, labelled: bool, beside: list[str]) -> str:
    label = f" data.label={LABEL}" if labelled else ""
    more = f" 'data.attributes=[{', '.join(beside)}]'" if beside else ""
    return f"data=table data.root={out}{label}{more}"
