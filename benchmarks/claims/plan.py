"""Tasks, arms and claims, as the files of this folder say them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Claim:
    """One thing that a paper says, as a comparison.

    Args:
        name: of its row.
        paper: authors, year, arXiv.
        says: the claim in our words.
        arm: what should be better.
        over: than what; empty where a figure is compared with `above`.
        metric: the figure that judges.
        over_metric: the figure of `over`, where it is another one, such as that of a reference that runs are measured beside.
        lower: whether a smaller figure is the better one.
        since: arms that both sides are measured from, (of `arm`, of `over`): then what is compared is how much either loses or gains.
        above: the constant that the figure of `arm` should exceed.
        slack: points that `arm` may lack and still be as good: for claims that something keeps up.
        also: figures that are shown beside it and judge nothing.
    """

    name: str
    paper: str
    says: str
    arm: str
    metric: str
    over: str = ""
    over_metric: str = ""
    lower: bool = False
    since: tuple[str, ...] = ()
    above: float | None = None
    slack: float = 0.0
    also: tuple[str, ...] = ()

    @property
    def arms(self) -> tuple[str, ...]:
        """Every arm that it needs."""
        return tuple(dict.fromkeys(filter(None, (self.arm, self.over, *self.since))))


@dataclass(frozen=True)
class Task:
    """What arms are trained on, and how they are measured.

    Args:
        name: of the file.
        says: data, split, encoder, feature and figures in one paragraph.
        recipe: a shipped recipe that all arms start from; or the text of one under `inline`.
        common: settings that all arms share.
        measure: one or several, each `by`, a name of `measures.MEASURES`, what that is asked, and `arms` where it is not meant for all.
        arms: by name, the settings that make one.
        claims: what is compared.
        prepare: commands that are run once before, each writing the file that it is named by.
        inline: the text of a recipe, instead of a shipped one.
        seeds: of every arm.
    """

    name: str
    says: str
    common: tuple[str, ...]
    measure: Sequence[Mapping[str, Any]]
    arms: Mapping[str, tuple[str, ...]]
    claims: tuple[Claim, ...]
    recipe: str = ""
    inline: str = ""
    prepare: Mapping[str, str] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)


def read_tasks(names: Sequence[str] = ()) -> list[Task]:
    """The tasks of this folder, or those named. Raises SystemExit for a name that is none and for a file that does not fit."""
    known = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"no task {', '.join(unknown)}: choose among {', '.join(known)}")
    return [task_of(yaml.safe_load(known[name].read_text(encoding="utf-8"))) for name in names or known]


def task_of(given: Mapping[str, Any]) -> Task:
    """A task as its file holds it."""
    arms = {name: tuple(settings) for name, settings in given["arms"].items()}
    claims = tuple(_claim(one) for one in given["claims"])
    missing = sorted({arm for claim in claims for arm in claim.arms} - set(arms))
    if missing:
        raise SystemExit(f"task {given['task']}: claims name arms that it does not have: {', '.join(missing)}")
    if bool(given.get("recipe")) == bool(given.get("inline")):
        raise SystemExit(f"task {given['task']}: give either a recipe's name or its text (inline)")
    return Task(
        name=given["task"],
        says=" ".join(given["says"].split()),
        common=tuple(given.get("set", ())),
        measure=[given["measure"]] if isinstance(given["measure"], Mapping) else given["measure"],
        arms=arms,
        claims=claims,
        recipe=given.get("recipe", ""),
        inline=given.get("inline", ""),
        prepare=given.get("prepare", {}),
        seeds=tuple(given.get("seeds", (0, 1, 2))),
    )


def _claim(given: Mapping[str, Any]) -> Claim:
    lists = {key: tuple(given[key]) for key in ("since", "also") if key in given}
    return Claim(**{**given, **lists, "says": " ".join(given["says"].split())})
