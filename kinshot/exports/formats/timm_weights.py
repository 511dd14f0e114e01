"""Weights under timm's names, for `timm.create_model(..., checkpoint_path=)`."""

from __future__ import annotations

from pathlib import Path

from kinshot.encoders.timm_adapter import library_model
from kinshot.exports import EXPORTS
from kinshot.exports.native import native
from kinshot.exports.proof import Features
from kinshot.exports.subject import Made, Subject
from kinshot.exports.weights import as_file, called, features_by


@EXPORTS.register("timm", suffix=".safetensors")
def timm(subject: Subject) -> Made:
    """Weights for `timm.create_model(NAME, num_classes=0, checkpoint_path=FILE)`, less the classifier."""
    found = native(subject, "timm")
    _, heads = library_model(found.name, found.options)
    data, about = as_file(subject, found, "timm", heads)

    def opened(place: Path) -> Features:
        model, _ = library_model(found.name, {**found.options, "checkpoint_path": str(place)})
        return features_by(model, found.input)

    reading = (
        "import timm",
        f"model = timm.create_model({called(found.name, num_classes=0, **found.options)}, checkpoint_path={{path!r}}).eval()"
        "  # takes images normalised as the file's metadata says",
    )
    left = f"its classifier ({', '.join(heads)}) is left out: " if heads else ""
    notes = (f"{left}num_classes=0 makes timm's model without one, which gives features, (B, {subject.model.dim})",)
    return Made({"": data}, f"timm's {found.name}", opened, reading, notes, about)
