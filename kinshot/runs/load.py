"""Whatever was trained or taught, in use: samples in, features or answers out."""

from __future__ import annotations

import warnings
from pathlib import Path

from kinshot.learn.model import Model
from kinshot.recipes.loaded import read
from kinshot.runs.classifier import open_classifier
from kinshot.runs.embedder import from_checkpoint, with_rows
from kinshot.runs.kin_file import SUFFIX
from kinshot.runs.reached import reached_by


def load(path: str | Path, device: str = "cpu") -> Model:
    """The model in a checkpoint or in a run folder (its best on validation classes, or its newest), verified, in evaluation mode.

    A backbone that was trained elsewhere goes by its name: `timm:NAME[:WEIGHTS]`, `torchvision:NAME[:WEIGHTS]`, `onnx:FILE`; it has no
    projector. A file of `enroll`, MODEL.kin, gives a model that also has `predict(images)`. Warns where training did not get to its end,
    and where there is something to be said of weights. Raises CheckpointError when it is missing, damaged or not kinshot's.

    >>> model = kinshot.load("runs/demo")
    >>> features = model.embed(torch.zeros(2, 1, 28, 28, dtype=torch.uint8))
    >>> sorted(features), len(features["backbone"])
    (['backbone', 'projector'], 2)
    """
    if Path(path).suffix == SUFFIX and not Path(path).is_dir():
        return open_classifier(path).to(device)
    run = read(Path(path), parts=("encoder", "projector", "rows"))
    at = reached_by(run.checkpoint)
    if at.finished is False:
        warnings.warn(f"{path} did not get to the end of its training: {at}", stacklevel=2)
    for note in run.checkpoint.notes:
        warnings.warn(note, stacklevel=2)
    return with_rows(from_checkpoint(run), run).to(device)
