"""Heads named in one word of text: `prototype:distance=euclidean:transform=cl2n`. Imports no torch."""

from __future__ import annotations

import re
from typing import Any

import yaml

from kinshot.core.errors import ConfigError
from kinshot.fewshot import HEADS


def parse_head(text: str) -> tuple[str, dict[str, Any]]:
    """A head's name and all its settings, defaults included, from `name` or `name:setting=value:setting=value`.

    Values are read as YAML, so `C=10`, `C=1e-1`, `flag=true` and `values=[1, 2]` have the type they look like.

    Raises:
        ConfigError: unknown head or setting (with the closest valid name), a bad value, or text of another form.
    """
    name, *assignments = _split(text, ":")
    parameters = HEADS.entry(name).parameters
    settings: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigError(f"head {text!r}: {assignment!r} is not setting=value: write for example {_example(name, parameters)}")
        if key in settings:
            raise ConfigError(f"head {text!r}: {key} is given twice: keep one")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"head {text!r}: {key} has the value {value!r}, not valid YAML: write a number, a word or [a, b]") from error
    checked, problems = HEADS.check(name, settings)
    if problems:
        raise ConfigError("; ".join(problems))
    return name, checked


def parse_heads(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Every head of a comma-separated list, as `parse_head` reads it. Commas inside [...] belong to a value."""
    return [parse_head(part) for part in split_heads(text)]


def split_heads(text: str) -> list[str]:
    """The comma-separated head texts, stripped, for labels in a report."""
    return _split(text, ",")


def _split(text: str, separator: str) -> list[str]:
    """Split at separators outside square brackets; no piece may be empty."""
    pieces = [piece.strip() for piece in re.split(rf"{separator}(?![^\[\]]*\])", text)]
    if not all(pieces):
        example = "prototype,nearest:neighbors=3"
        raise ConfigError(f"heads {text!r}: a name or setting is missing around {separator!r}: write for example {example}")
    return pieces


def _example(name: str, parameters: dict[str, Any]) -> str:
    setting = next(iter(parameters), None)
    return f"{name}:{setting}={parameters[setting].default}" if setting else name
