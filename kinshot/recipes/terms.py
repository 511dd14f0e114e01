"""Terms of a recipe: objectives over kin beside a method's own loss, as written, and as the short forms mean them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kinshot.core.config import dataclass_parameters
from kinshot.core.errors import suggest
from kinshot.core.registry import Registry
from kinshot.core.schema import check_parameters, shown
from kinshot.kin import KINS
from kinshot.kin.miners import MINERS
from kinshot.learn.place import Place
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.augmenters import AUGMENTERS

_PML = "pml:"
EXAMPLE = "{objective: info_nce, kin: labels, weight: 0.5}"


class Choice(NamedTuple):
    """A registered part and its settings."""

    name: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class TermChoice:
    """A term: objective, kin and place; `share` is its part of the mean over several teachers.

    `key` is where the recipe says it, `initial` the purpose that its weights are drawn for.
    """

    objective: Choice
    kin: Choice
    place: Place = field(default_factory=Place)
    miner: Choice | None = None
    augmenter: Choice | None = None
    share: float = 1.0
    key: str = "terms"
    initial: str = "init terms"

    @property
    def takes(self) -> str:
        """What its objective is given: relation, proxies or teacher."""
        return str(OBJECTIVES.entry(self.objective.name).facts.get("takes", ""))

    @property
    def taught(self) -> bool:
        """Whether its objective compares a student with its teacher."""
        return self.takes == "teacher"

    @property
    def teacher(self) -> str:
        """The checkpoint that it learns from; empty where it has no teacher."""
        return str(self.kin.settings.get("checkpoint", "")) if KINS.entry(self.kin.name).facts.get("speaks") else ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `read_terms` reads back to an equal term."""
        place = {name: getattr(self.place, name) for name in dataclass_parameters(Place)}
        chosen = (("miner", self.miner), ("augmenter", self.augmenter))
        choosing = {key: {"name": one.name, **one.settings} for key, one in chosen if one}
        kin = {"name": self.kin.name, **self.kin.settings}
        return {"objective": self.objective.name, "kin": kin, **place, **choosing, **self.objective.settings}


def read_terms(given: Any) -> tuple[tuple[TermChoice, ...], list[str]]:
    """The terms of a recipe from plain data, and what is wrong with each."""
    if not isinstance(given, list | tuple):
        return (), [f"terms: expected a list such as [{EXAMPLE}], got {shown(given)}"]
    found, problems = [], []
    for number, one in enumerate(given):
        term, wrong = _read(one, f"terms.{number}")
        problems += wrong
        if term is not None and not wrong:
            found.append(term)
    return tuple(found), problems


def labels_of(terms: Sequence[TermChoice]) -> list[str]:
    """What records call each term: as it says, or its objective, with its number where several without a label have the same."""
    names = [term.place.label or term.objective.name for term in terms]
    unnamed = [term.objective.name for term in terms if not term.place.label]
    return [
        name if term.place.label or unnamed.count(name) == 1 else f"{name}_{number + 1}"
        for number, (name, term) in enumerate(zip(names, terms, strict=True))
    ]


def _read(given: Any, key: str) -> tuple[TermChoice | None, list[str]]:
    if not isinstance(given, Mapping) or not isinstance(given.get("objective"), str):
        return None, [f"{key}: expected an objective and who is kin, for example {EXAMPLE}, got {shown(given)}"]
    data = dict(given)
    name, who = data.pop("objective"), data.pop("kin", None)
    if name.startswith(_PML):  # another package's losses, all behind one objective
        name, data = _PML.rstrip(":"), {"loss": name.removeprefix(_PML), **data}
    wanted = {"miner": (data.pop("miner", None), MINERS), "augmenter": (data.pop("augmenter", None), AUGMENTERS)}
    if name not in OBJECTIVES.entries:
        return None, [f"{key}.objective: unknown objective {name!r}: {suggest(name, OBJECTIVES.entries)}"]
    places = dataclass_parameters(Place)
    place, problems = check_parameters({k: data.pop(k) for k in list(data) if k in places}, places, key)
    settings, wrong = OBJECTIVES.check(name, data, key)
    problems += wrong
    kin, wrong = _part(who, f"{key}.kin", KINS)
    problems += wrong
    chosen: dict[str, Choice] = {}
    for what, (one, registry) in wanted.items():
        if one is not None:
            chosen[what], wrong = _part(one, f"{key}.{what}", registry)
            problems += wrong
    if problems:
        return None, problems
    parts = Choice(name, settings), kin, Place(**place), chosen.get("miner"), chosen.get("augmenter")
    term = TermChoice(*parts, key=key, initial=f"init {key}")
    return term, _misplaced(term)


def _part(given: Any, key: str, registry: Registry) -> tuple[Choice, list[str]]:
    given = {"name": given} if isinstance(given, str) else given
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        return Choice("", {}), [f"{key}: expected one of {', '.join(registry.names())}, got {shown(given)}"]
    name = given["name"]
    if name not in registry.entries:
        return Choice("", {}), [f"{key}: unknown {registry.kind} {name!r}: {suggest(name, registry.entries)}"]
    settings, problems = registry.check(name, {k: v for k, v in given.items() if k != "name"}, key)
    return Choice(name, settings), problems


def _misplaced(term: TermChoice) -> list[str]:
    """What does not fit between a term's parts."""
    problems, key = [], term.key
    takes, speaks = OBJECTIVES.entry(term.objective.name).facts.get("takes"), KINS.entry(term.kin.name).facts.get("speaks")
    if takes not in ("relation", "proxies", "teacher"):
        problems.append(f"{key}.objective: {term.objective.name} is no objective over kin: methods use it")
    if takes == "teacher" and not speaks:
        problems.append(
            f"{key}.kin: {term.objective.name} compares a student with its teacher: write kin: {{name: teacher, checkpoint: ...}}"
        )
    if takes == "proxies":
        problems += _classless(term)
    if term.augmenter is not None and AUGMENTERS.entry(term.augmenter.name).facts.get("classes") and not _names_classes(term):
        problems.append(
            f"{key}.augmenter: {term.augmenter.name} remembers something of each class, and {term.kin.name} names none: "
            f"choose kin {_with_classes()}"
        )
    for what, chosen in (("miner", term.miner), ("augmenter", term.augmenter)):
        if takes == "teacher" and chosen is not None:
            problems.append(f"{key}.{what}: {term.objective.name} has no pairs: leave it out")
    if term.objective.settings.get("reduction") in ("none", "each"):
        got = term.objective.settings["reduction"]
        problems.append(f"{key}.reduction: a term is one number, got {got}: set mean, valid or sum")
    if term.place.unit not in ("none", "teacher", "both"):
        problems.append(f"{key}.unit: expected none, teacher or both, got {shown(term.place.unit)}")
    if takes != "teacher" and term.place.unit != "none":
        problems.append(f"{key}.unit: only objectives of a student and its teacher have it: leave it out")
    if not 0 < term.place.paced <= 1:
        problems.append(f"{key}.paced: expected a share above 0 and at most 1, got {term.place.paced}")
    if term.place.paced < 1 and not (takes == "relation" and "reduction" in term.objective.settings and _names_classes(term)):
        problems.append(
            f"{key}.paced: needs an objective over pairs that has a reduction, and kin {_with_classes()}, got {term.objective.name} over "
            f"{term.kin.name}: choose others, or leave it out"
        )
    if not term.place.weight >= 0:
        problems.append(f"{key}.weight: expected a number from 0, got {term.place.weight}")
    if takes == "relation" and term.kin.name == "teacher" and bool(term.kin.settings["k"]) == (term.kin.settings["threshold"] is not None):
        problems.append(f"{key}.kin: {term.objective.name} needs to know whom the teacher places close: set either k or threshold")
    return problems


def _classless(term: TermChoice) -> list[str]:
    """What an objective with rows of classes cannot be asked to do."""
    problems, key, name = [], term.key, term.objective.name
    if not _names_classes(term):
        problems.append(f"{key}.kin: {name} learns a row for each class, and {term.kin.name} names none: choose {_with_classes()}")
    if term.miner is not None:
        problems.append(f"{key}.miner: {name} compares rows with its classes, there are no pairs to choose from: leave it out")
    if term.augmenter is not None and not AUGMENTERS.entry(term.augmenter.name).facts.get("classes"):
        problems.append(f"{key}.augmenter: {term.augmenter.name} says no classes of its rows, and {name} needs them: leave it out")
    return problems


def _names_classes(term: TermChoice) -> bool:
    return bool(KINS.entry(term.kin.name).facts.get("classes"))


def _with_classes() -> str:
    return " or ".join(kin for kin, entry in KINS.entries.items() if entry.facts.get("classes"))
