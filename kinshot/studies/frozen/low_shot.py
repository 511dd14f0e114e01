"""Low-shot: classifiers of all classes fitted to a few labelled samples of each, for several draws of these."""

from __future__ import annotations

from typing import Any

from kinshot.fewshot.evaluate import build_head
from kinshot.fewshot.low_shot import low_shot_probe
from kinshot.studies.frozen.outcome import Outcome
from kinshot.studies.frozen.parts import Embedded
from kinshot.studies.frozen.settings import Settings

HEADS: dict[str, dict[str, Any]] = {"svm": {"C": 1.0, "transform": "l2n"}, "logistic": {"C": 1.0, "transform": "l2n"}}
"""Classifiers by name, with their settings (`fewshot list`)."""


def measured(given: Embedded, settings: Settings) -> Outcome:
    """Accuracy on the queries by number of labelled samples, one for each draw.

    Paper: Goyal, Mahajan, Gupta and Misra, 2019, arXiv 1905.01235 (low-shot classification; one label to an image here).

    Raises DataError for a class with too few samples in the bank.
    """
    figures: dict[str, Any] = {}
    for name, given_settings in HEADS.items():
        test = given.queries, given.query_labels
        found = low_shot_probe(
            given.bank, given.bank_labels, shots=settings.shots, draws=settings.draws, seed=settings.seed, test=test,
            head=build_head(name, given_settings),
        )  # fmt: skip
        figures |= {f"low-shot {name} accuracy (k={one.shots}), %": 100 * one.accuracy for one in found}
    return Outcome(figures)


def said(settings: Settings) -> dict[str, Any]:
    """What the protocol says of it."""
    return {
        "labelled samples of each class": ", ".join(map(str, settings.shots)),
        "draws": f"{settings.draws} (seed {settings.seed}), more samples extending the draws of fewer",
        "classifiers": "; ".join(f"{name} " + " ".join(f"{key}={value}" for key, value in of.items()) for name, of in HEADS.items()),
        "features": "at unit length",
        "interval": "95 %, Student t, over the draws; rows of several runs: over runs and over draws, in quadrature",
    }
