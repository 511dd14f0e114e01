"""The splits of a run's own data: which samples a command takes that was told no others. One rule for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kinshot.core.errors import KinshotError
from kinshot.datasets import SOURCES
from kinshot.datasets.class_lists import class_part, names_a_list, other_part
from kinshot.recipes.backbones import known_data
from kinshot.recipes.recipe import Choice, Recipe


def measured_data(data: Choice) -> Choice:
    """What a run is measured on unless told otherwise: split test of its own data; the data itself where nothing divides it.

    A folder that should lie beside the one that was trained on and does not is no reason to measure the latter: building it says so.
    """
    return own_split(data, "test") or data


def own_split(data: Choice, split: str) -> Choice | None:
    """The same data with another split; None where nothing divides the data, it has no such split, or is it already.

    A folder is divided where a subfolder or a part of a list of classes was named. What `part` divides are the samples of every class:
    classes of another split are others, so that all their samples will do.
    """
    known, own = SOURCES.entry(known_data(data).name).parameters.get("split"), str(data.settings.get("split") or "")
    if known is None:
        return None
    named = "Literal" in known.annotation
    wanted = other_part(own, split)
    if wanted == own or (f"'{wanted}'" not in known.annotation if named else not own):
        return None
    return Choice(data.name, {**{key: value for key, value in data.settings.items() if key != "part"}, "split": wanted})


def present_split(data: Choice, split: str) -> Choice | None:
    """The same where it can be found: None also for a subfolder that is not there and a part that the list of classes does not have."""
    found = own_split(data, split)
    return found if found is not None and _is_there(found) else None


def validation_data(recipe: Recipe) -> Choice:
    """The data on whose classes the checkpoint of a run is chosen: that of the recipe with `validation.split`."""
    data = recipe.data
    return Choice(data.name, {**data.settings, "split": other_part(str(data.settings.get("split")), recipe.validation.split)})


def _is_there(data: Choice) -> bool:
    settings: dict[str, Any] = data.settings
    if "Literal" in SOURCES.entry(data.name).parameters["split"].annotation or "root" not in settings:
        return True
    try:
        if (Path(settings["root"]).expanduser() / settings["split"]).is_dir():
            return True
        return names_a_list(settings["split"]) and bool(class_part(settings["split"]).classes)
    except (KinshotError, OSError):
        return False
