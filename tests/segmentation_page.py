"""A report on segmentation from made-up predictions: discs of some classes on a ground, found with more or less noise."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from kinshot.segmentation.class_blind import class_blind
from kinshot.segmentation.counts import Counts, counted
from kinshot.segmentation.dense import way_maps
from kinshot.segmentation.episodes import DenseEpisodes
from kinshot.segmentation.intervals import difference, over_episodes
from kinshot.segmentation.mistakes import count_taken
from kinshot.segmentation.rules import fb_iou, miou
from kinshot.studies.segmentation.report.content import Content, Focus, Kind, Line, Versus
from kinshot.studies.segmentation.report.details import classes_of, gallery_of, mistakes_of, spread_of
from kinshot.studies.segmentation.report.panels import EpisodePictures, query_pictures, support_pictures

NAMES = ['a<b>&"x$^', "_under", "ελληνικά", "a name that is rather long for a bar or a cell", "it's", "x"]
SIDE, EPISODES, QUERIES = 48, 20, 2
OTHER = len(NAMES) + 1


def scene(rng: np.random.Generator, values: list[int]) -> np.ndarray:
    """A class map with a disc of each value, and a rim of 255."""
    ys, xs = np.indices((SIDE, SIDE))
    mask = np.zeros((SIDE, SIDE), dtype=np.int64)
    for value in values:
        y, x, r = rng.uniform(10, SIDE - 10), rng.uniform(10, SIDE - 10), rng.uniform(6, 10)
        mask[(ys - y) ** 2 + (xs - x) ** 2 < r * r] = value
    mask[:2] = 255
    return mask


def picture(mask: np.ndarray) -> np.ndarray:
    """What a class map may look like, uint8 (H, W, 3)."""
    colors = np.random.default_rng(3).integers(60, 256, (256, 3))
    return np.clip(colors[mask] + np.random.default_rng(4).normal(0, 12, (*mask.shape, 3)), 0, 255).astype(np.uint8)


class Task:
    """Episodes with their class maps and scores, and the counts of a head and of the class-blind rules."""

    def __init__(self, ways: int, shots: int) -> None:
        rng = np.random.default_rng(10 * ways + shots)
        classes = np.stack([rng.permutation(len(NAMES))[:ways] + 1 for _ in range(EPISODES)])
        target = rng.integers(0, ways, (EPISODES, QUERIES))
        numbers = np.arange(EPISODES * (ways * shots + QUERIES)).reshape(EPISODES, -1)
        support, query = numbers[:, :-QUERIES].reshape(EPISODES, ways, shots), numbers[:, -QUERIES:]
        self.episodes = DenseEpisodes(classes, support, query, target)
        self.shots = shots
        self.support = np.stack([[[scene(rng, [OTHER, c]) for _ in range(shots)] for c in row] for row in classes])
        shown = np.take_along_axis(classes, target, 1)
        self.masks = np.stack([[scene(rng, [OTHER, c % len(NAMES) + 1, c]) for c in row] for row in shown])
        self.truth = way_maps(torch.from_numpy(self.masks), torch.from_numpy(classes)).numpy()
        noise = rng.normal(0, 1.1 - 0.15 * shots, (EPISODES, QUERIES, 1 + ways, SIDE, SIDE))
        noise = 4 * gaussian_filter(noise, (0, 0, 0, 2.5, 2.5))
        noise[-1] *= 4
        self.scores = noise + (self.truth[:, :, None] == np.arange(1 + ways)[:, None, None])
        self.prediction = self.scores.argmax(2)

    def counts(self, prediction: np.ndarray) -> Counts:
        return counted(torch.from_numpy(prediction), torch.from_numpy(self.truth), torch.from_numpy(self.episodes.classes))

    def blind(self) -> dict[str, Counts]:
        """Of the class-blind rules, as people write them."""
        found = class_blind(torch.from_numpy(self.masks))
        return {name.replace("_", " "): self.counts(labels.numpy()) for name, labels in found.items()}

    def measured(self) -> dict[str, tuple[Kind, Counts]]:
        """Of everybody: the head, the same without training, the class-blind rules."""
        worse = np.random.default_rng(0).permuted(self.scores, axis=2).argmax(2)
        heads: dict[str, tuple[Kind, Counts]] = {"cosine": ("model", self.counts(self.prediction))}
        heads["untrained, cosine"] = ("untrained", self.counts(worse))
        return heads | {name: ("rule", found) for name, found in self.blind().items()}

    def lines(self) -> list[Line]:
        """Figures of everybody."""
        found = []
        for who, (kind, counts) in self.measured().items():
            for rule in (miou, fb_iou):
                one = over_episodes(rule(counts), seed=0)
                percent = (100 * value for value in (one.value, one.low, one.high))
                found.append(Line(who, kind, "", self.episodes.ways, self.shots, rule.__name__, *percent))
        return found

    def paired(self) -> list[Versus]:
        """The head against everybody else."""
        (first, (_, counts)), *others = self.measured().items()
        found = []
        for who, (_, other) in others:
            d = difference(counts, other, seed=0)
            percent = (100 * value for value in (d.interval.value, d.interval.low, d.interval.high))
            found.append(Versus(first, who, "", self.episodes.ways, self.shots, "miou", *percent, d.p, min(1.0, 3 * d.p)))
        return found

    def taken(self) -> np.ndarray:
        flat = (
            torch.from_numpy(a).flatten(0, 1) for a in (self.prediction, self.masks, np.repeat(self.episodes.classes[:, None], QUERIES, 1))
        )
        return count_taken(*flat, OTHER + 1).numpy()


@cache
def task(ways: int, shots: int) -> Task:
    return Task(ways, shots)


def content(tasks: list[tuple[int, int]]) -> Content:
    """A report on some tasks, whose details are those of the first."""
    (ways, shots), first = tasks[0], task(*tasks[0])
    counts = first.counts(first.prediction)
    return Content(
        title="run on discs",
        command="segmentation report runs/discs --data discs",
        about={"Data": "discs", "Episode hashes (SHA-256)": [f"{w}-way {k}-shot: {task(w, k).episodes.hash()}" for w, k in tasks]},
        focus=Focus("run", "cosine", "", ways, shots),
        lines=[line for size in tasks for line in task(*size).lines()],
        paired=[versus for size in tasks for versus in task(*size).paired()],
        classes=classes_of(counts, first.blind(), NAMES),
        mistakes=mistakes_of(first.taken(), NAMES),
        spread=spread_of(counts, NAMES),
        gallery=gallery_of(counts, first.episodes, NAMES),
        hashes={f"{w}-way {k}-shot": task(w, k).episodes.hash() for w, k in tasks},
        versions={"kinshot": "0"},
    )


def pictures(found: Content) -> dict[int, EpisodePictures]:
    """Of the gallery."""
    of = task(found.focus.ways, found.focus.shots)
    drawn = {}
    for episode in found.gallery:
        e = episode.number
        ways = way_maps(torch.from_numpy(of.support[e : e + 1]), torch.from_numpy(of.episodes.classes[e : e + 1]))[0].numpy()
        support = support_pictures([[(picture(mask), ways[w, k]) for k, mask in enumerate(way)] for w, way in enumerate(of.support[e])])
        queries = [
            query_pictures(picture(of.masks[e, q]), of.truth[e, q], of.scores[e, q], query.target)
            for q, query in enumerate(episode.queries)
        ]
        drawn[e] = EpisodePictures(support, queries)
    return drawn
