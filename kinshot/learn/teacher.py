"""What a frozen model says of the samples of a run: its outputs, computed once or in every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.learn.model import Model
from kinshot.samples.batch import Batch, Shown
from kinshot.samples.spec import Spec


@dataclass(frozen=True)
class Teacher:
    """A frozen model in evaluation mode.

    Args:
        name: what messages call it.
        model: its networks.
        input: what its encoder was made for.
        fingerprint: SHA-256 (hex) of the weights, so that outputs are cached under it and a resumed run meets the same teacher.
    """

    name: str
    model: Model
    input: Spec
    fingerprint: str

    def __post_init__(self) -> None:
        self.model.requires_grad_(False).eval()

    @torch.no_grad()
    def outputs(self, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Outputs by name of samples normalised as the encoder expects them, each (B, ...)."""
        found = self.model.outputs(x, names)
        return {name: found[name] for name in names}


@dataclass
class Taught:
    """A teacher at work on a run's samples.

    Args:
        teacher: the network.
        student: what the student's samples are normalised by.
        view: what it sees, the sample as it is or the student's view.
        adapt: resize images and convert channels to what the teacher was made for.
    """

    teacher: Teacher
    student: Spec
    view: str = "clean"
    adapt: bool = False
    names: list[str] = field(default_factory=list)
    """Outputs that somebody asked for."""
    cached: Mapping[str, Tensor] | None = None
    """Those of every training sample, each (N, D); None where the teacher runs in every step."""
    _last: tuple[int, Shown, dict[str, Tensor]] | None = None

    def wanting(self, name: str) -> TaughtWord:
        """The teacher's word under one name. Raises ConfigError, with the closest name, where it has no such output."""
        self.teacher.model.check([name], f"teacher {self.teacher.name}")
        if name not in self.names:
            self.names = sorted([*self.names, name])
        return TaughtWord(self, name)

    def sample(self, name: str) -> Tensor:
        """An output of two samples: what shapes are tried with."""
        if self.cached is not None:
            return self.cached[name][:2]
        return self.teacher.outputs(self.teacher.input.blank(2), [name])[name]

    def said(self, shown: Shown, batch: Batch, step: int) -> dict[str, Tensor]:
        """All outputs for the shown samples; once for all terms of a step."""
        if self._last is None or self._last[0] != step or self._last[1] is not shown:
            self._last = step, shown, self._outputs(shown, batch)
        return self._last[2]

    def _outputs(self, shown: Shown, batch: Batch) -> dict[str, Tensor]:
        if self.cached is not None:
            rows = shown.samples.cpu()
            return {name: values[rows].to(shown.samples.device) for name, values in self.cached.items()}
        self.teacher.model.to(shown.samples.device)
        if self.view == "same":
            found = [self.teacher.outputs(self._converted(x), self.names) for x in shown.inputs]
            return {name: torch.cat([one[name] for one in found]) for name in self.names}
        if batch.clean is None:
            raise RuntimeError("a teacher of clean samples was given none")
        said = self.teacher.outputs(self._converted(batch.clean), self.names)
        return {name: value.repeat(len(shown.views), *[1] * (value.dim() - 1)) for name, value in said.items()}

    def _converted(self, x: Tensor) -> Tensor:
        return converted(x, self.student, self.teacher.input, self.adapt)


@dataclass(frozen=True)
class TaughtWord:
    """A teacher's word under one name."""

    taught: Taught
    name: str

    @property
    def needs_clean(self) -> bool:
        """Whether the teacher runs on clean samples in every step."""
        return self.taught.cached is None and self.taught.view == "clean"

    def __call__(self, shown: Shown, batch: Batch, step: int) -> Tensor:
        """The output for the shown samples, (R, ...)."""
        return self.taught.said(shown, batch, step)[self.name]


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
