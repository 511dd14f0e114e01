"""The distillation terms as a wrapper around any method."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.build import keyed_initialisation
from kinshot.learn.gather import gather_rows
from kinshot.learn.method import Method
from kinshot.learn.taps import Taps, submodule
from kinshot.learn.wrapper import Wrapper
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import unit
from kinshot.samples.spec import Spec
from kinshot.ssl.distillation.settings import DistillSettings, LossChoice, parse_loss
from kinshot.ssl.distillation.teacher import Taught

_TEACHERS = "teachers"


class Term(NamedTuple):
    """One distillation loss at work on one teacher.

    Args:
        choice: what was chosen.
        teacher: which teacher, from 0.
        share: its part of the loss's value, which is the mean over teachers.
        label: name of the loss in records.
        loss: of (student, teacher, indices, step).
    """

    choice: LossChoice
    teacher: int
    share: float
    label: str
    loss: nn.Module

    def sides(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What the loss looks at of both sides' outputs."""
        place = self.choice.place
        ours, theirs = student[place.student], teacher[place.teacher]
        return (unit(ours) if place.unit == "both" else ours), (theirs if place.unit == "none" else unit(theirs))


class Distilling(Wrapper):
    """A method's own loss, and beside it what teachers teach: `task * L_method + sum_k weight_k L_k`.

    Paper: Hinton, Vinyals, Dean, 2015, arXiv 1503.02531; on relations Park, Kim, Lu, Cho, 2019, arXiv 1904.05068.

    The student's outputs are those that the method computes for its own loss. Teachers see the clean samples, whose outputs are cached,
    or the same views. A loss over several teachers is averaged over them. Under DistributedDataParallel a loss sees the rows of all
    processes. What losses learn (projections, queues) is in the state; the teachers are not, but for a fingerprint of their weights, by
    which a resumed run knows them.

    Args:
        base: any method; `student` has no loss of its own.
        teachers: what they say, and of which samples.
        settings: losses and weights.
        context: of the run.
        input: what the student's encoder takes.
    """

    def __init__(self, base: Method, teachers: Sequence[Taught], settings: DistillSettings, context: RunContext, input: Spec) -> None:
        super().__init__()
        self.base, self.settings = base, settings
        self._taught = list(teachers)
        self.order, self.trains_head = base.order, base.trains_head  # type: ignore[misc]
        self.companions, self.partner_input = base.companions, base.partner_input
        self.view_count = base.view_count  # type: ignore[misc]
        live = any(taught.cached is None for taught in teachers)
        self._own_clean = live and settings.view == "clean"
        self.needs_clean = base.needs_clean or self._own_clean  # type: ignore[misc]
        choices = [parse_loss(text) for text in settings.losses]
        self._student = {name: self._module(name) for name in {choice.place.student for choice in choices} - {"backbone", "projector"}}
        self.terms = nn.ModuleList()
        self._terms = self._build(choices, context, input)
        self.register_buffer(_TEACHERS, _fingerprint(teachers))
        self.register_load_state_dict_pre_hook(_check_teachers)

    def loss(self, views: list[Tensor], indices: Tensor, step: int) -> dict[str, Tensor]:
        """All terms; `views` are the base's, and a clean batch where teachers run on clean samples in every step."""
        modules = {"backbone": self.encoder, "projector": self.projector, **self._student}
        with Taps(modules, grad_only=True) as taps:
            own = self.base.loss(self._base_views(views), indices, step)
        batch = len(views[0])
        rows = min(taps.count("backbone"), batch * self.view_count) // batch * batch
        ids = indices[:batch].repeat(rows // batch)
        student = self._student_outputs(taps, rows)
        taught = [self._teacher_outputs(one, taps, views, ids, number) for number, one in enumerate(self._taught)]
        total, record = self.settings.task * own["loss"], {"task": own["loss"].detach()}
        for term in self._terms:
            ours, theirs = term.sides(student, taught[term.teacher])
            value = term.share * term.loss(gather_rows(ours), gather_rows(theirs), gather_rows(ids), step)
            total = total + term.choice.place.weight * value
            record[term.label] = record.get(term.label, 0) + value.detach()
        return {"loss": total, **record, **{name: value for name, value in own.items() if name != "loss"}}

    def after_step(self, step: int) -> dict[str, float | Tensor]:
        """Move the wrapped method and the losses' queues on."""
        gauges = self.base.after_step(step)
        for term in self._terms:
            term.loss.after_step()  # type: ignore[operator]
        return gauges

    def _base_views(self, views: list[Tensor]) -> list[Tensor]:
        if self._own_clean and not self.base.needs_clean:
            return [*views[: self.view_count], *views[self.view_count + 1 :]]
        return views

    def _student_outputs(self, taps: Taps, rows: int) -> dict[str, Tensor]:
        found = {name: taps.outputs(name, rows) for name in ("backbone", *self._student)}
        if any(term.choice.place.student == "projector" for term in self._terms):
            passed = taps.count("projector") >= rows
            found["projector"] = taps.outputs("projector", rows) if passed else self.projector(found["backbone"])
        return found

    def _teacher_outputs(self, taught: Taught, taps: Taps, views: list[Tensor], ids: Tensor, number: int) -> dict[str, Tensor]:
        if taught.cached is not None:
            return taught.of_samples(ids)
        names = teacher_taps([term.choice for term in self._terms], number)
        if self.settings.view == "same":
            return taught.of_views(taps.inputs("backbone", len(ids)), names)
        clean = views[self.view_count]
        found = taught.of_views([clean], names)
        return {name: value.repeat(len(ids) // len(clean), *[1] * (value.dim() - 1)) for name, value in found.items()}

    def _module(self, name: str) -> nn.Module:
        """The student's module whose output a loss names. Raises ConfigError with the closest name."""
        if name == "logits":
            rows = getattr(self.base, "rows", None)
            if not isinstance(rows, nn.Module):
                raise ConfigError("distill.losses: student=logits, but this method learns no classifier: use method classifier")
            return rows
        return submodule(self.encoder, name, "student", ("backbone", "projector", "logits"))

    def _build(self, choices: list[LossChoice], context: RunContext, input: Spec) -> list[Term]:
        """The losses, each tried on a batch of the run's size, so that shapes that do not fit are found before anything runs."""
        student = self._try_student(input.blank(2))
        names = [choice.name for choice in choices]
        terms = []
        for number, choice in enumerate(choices):
            label = choice.name if names.count(choice.name) == 1 else f"{choice.name}_{number + 1}"
            of = list(range(len(self._taught))) if choice.place.of == 0 else [choice.place.of - 1]
            for which in of:
                shown = student[choice.place.student], _try_teacher(self._taught[which], choice.place.teacher)
                with keyed_initialisation(context.seed, f"init distillation {number} {which}"):
                    loss = _loss_of(choice, *shown, context)
                _try(loss, choice, self._taught[which].teacher.name, *shown, context.batch_size)
                self.terms.append(loss)
                terms.append(Term(choice, which, 1 / len(of), label, loss))
        return terms

    @torch.no_grad()
    def _try_student(self, blank: Tensor) -> dict[str, Tensor]:
        before = {module: module.training for module in self.base.modules()}
        self.base.eval()
        inner = {name: module for name, module in self._student.items() if name != "logits"}
        with Taps(inner) as taps:
            z = self.encoder(blank)
        found = {"backbone": z, "projector": self.projector(z), **{name: taps.outputs(name) for name in inner}}
        if "logits" in self._student:
            projected = getattr(self.base, "feature", "backbone") == "projector"
            found["logits"] = self._student["logits"](found["projector" if projected else "backbone"])
        for module, training in before.items():
            module.training = training
        return found


class _Pure(nn.Module):
    """A loss without state in the form of one that has some."""

    def __init__(self, choice: LossChoice) -> None:
        super().__init__()
        self.function, self.settings = OBJECTIVES.get(choice.name), choice.settings

    def forward(self, student: Tensor, teacher: Tensor, indices: Tensor, step: int) -> Tensor:
        """The loss of a batch."""
        return self.function(student, teacher, **self.settings)

    def after_step(self) -> None:
        """Nothing moves."""


def teacher_taps(choices: Sequence[LossChoice], number: int) -> list[str]:
    """Outputs that the losses want of the teacher with this index, from 0."""
    return sorted({choice.place.teacher for choice in choices if choice.place.of in (0, number + 1)})


def _loss_of(choice: LossChoice, student: Tensor, teacher: Tensor, context: RunContext) -> nn.Module:
    if not inspect.isclass(OBJECTIVES.get(choice.name)):
        return _Pure(choice)
    shapes = tuple(student.shape[1:]), tuple(teacher.shape[1:])
    loss: nn.Module = OBJECTIVES.build(choice.name, *shapes, context, settings=choice.settings)
    if not hasattr(loss, "after_step"):
        loss.after_step = lambda: None  # type: ignore[assignment]
    return loss


def _try(loss: nn.Module, choice: LossChoice, teacher: str, student: Tensor, taught: Tensor, batch: int) -> None:
    """Raise ConfigError, naming both outputs, where a loss does not take a batch of them; leaves no trace in its state."""
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    rows = torch.arange(batch) % len(student)
    try:
        with torch.no_grad():
            loss(student[rows], taught[rows], torch.arange(batch), 0)
        loss.load_state_dict(before)
    except ConfigError as error:
        place = choice.place
        raise ConfigError(
            f"distill.losses {choice.name}, student={place.student}, teacher={place.teacher} of {teacher}: {error}"
        ) from error


@torch.no_grad()
def _try_teacher(taught: Taught, name: str) -> Tensor:
    if taught.cached is not None:
        return taught.cached[name][:2]
    return taught.teacher.outputs(taught.teacher.input.blank(2), [name])[name]


def _fingerprint(teachers: Sequence[Taught]) -> Tensor:
    digest = hashlib.sha256("".join(taught.teacher.fingerprint for taught in teachers).encode()).digest()
    return torch.tensor(list(digest), dtype=torch.uint8)


def _check_teachers(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Runs before a state is loaded. Raises RuntimeError where it belongs to a run with other teachers."""
    recorded = state.get(prefix + _TEACHERS)
    own = module.get_buffer(_TEACHERS)
    if recorded is not None and not torch.equal(recorded.cpu(), own.cpu()):
        raise RuntimeError("the teachers have other weights than those that the run began with")
