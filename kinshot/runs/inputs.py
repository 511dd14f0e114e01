"""From loaded samples to the batch that a learner sees: augmented views, clean samples, partners, each normalised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kinshot.datasets.views import VIEWS
from kinshot.kin.kin import Kin
from kinshot.learn.learner import Learner
from kinshot.recipes.recipe import Recipe
from kinshot.runs.data import Data
from kinshot.samples.batch import Batch, Loaded, Partners
from kinshot.samples.spec import Spec


@dataclass(frozen=True)
class Companions:
    """What the terms of a run ask to load beside a batch, one term after the other; picklable, so that loader processes can call it."""

    kins: tuple[Kin, ...]

    def __call__(self, indices: Tensor, step: int) -> Tensor:
        """Sample indices int64 (P,) to load beside a batch (B,)."""
        return torch.cat([kin.draw(indices, step) for kin in self.kins])


def companions_of(learner: Learner) -> Companions | None:
    """What a learner's terms ask for; None where none asks."""
    kins = tuple(term.kin for term in learner.asking.values())
    return Companions(kins) if kins else None


@dataclass(frozen=True)
class BatchMaker:
    """Makes batches of loaded samples.

    Args:
        views: the recipe's views, of one draw or of several; of all fields where there are some beside the encoder's.
        spec: what the encoder takes.
        learner: says whether somebody needs clean samples, and which terms asked for partners.
        batch_size: B; rows beyond it are partners.
        field: the field that the encoder takes.
        beside: fields that it does not take, which the method learns from.
    """

    views: Callable[..., list[Any]]
    spec: Spec
    learner: Learner
    batch_size: int
    field: str = ""
    beside: tuple[str, ...] = ()

    def __call__(self, samples: Loaded, indices: Tensor, *, seed: int, epoch: int, step: int) -> Batch:
        """Samples (B + P, ...) on the device, and int64 indices (B + P,), as a batch there."""
        given = {self.field: samples} if isinstance(samples, Tensor) else samples
        own, partners = given[self.field][: self.batch_size], given[self.field][self.batch_size :]
        ids, others = indices[: self.batch_size], indices[self.batch_size :]
        clean = self.clean(own) if self.learner.needs_clean else None
        if self.learner.method.shows_clean(epoch):
            drawn = {self.field: [self.clean(own)]}
        else:
            drawn = self._views({name: given[name][: self.batch_size] for name in (self.field, *self.beside)}, ids, seed, epoch)
        found = {}
        asking = self.learner.asking
        counts = [len(others)] if len(asking) == 1 else [len(term.kin.draw(ids, step)) for term in asking.values()]
        for (number, term), rows, which in zip(asking.items(), partners.split(counts), others.split(counts), strict=True):
            if len(rows):
                as_view = term.kin.partner_input == "view"
                x = self.shown(rows, which, seed=seed, epoch=epoch)[0] if as_view else self.clean(rows)
                found[number] = Partners(which.to(own.device), x)
        return Batch(ids.to(own.device), drawn[self.field], clean, found, {name: drawn[name] for name in self.beside}, step)

    def shown(self, samples: Tensor, indices: Tensor, *, seed: int, epoch: int) -> list[Tensor]:
        """Views of samples (B, ...) of the encoder's field alone."""
        return self._views({self.field: samples}, indices, seed, epoch)[self.field]

    def _views(self, given: Mapping[str, Tensor], indices: Tensor, seed: int, epoch: int) -> dict[str, list[Tensor]]:
        return views_by_field(self.views, given, indices, seed=seed, epoch=epoch, named=bool(self.beside))

    def clean(self, samples: Tensor) -> Tensor:
        """Samples as evaluation sees them, without augmentation."""
        return channels_last(self.spec.normalize(samples))


def build_views(recipe: Recipe, data: Data, input: Spec) -> Callable[..., list[Any]]:
    """The recipe's views of a run's samples, of the field that the encoder takes and of what its method learns from beside it."""
    fields = {data.field: input, **{name: data.whole.fields[name] for name in data.beside}}
    made: Callable[..., list[Any]] = VIEWS.build(recipe.views.name, fields if data.beside else input, settings=recipe.views.settings)
    return made


def views_by_field(
    views: Callable[..., list[Any]], given: Mapping[str, Tensor], indices: Tensor, *, seed: int, epoch: int, named: bool
) -> dict[str, list[Tensor]]:
    """Views of loaded samples by field; those of one field, unless `named`, are called with its tensor, as they may know no other."""
    if not named:
        ((field, samples),) = given.items()
        return {field: views(samples, indices, seed=seed, epoch=epoch)}
    found = views(given, indices, seed=seed, epoch=epoch)
    return {name: [view[name] for view in found] for name in given}


def channels_last(x: Tensor) -> Tensor:
    """Images in the memory format that convolutions are fast at; other samples as they are."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
