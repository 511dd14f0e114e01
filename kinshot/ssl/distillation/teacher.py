"""A frozen network with named outputs, and what it says of the samples of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.learn.taps import Taps, submodule
from kinshot.samples.spec import Spec


class Teacher(nn.Module):
    """A network in evaluation mode whose weights stay as they are.

    Args:
        name: what messages call it.
        encoder: normalised samples to backbone features.
        heads: further outputs by name, each a function of the backbone features: projector, logits.
        input: what the encoder was made for.
        fingerprint: SHA-256 (hex) of the weights, so that features are cached under it and a resumed run meets the same teacher.
    """

    def __init__(self, name: str, encoder: nn.Module, heads: Mapping[str, nn.Module], input: Spec, fingerprint: str) -> None:
        super().__init__()
        self.name, self.input, self.fingerprint = name, input, fingerprint
        self.encoder, self.heads = encoder, nn.ModuleDict(dict(heads))
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Teacher:
        """Stays in evaluation mode."""
        return super().train(False)

    def check_taps(self, names: Sequence[str]) -> None:
        """Raise ConfigError, with the closest name, for an output that this network does not have."""
        for name in names:
            if name == "logits" and "logits" not in self.heads:
                raise ConfigError(f"teacher {self.name} has no logits, it learned no classifier: use backbone or projector")
            if name not in ("backbone", *self.heads):
                submodule(self.encoder, name, f"teacher {self.name}", ("backbone", *self.heads))

    @torch.no_grad()
    def outputs(self, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Outputs by name of samples normalised as the encoder expects them, each (B, ...)."""
        inner = {name: submodule(self.encoder, name, self.name) for name in names if name not in ("backbone", *self.heads)}
        with Taps(inner) as taps:
            z = self.encoder(x)
        heads = {name: self.heads[name](z) for name in names if name in self.heads}
        return {name: z if name == "backbone" else heads[name] if name in heads else taps.outputs(name) for name in names}


@dataclass(frozen=True)
class Taught:
    """What a teacher says of a run's samples, computed once or in every step.

    Args:
        teacher: the network.
        student: what the student's samples are normalised by.
        adapt: resize images and convert channels to what the teacher was made for.
        cached: outputs by name of every training sample, each (N, D), or None where the teacher runs in every step.
    """

    teacher: Teacher
    student: Spec
    adapt: bool = False
    cached: Mapping[str, Tensor] | None = None

    def of_samples(self, indices: Tensor) -> dict[str, Tensor]:
        """Cached outputs (B, D) of samples, on the device of `indices`."""
        rows = indices.cpu()
        return {name: values[rows].to(indices.device) for name, values in (self.cached or {}).items()}

    def of_views(self, parts: Sequence[Tensor], names: Sequence[str]) -> dict[str, Tensor]:
        """Outputs (B, ...) of what the student was given, batch by batch."""
        self.teacher.to(parts[0].device)
        found = [self.teacher.outputs(self._converted(part), names) for part in parts]
        return {name: torch.cat([one[name] for one in found]) for name in names}

    def _converted(self, x: Tensor) -> Tensor:
        return converted(x, self.student, self.teacher.input, self.adapt)


def converted(x: Tensor, made: Spec, wanted: Spec, adapt: bool) -> Tensor:
    """A batch normalised by one specification as another normalises it; with `adapt`, images in its channels and size."""
    if made == wanted:
        return x
    values = made.denormalize(x)
    return wanted.normalize(wanted.fit(values) if adapt else values)


def check_inputs(teacher: Teacher, student: Spec, adapt: bool) -> None:
    """Raise ConfigError where a teacher cannot be shown the student's samples."""
    wanted, given = teacher.input, student
    if wanted.kind != given.kind:
        raise ConfigError(
            f"teacher {teacher.name} was made for {wanted.kind}, the student for {given.kind}: choose another teacher or other data"
        )
    if wanted.same_form(given) or (adapt and wanted.resizable):
        return
    resize = "set data.size, or distill.adapt=true to resize and convert them for the teacher"
    remedy = resize if wanted.resizable else "use the data it was trained on"
    raise ConfigError(f"teacher {teacher.name} was made for {wanted.describe()}, the student for {given.describe()}: {remedy}")
