"""Every method of the pretraining family at equal budget: Fashion-MNIST, one recipe each, three CPU minutes on one core.

    python -m benchmarks.ssl_family --data data --out runs/family --json docs/results/ssl_family.json       (stopped, it goes on)
    python -m benchmarks.ssl_family simclr byol --data data --out runs/family                                  (some of the methods)

`--data` is a folder that holds FashionMNIST in torchvision's layout. The result file names the methods that are not measured yet.
Exit status: 0, or 1 where a run failed.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.label_free import Exam, Run, beside, finished
from kinshot.core.atomic import make_folder, write_json
from kinshot.core.runtime import describe_machine, set_threads

RECIPES = {
    "simclr": "SimCLR",
    "dcl": "DCL",
    "dclw": "DCLW",
    "moco": "MoCo v2",
    "moco_v3": "MoCo v3",
    "byol": "BYOL",
    "simsiam": "SimSiam",
    "barlow_twins": "Barlow Twins",
    "vicreg": "VICReg",
    "swav": "SwAV",
    "dino": "DINO",
    "nnclr": "NNCLR",
    "tico": "TiCo",
    "npid": "NPID",
    "interclr": "InterCLR on MoCo v2",
    "interclr_npid": "InterCLR on NPID (our recipe)",
    "interclr_byol": "InterCLR on BYOL (our recipe)",
    "mae": "MAE (vision transformer)",
}
"""What rows call the method of the recipe `fashion_NAME`. A further form or method is a further line here, and its recipe."""
NOTES = [
    "the same encoder, batch and views for all, one view of a sample for those that take one, projectors as methods want them, one seed",
    "MAE has a vision transformer of 64 numbers a token and six layers, as it needs patches, and views of unchanged brightness",
    "CPU minutes are the process time of each training, on a machine that others use too; epochs were set so that they are at most 3",
]


def main() -> int:
    """Train and measure what is missing, then the table of what there is."""
    given = argparse.ArgumentParser(prog="python -m benchmarks.ssl_family", description=__doc__.partition("\n")[0])
    given.add_argument("methods", nargs="*", metavar="METHOD", help=f"some of {', '.join(RECIPES)} [default: all]")
    given.add_argument("--data", type=Path, required=True, help="folder with FashionMNIST")
    given.add_argument("--out", type=Path, required=True, help="folder of runs and their figures")
    given.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of every run, to try it out on less")
    given.add_argument("--dry-run", action="store_true", help="train and measure nothing")
    given.add_argument("--json", type=Path, help="write the table of everything that is measured to this file")
    told = given.parse_args()
    unknown = [name for name in told.methods if name not in RECIPES]
    if unknown:
        raise SystemExit(f"no method {', '.join(unknown)}: choose among {', '.join(RECIPES)}")
    set_threads(1)
    runs = {name: run_of(name, told.data, told.out, tuple(told.set)) for name in RECIPES}
    failed = 0
    if not told.dry_run:
        _, failed = finished([runs[name] for name in told.methods or RECIPES])
    known = {name: found for name, run in runs.items() if (found := run.known()) is not None}
    if told.json and known:
        first = runs[next(iter(known))]
        references = beside(first, told.out / "beside.json")
        make_folder(told.json.parent)
        write_json(told.json, document(known, references, told.json.stem, told.json))
    return int(failed > 0)


def run_of(name: str, data: Path, out: Path, settings: tuple[str, ...] = ()) -> Run:
    """The run of a method."""
    return Run(RECIPES[name], f"fashion_{name}", settings, 0, data, out / f"fashion_{name}", Exam())


def document(
    known: Mapping[str, Mapping[str, Any]], references: Mapping[str, Mapping[str, float]], name: str, path: Path
) -> dict[str, Any]:
    """The result file: a row for each method and figure, best first by the first figure, then what any training must beat."""
    metric = next(iter(next(iter(known.values()))["figures"]))
    order = sorted(known, key=lambda one: -known[one]["figures"][metric])
    figures = {RECIPES[one]: known[one]["figures"] | {"CPU minutes": known[one]["cpu_minutes"]} for one in order}
    missing = [RECIPES[one] for one in RECIPES if one not in known]
    first = known[order[0]]
    command = shlex.join(["python", "-m", "benchmarks.ssl_family", "--data", "data", "--out", "runs/family", "--json", str(path)])
    protocols = {key: value for key, value in first["protocol"].items() if key in ("knn", "linear", "checkpoint")}
    return {
        "name": name,
        "command": command,
        "data": {**first["data"], "not measured yet": ", ".join(missing) or "none", **unchosen(protocols)},
        "seeds": [0],
        "cpu_minutes": {
            "training of each": {RECIPES[one]: known[one]["cpu_minutes"] for one in order},
            "evaluation of all": round(sum(one["measuring_cpu_minutes"] for one in known.values()), 2),
        },
        "versions": {**first["versions"], "training": "; ".join(dict.fromkeys(one["versions"]["training"] for one in known.values()))},
        "machine": describe_machine(),
        "epochs": {RECIPES[one]: known[one]["epochs"] for one in order},
        "penalty of the linear probe": {RECIPES[one]: chosen(known[one]) for one in order},
        "notes": NOTES,
        "rows": rows_of({**figures, **references}),
    }


def chosen(found: Mapping[str, Any]) -> str:
    """The penalty that a run's linear probe settled on."""
    (said,) = found["protocol"]["linear"]["penalty chosen"].values()  # by the folder of the run, which says nothing to others
    return str(said)


def unchosen(protocols: Mapping[str, Any]) -> dict[str, Any]:
    """Protocols without what each run chose, which stands beside them for all runs."""
    return {
        name: {key: value for key, value in told.items() if not key.endswith(" chosen")} if isinstance(told, Mapping) else told
        for name, told in protocols.items()
    }


def rows_of(figures: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """A row for each label and figure, of one run."""
    return [
        {"label": label, "metric": metric, "mean": value, "ci95": 0.0, "n": 1}
        for label, found in figures.items()
        for metric, value in found.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
