"""Heads named in one word of text: `prototype:distance=euclidean:transform=cl2n`. Imports no torch."""

from __future__ import annotations

from typing import Any

from kinshot.core.errors import ConfigError
from kinshot.core.part_text import example_of, read_settings, split_text
from kinshot.fewshot import HEADS

_EXAMPLE = "prototype,nearest:neighbors=3"


def parse_head(text: str) -> tuple[str, dict[str, Any]]:
    """A head's name and all its settings, defaults included, from `name` or `name:setting=value:setting=value`.

    Values are read as YAML, so `C=10`, `C=1e-1`, `flag=true` and `values=[1, 2]` have the type they look like.

    Raises:
        ConfigError: unknown head or setting (with the closest valid name), a bad value, or text of another form.
    """
    name, *assignments = split_text(text, ":", "heads", _EXAMPLE)
    settings = read_settings(text, assignments, "head", example_of(name, HEADS.entry(name).parameters))
    checked, problems = HEADS.check(name, settings)
    if problems:
        raise ConfigError("; ".join(problems))
    return name, checked


def parse_heads(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Every head of a comma-separated list, as `parse_head` reads it. Commas inside [...] belong to a value."""
    return [parse_head(part) for part in split_heads(text)]


def split_heads(text: str) -> list[str]:
    """The comma-separated head texts, stripped, for labels in a report."""
    return split_text(text, ",", "heads", _EXAMPLE)
