"""Configuration as plain data: strict YAML, `key=value` overrides, and settings described by dataclasses.

Nothing here resolves interpolations or dotted import paths: a configuration is data, and names reach code through registries only.
"""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import yaml

from kinshot.core.errors import ConfigError
from kinshot.core.schema import REQUIRED, Parameter, argument_help

_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # LibYAML's parser where there is one, for speed


class _StrictLoader(_Loader):  # type: ignore[misc, valid-type]
    """SafeLoader that refuses a key given twice instead of keeping the last one."""

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


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """A YAML mapping as a dict. Raises ConfigError naming `where` for anything else."""
    try:
        data = yaml.load(text, _StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {' '.join(str(error).split())}; correct the file") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{where} holds {type(data).__name__}, expected keys and values such as 'seed: 0'")
    return data


def read_yaml(path: Path) -> dict[str, Any]:
    """The YAML mapping in a file. Raises ConfigError naming the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}; give the path of a YAML recipe") from error
    return parse_yaml(text, str(path))


def to_yaml(data: dict[str, Any]) -> str:
    """Plain data as YAML text in the order given."""
    return yaml.safe_dump(_plain(data), sort_keys=False, allow_unicode=True, width=120)


def parse_override(text: str) -> tuple[list[str], Any]:
    """`a.b=value` as (["a", "b"], value), the value read as YAML. Raises ConfigError."""
    key, equals, value = text.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise ConfigError(f"cannot read override {text!r}: write key=value, for example train.epochs=5")
    try:
        return path, yaml.load(value, _StrictLoader) if value.strip() else ""
    except yaml.YAMLError as error:
        raise ConfigError(f"cannot read the value of {key}: {value!r} is not valid YAML; quote it") from error


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
