"""A recipe: the whole description of a run, checked against what the named parts accept, without importing torch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from kinshot.core.config import apply_override, dataclass_parameters, flatten, parse_override, read_yaml
from kinshot.core.errors import ConfigError, suggest
from kinshot.core.registry import Registry
from kinshot.core.schema import check_parameters, shown
from kinshot.datasets import SOURCES
from kinshot.datasets.graphs import GRAPHS
from kinshot.datasets.orders import ORDERS
from kinshot.datasets.views import VIEWS
from kinshot.encoders import ENCODERS
from kinshot.kin import KINS
from kinshot.learn import METHODS
from kinshot.recipes.distill import DistillSettings, check_distill, distill_terms
from kinshot.recipes.loggers import check_monitor
from kinshot.recipes.ranges import is_folder_name, out_of_range
from kinshot.recipes.restarts import RestartSettings, check_restarts
from kinshot.recipes.sections import MonitorConfig, ProjectorConfig, TrainConfig, ValidationConfig
from kinshot.recipes.structure import StructureSettings, check_structure, structure_terms
from kinshot.recipes.terms import Choice, TermChoice, read_terms

CONFIGS = Path(__file__).parent / "configs"
PARTS: dict[str, Registry] = {
    "data": SOURCES, "graph": GRAPHS, "order": ORDERS, "views": VIEWS, "encoder": ENCODERS, "method": METHODS
}  # fmt: skip
OPTIONAL = {"graph", "order"}
FIXED = "fixed"
BALANCES = (FIXED, "uncertainty", "softmax")
"""How several losses are weighed: as the recipe says, or with factors beside that training learns (`kinshot.learn.balance`)."""
MASK = "mask"
"""The field of class maps."""


SECTIONS: dict[str, type] = {
    "structure": StructureSettings,
    "distill": DistillSettings,
    "projector": ProjectorConfig,
    "train": TrainConfig,
    "monitor": MonitorConfig,
    "validation": ValidationConfig,
    "restarts": RestartSettings,
}
# settings that change where or how fast a run computes, never what it computes: a resumed run may change them
FREE = {
    "train.workers", "train.allocator", "train.device",
    "monitor.log_every", "monitor.checkpoint_every", "monitor.keep", "monitor.loggers",
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """A checked recipe: every setting of every part has its value.

    Without a `graph`, `structure` plays no part; with losses in `distill`, the encoder is a student's. `init` is a checkpoint or run
    whose encoder the training starts from. `overrides` are what was typed beside the recipe's name; they are in the other values.
    """

    name: str
    data: Choice
    views: Choice
    encoder: Choice
    method: Choice
    description: str = ""
    seed: int = 0
    init: str = ""
    graph: Choice | None = None
    order: Choice | None = None
    structure: StructureSettings = field(default_factory=StructureSettings)
    distill: DistillSettings = field(default_factory=DistillSettings)
    projector: ProjectorConfig = field(default_factory=ProjectorConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    restarts: RestartSettings = field(default_factory=RestartSettings)
    task: float = 1.0
    balance: str = FIXED
    terms: tuple[TermChoice, ...] = ()
    overrides: tuple[str, ...] = field(default=(), compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `parse` reads back to an equal recipe."""
        parts = {section: {"name": c.name, **c.settings} for section in PARTS for c in [getattr(self, section)] if c is not None}
        needed = {
            "structure": self.graph is not None,
            "distill": self.distill.losses,
            "validation": self.validation.split,
            "restarts": self.restarts.wanted,
        }
        unused = {section for section, need in needed.items() if not need}
        sections = {section: asdict(getattr(self, section)) for section in SECTIONS if section not in unused}
        init = {"init": self.init} if self.init else {}
        terms = {"task": self.task, "terms": [term.to_dict() for term in self.terms]} if self.terms else {}
        terms |= {"balance": self.balance} if self.balance != FIXED else {}
        return {"name": self.name, "description": self.description, "seed": self.seed, **init, **parts, **terms, **sections}

    @cached_property
    def all_terms(self) -> tuple[TermChoice, ...]:
        """Every term beside the method's own loss: those of `graph` and `structure`, those of `distill`, and those written as such."""
        return (*(structure_terms(self.structure) if self.graph else ()), *distill_terms(self.distill), *self.terms)

    @property
    def teachers(self) -> tuple[str, ...]:
        """Every teacher that it learns from, each once."""
        return tuple(dict.fromkeys((*self.distill.teachers, *(term.teacher for term in self.terms if term.teacher))))

    @property
    def weighs_paths(self) -> bool:
        """Whether training learns a weight for each of the projector's paths, so that they have the feature `weighted`."""
        return weighs_paths(self.projector, self.balance)

    @property
    def features(self) -> tuple[str, ...]:
        """What its encoder can be measured by beside backbone, projector and joint."""
        return measured_features(self.projector, self.balance)

    @property
    def own_weight(self) -> float:
        """Weight of the method's own loss."""
        return (1 - self.structure.weight if self.graph else 1.0) * self.distill.task * self.task


def weighs_paths(projector: ProjectorConfig, balance: str) -> bool:
    """See `Recipe.weighs_paths`."""
    return balance != FIXED and bool(projector.paths)


def measured_features(projector: ProjectorConfig, balance: str) -> tuple[str, ...]:
    """See `Recipe.features`."""
    return (*projector.outputs, *(("weighted",) if weighs_paths(projector, balance) else ()))


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def recipe_path(name: str) -> Path:
    """The file of a shipped recipe or of the user's own YAML. Raises ConfigError with the closest valid name."""
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"no recipe file {name}: give an existing YAML file, or the name of a shipped recipe (ssl list)")
        return path
    path = CONFIGS / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"unknown recipe {name!r}: {suggest(name, recipe_names())}")
    return path


def load_recipe(name: str, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """A shipped recipe or a YAML file, with `key=value` overrides. Raises ConfigError with every problem at once."""
    return replace(parse(recipe_data(name, overrides), recipe_path(name).stem), overrides=tuple(overrides))


def recipe_data(name: str, overrides: list[str] | tuple[str, ...] = ()) -> dict[str, Any]:
    """The plain data of a shipped recipe or a YAML file with `key=value` overrides, not checked yet. Raises ConfigError."""
    return with_overrides(read_yaml(recipe_path(name)), overrides)


def with_overrides(data: dict[str, Any], overrides: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """A recipe's plain data with `key=value` overrides, not checked yet. Raises ConfigError."""
    data = copy.deepcopy(data)
    parsed = [parse_override(text) for text in overrides]
    count = sum(key == [_TEACHER] for key, _ in parsed)
    if count > 1:  # of other settings the last one counts, but who names two teachers may want both
        raise ConfigError(f"{_TEACHER} is given {count} times: name several in one list, {_TEACHER}=[A, B], or give one")
    for key, value in parsed:
        _override(data, key, value)
    return data


def parse(data: dict[str, Any], name: str) -> Recipe:
    """A recipe from plain data. Raises ConfigError listing every unknown key, unknown name and wrong value."""
    values, problems = read_values(data, name)
    if problems:
        raise problem_error(name, problems)
    return Recipe(**values)


def problem_error(name: str, problems: list[str]) -> ConfigError:
    """Everything that is wrong with a recipe, as one error."""
    return ConfigError("\n  ".join([f"recipe {name} has {len(problems)} problem{'s' * (len(problems) > 1)}:", *problems]))


def read_values(data: dict[str, Any], name: str) -> tuple[dict[str, Any], list[str]]:
    """The fields of a recipe from plain data, and what is wrong with each; a part that is wrong has no name, a section its defaults."""
    data = copy.deepcopy(data)
    problems = [f"unknown key {key!r}: {_meant(key, data)}" for key in data if key not in _KEYS]
    values: dict[str, Any] = {"name": str(data.get("name", name)), "description": str(data.get("description", ""))}
    if not is_folder_name(values["name"]):  # the run folder is called by it unless told otherwise
        problems.append(f"name: expected up to 200 characters without a slash, got {shown(data.get('name', name))}")
    seed = data.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**53:
        problems.append(f"seed: expected a whole number from 0, got {shown(seed)}" + " (2^53 or more)" * (type(seed) is int and seed > 0))
    values["seed"], values["init"] = seed, str(data.get("init") or "")
    for section, registry in PARTS.items():
        if section in OPTIONAL and data.get(section) is None:
            continue
        values[section], found = _choice(data.get(section), section, registry)
        problems += found
    if data.get("structure") and "graph" not in values:
        problems.append(f"structure: needs a graph, for example graph: {{name: labels}}; graphs are {', '.join(GRAPHS.names())}")
    for section, kind in SECTIONS.items():
        given = data.get(section) or {}
        if not isinstance(given, dict):
            problems.append(f"{section}: expected keys and values, got {shown(given)}")
            given = {}
        checked, found = check_parameters(given, dataclass_parameters(kind), section)
        values[section] = kind(**checked) if not found else kind()
        problems += found or _CHECKS.get(section, partial(out_of_range, section))(values[section])
    task = data.get("task", 1.0)
    if isinstance(task, bool) or not isinstance(task, int | float) or not 0 <= task < float("inf"):
        problems.append(f"task: expected a number from 0, the weight of the method's own loss, got {shown(task)}")
    values["balance"] = data.get("balance", FIXED)
    if values["balance"] not in BALANCES:
        problems.append(f"balance: got {shown(values['balance'])}: {suggest(str(values['balance']), BALANCES)}")
    values["terms"], found = read_terms(data.get("terms") or [])
    problems += found
    if not problems:
        values["task"] = float(task)
        problems += _lacking(values)
    alone = not values["distill"].losses and not values["terms"]
    if not problems and alone and METHODS.entry(values["method"].name).flags.get("by_terms"):
        name = values["method"].name
        problems.append(f"method {name} has no loss of its own: say in distill.losses or terms what it learns, or choose another")
    return values, problems


def _lacking(values: dict[str, Any]) -> list[str]:
    """What the terms of a recipe need and it does not have."""
    problems = []
    for term in values["terms"]:
        if term.kin.name == "graph" and not term.kin.settings["of"] and "graph" not in values:
            problems.append(f"{term.key}.kin: the recipe has no graph: add graph: {{name: labels}}, or name one, as of: knn:k=5")
    maps = MASK in METHODS.entry(values["method"].name).flags.get("fields", ())
    if values["validation"].ways < 2 and not maps:  # of pixels the background is another
        problems.append(f"validation.ways: expected at least 2, got {values['validation'].ways}")
    if values["restarts"].wanted and (maps or not METHODS.entry(values["method"].name).flags.get("supervised")):
        problems.append(
            f"restarts: MAP@R and rows of classes need class labels, and method {values['method'].name} learns from none: choose method "
            "metric, or leave restarts out"
        )
    if values["train"].norm_statistics == "kept" and not (values["init"] or values["encoder"].settings.get("pretrained")):
        problems.append("train.norm_statistics: a fresh encoder has no statistics to keep: give init, or leave it out")
    if values["task"] != 1 and not values["terms"]:
        problems.append("task: without terms the method's own loss is all there is: leave it out")
    losses = [values["task"] > 0 and not METHODS.entry(values["method"].name).flags.get("by_terms"), *values["distill"].losses]
    losses += [term.place.weight > 0 for term in values["terms"]] + ["graph" in values and values["structure"].weight > 0]
    if values["balance"] != FIXED and sum(map(bool, losses)) < 2:
        problems.append(
            f"balance: {values['balance']} weighs several losses against each other, and there is one: add terms, or leave it out"
        )
    if values["terms"] and not any([values["task"] * values["distill"].task, *(term.place.weight for term in values["terms"])]):
        problems.append("task and terms: every weight is 0, and nothing would be learned: raise one")
    return problems


def settings_called(name: str, data: dict[str, Any] | None = None) -> list[str]:
    """Settings of this name in the sections of a recipe and in its parts (of `data`; without it in all parts), with their sections."""
    found = [f"{section}.{name}" for section, kind in SECTIONS.items() if name in dataclass_parameters(kind)]
    for section, registry in PARTS.items():
        given = (data or {}).get(section)
        chosen = given.get("name") if isinstance(given, dict) else given
        entries = registry.entries.values() if data is None else [e for e in registry.entries.values() if e.name == chosen]
        found += [f"{section}.{name}"] * any(name in entry.parameters for entry in entries)
    return found


def _meant(key: str, data: dict[str, Any]) -> str:
    found = settings_called(key, data)
    if not found:
        return suggest(key, _KEYS)
    value = shown(data[key]) if isinstance(data[key], int | float | str) else "..."
    return f"it is a setting of {' and of '.join(one.partition('.')[0] for one in found)}: write {found[0]}={value}"


def train_command(recipe: Recipe) -> str:
    """The command that trains a recipe: `ssl distill` with a teacher, `segmentation train` with class maps, `fewshot train` with class
    labels, else `ssl pretrain`.
    """
    if recipe.distill.losses:
        return "ssl distill"
    if learns_from_maps(recipe):
        return "segmentation train"
    return "fewshot train" if learns_from_labels(recipe) else "ssl pretrain"


def learns_from_labels(recipe: Recipe) -> bool:
    """Whether the recipe's method is given class labels."""
    return METHODS.entry(recipe.method.name).flags.get("supervised", False)


def learns_from_maps(recipe: Recipe) -> bool:
    """Whether the recipe's method is given class maps beside images."""
    return MASK in METHODS.entry(recipe.method.name).flags.get("fields", ())


def knows_labels(recipe: Recipe) -> bool:
    """Whether training knows samples by their labels: as targets, by the links of a graph, or because a term says so."""
    graphs = {recipe.graph.name} if recipe.graph else set()
    graphs |= {str(term.kin.settings["of"]).partition(":")[0] for term in recipe.terms if term.kin.settings.get("of")}
    by_graph = any(name in GRAPHS.entries and GRAPHS.entries[name].facts.get("labelled") for name in graphs)
    return (
        learns_from_labels(recipe)
        or learns_from_maps(recipe)
        or by_graph
        or any(KINS.entry(term.kin.name).facts.get("labelled") for term in recipe.terms)
    )


def differences(old: Recipe, new: Recipe) -> dict[str, tuple[Any, Any]]:
    """Settings that decide results and differ between two recipes: their names, with the old and the new value."""
    before, after = flatten(old.to_dict()), flatten(new.to_dict())
    keys = [key for key in {**before, **after} if key not in FREE and key not in {"name", "description"}]
    return {key: (before.get(key), after.get(key)) for key in keys if _norm(before.get(key)) != _norm(after.get(key))}


_KEYS = ["name", "description", "seed", "init", "task", "balance", "terms", *PARTS, *SECTIONS]
_CHECKS: dict[str, Callable[[Any], list[str]]] = {
    "structure": check_structure, "distill": check_distill, "restarts": check_restarts, "monitor": check_monitor
}  # fmt: skip
_TEACHER = "teacher"


def _norm(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _override(data: dict[str, Any], path: list[str], value: Any) -> None:
    """Apply one override. `method=simclr` and `method.name=simclr` choose another part and drop the old one's settings.

    `graph=null` takes the structure term away with it; `teacher=A` is short for `distill.teachers=[A]`.
    """
    section = path[0]
    if path == [_TEACHER]:
        path, value = ["distill", "teachers"], value if isinstance(value, list) else [str(value)]
    if section in PARTS and (len(path) == 1 or path[1:] == ["name"]) and not isinstance(value, dict):
        if value is None and section in OPTIONAL:
            data.pop(section, None)
            if section == "graph":
                data.pop("structure", None)  # what a graph is for
            return
        current = data.get(section)
        if not isinstance(current, dict) or current.get("name") != value:
            data[section] = {"name": value}
        return
    apply_override(data, path, value)


def _choice(given: Any, section: str, registry: Registry) -> tuple[Choice, list[str]]:
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        example = f"{section}: {{name: {registry.names()[0]}}}"
        return Choice("", {}), [f"{section}: expected a name, for example {example}, got {shown(given)}"]
    settings = {key: value for key, value in given.items() if key != "name"}
    if given["name"] not in registry.entries:
        closest = suggest(given["name"], registry.entries)
        return Choice("", {}), [f"{section}: unknown {registry.kind} {given['name']!r}: {closest}"]
    checked, problems = registry.check(given["name"], settings, section)
    return Choice(given["name"], checked), problems
