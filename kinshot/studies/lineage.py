"""What stands behind runs: the runs that they start from or learn from, and recipes in files; each is read and parsed once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kinshot.core.errors import KinshotError
from kinshot.recipes.backbones import is_backbone
from kinshot.recipes.loaded import Loaded, read
from kinshot.recipes.recipe import Recipe, parse, recipe_data, recipe_path


class Lineage:
    """Finds runs and recipes by their places. What cannot be read is None: what is written down of a run is never a reason to fail.

    Args:
        runs: runs that were read already, by their paths.
    """

    def __init__(self, runs: Iterable[tuple[Path, Loaded]] = ()) -> None:
        self._runs: dict[Path, Loaded] = {}
        self._recipes: dict[str, Recipe] = {}
        for path, run in runs:
            self._keep(path.resolve(), run)

    def named_by(self, recipe: Recipe) -> dict[str, Loaded | None]:
        """The runs that a recipe starts from and learns from, by what it calls them."""
        return {place: self._run(place) for place in (recipe.init, *recipe.teachers) if place}

    def recipe(self, name: str, overrides: Iterable[str] = ()) -> Recipe | None:
        """A shipped recipe or that of a file, with overrides."""
        try:
            data, stem = recipe_data(name, tuple(overrides)), recipe_path(name).stem
            content = _content(data, stem)
            if content not in self._recipes:
                self._recipes[content] = parse(data, stem)
            return self._recipes[content]
        except (KinshotError, OSError):
            return None

    def _run(self, place: str) -> Loaded | None:
        if is_backbone(place):
            return None
        try:
            key = Path(place).resolve()
            if key not in self._runs:
                self._keep(key, read(Path(place), parts=()))
            return self._runs[key]
        except (KinshotError, OSError):
            return None

    def _keep(self, place: Path, run: Loaded) -> None:
        self._runs[place] = run
        self._recipes[_content(run.checkpoint.config, "")] = run.recipe


def _content(data: dict[str, Any], name: str) -> str:
    return json.dumps({"name": name, **data}, sort_keys=True, default=str)
