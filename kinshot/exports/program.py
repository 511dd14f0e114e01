"""A model as one program of values: normalisation, encoder, projector; written down by `torch.export`."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.exports.subject import Subject
from kinshot.learn.model import Model

if TYPE_CHECKING:
    from torch.export import ExportedProgram

INPUT = "samples"
"""What a program's one input is called."""
_TRACED = 2
"""Samples that a program is written down with: of one, sizes would be taken for a constant."""
_REASONS = {
    "data-dependent": "which of its parts run depends on what the samples hold",
    "Constraints violated": "one of its parts is written down for one size of batch alone",
}
"""What torch.export complains of, and what that means."""


class Program(nn.Module):
    """Values of samples to outputs of a model by name.

    Args:
        model: in evaluation mode.
        outputs: names of what it gives, in this order.
    """

    def __init__(self, model: Model, outputs: Sequence[str]) -> None:
        super().__init__()
        self.model, self.outputs = model, tuple(outputs)

    def forward(self, samples: Tensor) -> dict[str, Tensor]:
        """Each (B, D), float32, of values (B, ...): pixels in [0, 1], or what else the encoder's samples hold."""
        # as a step of the program: bytes would be taken for pixels in [0, 1] without a word
        torch.ops.aten._assert_tensor_metadata.default(samples, dtype=samples.dtype)
        found = self.model.outputs(self.model.input.normalize(samples), self.outputs)
        return {name: found[name].float() for name in self.outputs}


def written_down(subject: Subject) -> ExportedProgram:
    """The program of a subject for batches of any size. Raises ConfigError where `torch.export` cannot write it down."""
    from torch.export import Dim, export

    if subject.encoder.name == "onnx":
        raise ConfigError("the encoder is an ONNX file, which PyTorch does not run: copy that file, it is an export already")
    program = Program(subject.model, subject.outputs).eval()
    with quiet(), torch.no_grad():
        try:
            made = export(program, (subject.values[:_TRACED].clone(),), dynamic_shapes=({0: Dim("batch")},))
        except Exception as error:  # what a network does that cannot be written down makes torch raise nearly anything
            raise ConfigError(
                f"encoder {subject.encoder.name} cannot be written down as one program for batches of any size: {_reason(error)}; "
                "use --format huggingface, or kinshot.load"
            ) from error
    made.example_inputs = None  # samples are not given away
    for node in made.graph.nodes:
        node.meta.pop("stack_trace", None)  # nor are the folders of this machine
    return made


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, the exporters' own remarks go nowhere: warnings of deprecation among themselves, graphs that failed, which are pages long."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.onnx", "torch.export", "torch.fx", "onnxscript", "onnx_ir")]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)


def taken(subject: Subject) -> str:
    """What a program takes, for whoever calls it."""
    shape = ", ".join(["B", *map(str, subject.input.shape)])
    kind = "pixels in [0, 1]" if subject.input.kind == "image" else subject.input.kind
    return f"{str(subject.values.dtype).removeprefix('torch.')} ({shape}), {kind}"


def _reason(error: Exception) -> str:
    known = next((meaning for said, meaning in _REASONS.items() if said in str(error)), "")
    return known or f"torch.export says {first_line(error)!r}"


def first_line(error: Exception) -> str:
    """What an error says first, for a message."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
