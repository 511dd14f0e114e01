"""What an evaluation shares with training: classes by their names, images by their content.

Accuracy on classes whose labels a model was trained on says how well it knows them, and nothing of new classes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kinshot.core.errors import KinshotError
from kinshot.datasets import SOURCES
from kinshot.datasets.base import Source
from kinshot.datasets.bundle import as_taken
from kinshot.datasets.files import content_digests, regular_file
from kinshot.recipes.loaded import Loaded
from kinshot.recipes.recipe import Choice, Recipe, knows_labels
from kinshot.recipes.splits import validation_data
from kinshot.studies.lineage import Lineage
from kinshot.studies.results import SEEN, WARNING

_NAMED = 5


@dataclass(frozen=True)
class Seen:
    """What of one evaluation a checkpoint, and the runs that it started from or learned from, met in training.

    Args:
        classes: classes that training data had, by name and data set.
        of_classes: classes of the evaluation.
        images: images that training data had, by content.
        of_images: images of the evaluation.
        labels: whether training was given the labels of those classes.
        examples: names of some of those classes.
        chosen_on: classes by whose accuracy the checkpoint was chosen among those of its run.
        unknown_labels: whether training was given labels of data that cannot be compared.
        unknown: what could not be compared and why; the counts are then what is known at least.
    """

    classes: int
    of_classes: int
    images: int
    of_images: int
    labels: bool
    examples: tuple[str, ...] = ()
    chosen_on: int = 0
    unknown_labels: bool = False
    unknown: tuple[str, ...] = ()

    @property
    def known_labels(self) -> bool:
        """Whether figures are those of classes whose labels the model was trained on, so that they do not speak of new classes."""
        return self.labels and self.classes > 0

    def __str__(self) -> str:
        """`10 of 10 classes and 0 of 355 images were in the training data, with their labels`."""
        if not (self.classes or self.images):
            if self.unknown:
                return f"unknown, because {'; '.join(self.unknown)}"
            return f"none of {self.of_classes} classes and none of {self.of_images} images were in the training data"
        least, labels = "at least " * bool(self.unknown), "with" if self.labels else "without"
        counts = f"{least}{self.classes} of {self.of_classes} classes and {self.images} of {self.of_images} images"
        said = f"{counts} were in the training data, {labels} {'their ' * self.labels}labels"
        return "; ".join([said, *(f"unknown: {reason}" for reason in self.unknown)])

    @property
    def warnings(self) -> list[str]:
        """What must stand beside the figures."""
        found = []
        if self.known_labels:
            more = f" and {self.classes - len(self.examples)} more" if self.classes > len(self.examples) else ""
            found.append(
                f"training was given the labels of {self.classes} of these {self.of_classes} classes ({', '.join(self.examples)}{more}): "
                "figures say how well it knows these, not how well it learns new ones"
            )
        elif self.unknown_labels:
            found.append("training was given class labels, and it is not known whether of these classes")
        if self.chosen_on:
            found.append(
                f"the checkpoint was chosen by its accuracy on {self.chosen_on} of these {self.of_classes} classes (validation): "
                "figures are too good by that choice"
            )
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {**asdict(self), "text": str(self)}


@dataclass(frozen=True)
class _Training:
    """Data that a run, or one before it, was trained on."""

    source: Source
    labels: bool


@dataclass
class SeenInTraining:
    """Compares evaluations with the training behind checkpoints; builds every training source once."""

    lineage: Lineage = field(default_factory=Lineage)
    _built: dict[str, Source | str] = field(default_factory=dict)

    def of(self, run: Loaded, source: Source) -> Seen:
        """What of a labelled source's classes and images the training behind a checkpoint met."""
        if run.checkpoint.origin:
            return _seen_elsewhere(run, source)
        recipes, unknown = _behind(run.recipe, self.lineage)
        trained: list[_Training] = []
        unknown_labels = False
        for recipe in recipes:
            built = self._source(recipe.data, source)
            if isinstance(built, str):
                unknown.append(built)
                unknown_labels |= knows_labels(recipe)
            else:
                trained.append(_Training(built, knows_labels(recipe)))
        found, chosen_on = _compared(trained, source, unknown), self._chosen_on(recipes[0], source)
        return replace(found, chosen_on=chosen_on, unknown_labels=unknown_labels)

    def _chosen_on(self, recipe: Recipe, source: Source) -> int:
        """How many of a source's classes the checkpoint of a run was chosen on."""
        if not recipe.validation.split:
            return 0
        found = self._source(validation_data(recipe), source)
        return 0 if isinstance(found, str) else len(shared_classes(found, source))

    def _source(self, data: Choice, like: Source) -> Source | str:
        """A run's training data rendered as an evaluation's, or why it cannot be had. Nothing is decoded where the data are files."""
        known, settings = SOURCES.entry(data.name).parameters, dict(data.settings)
        wanted: dict[str, Any] = {"in_memory_mib": 0, **like.spec.rendering}
        settings |= {key: value for key, value in wanted.items() if key in known}
        key = repr((data.name, settings))
        if key not in self._built:
            try:
                built = SOURCES.build(data.name, settings=settings)
                shared = len(like.fields) == 1 and len(built.fields) > 1 and like.field in built.fields
                self._built[key] = built.only(like.field) if shared else as_taken(built, like.spec)
            except (KinshotError, OSError) as error:
                self._built[key] = f"its training data {data.name} cannot be read now ({error})"
        return self._built[key]


def _seen_elsewhere(run: Loaded, source: Source) -> Seen:
    """What is known of a backbone that was not trained here: nothing, unless it is untrained; its classifier learned from labels."""
    checkpoint = run.checkpoint
    unknown = [] if checkpoint.state["random"] else [f"what {checkpoint.path} was trained on is not known here"]
    return replace(_compared([], source, unknown), unknown_labels="rows" in checkpoint.tensors)


def seen_text(found: Sequence[Seen]) -> str:
    """What several checkpoints saw, for a table: one text where all are alike, else the different ones with how many they are of."""
    texts = [str(one) for one in found]
    counts = {text: texts.count(text) for text in texts}
    if len(counts) == 1:
        return texts[0]
    return "; ".join(f"{count} of {len(texts)} checkpoints: {text}" for text, count in counts.items())


def seen_warning(found: Iterable[Seen]) -> str:
    """What must stand beside the figures of several checkpoints, the worst of each kind; empty where there is nothing to say."""
    worst = sorted(found, key=lambda one: (one.classes * one.labels, one.unknown_labels, one.chosen_on), reverse=True)
    labels = next((one.warnings[0] for one in worst if one.known_labels or one.unknown_labels), "")
    chosen = next((one.warnings[-1] for one in worst if one.chosen_on), "")
    return "; ".join(filter(None, (labels, chosen)))


def seen_fields(
    runs: Sequence[Loaded], evaluations: Mapping[str, Sequence[Source]], lineage: Lineage
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """What results say of the training behind every checkpoint: a list for `--json`, and lines for the protocol.

    Args:
        runs: what is measured.
        evaluations: for each role of images in the evaluation, "" where there is only one, the source that each run met.
        lineage: finds the runs behind them.
    """
    finder, listed, lines = SeenInTraining(lineage), [], {}
    for role, sources in evaluations.items():
        found = [finder.of(run, source) for run, source in zip(runs, sources, strict=True)]
        listed += [
            {"checkpoint": str(run.checkpoint.path), "data": source.name, **one.as_dict()}
            for run, source, one in zip(runs, sources, found, strict=True)
        ]
        lines[f"{SEEN}, {role}" if role else SEEN] = seen_text(found)
        if warning := seen_warning(found):
            lines[f"{WARNING}, {role}" if role else WARNING] = warning
    return listed, lines


def shared_classes(other: Source, source: Source) -> list[str]:
    """Classes of a source that another one has too: by name where both are of one data set, or by an image that both have."""
    shared, _ = _overlap(other, source)
    return [name for name, both in zip(source.class_names, shared, strict=True) if both]


def _compared(trained: Sequence[_Training], source: Source, unknown: list[str]) -> Seen:
    classes = np.zeros(len(source.class_names), dtype=bool)
    images = np.zeros(len(source), dtype=bool)
    labels = False
    for one in trained:
        shared, met = _overlap(one.source, source)
        if isinstance(met, str):
            unknown.append(met)
        else:
            images |= met
        classes |= shared
        labels |= one.labels and bool(shared.any())
    found = [name for name, seen in zip(source.class_names, classes, strict=True) if seen]
    counts = len(found), len(classes), int(images.sum()), len(images)
    return Seen(*counts, labels, tuple(found[:_NAMED]), unknown=tuple(dict.fromkeys(unknown)))


def _overlap(other: Source, source: Source) -> tuple[np.ndarray, np.ndarray | str]:
    """Which classes of a source another has, (C,), and which of its images, (N,), or why the images are not known."""
    names = _names(other) if _same_data(other, source) else set()
    shared = np.array([name in names for name in source.class_names], dtype=bool)
    try:
        met = _images_met(other, source)
    except KinshotError as error:
        met = f"images could not be compared ({error})"
    return shared if isinstance(met, str) else shared | _classes_of(met, source), met


def _names(source: Source) -> set[str]:
    """Names of a source's classes, and of every other label that its samples have: classes may be finer or coarser elsewhere."""
    other = (source.attribute_names[key][value] for key, values in source.categories.items() for value in np.unique(values) if value >= 0)
    return {*source.class_names, *other}


def _same_data(a: Source, b: Source) -> bool:
    """Whether two sources are of one data set, or of folders, whose class names are the user's own: elsewhere equal names may be chance."""
    return a.name.partition("/")[0] == b.name.partition("/")[0]


def _classes_of(met: np.ndarray, source: Source) -> np.ndarray:
    """Which classes have an image among those that training met, (C,)."""
    found = np.zeros(len(source.class_names), dtype=bool)
    if source.labels is not None:
        found[np.unique(np.asarray(source.labels)[met])] = True
    return found


def _images_met(trained: Source, source: Source) -> np.ndarray | str:
    """Which images of a source are among a training source's, (N,), or why that is not known."""
    if trained.files is not None and source.files is not None:
        return _files_met(trained.files, source.files)
    if not (trained.in_memory and source.in_memory):
        return f"images of {source.name} and {trained.name} are not compared: one of them is files, the other is not"
    if not trained.spec.same_form(source.spec):
        return f"images of {source.name} are {source.shape}, those of {trained.name} {trained.shape}"
    return np.isin(source.digests(np.arange(len(source))), trained.digests(np.arange(len(trained))))


def _files_met(trained: Sequence[Path], files: Sequence[Path]) -> np.ndarray:
    """Which files are among the others, by place or content; only those are read that have the size of one on the other side."""
    places = {os.path.abspath(path) for path in trained}
    met = np.array([os.path.abspath(path) in places for path in files], dtype=bool)
    rest = [files[number] for number in np.flatnonzero(~met).tolist()]
    mine, theirs = ([regular_file(path).st_size for path in paths] for paths in (rest, trained if rest else []))
    both = set(mine) & set(theirs)
    content = set(_digests(trained, [size in both for size in theirs]))
    likely = np.array([size in both for size in mine], dtype=bool)
    alike = np.zeros(len(rest), dtype=bool)
    alike[likely] = [one in content for one in _digests(rest, likely.tolist())]
    met[~met] = alike
    return met


def _digests(paths: Sequence[Path], chosen: Sequence[bool]) -> list[bytes]:
    """Content of the chosen files, remembered by the folder that holds them all."""
    wanted = [path for path, take in zip(paths, chosen, strict=False) if take]
    return content_digests(wanted, Path(os.path.commonpath([path.parent for path in paths]))).tolist() if wanted else []


def _behind(own: Recipe, lineage: Lineage) -> tuple[list[Recipe], list[str]]:
    """The recipes behind a run: its own, and those of runs that it started from or learned from; and what cannot be known."""
    recipes, unknown, done, waiting = [], [], set(), [own]
    while waiting:
        recipe = waiting.pop(0)
        recipes.append(recipe)
        for place, run in lineage.named_by(recipe).items():
            if place in done:
                continue
            done.add(place)
            if run is None:
                unknown.append(f"what {place} was trained on is not known here")
            else:
                waiting.append(run.recipe)
    return recipes, unknown
