"""Weights under torchvision's names, for `torchvision.models` and `load_state_dict`."""

from __future__ import annotations

from pathlib import Path

from kinshot.encoders.torchvision_model import library_model
from kinshot.exports import EXPORTS
from kinshot.exports.native import native
from kinshot.exports.proof import Features
from kinshot.exports.subject import Made, Subject
from kinshot.exports.weights import as_file, called, features_by, loaded


@EXPORTS.register("torchvision", suffix=".safetensors")
def torchvision(subject: Subject) -> Made:
    """Weights for `torchvision.models` and `load_state_dict`, less the classifier."""
    found = native(subject, "torchvision")
    model, heads, options = library_model(found.name)
    data, about = as_file(subject, found, "torchvision", heads)

    def opened(place: Path) -> Features:
        model.load_state_dict(loaded(place))
        return features_by(model, found.input)

    head = heads[0]
    reading = (
        "import torch, torchvision; from safetensors.torch import load_file",
        f"model = torchvision.models.get_model({called(found.name, weights=None, **options)}); "
        f'model.set_submodule("{head}", torch.nn.Identity())',
        "model.load_state_dict(load_file({path!r})); model.eval()  # takes images normalised as the file's metadata says",
    )
    notes = (f"its classifier ({head}) is left out: the model gives features, (B, {subject.model.dim})",)
    return Made({"": data}, f"torchvision's {found.name}", opened, reading, notes, about)
