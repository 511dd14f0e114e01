"""What a sweep's folder says of it, `sweep.json`: every run with its settings and figures, and their means over seeds.

Plain JSON, which programs that choose settings (Optuna, Ray Tune) read without kinshot; it is written anew whenever a run has ended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kinshot.core.atomic import write_json
from kinshot.core.config import parse_override
from kinshot.core.errors import DataError
from kinshot.core.small_files import read_json
from kinshot.core.statistics.means import mean_of
from kinshot.runs.sweep import Planned, is_run_of
from kinshot.runs.sweep_folder import NOTE

FINISHED, WAITING = "COMPLETE", "WAITING"
"""States of a run, by the names that Optuna gives them."""
Plain = bool | int | float | str | None


def write_account(out: Path, command: str, planned: Sequence[Planned]) -> dict[str, Any]:
    """Write the account of a sweep into its folder, and return it. Raises ConfigError where the folder cannot be made."""
    from kinshot.runs.start import open_folder

    open_folder(out)
    runs = [_run(number, job) for number, job in enumerate(planned)]
    space = {key: list(dict.fromkeys(run["params"][key] for run in runs)) for key in (runs[0]["params"] if runs else ())}
    account = {
        "schema_version": 1,
        "command": command,
        "finished": sum(run["finished"] for run in runs),
        "of": len(runs),
        "interval": "Student t, 95 %, over seeds; none of a single one",
        "space": space,
        "runs": runs,
        "rows": mean_rows(runs),
    }
    write_json(out / NOTE, account)
    return account


def mean_rows(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean and interval over seeds of every figure of the finished runs of each combination: `{label, metric, mean, ci95, n}`."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        label = ", ".join(f"{key}={value}" for key, value in run["params"].items() if key != "seed")
        groups.setdefault(label or "all runs", []).extend([run] * run["finished"])
    rows = []
    for label, members in groups.items():
        for metric in dict.fromkeys(name for run in members for name in run["figures"]):
            over = mean_of([run["figures"][metric] for run in members if metric in run["figures"]])
            count = sum(metric in run["figures"] for run in members)
            rows.append({"label": label, "metric": metric, "mean": round(over.mean, 6), "ci95": round(over.half_width, 6), "n": count})
    return rows


def _run(number: int, job: Planned) -> dict[str, Any]:
    settings = dict(_plain(text) for text in job.overrides)
    result = _result(job)
    return {
        "number": number,
        "state": FINISHED if result else WAITING,
        "params": {key: settings[key] for key in (*job.varied, "seed")},
        "settings": settings,
        "seed": job.recipe.seed,
        "folder": str(job.out),
        "figures": _figures(result),
        "cpu_minutes": result.get("cpu_minutes"),
        "finished": bool(result),
    }


def _result(job: Planned) -> dict[str, Any]:
    """The result of a run of this recipe that was finished, else nothing."""
    try:
        found = read_json(job.out / "result.json")
    except DataError:
        return {}
    return dict(found) if isinstance(found, dict) and is_run_of(job.out, job.recipe) else {}


def _figures(result: Mapping[str, Any]) -> dict[str, float]:
    """The last finite figures of a run, and the best validation figure where the checkpoint was chosen by one."""
    best = result.get("best")
    found = {**result.get("metrics", {}), **({f"best/{key}": value for key, value in best.items()} if isinstance(best, dict) else {})}
    numbers = {key: float(value) for key, value in found.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    return {key: value for key, value in numbers.items() if math.isfinite(value)}


def _plain(override: str) -> tuple[str, Plain]:
    """A setting and its value; lists and the like as the text that was given, which categories of Optuna can hold."""
    path, value = parse_override(override)
    return ".".join(path), value if isinstance(value, bool | int | float | str | None) else override.partition("=")[2]
