"""What models meet: one source rendered for each kind of input, and the same episodes for all of them.

Nothing here depends on the order in which checkpoints are given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.base import Source
from kinshot.recipes.loaded import Loaded
from kinshot.recipes.recipe import Choice
from kinshot.recipes.splits import measured_data
from kinshot.runs.embedder import input_spec
from kinshot.samples.spec import Spec
from kinshot.studies.answers import build_source
from kinshot.studies.tasks import Drawing, Tasks, make_tasks

Fit = Callable[[Source, Drawing], Drawing]
_RENDERING = ("size", "channels")
"""Settings of sources that `build_source` takes from an encoder's input where they are not given."""


@dataclass(frozen=True)
class Field:
    """What one kind of encoder is measured on: a labelled source and the episodes of every task."""

    source: Source
    tasks: Tasks


class Fields:
    """A choice of data, rendered once for every kind of input; the episodes are drawn once, and the same for all.

    Args:
        choice: the data.
        inputs: of all the encoders.
        drawing: the episodes.
        fit: looks at a rendering before episodes are drawn, and returns the drawing to use, or raises.

    Raises:
        DataError: data without labels, whose classes differ between the inputs, or too little of it for the episodes.
        ConfigError: settings.
    """

    def __init__(self, choice: Choice, inputs: Sequence[Spec], drawing: Drawing, fit: Fit = lambda source, drawing: drawing) -> None:
        self.choice = choice
        self._sources = {key: _labelled(choice, spec) for key, spec in distinct_inputs(inputs).items()}
        first, *others = self._sources.values()
        for other in others:
            if not np.array_equal(np.asarray(first.labels), np.asarray(other.labels)) or first.class_names != other.class_names:
                raise DataError(f"{first.name} gives other classes at another input size: measure checkpoints of one input size at a time")
        self.drawing = fit(first, drawing)
        self.tasks = _tasks(list(self._sources.values()), self.drawing)

    def of(self, input: Spec) -> Field:
        """What an encoder of this input meets."""
        return Field(self._sources[input.meets], self.tasks)

    def describe(self) -> dict[str, Any]:
        """What a report says of the data: its name and settings, its renderings where there are several, how much there is."""
        source, *others = self._sources.values()
        shapes = [" x ".join(map(str, found.shape)) for found in (source, *others)]
        rendered = {"rendered for each checkpoint's input": ", ".join(dict.fromkeys(shapes))} if others else {}
        told = {"of the data": "; ".join(self.said())} if self.said() else {}
        return {"name": source.name, **self.choice.settings, **rendered, "classes": len(source.class_names), "images": len(source), **told}

    def said(self) -> list[str]:
        """What there is to say of the data before it is used: modalities that an encoder was made for and that are not there."""
        return list(dict.fromkeys(line for source in self._sources.values() for line in source.said()))


def distinct_inputs(inputs: Sequence[Spec]) -> dict[tuple[Any, ...], Spec]:
    """One of the inputs for every kind of rendering, by what they meet, the smallest samples first."""
    found = {spec.meets: spec for spec in inputs}
    return {key: found[key] for key in sorted(found)}


def shared_data(runs: Sequence[Loaded]) -> Choice:
    """The `measured_data` of what all the runs were trained on; what each was rendered like follows from its input.

    Raises ConfigError where they were trained on different data, so that no choice would be theirs.
    """
    several = len({input_spec(run.checkpoint).meets for run in runs}) > 1
    first, *others = [_unrendered(measured_data(run.recipe.data)) if several else measured_data(run.recipe.data) for run in runs]
    for run, other in zip(runs[1:], others, strict=True):
        if not _same(first, other, moved=_content(run) is not None and _content(run) == _content(runs[0])):
            raise ConfigError(
                f"{runs[0].checkpoint.path} was trained on {_said(first)}, {run.checkpoint.path} on {_said(other)}: "
                "say with --data which data to measure both on"
            )
    return first


def _unrendered(choice: Choice) -> Choice:
    return Choice(choice.name, {key: value for key, value in choice.settings.items() if key not in _RENDERING})


def _content(run: Loaded) -> Any:
    """Fingerprint of the training data."""
    return run.checkpoint.state.get("source")


def _same(a: Choice, b: Choice, *, moved: bool) -> bool:
    """Whether two choices are of the same data; `moved` says that the place does not matter, because the content is known to agree."""
    ignored = {"root"} if moved else set()
    left, right = ({key: value for key, value in choice.settings.items() if key not in ignored} for choice in (a, b))
    return a.name == b.name and left == right


def _said(choice: Choice) -> str:
    return " ".join([choice.name, *(f"{key}={value}" for key, value in choice.settings.items())])


def _labelled(choice: Choice, input: Spec) -> Source:
    source = build_source(choice, input)
    if source.labels is None:
        raise DataError(f"{source.name} has no labels, and episodes need classes: give --data with one folder per class")
    return source


def _tasks(sources: Sequence[Source], drawing: Drawing) -> Tasks:
    """The episodes, drawn or read for the first source that they fit: a file of episodes remembers one rendering alone."""
    problem: DataError | None = None
    for source in sources:
        try:
            return make_tasks(source, drawing)
        except DataError as error:
            if not drawing.list:
                raise
            problem = problem or error
    raise problem or DataError("no data to draw episodes from")
