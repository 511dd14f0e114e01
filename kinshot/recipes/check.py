"""`ssl validate`: everything that is wrong with a recipe, in one go: names and values, settings that do not fit each other, paths."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kinshot.core.errors import ConfigError, suggest
from kinshot.datasets import SOURCES
from kinshot.datasets.views import VIEWS
from kinshot.encoders import ENCODERS
from kinshot.fewshot import HEADS
from kinshot.learn import METHODS
from kinshot.recipes.backbones import LIBRARIES, is_backbone, pretrained_encoders
from kinshot.recipes.recipe import (
    MASK,
    Choice,
    Recipe,
    ValidationConfig,
    measured_features,
    parse,
    problem_error,
    read_values,
    recipe_data,
    recipe_names,
    recipe_path,
)
from kinshot.recipes.specs import check_features
from kinshot.recipes.validation_head import try_validation_head
from kinshot.segmentation import SEGMENTERS

_WIDTH = 8
"""Stands for the width of a feature."""
_SAMPLES, _STEPS = 20_000, 100
"""Stand for the number of samples and of steps where only the data could say; what depends on them is checked when a run starts."""


def checked_recipe(name: str, overrides: tuple[str, ...]) -> Recipe:
    """The recipe of `load_recipe`, checked for what else would stop a run. Raises ConfigError with every problem at once."""
    data, stem = recipe_data(name, overrides), recipe_path(name).stem
    values, problems = read_values(data, stem)
    shipped = parse(recipe_data(name), stem) if name in recipe_names() else None
    problems += _validation(data, values)
    problems += values["projector"].conflicts()
    problems += _kinds(values)
    problems += _paths(values, shipped)
    problems += _parts(values)
    if problems:
        raise problem_error(stem, list(dict.fromkeys(problems)))
    return Recipe(**values)


def _validation(data: dict[str, Any], values: dict[str, Any]) -> Iterator[str]:
    v, source = values["validation"], values["data"]
    given = data.get("validation")
    if not v.split:
        idle = [key for key in given if key != "split"] if isinstance(given, dict) else []
        if idle:
            named = ", ".join(f"validation.{key}" for key in idle)
            yield f"{named}: without validation.split there is no validation; set validation.split=val, or leave it out"
        return
    method = values["method"].name
    dense = bool(method) and MASK in METHODS.entry(method).flags.get("fields", ())
    known_heads = [*(SEGMENTERS.entries if dense else ()), *HEADS.entries]
    if v.head not in known_heads:
        yield f"validation.head: unknown head {v.head!r}: {suggest(v.head, known_heads)}"
    elif not dense:
        yield from _head_problem(v, values["method"])
    yield from _refused(
        lambda: check_features([v.feature], measured_features(values["projector"], values["balance"]), "validation.feature")
    )
    known = SOURCES.entry(source.name).parameters.get("split") if source.name else None
    if source.name and known is None:
        yield f"validation.split is {v.split!r}, but {source.name} has no splits: leave validation out, or use data that has them"
    elif known is not None and source.settings.get("split") == v.split:
        yield f"validation.split and data.split are both {v.split!r}: a checkpoint is chosen on classes that it never saw"
    elif known is not None and "Literal" in known.annotation and f"'{v.split}'" not in known.annotation:
        yield f"validation.split: expected one of {known.annotation.removeprefix('Literal')}, got {v.split!r}"
    if source.settings.get("labels") == "none":
        yield "validation.split: episodes need classes, and data.labels is none: leave validation out"


def _head_problem(v: ValidationConfig, method: Choice) -> Iterator[str]:
    """Why a head cannot validate, whatever the data: it takes samples, or lacks what this method does not train."""
    from kinshot.fewshot.evaluate import takes

    if takes(v.head, "encoder"):
        yield f"validation.head: {v.head} adapts the encoder itself, and validation measures its features: choose another, or anil"
    elif method.name and getattr(METHODS.get(method.name), "trains_head", "") != v.head:
        yield from _refused(lambda: try_validation_head(v, _WIDTH, None))


def _kinds(values: dict[str, Any]) -> Iterator[str]:
    """Parts that do not take the samples that the source gives, and a method without the labels that it learns from."""
    from kinshot.samples.spec import accepted_kinds

    source, method = values["data"], values["method"]
    kinds = _kinds_of(source)
    for section, registry in (("views", VIEWS), ("encoder", ENCODERS), ("method", METHODS)):
        part = values[section]
        if kinds and part.name and not set(kinds) & set(accepted := accepted_kinds(registry.get(part.name))):
            yield f"{section}: {part.name} takes {' or '.join(accepted)}, and {source.name} gives {' or '.join(kinds)}: choose another"
    supervised = bool(method.name) and METHODS.entry(method.name).flags.get("supervised", False)
    if supervised and source.settings.get("labels") == "none":
        yield f"data.labels: method {method.name} learns from class labels, got none: set data.labels=folders"


def _kinds_of(source: Choice) -> tuple[str, ...]:
    """Kinds of samples, one of which the source gives; none where nothing is known of it."""
    if source.name == "table" and source.settings.get("text"):
        return ("tokens",)
    if not source.name:
        return ()
    entry = SOURCES.entry(source.name)
    kind = str(entry.facts.get("kind", "image" if entry.module.startswith("kinshot.") else ""))
    # which it is of sensors, one or several, is known once their files are read
    return ("series", "bundle") if kind == "series" else (kind,) if kind else ()


def _paths(values: dict[str, Any], shipped: Recipe | None) -> Iterator[str]:
    """Files and folders that are not there. The folder that a shipped recipe only stands in for is not asked for."""
    for section in ("data", "graph"):
        part = values.get(section)
        before = getattr(shipped, section, None)
        for key in ("root", "file"):
            path = part.settings.get(key) if part else None
            if path and (before is None or before.settings.get(key) != path) and not _exists(path):
                yield f"{section}.{key}: there is no {path}: give an existing file or folder"
    for key, places in (("init", [values["init"]]), ("distill.teachers", values["distill"].teachers)):
        for path in map(_path_of, places):
            if path and not _exists(path):
                known = ", ".join(pretrained_encoders())
                yield f"{key}: there is no {path}: give a run, a checkpoint, a file of weights or a backbone ({known})"


def _path_of(place: str) -> str:
    """The file or folder that a checkpoint or a backbone stands in; empty for one that brings its weights, or has random ones."""
    if not is_backbone(place):
        return place
    library, _, rest = place.partition(":")
    return "" if place in pretrained_encoders() else rest.partition(":")[2] if library in LIBRARIES else rest or place


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # a name that no file can have
        return False


def _parts(values: dict[str, Any]) -> Iterator[str]:
    """What views, encoder and method say when they are made, for images of the recipe's size."""
    from kinshot.core.context import RunContext
    from kinshot.encoders.build import build_encoder
    from kinshot.samples.pixels import PixelSpec

    source, views, encoder, method = (values[name] for name in ("data", "views", "encoder", "method"))
    if _kinds_of(source) != ("image",):
        return
    size, channels = source.settings.get("size", 0), source.settings.get("channels", 3)
    input = PixelSpec.square(channels, size or 32, (0.5,) * channels, (0.25,) * channels)
    shown: list[Any] = []
    if views.name and size:
        yield from _refused(lambda: shown.append(VIEWS.build(views.name, input, settings=views.settings)))
    if not encoder.name:
        return
    made: list[Any] = []
    with _shapes_alone():
        yield from _refused(lambda: made.append(build_encoder(encoder.name, encoder.settings, input)))
    if not made or not method.name:
        return
    if shown:
        yield from _refused(lambda: check_small_views(made[0], shown[0], size))
    batch, settings = values["train"].batch_size or 32, method.settings
    samples = max(_SAMPLES, batch, *(20 * settings.get(key, 0) for key in ("clusters", "pool")))
    context = RunContext(samples, batch, _STEPS, _STEPS, 0)
    flags = METHODS.entry(method.name).flags
    if not flags.get("supervised") and not flags.get("fields"):  # the others ask for classes, which only the data has
        yield from _refused(lambda: _check_method(method, made[0], context, views))


@contextmanager
def _shapes_alone() -> Iterator[None]:
    """Inside, networks have shapes and no numbers: a width with a zero too many costs no memory before anyone can object to it."""
    import torch

    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*copying from a non-meta parameter", category=UserWarning)  # of pretrained weights
        yield


def _check_method(method: Choice, encoder: Any, context: Any, views: Choice) -> None:
    from kinshot.encoders.projector import mlp_projector
    from kinshot.learn.model import Model
    from kinshot.recipes.fit import with_views

    with _shapes_alone():
        model = Model(encoder, mlp_projector(encoder.dim, 8, 8, 2, last_norm=False))
    made = METHODS.build(method.name, model, context, settings=with_views(method.settings, views))
    check_view_count(made.view_count, method.name, views)


def check_view_count(wanted: int, method: str, views: Choice) -> None:
    """Raise ConfigError where views make another number of views than the method takes."""
    given = views.settings.get("views", wanted)
    if given != wanted:
        raise ConfigError(f"views.views is {given}, but {method} takes {wanted} views of a sample: set it to that")


def check_small_views(encoder: Any, views: Any, size: int) -> None:
    """Raise ConfigError where the encoder gives other features for views that are smaller than the images of this size."""
    import torch

    smaller = getattr(views, "smaller", None)
    if smaller is None:
        return
    small = smaller.side
    training = encoder.training
    try:
        with torch.no_grad():
            parameter = next(encoder.parameters())
            width = encoder.eval()(torch.zeros(1, encoder.input.channels, small, small, device=parameter.device)).shape[1]
        if width == encoder.dim:
            return
        reason = f"gives {width} features of {small} pixels and {encoder.dim} of {size}"
    except (ConfigError, RuntimeError, ValueError):
        reason = f"does not take {small} pixels when it is made for {size}"
    finally:
        encoder.train(training)
    raise ConfigError(f"{smaller.given} does not fit images of {size} pixels: the encoder {reason}; {smaller.advice}")


def _refused(make: Callable[[], Any]) -> Iterator[str]:
    try:
        make()
    except ConfigError as error:
        yield str(error)
