"""Weighted kNN: the classes that the nearest of a bank vote for, by cosine, each with exp(similarity / temperature)."""

from __future__ import annotations

from typing import Any

import torch

from kinshot.core.errors import ConfigError
from kinshot.learn.knn import knn_accuracies
from kinshot.studies.frozen.outcome import Outcome
from kinshot.studies.frozen.parts import Embedded
from kinshot.studies.frozen.settings import Settings


def measured(given: Embedded, settings: Settings) -> Outcome:
    """Accuracy with each number of neighbours.

    Paper: Wu, Xiong, Yu and Lin, 2018, arXiv 1805.01978 (section 3.4).

    Raises ConfigError for more neighbours than the bank has samples.
    """
    if max(settings.ks) > len(given.bank):
        raise ConfigError(f"--k: the bank has {len(given.bank)} samples, fewer than k={max(settings.ks)}: ask for at most that many")
    labels = torch.from_numpy(given.bank_labels), torch.from_numpy(given.query_labels)
    found = knn_accuracies(given.bank, labels[0], given.queries, labels[1], ks=settings.ks, temperature=settings.temperature)
    return Outcome({f"kNN accuracy (k={k}), %": [100 * accuracy] for k, accuracy in found.items()})


def said(settings: Settings) -> dict[str, Any]:
    """What the protocol says of it."""
    return {
        "k": ", ".join(map(str, settings.ks)),
        "temperature": settings.temperature,
        "votes": "exp(cosine / temperature)",
        "features": "at unit length",
    }
