"""What a model says of a stream of sensors, as it comes: embeddings, or classes by its own rows or by labelled samples: `ssl stream`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError, KinshotError
from kinshot.datasets.stream_lines import BadLine, Reader
from kinshot.datasets.stream_windows import Began, LineWindows, Short, StreamWindows, Window
from kinshot.fewshot.heads.prototype import prototype
from kinshot.learn.model import LOGITS, Model
from kinshot.recipes.loaded import Loaded
from kinshot.recipes.recipe import Choice
from kinshot.studies.answers import build_source, features_of
from kinshot.studies.stream_features import Features

Say = Callable[[str], None]
Answer = Callable[[Tensor | None], dict[str, Any]]
"""What is said of a backbone feature (1, dim), and where nothing was measured."""


def embedding(model: Model, feature: str, whose: str) -> Answer:
    """The feature `backbone`, `projector` or an output of the projector, as numbers. Raises ConfigError for one that there is not."""
    model.check((feature,), whose)
    if feature not in model.vectors() or feature == LOGITS:
        raise ConfigError(f"--feature: {feature} is no feature of a window: use one of {', '.join(set(model.vectors()) - {LOGITS})}")

    def answer(z: Tensor | None) -> dict[str, Any]:
        return {"embedding": None if z is None else _numbers(model.of_features(z, (feature,))[feature])}

    return answer


def own_classes(model: Model, run: Loaded, whose: str, say: Say) -> Answer:
    """The class that a classifier, learned in training, finds most probable, and the probability of each.

    Names are those of the training data; where that cannot be read, classes go by their number, which is said. Raises ConfigError for a
    model without a classifier.
    """
    if model.rows is None:
        raise ConfigError(f"{whose} learned no classes: name labelled samples, --support NAME[:ROOT], or train with method=classifier")
    count = int(next(iter(model.rows.parameters())).shape[0])
    names = [str(number) for number in range(count)]
    try:
        names = list(build_source(run.recipe.data, model.input).class_names)
    except KinshotError as error:
        say(f"classes go by their numbers, as the training data cannot be read: {error}")
    if len(names) != count:
        raise DataError(f"{whose} learned {count} classes, and its training data has {len(names)} now: name labelled samples, --support")

    def answer(z: Tensor | None) -> dict[str, Any]:
        return _choice(names, None if z is None else model.of_features(z, (LOGITS,))[LOGITS].softmax(dim=1))

    return answer


def by_support(model: Model, support: Choice, feature: str, whose: str, device: torch.device) -> Answer:
    """The class whose mean feature in labelled samples is nearest, by the head `prototype`, and the cosine to each.

    Raises:
        ConfigError: no such feature.
        DataError: samples without labels, or that the encoder was not made for.
    """
    embedding(model, feature, whose)
    source = build_source(support, model.input)
    if source.labels is None:
        raise DataError(f"--support: {source.name} has no labels: name a source that says the class of its samples")
    rows = features_of(model, source, device)[feature][None]
    labels, names = torch.from_numpy(np.asarray(source.labels, dtype=np.int64))[None], list(source.class_names)

    def answer(z: Tensor | None) -> dict[str, Any]:
        if z is None:
            return _choice(names, None)
        query = model.of_features(z, (feature,))[feature].float().cpu()
        return _choice(names, prototype(rows, labels, query[None], len(names))[0])

    answer(torch.zeros(1, model.dim, device=device))  # classes without a sample are told before anything is read
    return answer


def records(reader: Reader, windows: StreamWindows | LineWindows, features: Features, answer: Answer, say: Say) -> Iterator[dict[str, Any]]:
    """What is to be said of the lines of a stream, in order, each thing as soon as it is known.

    Raises:
        DataError: by number of the line, as `Reader` and `StreamWindows` do.
    """
    for line in reader:
        try:
            for one in windows.add(line):
                yield from _record(one, features, answer, say)
        except BadLine as error:  # which is raised before anything of a line is taken
            reader.refuse(error)
    for one in windows.close():
        yield from _record(one, features, answer, say)


@torch.no_grad()
def _record(one: Window | Began | Short, features: Features, answer: Answer, say: Say) -> Iterator[dict[str, Any]]:
    where = {} if one.recording is None else {"recording": one.recording}
    start = round(one.start, 6)
    if isinstance(one, Began):
        features.begin()
        yield {"event": "new stream", **where, "start": start, "why": one.why}
    elif isinstance(one, Short):
        name = "the stream" if one.recording is None else f"recording {one.recording}"
        say(f"{name} of {one.end - one.start:.6g} s from {start} s is shorter than a window: nothing is said of it, unless by --pad")
    else:
        z, shares = features(one)
        if z is not None and not bool(z.isfinite().all()):
            raise DataError(
                f"the feature of the window from {start} s is not finite: its values are too large, or the checkpoint is no good"
            )
        line = {} if one.line is None else {"line": one.line}
        measured = {name: round(part, 4) for name, part in shares.items()}
        yield {**line, **where, "start": start, "end": round(one.end, 6), "measured": measured, **answer(z)}


def _choice(names: list[str], scores: Tensor | None) -> dict[str, Any]:
    """The best of some classes, by scores (1, C); None where nothing was measured."""
    if scores is None:
        return {"label": None, "scores": None}
    return {"label": names[int(scores.argmax())], "scores": dict(zip(names, _numbers(scores), strict=True))}


def _numbers(row: Tensor) -> list[float]:
    """(1, D) in the digits that float32 has."""
    return [float(f"{value:.9g}") for value in row[0].float().tolist()]
