"""A registered part named in one word of text, `name:setting=value:setting=value`, as command lines and lists in recipes give it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kinshot.core.config import parse_value
from kinshot.core.errors import ConfigError
from kinshot.core.schema import Parameter, shown


def split_text(text: str, separator: str, what: str, example: str) -> list[str]:
    """Stripped pieces between separators that stand outside square brackets and quotes ('), where these come in pairs.

    Raises ConfigError for an empty piece.

    Args:
        text: what was given.
        separator: one character.
        what: what the text names, for the message.
        example: a text of the right form, for the message.
    """
    unquoted = "" if text.count("'") % 2 else r"(?=(?:[^']*'[^']*')*[^']*$)"  # followed by whole pairs of quotes
    pieces = [piece.strip() for piece in re.split(rf"{separator}(?![^\[\]]*\]){unquoted}", text)]
    if not all(pieces):
        raise ConfigError(f"{what} {text!r}: a name or setting is missing around {separator!r}: write for example {example}")
    return pieces


def read_settings(text: str, assignments: list[str], what: str, example: str) -> dict[str, Any]:
    """`setting=value` texts as a dict, values read as YAML: `C=10`, `C=1e-1`, `flag=true`, `values=[1, 2]`. Raises ConfigError."""
    settings: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigError(f"{what} {text!r}: {assignment!r} is not setting=value: write for example {example}")
        if key in settings:
            raise ConfigError(f"{what} {text!r}: {key} is given twice: keep one")
        try:
            settings[key] = parse_value(value)
        except ValueError as error:
            raise ConfigError(
                f"{what} {shown(text)}: {key} has the value {shown(value)}, not valid YAML: write a number, a word or [a, b]"
            ) from error
    return settings


def example_of(name: str, parameters: Mapping[str, Parameter]) -> str:
    """`name:setting=default` with a part's first setting, or the name alone."""
    setting = next(iter(parameters), None)
    return f"{name}:{setting}={parameters[setting].default}" if setting else name


def part_text(name: str, settings: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> str:
    """The text that names a part with its settings, those with their defaults left out: what `split_text` and `read_settings` read."""
    given = {key: value for key, value in settings.items() if key not in parameters or value != parameters[key].default}
    return ":".join([name, *(f"{key}={_word(value)}" for key, value in given.items())])


def _word(value: Any) -> str:
    """A value as YAML on one line, quoted where it would be split."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_word, value))}]"
    if isinstance(value, str):
        doubled = value.replace("'", "''")
        return f"'{doubled}'"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
