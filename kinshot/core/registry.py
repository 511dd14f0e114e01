"""Registries: a name in a recipe is the only way to reach code, and a new part is one new file.

A part is a class or function under the registry's package, decorated with `@REGISTRY.register("name")`. Names, one-line
descriptions and parameters are read from the source text, so that `ssl list` and configuration errors never import torch;
a part's module is imported when the part is built. Packages outside kinshot add parts through the entry-point group
`kinshot.<kind>` (for example `kinshot.method`), whose value is the module that registers them.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from kinshot.core.errors import ConfigError, DataError, KinshotError, resource_error, suggest
from kinshot.core.plugins import Plugin, plugins
from kinshot.core.schema import Parameter, check_parameters, read_parameters, shown

Part = TypeVar("Part", bound=Callable[..., Any])


@dataclass(frozen=True)
class Entry:
    """Where a part lives and what can be said of it without importing it.

    `symbol` is its name in its file, `flags` are its class's attributes set to True, False or a tuple of texts, `facts` what its decorator
    says beside the name.
    """

    name: str
    module: str
    symbol: str
    summary: str
    docstring: str
    parameters: dict[str, Parameter]
    flags: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)


class Registry:
    """Parts of one kind, found by name.

    Args:
        kind: what a part is called in messages, for example "method".
        packages: dotted names of the folders whose files register the parts.
    """

    def __init__(self, kind: str, *packages: str) -> None:
        self.kind = kind
        self.packages = packages
        self._parts: dict[str, Callable[..., Any]] = {}

    def register(self, name: str, **facts: Any) -> Callable[[Part], Part]:
        """Decorator: make a class or function reachable as `name`. Its keyword-only parameters become its settings.

        `facts` are literals that `entries` reads from the source text: what this kind of part says of itself.
        """

        def decorate(part: Part) -> Part:
            known = self._parts.get(name)
            if known is not None and known.__module__ != part.__module__:
                raise ConfigError(f"{self.kind} {name!r} is registered by {known.__module__} and by {part.__module__}: rename one")
            self._parts[name] = part
            return part

        return decorate

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """Every part by name, read from source text alone. Raises ConfigError for a plug-in that cannot be read, naming it and its file."""
        read = [_read_entries(self, module, path) for package in self.packages for module, path in _folder_modules(package)]
        read += [_read_plugin(self, plugin) for plugin in plugins(self.kind)]
        found: dict[str, Entry] = {}
        for entry in [entry for entries in read for entry in entries]:
            if entry.name in found:
                both = f"{found[entry.name].module} and by {entry.module}"
                raise ConfigError(f"{self.kind} {entry.name!r} is registered by {both}: rename one")
            found[entry.name] = entry
        return dict(sorted(found.items()))

    def names(self) -> list[str]:
        """Every registered name, sorted."""
        return list(self.entries)

    def entry(self, name: str) -> Entry:
        """The entry called `name`. Raises ConfigError with the closest valid name."""
        if name not in self.entries:
            raise ConfigError(f"unknown {self.kind} {name!r}: {suggest(name, self.entries)}")
        return self.entries[name]

    def check(self, name: str, settings: dict[str, Any], where: str = "") -> tuple[dict[str, Any], list[str]]:
        """Settings completed with defaults and converted to the declared types, and every problem found."""
        return check_parameters(settings, self.entry(name).parameters, where or f"{self.kind} {name}")

    def get(self, name: str) -> Callable[..., Any]:
        """The part itself; imports its module.

        Raises ConfigError with the closest valid name, or for a plug-in whose module cannot be imported, naming it and its file.
        """
        module = self.entry(name).module
        plugin = next((one for one in plugins(self.kind) if one.module == module), None)
        try:
            importlib.import_module(module)
        except Exception as error:
            if plugin is None or isinstance(error, KinshotError):
                raise
            problem = f"{self.kind} {name!r} cannot be loaded: {plugin}, {plugin.file()}: {type(error).__name__}: {error}"
            raise ConfigError(f"{problem}; mend or uninstall the package") from error
        if name not in self._parts:  # the source text says `.register(name)`, of another registry
            raise ConfigError(f"{module} does not register {self.kind} {name!r} with the registry of {self.kind}s: fix its decorator")
        return self._parts[name]

    def loaded(self, name: str) -> Callable[..., Any] | None:
        """The part itself if its module was imported already, else None."""
        return self._parts.get(name)

    def build(self, name: str, *args: Any, settings: dict[str, Any] | None = None, **wired: Any) -> Any:
        """Call the part with wired arguments and checked settings.

        Raises ConfigError naming every bad setting, and for whatever else a part says of what it was given; DataError where the
        system says it. What lacks memory is no fault of a setting alone and passes.
        """
        checked, problems = self.check(name, settings or {})
        if problems:
            raise ConfigError("; ".join(problems))
        part = self.get(name)
        try:
            return part(*args, **checked, **wired)
        except (ArithmeticError, OSError, RuntimeError, TypeError, ValueError) as problem:
            if resource_error(problem) is not None:
                raise
            kind = DataError if isinstance(problem, OSError) else ConfigError
            given = ", ".join(f"{key}={shown(value)}" for key, value in (settings or {}).items()) or "its defaults"
            raise kind(
                f"{self.kind} {name} cannot be made with {given}: {' '.join(str(problem).split()) or type(problem).__name__}; change them"
            ) from problem


def _folder_modules(package: str) -> list[tuple[str, Path]]:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return []
    folder = Path(next(iter(spec.submodule_search_locations)))
    return [(f"{package}.{path.stem}", path) for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]


def _read_entries(registry: Registry, module: str, path: Path, *, whole: bool = False) -> list[Entry]:
    text = path.read_text(encoding="utf-8")
    if ".register(" not in text and not whole:
        return []
    tree = ast.parse(text, filename=str(path)) if whole else _parse(text, path)
    others = _other_registries(registry, tree)
    entries = []
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        for name, facts in _registrations(node, others):
            doc = ast.get_docstring(node) or ""
            summary = doc.split("\n", 1)[0]
            entries.append(Entry(name, module, node.name, summary, doc, read_parameters(node, doc), _flags(node), facts))
    return entries


_WANTED = re.compile(
    r"^from .+ import (?:\([^)]*\)|.*)\n"  # an import, or
    r"|^(?:@.*\n(?:[ \t)].*\n)*)+(?:def|class) .*\n(?:(?:[ \t)].*)?\n)*",  # decorators, a definition, and all lines that belong to it
    re.MULTILINE,
)


def _parse(text: str, path: Path) -> ast.Module:
    """The imports and decorated definitions of a file, which is most of what takes time to list parts; the whole where that fails."""
    try:
        return ast.parse("".join(_WANTED.findall(f"{text}\n")))
    except SyntaxError:  # lines of a text that look like code, or code that is none
        return ast.parse(text, filename=str(path))


def _read_plugin(registry: Registry, plugin: Plugin) -> list[Entry]:
    """The parts of a plug-in's file. Raises ConfigError that names package and file where it is no Python or registers none."""
    path = plugin.file()
    try:
        found = _read_entries(registry, plugin.module, path, whole=True)
    except (ConfigError, OSError, SyntaxError, ValueError) as error:
        raise ConfigError(f"{plugin}, {path}: {error}; mend or uninstall the package") from error
    if not found:
        raise ConfigError(f"{plugin}, {path}: registers no {registry.kind}: decorate one, or leave the entry point out")
    return found


def _other_registries(registry: Registry, tree: ast.Module) -> set[str]:
    """Names under which a file imports registries of other kinds; one that is not loaded yet cannot be this one."""
    found = set()
    for line in tree.body:
        if isinstance(line, ast.ImportFrom) and line.module:
            home = sys.modules.get(line.module)
            for one in line.names:
                value = vars(home).get(one.name) if home else None
                unknown = home is None and line.module.startswith("kinshot.") and one.name.isupper()
                if unknown or (isinstance(value, Registry) and value is not registry):
                    found.add(one.asname or one.name)
    return found


def _flags(node: ast.ClassDef | ast.FunctionDef) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for line in node.body if isinstance(node, ast.ClassDef) else ():
        value = _flag(line.value) if isinstance(line, ast.Assign) else None
        if value is not None and isinstance(line, ast.Assign):
            found |= {target.id: value for target in line.targets if isinstance(target, ast.Name)}
    return found


def _flag(value: ast.expr) -> bool | tuple[str, ...] | None:
    """What a class attribute is set to in the source text, where it is True, False or a tuple of texts."""
    if isinstance(value, ast.Constant):
        return value.value if isinstance(value.value, bool) else None
    texts = [part.value for part in value.elts if isinstance(part, ast.Constant)] if isinstance(value, ast.Tuple) else []
    whole = isinstance(value, ast.Tuple) and len(texts) == len(value.elts) and all(isinstance(text, str) for text in texts)
    return tuple(str(text) for text in texts) if whole else None


def _registrations(node: ast.ClassDef | ast.FunctionDef, others: set[str]) -> list[tuple[str, dict[str, Any]]]:
    """Name and facts of every `register("name", fact=literal)` above a class or function, but for those of other registries."""
    return [
        (call.args[0].value, {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg})
        for call in node.decorator_list
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "register"
        and not (isinstance(call.func.value, ast.Name) and call.func.value.id in others)
        and call.args
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    ]
