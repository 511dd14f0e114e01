"""What a recipe may set of distillation; free of torch, so that recipes are checked without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from kinshot.core.config import dataclass_parameters
from kinshot.core.errors import ConfigError
from kinshot.core.part_text import read_settings, split_text
from kinshot.core.schema import check_parameters
from kinshot.learn.place import Place
from kinshot.objectives import OBJECTIVES, taking
from kinshot.recipes.terms import Choice, TermChoice

_EXAMPLE = "rkd_angle:weight=50"


@dataclass(frozen=True)
class DistillSettings:
    """What a student is to keep of its teachers: `loss = task * method + sum of weight * distillation loss`.

    Args:
        teachers: frozen networks, of kinshot (a run or checkpoint), or backbones that were trained elsewhere,
            timm:NAME:WEIGHTS, torchvision:NAME:WEIGHTS or onnx:FILE; `teacher=A` is short for it, `teacher=[A, B]` for several.
        losses: each as NAME:weight=1:student=backbone:teacher=backbone:unit=none:of=0 and the loss's own settings. `student` and `teacher`
            say which output of either side: backbone, projector, logits, or a module of the encoder such as blocks.2; `unit` whose
            embeddings are scaled to length 1 first (none, teacher, both); `of` is the number of a teacher from 1, 0 all, averaged.
        task: weight of the method's own loss; method student has none.
        view: what teachers see of a sample, it as it is (clean: their outputs are computed once and cached) or the very view
            that the student sees (same: they run in every step).
        adapt: resize images and convert their channels to what a teacher was made for; without it other images are refused.
        mean: per-channel mean of pixels in [0, 1] that a teacher expects whose file does not say (ONNX).
        std: the same for the standard deviation.
    """

    teachers: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    task: float = 1.0
    view: Literal["clean", "same"] = "clean"
    adapt: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True)
class LossPlace:
    """Where a distillation loss applies, and how much it weighs.

    Args:
        weight: factor of the loss.
        student: output of the student.
        teacher: output of the teacher.
        of: number of the teacher from 1; 0 is all of them, averaged.
        unit: whose embeddings are scaled to length 1 first. Where a teacher was trained on cosines, its lengths mean nothing.
    """

    weight: float = 1.0
    student: str = "backbone"
    teacher: str = "backbone"
    of: int = 0
    unit: Literal["none", "teacher", "both"] = "none"


@dataclass(frozen=True)
class LossChoice:
    """A registered distillation loss, its settings, and where it applies."""

    name: str
    settings: dict[str, Any]
    place: LossPlace


def parse_loss(text: str) -> LossChoice:
    """A loss from `rkd_angle:weight=50:student=projector`. Raises ConfigError naming what is wrong with it."""
    name, *assignments = split_text(text, ":", "distill.losses", _EXAMPLE)
    takes = OBJECTIVES.entry(name).facts.get("takes")
    if takes != "teacher":
        raise ConfigError(f"distill.losses {name}: it takes no teacher's outputs (but {takes}): choose of {', '.join(taking('teacher'))}")
    given = read_settings(text, assignments, "distill.losses", f"{name}:weight=1:student=projector")
    places = dataclass_parameters(LossPlace)
    checked, problems = check_parameters(given, {**places, **OBJECTIVES.entry(name).parameters}, f"distill.losses {name}")
    if problems:
        raise ConfigError("; ".join(problems))
    place = LossPlace(**{key: checked.pop(key) for key in places})
    if place.weight < 0 or place.of < 0:
        raise ConfigError(f"distill.losses {text!r}: expected weight and of from 0")
    return LossChoice(name, checked, place)


def check_distill(settings: DistillSettings) -> list[str]:
    """Every setting that is out of range or does not fit the others, as messages that begin with its name."""
    problems, weights = [], [settings.task]
    for text in settings.losses:
        try:
            place = parse_loss(text).place
            weights.append(place.weight)
            of = place.of
        except ConfigError as error:
            problems.append(str(error))
            continue
        if settings.teachers and of > len(settings.teachers):
            problems.append(f"distill.losses {text!r}: of={of}, but there are {len(settings.teachers)} teachers")
    if settings.teachers and not settings.losses:
        problems.append(f"distill.losses: a teacher needs a loss that it teaches by, for example {_EXAMPLE}")
    if len(weights) > 1 and not any(weights):
        problems.append("distill: task and the weight of every loss are 0, and nothing would be learned: raise one")
    if settings.task < 0:
        problems.append(f"distill.task: expected a number from 0, got {settings.task}")
    if len(settings.mean) != len(settings.std) or any(value <= 0 for value in settings.std):
        problems.append("distill.mean and distill.std: expected equally many numbers, one for each channel, std above 0")
    return problems


def distill_terms(settings: DistillSettings) -> tuple[TermChoice, ...]:
    """The terms that these settings are short for: one for each loss and each of its teachers, over which a loss is averaged."""
    choices = [parse_loss(text) for text in settings.losses]
    names = [choice.name for choice in choices]
    terms = []
    for number, choice in enumerate(choices):
        label = choice.name if names.count(choice.name) == 1 else f"{choice.name}_{number + 1}"
        place = Place(label=label, on=choice.place.student, weight=choice.place.weight, unit=choice.place.unit)
        of = range(len(settings.teachers)) if choice.place.of == 0 else [choice.place.of - 1]
        for which in of:
            said = {
                "output": choice.place.teacher,
                "view": settings.view,
                "adapt": settings.adapt,
                "mean": settings.mean,
                "std": settings.std,
            }
            kin = Choice("teacher", {"checkpoint": settings.teachers[which], **said, "k": 0, "threshold": None})
            terms.append(
                TermChoice(
                    Choice(choice.name, choice.settings),
                    kin,
                    place,
                    share=1 / len(of),
                    key="distill.losses",
                    initial=f"init distillation {number} {which}",
                )
            )
    return tuple(terms)
