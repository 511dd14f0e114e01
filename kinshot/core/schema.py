"""Settings declared by a signature: keyword-only parameters with literal defaults are what a recipe may set.

The types understood are `int`, `float`, `bool`, `str`, `Literal[...]`, `tuple[T, ...]`, `tuple[T, T]` and `T | None`;
a keyword-only parameter of any other type is wired by code and invisible to recipes.
"""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass
from typing import Any

from kinshot.core.errors import ConfigError, suggest

REQUIRED = object()


@dataclass(frozen=True)
class Parameter:
    """One setting: its annotation as source text, its default (`REQUIRED` when there is none), its documentation."""

    name: str
    annotation: str
    default: Any
    help: str = ""


def read_parameters(node: ast.ClassDef | ast.FunctionDef, docstring: str) -> dict[str, Parameter]:
    """The settings of a class (its `__init__`) or function, from its syntax tree."""
    if isinstance(node, ast.ClassDef):
        inits = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        if not inits:
            return {}
        function = inits[0]
    else:
        function = node
    helps = argument_help(docstring)
    found = {}
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        annotation = ast.unparse(argument.annotation) if argument.annotation else ""
        if not _is_setting(annotation):
            continue
        value = REQUIRED if default is None else _literal(default, f"{node.name}: setting {argument.arg}")
        found[argument.arg] = Parameter(argument.arg, annotation, value, helps.get(argument.arg, ""))
    return found


def _literal(default: ast.expr, where: str) -> Any:
    try:
        return ast.literal_eval(default)
    except ValueError as error:
        raise ConfigError(f"{where} has the default {ast.unparse(default)}: write it as a literal") from error


def check_parameters(settings: dict[str, Any], parameters: dict[str, Parameter], where: str) -> tuple[dict[str, Any], list[str]]:
    """Complete `settings` with defaults and convert them; returns (settings, problems), never raises."""
    checked: dict[str, Any] = {}
    problems = [f"{where}: unknown key {key!r}: {suggest(key, parameters)}" for key in settings if key not in parameters]
    for name, parameter in parameters.items():
        if name not in settings:
            if parameter.default is REQUIRED:
                problems.append(f"{where}: {name} is required ({parameter.annotation}): {parameter.help or 'give it a value'}")
            else:
                checked[name] = parameter.default
            continue
        try:
            checked[name] = convert(settings[name], parameter.annotation)
        except ValueError as error:
            problems.append(f"{where}: {name}: {error}")
    return checked, problems


def convert(value: Any, annotation: str) -> Any:
    """`value` as the annotated type. Raises ValueError saying what was expected and what was got."""
    annotation = annotation.strip()
    options = _split(annotation, "|")
    if len(options) > 1:
        if value is None and "None" in options:
            return None
        rest = [o for o in options if o != "None"]
        for option in rest[:-1]:
            try:
                return convert(value, option)
            except ValueError:
                continue
        return convert(value, rest[-1])
    if annotation.startswith("Literal["):
        choices = ast.literal_eval("(" + annotation[8:-1] + ",)")
        if not any(type(c) is type(value) and c == value for c in choices):  # True == 1, yet neither is meant by the other
            raise ValueError(
                f"expected one of {', '.join(map(str, choices))}, got {shown(value)}; {suggest(str(value), map(str, choices))}"
            )
        return value
    if annotation.startswith("tuple["):
        return _convert_tuple(value, annotation)
    return _convert_scalar(value, annotation)


def _convert_scalar(value: Any, annotation: str) -> Any:
    if annotation == "bool" and isinstance(value, bool):
        return value
    if annotation == "int" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if annotation == "float":
        # YAML 1.1 reads 1e-4 (no dot) as text
        numeral = isinstance(value, str) and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value, re.ASCII)
        if numeral or (isinstance(value, int | float) and not isinstance(value, bool)):
            return _finite(value)
    if annotation == "str" and isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):  # how Python holds bytes that are no text
            raise ValueError(f"{shown(value)} is no valid UTF-8, and no recipe could keep it: rename the file or folder")
        return value
    if annotation == "str" and type(value) is int:  # a name of digits; recipes write whole numbers in one way only
        return str(value)
    if annotation == "str":
        raise ValueError(f"expected text, got {shown(value)}; if the text is meant, put it in quotes (on a command line: \"'...'\")")
    raise ValueError(f"expected {annotation}, got {shown(value)}")


def shown(value: Any) -> str:
    """A value as a message shows it: not more than a line."""
    try:
        text = repr(value)
    except ValueError:  # Python prints no number of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 200 else f"{text[:200]}..."


def _finite(value: int | float | str) -> float:
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond the range of float
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, got {shown(value)}")
    return number


def _convert_tuple(value: Any, annotation: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected {annotation}, got {shown(value)}")
    inner = _split(annotation[6:-1], ",")
    if inner[-1] == "...":
        return tuple(convert(v, inner[0]) for v in value)
    if len(inner) != len(value):
        raise ValueError(f"expected {len(inner)} values ({annotation}), got {len(value)}: {shown(value)}")
    return tuple(convert(v, t) for v, t in zip(value, inner, strict=True))


def _is_setting(annotation: str) -> bool:
    for option in _split(annotation, "|"):
        if option.startswith("tuple["):
            if not all(_is_setting(t) for t in _split(option[6:-1], ",") if t != "..."):
                return False
        elif option not in {"int", "float", "bool", "str", "None"} and not option.startswith("Literal["):
            return False
    return bool(annotation)


def _split(text: str, separator: str) -> list[str]:
    parts, depth, current = [], 0, ""
    for character in text:
        depth += (character == "[") - (character == "]")
        if character == separator and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += character
    return [*parts, current.strip()]


def argument_help(docstring: str) -> dict[str, str]:
    """The `name: text` lines of a docstring's Args section."""
    found: dict[str, str] = {}
    inside, last = False, ""
    for line in docstring.splitlines():
        if line.strip() == "Args:":
            inside = True
        elif inside and line and not line.startswith(" "):
            break
        elif inside:
            match = re.match(r"^ {4}(\w+): (.*)$", line)
            if match:
                last = match[1]
                found[last] = match[2].strip()
            elif last and line.strip():
                found[last] += " " + line.strip()
    return found
