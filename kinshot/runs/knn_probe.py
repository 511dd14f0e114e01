"""The kNN probe of a run: how well labels can be read from its features, while it learns without them.

Which samples are asked is keyed by the seed, and features are taken in evaluation mode, so that training goes on as if nobody had asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.bundle import as_taken
from kinshot.learn.knn import knn_answers, rows_by_class
from kinshot.recipes.splits import own_split

if TYPE_CHECKING:
    from kinshot.datasets.base import Source
    from kinshot.runs.job import Job

BACKBONE = "backbone"
HEADS = {"projector": None, BACKBONE: torch.nn.Identity()}
"""Features that are probed, with what stands on the encoder there; None is the model's projector."""


class KnnProbe:
    """Accuracy of a weighted kNN on the projector's output and the backbone's, between samples of a bank and others.

    Labels are those that the data has, also where `train.wrong_labels` exchanged some.

    Args:
        job: the run; its recipe's `monitor` says how many samples, neighbours, and whether queries are of another split.

    Raises:
        ConfigError: a split that the data does not have.
        DataError: a split without labels, or without a class of the training samples.
    """

    def __init__(self, job: Job) -> None:
        self.settings = job.recipe.monitor
        self.labels = np.asarray(job.data.whole.labels)
        seed, wanted = job.plan.seed, self.settings.knn_samples
        self.queries: Source | None = None
        if not self.settings.knn_split:
            rows = rows_by_class(self.labels, wanted, seed)
            self.bank_rows, self.query_rows = rows[0::2], rows[1::2]
            self.query_labels = self.labels[self.query_rows]
            return
        self.queries = _other(job, self.settings.knn_split)
        named = _numbered(self.queries, job.data.whole)
        known = np.flatnonzero(named >= 0)
        if not len(known):
            raise DataError(
                f"monitor.knn_split: {self.queries.name} has no sample of a class of {job.data.whole.name}: leave it out, and the probe "
                "takes training samples"
            )
        self.bank_rows = rows_by_class(self.labels, wanted // 2, seed)
        self.query_rows = known[rows_by_class(named[known], wanted // 2, seed)]
        self.query_labels = named[self.query_rows]

    def __call__(self, job: Job) -> dict[str, float]:
        """Accuracy by feature, of the weights that the method has now; nothing where too few samples share a label."""
        return {name: float(found.mean()) for name in HEADS if len(found := self.right(job, name))}

    def right(self, job: Job, name: str) -> np.ndarray:
        """Whether each query is put into its class by a feature of the weights that the method has now; none where labels are too few."""
        if not len(self.bank_rows) or not len(self.query_rows):
            return np.zeros(0, dtype=bool)
        bank, queries = self._features(job, name, HEADS[name])
        k, temperature = self.settings.knn_k, self.settings.knn_temperature
        answers = knn_answers(bank, torch.as_tensor(self.labels[self.bank_rows]), queries, k=k, temperature=temperature)
        found: np.ndarray = answers.predictions == self.query_labels
        return found

    def _features(self, job: Job, name: str, head: torch.nn.Module | None) -> tuple[Tensor, Tensor]:
        bank = job.extract(head, self.bank_rows)
        if self.queries is None:
            return bank, job.extract(head, self.query_rows)
        return bank, job.embed_source(self.queries, self.query_rows)[name]


def _other(job: Job, split: str) -> Source:
    choice = own_split(job.recipe.data, split)
    if choice is None:
        raise ConfigError(f"monitor.knn_split: {job.recipe.data.name} has no other split {split!r}: leave it out, or name val or test")
    source: Source = as_taken(SOURCES.build(choice.name, settings=choice.settings), job.input)
    if source.labels is None:
        raise DataError(f"monitor.knn_split: {source.name} has no labels: leave it out")
    return source


def _numbered(source: Source, like: Source) -> np.ndarray:
    """The labels of a source by the numbers that another one gives classes of the same names, -1 for others."""
    place = {name: number for number, name in enumerate(like.class_names)}
    named = np.array([place.get(name, -1) for name in source.class_names], dtype=np.int64)
    labels = np.asarray(source.labels)
    return np.where(labels >= 0, named[labels], -1)
