"""The audit as a page: one table for each task, the claim, what the runs say, and the account that stands beside the task's file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.claims.plan import FOLDER, Task
from kinshot.core.atomic import write_text


def write_page(path: Path, document: Mapping[str, Any], tasks: Sequence[Task]) -> None:
    """Write the Markdown page of a result file."""
    write_text(path, page(document, tasks))


def page(document: Mapping[str, Any], tasks: Sequence[Task]) -> str:
    """The page: head, count of verdicts, then task by task."""
    rows = document["rows"]
    counts = Counter(row["verdict"] for row in rows)
    said = ", ".join(f"{counts[word]} {word}" for word in ("seen", "not seen", "opposite"))
    head = (FOLDER / "head.md").read_text(encoding="utf-8").strip()
    holm = sum(row["p_holm"] < 0.05 for row in rows)
    count = (
        f"**{len(rows)} claims: {said}.** Corrected for their number (Holm), {holm} of the differences stay below 0.05. "
        f"{document['data']['runs']} runs, {document['cpu_minutes']:g} CPU minutes in all."
    )
    return "\n\n".join([head, count, f"```\n{document['command']}\n```", *(_section(task, rows) for task in tasks)]) + "\n"


def _section(task: Task, rows: Sequence[Mapping[str, Any]]) -> str:
    own = {claim.name for claim in task.claims}
    mine = [row for row in rows if row["label"].partition(",")[0] in own and f", {task.name} (" in row["label"]]
    head = ["claim", "verdict", "difference", "of", "arms, and what they reach", "beside it", "p (Holm)", "CPU min"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    account = FOLDER / f"{task.name}.md"
    return "\n\n".join(
        [
            f"## {task.name}",
            task.says,
            "\n".join(lines + [_line(row) for row in mine]),
            *([account.read_text(encoding="utf-8").strip()] if account.is_file() else []),
        ]
    )


def _line(row: Mapping[str, Any]) -> str:
    paper = row["paper"]
    beside = ", ".join(f"{name} {mean:+.3g} ± {width:.2g}" for name, (mean, width) in row["also"].items())
    over = row["over"] if isinstance(row["over"], str) else f"{row['over']:g}"
    since = f", each since {' and '.join(dict.fromkeys(row['since']))}" if "since" in row else ""
    cells = [
        f"{row['claim']} *{paper}*",
        f"**{row['verdict']}**",
        f"{row['mean']:+.3g} ± {row['ci95']:.2g} (n={row['n']})",
        row["judged by"],
        f"{row['arm']} {row['of arm']:.4g}, {over}" + (f" {row['of over']:.4g}" if isinstance(row["over"], str) else "") + since,
        beside,
        f"{row['p']:.2g} ({row['p_holm']:.2g})",
        f"{row['cpu_minutes']:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"
