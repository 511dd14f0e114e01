"""One step of a method or a learner on given samples, as the loop would take it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from torch import Tensor, nn

from kinshot.learn import METHODS
from kinshot.learn.learner import Learner
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.samples.batch import Batch, Partners
from kinshot.samples.spec import accepted_kinds

NEEDS_TIMM = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs the optional package timm")


def batch_of(
    method: Method,
    views: Sequence[Tensor],
    indices: Tensor,
    partners: dict[int, Partners] | None = None,
    beside: Mapping[str, Sequence[Tensor]] | None = None,
    step: int = 0,
) -> Batch:
    """`views` are as many as the method takes, and then the clean samples if there is one more; `beside` are fields such as class maps."""
    count = method.view_count
    return Batch(indices, list(views[:count]), views[count] if len(views) > count else None, partners or {}, beside or {}, step)


def loss_of(what: Method | Learner, views: Sequence[Tensor], indices: Tensor, step: int = 0, **more: Any) -> dict[str, Tensor]:
    """The loss and its terms."""
    batch = batch_of(what.method if isinstance(what, Learner) else what, views, indices, step=step, **more)
    if isinstance(what, Learner):
        return what.loss(batch, step)
    return what.loss(what.outputs(batch), batch, step)


def of_images(method: str) -> bool:
    """Whether a registered method learns from images."""
    return "image" in accepted_kinds(METHODS.get(method))


def hides_patches(method: str) -> bool:
    """Whether a registered method hides patches of images, which its encoder must have."""
    return bool(METHODS.entry(method).flags.get("patches", False))


def alone(method: str) -> list[str]:
    """Overrides that make a recipe of images one for this method: as many views as it takes, and an encoder with what it looks at."""
    return [f"method={method}", f"views.views={METHODS.get(method).view_count}", *patched(method)]


def patched(method: str) -> list[str]:
    """The encoder of a method that hides patches, as an override; none for others, which take any."""
    return ["encoder={name: timm, model: test_vit, patch: 4}"] if hides_patches(method) else []


def each_method(names: Iterable[str]) -> list[Any]:
    """Parameters of a test, skipped where what the method's encoder needs is not installed."""
    return [pytest.param(name, marks=NEEDS_TIMM if hides_patches(name) else ()) for name in names]


def model_of(encoder: nn.Module, projector: nn.Module | None = None) -> Model:
    return Model(encoder, nn.Identity() if projector is None else projector)
