"""A program of `torch.export`, for PyTorch without kinshot."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from torch import Tensor

from kinshot.exports import EXPORTS
from kinshot.exports.program import quiet, taken, written_down
from kinshot.exports.proof import Features
from kinshot.exports.subject import Made, Subject, preprocessing

ENTRY = "kinshot.json"
"""The extra file in the program that says what it is."""


@EXPORTS.register("exported", suffix=".pt2", features=True)
def exported(subject: Subject) -> Made:
    """A `torch.export` program: pixels in [0, 1] in, named features out, batches of any size; normalisation is inside."""
    program = written_down(subject)
    about = {"preprocessing": preprocessing(subject.input, inside=True), "outputs": list(subject.outputs), **subject.identity}
    file = io.BytesIO()
    with quiet():
        torch.export.save(program, file, extra_files={ENTRY: json.dumps(about, ensure_ascii=True)})
    reading = (
        "import torch",
        "model = torch.export.load({path!r}).module()",
        f'features = model(samples)["{subject.outputs[0]}"]  # samples: {taken(subject)}',
    )
    return Made({"": file.getvalue()}, "the exported program", _opened, reading, (), about)


def _opened(place: Path) -> Features:
    with quiet():
        program = torch.export.load(place).module()

    @torch.no_grad()
    def features(values: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = program(values)
        return found

    return features
