"""Heads named in one word of text: `prototype:distance=euclidean:transform=cl2n`. Imports no torch."""

from __future__ import annotations

from itertools import product
from typing import Any

from kinshot.core.errors import ConfigError
from kinshot.core.part_text import example_of, read_settings, split_text
from kinshot.fewshot import HEADS

_EXAMPLE = "prototype,nearest:neighbors=3"
GRIDS: dict[str, dict[str, tuple[str, ...]]] = {
    "prototype": {"distance": ("cosine", "euclidean")},
    "logistic": {"C": ("0.1", "1", "10")},
    "svm": {"C": ("0.1", "1", "10")},
    "ridge": {"penalty": ("0.1", "1", "10")},
    "baseline_pp": {"lr": ("0.01", "0.1")},
}
"""Settings that are tried where a head's are chosen on validation episodes and none was given; other heads have their defaults alone."""


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


def alternatives(text: str) -> list[str]:
    """Every head that a text with alternatives stands for: `logistic:C=0.1|1` gives `logistic:C=0.1` and `logistic:C=1`.

    A head's name alone gives those of `GRIDS`. Raises ConfigError as `parse_head` does.
    """
    name, *assignments = split_text(text, ":", "heads", _EXAMPLE)
    pairs = [one.partition("=") for one in assignments] or [(key, "=", "|".join(values)) for key, values in GRIDS.get(name, {}).items()]
    choices = [
        [f"{key}{equals}{value}" for value in split_text(values, r"\|", "heads", "logistic:C=0.1|1|10")] for key, equals, values in pairs
    ]
    found = [":".join([name, *chosen]) for chosen in product(*choices)]
    for one in found:
        parse_head(one)
    return found
