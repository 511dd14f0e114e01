"""The samples of a run: the field that its encoder takes, and what its method learns from beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from kinshot.core.errors import ConfigError
from kinshot.datasets.base import Source
from kinshot.datasets.bundle import Bundle
from kinshot.datasets.wrong_labels import wrong_labels
from kinshot.recipes.recipe import Recipe, knows_labels
from kinshot.samples import SPECS


@dataclass(frozen=True)
class Data:
    """A run's source, seen in two ways.

    Args:
        whole: what batches are loaded from.
        seen: its samples as the encoder takes them; the same source where that is all there is.
        field: the field that the encoder takes.
        beside: further fields, which the method learns from.
    """

    whole: Source
    seen: Source
    field: str
    beside: tuple[str, ...] = ()

    @property
    def batched(self) -> Source:
        """What batches are loaded from: of samples of several fields only what somebody looks at."""
        return self.whole if self.beside else self.seen


def data_of(source: Source, beside: tuple[str, ...], method: str) -> Data:
    """The samples of a run.

    Args:
        source: the recipe's data.
        beside: fields that the method learns from beside the one that the encoder takes.
        method: its name, for messages.

    Raises:
        ConfigError: a source without these fields, or that lacks them for some samples, or with several that an encoder could take, unless
            these are sensors, of which an encoder of bundles takes all.
    """
    missing = [name for name in beside if name not in source.fields]
    if missing:
        known = ", ".join(source.fields)
        raise ConfigError(f"method {method} learns from the field {missing[0]}, and {source.name} has {known}: choose data with class maps")
    able = [name for name, spec in source.fields.items() if name not in beside and spec.kind in SPECS.entries]
    if len(able) > 1 and not beside and all(math.isnan(source.fields[name].absent) for name in able):
        seen = Bundle(source)
        return Data(source, seen, seen.field)
    if len(able) != 1:
        known = ", ".join(able) or "none"
        raise ConfigError(f"data: an encoder takes one field, and {source.name} has {known} that one could take: choose data with one")
    partial = [name for name in (able[0], *beside) if name in source.present]
    if beside and partial:
        raise ConfigError(f"method {method} needs {partial[0]} of every sample, and some of {source.name} lack it: leave those out")
    return Data(source, source.only(able[0]), able[0], beside)


def with_wrong_labels(data: Data, recipe: Recipe) -> tuple[Data, list[str]]:
    """The samples of a run, of whose labels a share is wrong as `train.wrong_labels` asks, and what is to be said of it.

    What a checkpoint keeps of the data, by which runs of several seeds are known to be of the same, are the labels that the data has.

    Raises:
        ConfigError: wrong labels of data without labels, or for a run that does not learn from any.
    """
    share, labels = recipe.train.wrong_labels, data.seen.labels
    if not share:
        return data, []
    if labels is None or data.beside:
        raise ConfigError(f"train.wrong_labels is {share:g}, and {data.seen.name} has no label of each sample: leave it out")
    if not knows_labels(recipe):
        raise ConfigError(f"train.wrong_labels is {share:g}, and neither method nor terms of this run learn from labels: leave it out")
    given, wrong = wrong_labels(labels, len(data.seen.class_names), share, recipe.seed)
    note = (
        f"labels: {int(wrong.sum())} of {len(wrong)} are wrong, as train.wrong_labels={share:g} asks; training learns from these, and the "
        "kNN probe keeps those that the data has"
    )
    return replace(data, seen=data.seen.relabelled(given)), [note]
