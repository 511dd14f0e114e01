"""Accuracy of a head on cached features, episode by episode, and the rows of a report."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from kinshot.core.errors import ConfigError, suggest
from kinshot.core.statistics.means import RULE, crossed
from kinshot.fewshot import HEADS
from kinshot.fewshot.base_statistics import BaseStatistics
from kinshot.fewshot.episodes import Episodes
from kinshot.fewshot.records import Head, episode_records
from kinshot.fewshot.scores import BoundHead, scores_of


@dataclass(frozen=True)
class Row:
    """One line of a report: which features, head and episodes, and the accuracy in [0, 1] with its interval.

    Args:
        features: name of the features, for example `backbone` or `pixels`.
        head: the head as it was written.
        ways: classes per episode.
        shots: support images per class.
        queries: query images per class.
        episodes: number of episodes.
        seed: key of the episodes.
        mean: mean accuracy over episodes.
        ci95: half-width of the 95 % interval.
        rule: how the interval was made.
        settings: every setting of the head, defaults included.
        seconds: time taken by the evaluation, None when not measured.
    """

    features: str
    head: str
    ways: int
    shots: int
    queries: int
    episodes: int
    seed: int
    mean: float
    ci95: float
    rule: str
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return asdict(self)


def make_row(
    accuracy: np.ndarray,
    *,
    features: str,
    head: str,
    ways: int,
    shots: int,
    queries: int,
    seed: int,
    settings: Mapping[str, Any] | None = None,
    seconds: float | None = None,
) -> Row:
    """A `Row` from per-episode accuracies. Raises DataError for fewer than two episodes."""
    found = crossed(accuracy)
    return Row(
        features,
        head,
        ways,
        shots,
        queries,
        np.shape(accuracy)[-1],
        seed,
        found.mean,
        found.half_width,
        RULE,
        dict(settings or {}),
        seconds,
    )


def build_head(
    name: str,
    settings: Mapping[str, Any] | None = None,
    *,
    base_mean: Tensor | None = None,
    base: BaseStatistics | None = None,
    **injected: Any,
) -> BoundHead:
    """A registered head with its settings bound, and what it is to be given beside them; it says what its scores are.

    Args:
        name: the head.
        settings: its settings by name; what is left out has the default.
        base_mean: mean base feature (D,), for the heads that take one; None takes that of `base`.
        base: statistics of the base classes, for the heads that take them.
        injected: further parameters of this head that are no settings, for example `network` of `feat`.

    Raises:
        ConfigError: unknown head, unknown setting or bad value, or something injected that the head does not take.

    >>> head = kinshot.build_head("logistic", {"C": 10.0})
    >>> support, labels, query = torch.eye(2).unsqueeze(0), torch.tensor([[0, 1]]), torch.tensor([[[0.1, 2.0]]])
    >>> head(support, labels, query, 2).argmax(-1)
    tensor([[1]])
    """
    checked, problems = HEADS.check(name, dict(settings or {}))
    if problems:
        raise ConfigError("; ".join(problems))
    function = HEADS.get(name)
    takes = {p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY} - checked.keys()
    foreign = sorted(injected.keys() - takes)
    if foreign:
        raise ConfigError(f"head {name} does not take {foreign[0]!r}: {suggest(foreign[0], takes) if takes else 'leave it out'}")
    if base_mean is None and base is not None:
        base_mean = base.mean
    wired = {"base_mean": base_mean, "base": base, **injected}
    bound = partial(function, **checked, **{key: value for key, value in wired.items() if key in takes})
    return BoundHead(bound, scores_of(name, checked))


def takes(name: str, parameter: str) -> bool:
    """Whether a registered head has a parameter, for example `base` (statistics of base classes) or `network` (trained weights)."""
    return parameter in inspect.signature(HEADS.get(name)).parameters


def episode_accuracy(
    features: Tensor, episodes: Episodes, head: Head, ways: int, *, batch: int | None = None, threads: int | None = None
) -> np.ndarray:
    """Share of query images that the head puts into their class, for each episode: float64 (E,), in [0, 1].

    Arguments and errors are those of `episode_records`, which keeps the answers too.

    >>> labels = np.repeat(np.arange(10), 6)
    >>> features = torch.eye(10)[torch.from_numpy(labels)]  # what a perfect encoder would say of sixty images
    >>> episodes = kinshot.sample_episodes(labels, ways=5, shots=1, queries=3, episodes=100, seed=0)
    >>> head = kinshot.build_head("prototype", {"distance": "euclidean"})
    >>> float(kinshot.episode_accuracy(features, episodes, head, ways=5).mean())
    1.0
    """
    return episode_records(features, episodes, head, ways, batch=batch, threads=threads).accuracy
