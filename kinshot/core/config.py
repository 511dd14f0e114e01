"""Configuration as plain data: strict YAML, `key=value` overrides, and settings described by dataclasses.

Nothing here resolves interpolations or dotted import paths: a configuration is data, and names reach code through registries only.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from kinshot.core.errors import ConfigError
from kinshot.core.schema import REQUIRED, Parameter, argument_help
from kinshot.core.small_files import read_text

_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # LibYAML's parser where there is one, for speed
_LARGEST = 2**20
_MOST_VALUES = 100_000
_DEEPEST = 20


class _StrictLoader(_Loader):  # type: ignore[misc, valid-type]
    """SafeLoader that refuses a key given twice instead of keeping the last one, and takes words as they stand.

    YAML 1.1 reads `no` as false, 2024-05-01 as a date, 017 as 15, 1_1 as 11 and 1:30 as 90. As in YAML 1.2, these are text here.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping. Raises yaml's ConstructorError for a repeated key."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"0|-?[1-9][0-9]*", list("-0123456789")),
    ("float", r"-?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", list("-+.0123456789")),
):
    _StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)


def parse_value(text: str) -> Any:
    """The value of a YAML text, plain data. Raises ValueError for what is no YAML, or deeper or larger than hands write."""
    if len(text) > _LARGEST:
        raise ValueError(f"it has {len(text)} characters, more than {_LARGEST}")
    try:
        _check_size(text)
        return _plain(yaml.load(text, _StrictLoader))
    except UnicodeEncodeError as error:  # bytes of a command line that are no UTF-8
        raise ValueError("it holds what is not UTF-8") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _check_size(text: str) -> None:
    """Raise ValueError where the text is nested too deeply, or names its own parts so often that they grow without bound."""
    sizes, names = [0], [""]  # values so far in each open collection, and what it is called
    called: dict[str, int] = {}
    for event in yaml.parse(text, _Loader):
        size = 1
        if isinstance(event, yaml.CollectionStartEvent):
            sizes.append(0)
            names.append(event.anchor or "")
            if len(sizes) > _DEEPEST:
                raise ValueError(f"it is nested more than {_DEEPEST} deep")
            continue
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in called:  # of a part that is still open, or of none
                raise ValueError(f"*{event.anchor} stands inside what it names, or names nothing")
            size = called[event.anchor]
        elif isinstance(event, yaml.CollectionEndEvent):
            size, name = sizes.pop() + 1, names.pop()
            called[name] = size
        elif isinstance(event, yaml.ScalarEvent):
            called[event.anchor or ""] = 1
        else:
            continue
        sizes[-1] += size
        if sizes[-1] > _MOST_VALUES:
            raise ValueError(f"it holds more than {_MOST_VALUES} values")


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """A YAML mapping as a dict. Raises ConfigError naming `where` for anything else."""
    try:
        data = parse_value(text)
    except ValueError as error:
        raise ConfigError(f"{where} is not valid YAML: {error}; correct the file") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{where} holds {type(data).__name__}, expected keys and values such as 'seed: 0'")
    return data


def read_yaml(path: Path) -> dict[str, Any]:
    """The YAML mapping in a file. Raises ConfigError naming the file."""
    return parse_yaml(read_text(path, most=_LARGEST, error=ConfigError, remedy="give the path of a YAML recipe"), str(path))


def to_yaml(data: dict[str, Any]) -> str:
    """Plain data as YAML text in the order given."""
    return yaml.safe_dump(_plain(data), sort_keys=False, allow_unicode=True, width=120)


def parse_override(text: str) -> tuple[list[str], Any]:
    """`a.b=value` as (["a", "b"], value), the value read as YAML. Raises ConfigError."""
    key, equals, value = text.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path) or len(path) > _DEEPEST:
        raise ConfigError(f"cannot read override {_short(text)!r}: write key=value, for example train.epochs=5")
    try:
        return path, parse_value(value) if value.strip() else ""
    except ValueError as error:
        raise ConfigError(f"cannot read the value of {key}: {_short(value)!r} is not valid YAML ({error}); quote it") from error


def _short(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + "..."


def apply_override(data: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a nested key in place, making sections on the way. Raises ConfigError where a value stands in the way."""
    node = data
    for depth, key in enumerate(path[:-1]):
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            raise ConfigError(f"cannot set {'.'.join(path)}: {'.'.join(path[: depth + 1])} is a value, not a section")
    node[path[-1]] = value


def dataclass_parameters(kind: type) -> dict[str, Parameter]:
    """The fields of a dataclass as settings; their help comes from its docstring."""
    helps = argument_help(inspect.getdoc(kind) or "")
    found = {}
    for field in dataclasses.fields(kind):
        default = REQUIRED if field.default is dataclasses.MISSING else field.default
        found[field.name] = Parameter(field.name, str(field.type), default, helps.get(field.name, ""))
    return found


def flatten(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
