"""Train and measure what an audit of claims lacks, and say what it shows.

    python -m benchmarks.claims --data data --out runs/claims                                   (everything; stopped, it goes on)
    python -m benchmarks.claims letters --data data --out runs/claims --part 0/2                (every second run of one task)
    python -m benchmarks.claims --data data --out runs/claims --json docs/results/claims.json   (and the verdicts)

`--data` is a folder with data in their official layouts; each task's file says which. Exit status: 0, or 1 where a run failed.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.claims.page import write_page
from benchmarks.claims.plan import Task, read_tasks
from benchmarks.claims.runs import Job, jobs_of, prepare, run
from benchmarks.claims.verdicts import RULE, Verdict, judged, rows_of
from benchmarks.common import say
from kinshot.core.atomic import write_json
from kinshot.core.errors import Interrupted, KinshotError
from kinshot.core.runtime import describe_machine

PAGE = Path("docs") / "claims.md"


def main() -> int:
    """Run what is missing, then the verdicts on what there is."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.claims", description=__doc__.partition("\n")[0])
    arguments.add_argument("tasks", nargs="*", metavar="TASK", help="some of the tasks [default: all]")
    arguments.add_argument("--data", type=Path, required=True, help="folder with the data")
    arguments.add_argument("--out", type=Path, required=True, help="folder of runs and their figures")
    arguments.add_argument("--arms", nargs="+", default=[], metavar="ARM", help="only these arms")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[], metavar="SEED", help="only these seeds of each arm")
    arguments.add_argument("--part", default="0/1", metavar="K/N", help="only every N-th run from the K-th on, for several processes")
    arguments.add_argument("--split", default="test", help="what is measured; val, with another --out, is for choosing settings")
    arguments.add_argument("--dry-run", action="store_true", help="train nothing")
    arguments.add_argument("--json", type=Path, help="write the verdicts to this file, and their page beside the other documentation")
    given = arguments.parse_args()
    tasks = read_tasks(given.tasks)
    failed = 0 if given.dry_run else trained(wanted_jobs(tasks, given))
    verdicts = [verdict for task in tasks for verdict in verdicts_of(task, given)]
    for one in verdicts:
        width = one.difference.half_width
        say(f"{one.word:8} {one.difference.mean:+.2f} ± {width:.2f} {one.claim.metric}  {one.task.name}: {one.claim.says}")
    if given.json:
        write(given.json, tasks, verdicts, given)
    return int(failed > 0)


def wanted_jobs(tasks: Sequence[Task], given: argparse.Namespace) -> list[Job]:
    """The runs that are asked for, in order."""
    first, _, count = given.part.partition("/")
    jobs = [job for task in tasks for job in jobs_of(task, given.data, given.out, given.split)]
    found = [job for job in jobs if (not given.arms or job.arm in given.arms) and (not given.seeds or job.seed in given.seeds)]
    return found[int(first) :: int(count)]


def trained(jobs: Sequence[Job]) -> int:
    """Run all of them; a run that fails is said, and the others go on. Returns how many failed."""
    failed = 0
    for job in jobs:
        try:
            prepare(job)
            run(job)
        except Interrupted:
            raise SystemExit("stopped after a checkpoint; the same command goes on") from None
        except KinshotError as problem:
            say(f"{job.task.name} {job.arm} seed {job.seed} failed: {problem}")
            failed += 1
    return failed


def verdicts_of(task: Task, given: argparse.Namespace) -> list[Verdict]:
    """The verdicts on a task's claims, as far as its runs go."""
    figures: dict[str, dict[int, dict[str, float]]] = {}
    cost: dict[str, dict[int, float]] = {}
    for job in jobs_of(task, given.data, given.out, given.split):
        found = job.known()
        if found is not None:
            figures.setdefault(job.arm, {})[job.seed] = found["figures"]
            cost.setdefault(job.arm, {})[job.seed] = found["cpu_minutes"] + found["measuring_cpu_minutes"]
    return [one for claim in task.claims if (one := judged(claim, task, figures, cost)) is not None]


def write(path: Path, tasks: Sequence[Task], verdicts: Sequence[Verdict], given: argparse.Namespace) -> None:
    """The result file, and the page."""
    known = [found for task in tasks for job in jobs_of(task, given.data, given.out) if (found := job.known()) is not None]
    rows = rows_of(verdicts)
    document: dict[str, Any] = {
        "name": path.stem,
        "command": shlex.join(["python", "-m", "benchmarks.claims", "--data", "data", "--out", "runs/claims", "--json", str(path)]),
        "data": {"tasks": {task.name: task.says for task in tasks}, "interval": RULE, "runs": len(known)},
        "seeds": sorted({seed for one in verdicts for seed in one.seeds}),
        "cpu_minutes": round(sum(one["cpu_minutes"] + one["measuring_cpu_minutes"] for one in known), 1),
        "versions": known[0]["versions"],
        "machine": describe_machine(),
        "rows": rows,
    }
    write_json(path, document)
    write_page(PAGE, document, tasks)


if __name__ == "__main__":
    sys.exit(main())
