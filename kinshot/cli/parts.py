"""`list` and `show`: what there is to choose from, read from source text without importing it."""

from __future__ import annotations

import fnmatch
import inspect
from typing import Any, NamedTuple

import click

from kinshot.cli.common import show
from kinshot.cli.method_facts import figures, figures_text, line_of, method_facts
from kinshot.cli.options import JSON
from kinshot.core.config import dataclass_parameters
from kinshot.core.errors import ConfigError, suggest
from kinshot.core.plugins import group_of, groups
from kinshot.core.registry import Entry, Registry
from kinshot.core.schema import REQUIRED, Parameter
from kinshot.exports import EXPORTS
from kinshot.fewshot import HEADS
from kinshot.kin import KINS
from kinshot.kin.metrics import METRICS
from kinshot.kin.miners import MINERS
from kinshot.learn.loggers import LOGGERS
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.augmenters import AUGMENTERS
from kinshot.recipes.recipe import PARTS, SECTIONS, load_recipe, recipe_data, recipe_names, recipe_path
from kinshot.samples import SPECS
from kinshot.segmentation import SEGMENTERS

REGISTRIES: list[Registry] = [
    *PARTS.values(), HEADS, SEGMENTERS, OBJECTIVES, KINS, MINERS, METRICS, AUGMENTERS, LOGGERS, SPECS, EXPORTS
]  # fmt: skip
METHOD = "method"
KINDS = ["recipe", *(registry.kind for registry in REGISTRIES), "section"]


class Described(NamedTuple):
    """A part, or a section of recipes."""

    kind: str
    name: str
    module: str
    docstring: str
    parameters: dict[str, Parameter]
    takes: str = ""

    def as_dict(self) -> dict[str, Any]:
        """What `--json` prints."""
        settings = {p.name: {"type": p.annotation, "default": _default(p), "help": p.help} for p in self.parameters.values()}
        summary = self.docstring.split("\n", 1)[0]
        takes = {"takes": self.takes} if self.takes else {}
        facts = method_facts(self.name, self.docstring) if self.kind == METHOD else {}
        about = {"kind": self.kind, "name": self.name, "module": self.module, "summary": summary}
        return {**about, **takes, **facts, "settings": settings}

    def as_text(self) -> str:
        """What people read."""
        about = self.docstring.split("\n\n>>>")[0].split("\n\nArgs:")[0].split("\nArgs:")[0]
        rows = [f"  {p.name}: {p.annotation} = {_default(p)}\n      {p.help}" for p in self.parameters.values()]
        takes = [f"\ntakes: {self.takes}"] if self.takes else []
        takes += [f"\nmeasured: {figures_text(self.name)}"] if self.kind == METHOD and figures(self.name) else []
        return "\n".join([f"{self.kind} {self.name}: {about}", *takes, "", "settings:" if rows else "no settings", *rows])


@click.command(name="list")
@click.argument("pattern", default="*")
@JSON
def list_command(pattern: str, as_json: bool) -> None:
    """List recipes and parts whose name, or whose kind (graph, views, ...), matches PATTERN (wildcards allowed)."""
    refuse_unknown_groups()
    kinds = pattern
    pattern = pattern if any(c in pattern for c in "*?[") else f"*{pattern}*"
    found = {"recipe": {name: str(recipe_data(name).get("description", "")) for name in recipe_names()}}
    for registry in REGISTRIES:
        found[registry.kind] = {entry.name: _summary(entry) for entry in registry.entries.values()}
    found = {
        kind: {n: s for n, s in names.items() if fnmatch.fnmatch(kind, kinds) or fnmatch.fnmatch(n, pattern)}
        for kind, names in found.items()
    }

    def text() -> str:
        blocks = []
        for kind, names in found.items():
            if names:
                width = max(map(len, names))
                blocks.append("\n".join([f"{kind}:", *(f"  {name:<{width}}  {_line(kind, name, s)}" for name, s in names.items())]))
        return "\n".join(blocks) or f"nothing matches {pattern}"

    methods = PARTS[METHOD].entries
    facts = {name: method_facts(name, methods[name].docstring) for name in found[METHOD]}
    show({"parts": found, "methods": facts}, as_json, text)


@click.command(name="show")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), help="Only what is of this kind, where several things have the name.")
@JSON
def show_command(name: str, kind: str | None, as_json: bool) -> None:
    """Show a recipe (its YAML), a part (its description and settings), or a section of recipes (structure, train, ...).

    Where things of several kinds have the name, such as the method and the head feat, all are shown.
    """
    found = [one for one in described(name) if kind in (None, one.kind)]
    recipe = kind in (None, "recipe") and (name in recipe_names() or name.endswith((".yaml", ".yml")))
    if not found and not recipe:
        known = [*recipe_names(), *SECTIONS, *(n for registry in REGISTRIES for n in registry.names())]
        of_kind, alone = f" as {kind}" if kind else "", name.partition(":")[0]
        if alone in known and alone != name:
            raise ConfigError(f"nothing is called {name!r}{of_kind}: settings are no part of a name, show {alone}")
        raise ConfigError(f"nothing is called {name!r}{of_kind}: {suggest(name, known)}")
    data = [{"recipe": load_recipe(name).to_dict()}] if recipe else []
    data += [one.as_dict() for one in found]

    def text() -> str:
        yaml = [recipe_path(name).read_text(encoding="utf-8").rstrip()] if recipe else []
        return "\n\n".join([*yaml, *(one.as_text() for one in found)])

    show({**data[0], **({"also": data[1:]} if data[1:] else {})}, as_json, text)


def described(name: str) -> list[Described]:
    """Every part and section of this name."""
    entries = [(registry.kind, registry.entries[name]) for registry in REGISTRIES if name in registry.entries]
    found = [Described(kind, name, entry.module, entry.docstring, entry.parameters, _takes(entry)) for kind, entry in entries]
    if name in SECTIONS:
        section = SECTIONS[name]
        found.append(Described("section", name, section.__module__, inspect.getdoc(section) or "", dataclass_parameters(section)))
    return found


def settings_of(registry: Registry) -> dict[str, dict[str, Any]]:
    """Every part of a kind: its summary and its settings with their defaults."""
    return {
        entry.name: {"summary": entry.summary, "settings": {p.name: f"{p.annotation} = {p.default}" for p in entry.parameters.values()}}
        for entry in registry.entries.values()
    }


def settings_text(found: dict[str, dict[str, Any]]) -> str:
    """The same for people."""
    rows: list[str] = []
    for name, about in found.items():
        rows += [f"{name}: {about['summary']}", *(f"    {key}: {value}" for key, value in about["settings"].items())]
    return "\n".join(rows)


def refuse_unknown_groups() -> None:
    """Raises ConfigError for a plug-in of a kind that there is not: nothing would ever read it."""
    known = {group_of(registry.kind) for registry in REGISTRIES}
    for group, found in groups().items():
        if group not in known:
            raise ConfigError(f"{found[0]}: unknown entry-point group {group!r}: {suggest(group, known)}")


def _summary(entry: Entry) -> str:
    """A part's line, after what an objective takes: a relation, classes, views, or a teacher."""
    return f"({_takes(entry)}) {entry.summary}" if _takes(entry) else entry.summary


def _line(kind: str, name: str, summary: str) -> str:
    """A part's line, and behind it the paper and the figures of a method."""
    told = line_of(PARTS[METHOD].entries[name].docstring, name) if kind == METHOD else ""
    return f"{summary} [{told}]" if told else summary


def _takes(entry: Entry) -> str:
    return str(entry.facts.get("takes", ""))


def _default(parameter: Parameter) -> Any:
    return "required" if parameter.default is REQUIRED else parameter.default
