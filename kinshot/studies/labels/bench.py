"""The runs under study with their references, and the data that each of them meets."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kinshot.learn.model import BACKBONE, Model
from kinshot.runs.sweep_folder import runs_of
from kinshot.studies.fields import distinct_inputs
from kinshot.studies.labels.parts import Choices, Parts, check_alike, parts_of
from kinshot.studies.references import references
from kinshot.studies.seed_groups import SeedGroup, seed_groups
from kinshot.studies.study import Trained, check_run_features, load_runs, same_data

Say = Callable[[str], None]
SUPERVISED = "supervised from scratch"


@dataclass(frozen=True)
class Subject:
    """One row to be: models that differ by their seed alone, or none for the samples' own statistics.

    Args:
        label: what the row is called.
        models: name, seed of training, and model of each.
        run: whose encoder or input it is.
        of: labels of the rows of runs that it is a reference of; empty for runs.
        fixed: whether nothing of it is trained.
    """

    label: str
    models: tuple[tuple[str, int | None, Model | None], ...]
    run: Trained
    of: tuple[str, ...] = ()
    fixed: bool = False


@dataclass(frozen=True)
class Bench:
    """What is studied.

    Args:
        runs: as they were given.
        groups: those that differ by their seed alone, by the label of their row.
        parts: data by what an encoder meets.
        feature: which of a model's features is studied.
    """

    runs: Sequence[Trained]
    groups: Mapping[str, SeedGroup]
    parts: Mapping[tuple[Any, ...], Parts]
    feature: str = BACKBONE

    def of(self, run: Trained) -> Parts:
        """What a run's encoder meets."""
        return self.parts[run.input.meets]

    @property
    def any(self) -> Parts:
        """The data as one of the inputs has it."""
        return next(iter(self.parts.values()))

    def subjects(self) -> list[Subject]:
        """The runs."""
        return [
            Subject(label, tuple((_called(run, label, group), run.recipe.seed, run.model) for run in group.runs), group.runs[0])
            for label, group in self.groups.items()
        ]

    def untrained(self) -> list[Subject]:
        """For every architecture its encoders before training, one for each seed that was trained with."""
        found: list[Subject] = []
        for labels in self._alike(self._architecture):
            seeds = {run.recipe.seed: run for label in reversed(labels) for run in self.groups[label].runs}
            known = [(run, [one for one in references([run]) if one.model is not None]) for _, run in sorted(seeds.items())]
            before = [(run, several[0]) for run, several in known if several]  # random weights, where there are others of `init` too
            if before:
                name = self._named(before[0][1].label, labels, self._architecture)
                several = len(before) > 1
                models = tuple((f"{name}, seed {run.recipe.seed}" if several else name, run.recipe.seed, one.model) for run, one in before)
                found.append(Subject(name, models, before[0][0], labels))
        return found

    def statistics(self) -> list[Subject]:
        """For every kind of input what is computed of its samples by hand (`Spec.raw`)."""
        return [replace(self._single(reference_name, labels, _meets), fixed=True) for labels in self._alike(_meets)]

    def scratch(self) -> list[Subject]:
        """For every architecture that can be trained here a network that is yet to be trained."""
        found = [self._single(_supervised, labels, self._architecture) for labels in self._alike(self._architecture)]
        return [subject for subject in found if not subject.run.checkpoint.origin]

    def _single(self, named: Callable[[Trained], str], labels: tuple[str, ...], key: Callable[[Trained], Hashable]) -> Subject:
        run = self.groups[labels[0]].runs[0]
        name = self._named(named(run), labels, key)
        return Subject(name, ((name, None, None),), run, labels)

    def _architecture(self, run: Trained) -> Hashable:
        settings = run.recipe.to_dict()
        projector = None if self.feature == BACKBONE else settings["projector"]
        return json.dumps([settings["encoder"], projector, run.input.meets], sort_keys=True, default=str)

    def _alike(self, key: Callable[[Trained], Hashable]) -> list[tuple[str, ...]]:
        """Labels of the groups that share a value of a key, for every value."""
        found: dict[Hashable, list[str]] = {}
        for label, group in self.groups.items():
            found.setdefault(key(group.runs[0]), []).append(label)
        return [tuple(labels) for labels in found.values()]

    def _named(self, name: str, labels: tuple[str, ...], key: Callable[[Trained], Hashable]) -> str:
        return f"{name} ({labels[0]})" if len(self._alike(key)) > 1 else name


def bench_of(paths: Sequence[Path], names: Sequence[str], choices: Choices, feature: str, say: Say) -> Bench:
    """The runs and their data.

    Args:
        paths: run folders, sweeps' folders or checkpoints.
        names: what each is called, empty for its path.
        choices: which data; those that are left out are the runs' own, which must be the same.
        feature: which of a model's features is studied.
        say: where messages go.

    Raises CheckpointError for a bad checkpoint, DataError and ConfigError for data and settings that do not fit.
    """
    placed = [(name, path) for name, given in zip(names, paths, strict=True) for path in runs_of([given])]
    runs = load_runs([path for _, path in placed])
    for note in dict.fromkeys(note for run in runs for note in run.checkpoint.notes):
        say(note)
    check_run_features([feature], runs)
    if choices.data is None:
        same_data(runs)
    called = [name or ("pretrained" if len(runs) == 1 else "") for name, _ in placed]
    groups = {_title(group): group for group in seed_groups(runs, called)}
    parts = {key: parts_of(choices, runs[0], spec) for key, spec in distinct_inputs([run.input for run in runs]).items()}
    check_alike(list(parts.values()))
    first = next(iter(parts.values()))
    if first.shared_people:
        say(f"warning: {first.train.name} and {first.test.name} have people in common ({', '.join(first.shared_people)})")
    if first.repeated:
        say(f"warning: {first.repeated} of {len(first.rows)} samples of {first.test.name} are among those of {first.train.name}")
    for line in dict.fromkeys(line for source in (first.train, first.test) for line in source.said()):
        say(line)
    return Bench(runs, groups, parts, feature)


def reference_name(run: Trained) -> str:
    """What the statistics of samples are called that the run's encoder must beat."""
    return run.input.raw_label


def _called(run: Trained, label: str, group: SeedGroup) -> str:
    return label if len(group.runs) == 1 else run.label


def _supervised(run: Trained) -> str:
    return SUPERVISED


def _title(group: SeedGroup) -> str:
    return group.label if len(group.runs) == 1 else f"{group.label} (mean of {len(group.runs)})"


def _meets(run: Trained) -> Hashable:
    return run.input.meets
