"""Records of one head, read for a report: classes, confusions, calibration, episodes. Pure functions of records and names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import csr_array

from kinshot.core.statistics.means import crossed
from kinshot.core.statistics.ranks import extreme_episodes
from kinshot.fewshot.calibration import calibration_error
from kinshot.fewshot.records import Records, class_accuracy, confusion_matrix
from kinshot.studies.report.content import (
    Answer,
    ClassRow,
    Confusion,
    EpisodeRow,
    EpisodeSpread,
    Pair,
    Reliability,
    ShownEpisode,
    ShownWay,
)

MATRIX = 16
"""Classes that a confusion matrix shows at most."""
PAIRS = 12
EXTREMES = 5
BINS = 20
WAYS_SHOWN, SUPPORT_SHOWN, QUERIES_SHOWN = 10, 10, 15

Names = Sequence[str]


def classes_of(records: Mapping[str, Records], names: Names) -> list[ClassRow]:
    """Accuracy of every class by head, the worst of the first head first."""
    found = {head: class_accuracy(answers) for head, answers in records.items()}
    first = next(iter(found.values()))
    percent = {head: 100 * f.accuracy for head, f in found.items()}
    rows = [
        ClassRow(int(label), names[label], int(first.counts[i]), {head: float(values[i]) for head, values in percent.items()})
        for i, label in enumerate(first.classes)
    ]
    order = np.argsort(first.accuracy, kind="stable")
    return [rows[i] for i in order]


def confusion_of(records: Records, names: Names) -> Confusion:
    """The confusion matrix of the classes in the most frequent confusions (of all classes where they are few)."""
    labels, counts = confusion_matrix(records)
    met = encounters(records, labels)
    wrong = counts * ~np.eye(len(labels), dtype=bool)
    rate = np.divide(counts, met, out=np.zeros(counts.shape), where=met > 0)
    true, predicted = np.nonzero(wrong)
    ranked = np.lexsort((-rate[true, predicted], -wrong[true, predicted]))  # by count, then by rate
    pairs = [(int(true[i]), int(predicted[i])) for i in ranked]
    shown = np.array(_shown(pairs, len(labels)), dtype=np.int64)
    cell = np.ix_(shown, shown)
    percent = np.where(met > 0, 100 * rate, np.nan)[cell]
    named = [names[label] for label in labels]
    return Confusion(
        names=[named[i] for i in shown],
        classes=len(labels),
        counts=counts[cell].tolist(),
        met=met[cell].tolist(),
        percent=[_without_nan(row) for row in percent],
        pairs=[Pair(named[t], named[p], int(counts[t, p]), int(met[t, p]), 100 * float(rate[t, p])) for t, p in pairs[:PAIRS]],
    )


def encounters(records: Records, labels: np.ndarray) -> np.ndarray:
    """Queries of one class in episodes where another played, int64 (C, C): how often the two could have been confused.

    Args:
        records: answers, of which only the episodes matter.
        labels: classes of the rows and columns, ascending, (C,), every class that plays among them.
    """
    episodes = records.episodes
    ways, way = episodes.ways, np.arange(episodes.ways)
    queries = (episodes.query_labels.numpy()[:, :, None] == way).sum(axis=1)
    place = np.searchsorted(labels, episodes.classes.numpy()).ravel()
    starts = np.arange(len(episodes) + 1) * ways
    shape = (len(episodes), len(labels))
    asked = csr_array((queries.ravel(), place, starts), shape=shape)
    played = csr_array((np.ones(place.size, dtype=np.int64), place, starts), shape=shape)
    return np.asarray((asked.T @ played).toarray(), dtype=np.int64)


def _shown(pairs: list[tuple[int, int]], classes: int) -> list[int]:
    if classes <= MATRIX:
        return list(range(classes))
    found: dict[int, None] = {}
    for pair in pairs:
        if len(found | dict.fromkeys(pair)) <= MATRIX:
            found |= dict.fromkeys(pair)
    return list(found) or list(range(MATRIX))


def reliability_of(records: Mapping[str, Records]) -> list[Reliability]:
    """Calibration of every head whose scores say how sure it is."""
    rows = []
    for head, answers in records.items():
        if answers.confidences is None:
            continue
        c = calibration_error(answers.confidences, answers.correct)
        confidence, accuracy = (_without_nan(values) for values in (c.confidence, c.accuracy))
        rows.append(Reliability(head, c.error, c.edges.tolist(), c.counts.tolist(), confidence, accuracy, c.rule))
    return rows


def _without_nan(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def spread_of(records: Records, names: Names) -> EpisodeSpread:
    """How accuracy differs between episodes."""
    percent = 100 * records.accuracy
    found = crossed(percent)
    counts, edges = np.histogram(percent, bins=BINS, range=(0, 100))
    classes = records.episodes.classes.numpy()

    def rows(numbers: np.ndarray) -> list[EpisodeRow]:
        return [EpisodeRow(int(e), float(percent[e]), [names[c] for c in classes[e]]) for e in numbers]

    best, worst = extreme_episodes(percent, EXTREMES)
    return EpisodeSpread(found.mean, found.half_width, edges.tolist(), counts.tolist(), rows(best), rows(worst))


def gallery_of(records: Records, names: Names) -> list[ShownEpisode]:
    """The two worst episodes, one in the middle and the best one, each once."""
    percent = 100 * records.accuracy
    order = np.argsort(percent, kind="stable")
    reasons = [("the worst", order[0]), ("the second worst", order[1]), ("the median", order[len(order) // 2])]
    best = int(extreme_episodes(percent, 1)[0][0])
    chosen: dict[int, str] = {}
    for why, number in [*reasons, ("the best", best)]:
        chosen.setdefault(int(number), why)
    return [_shown_episode(records, number, why, names) for number, why in chosen.items()]


def _shown_episode(records: Records, number: int, why: str, names: Names) -> ShownEpisode:
    episodes = records.episodes
    support, support_way, query, query_way, classes = (
        tensor[number].numpy()
        for tensor in (episodes.support, episodes.support_labels, episodes.query, episodes.query_labels, episodes.classes)
    )
    predicted = records.predictions[number]
    ways = []
    for way in range(min(len(classes), WAYS_SHOWN)):
        asked = np.flatnonzero(query_way == way)
        mine = support[support_way == way]
        answers = [
            Answer(int(query[q]), int(predicted[q]), names[classes[predicted[q]]], bool(predicted[q] == way)) for q in asked[:QUERIES_SHOWN]
        ]
        right = int((predicted[asked] == way).sum())
        ways.append(ShownWay(names[classes[way]], mine[:SUPPORT_SHOWN].tolist(), answers, len(mine), len(asked), right))
    return ShownEpisode(number, why, float(100 * records.accuracy[number]), ways, len(classes))
