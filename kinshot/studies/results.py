"""Result files of measurements, and the table made from them: no figure in the documentation is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kinshot.core.atomic import make_folder, write_json, write_text
from kinshot.core.errors import DataError
from kinshot.studies.headlines import cell, headlines

SEEN, WARNING, CHOSEN = "seen in training", "warning", "chosen on validation"
"""Names of the lines of a protocol that say what training had seen of an evaluation, and what was chosen before it."""
COVERS, ROUGH = "interval covers", "interval is rough"
"""Names of the lines of a protocol that say what an interval is worth."""
_MANY = 8
FIELDS = ("name", "command", "data", "seeds", "cpu_minutes", "versions", "rows")


def write_results(path: Path, result: dict[str, Any], command: str) -> None:
    """Write the rows of a `fewshot eval`, and its heads paired with the first one, as the fields of FIELDS."""
    rows: list[dict[str, Any]] = [
        {
            "label": f"{row['model']}, {row['feature']}, {row['head']}",
            "metric": f"{row['ways']}-way {row['shots']}-shot accuracy, %",
            "mean": round(row["mean"], 3),
            "ci95": round(row["ci95"], 3),
            "n": row["n"],
            **({"part_of": row["part_of"]} if row.get("part_of") else {}),
        }
        for row in result["rows"]
    ]
    rows += [
        {
            "label": f"{d['model']}, {d['feature']}, {d['head']} minus {d['against']}",
            "metric": f"{d['ways']}-way {d['shots']}-shot accuracy, %",
            "mean": round(d["mean"], 3),
            "ci95": round(d["ci95"], 3),
            "n": d["n"],
            **rounded_p(d),
        }
        for d in result["heads paired"]
    ]
    rows += [
        {
            "label": f"{d['model']} minus {d['against']}, {d['feature']}, {d['head']}",
            "metric": f"{d['ways']}-way {d['shots']}-shot accuracy, %",
            "mean": round(d["mean"], 3),
            "ci95": round(d["ci95"], 3),
            "n": d["n"],
            **rounded_p(d),
        }
        for d in result.get("models paired", [])
    ]
    write_document(path, result, command, rows)


def rounded_p(difference: Mapping[str, Any]) -> dict[str, float]:
    """The p-value of a difference, and that corrected for how many were tested, to two digits."""
    return {name: float(f"{difference[name]:.2g}") for name in ("p", "p_holm") if name in difference}


def write_document(path: Path, result: dict[str, Any], command: str, rows: list[dict[str, Any]]) -> None:
    """Write a measurement with its rows `{label, metric, mean, ci95, n}` (and `p` of a tested difference) and the commands behind it."""
    document = {
        "name": path.stem,
        "command": "\n".join([*result["pretrained_by"], command]),
        "data": {**result["data"], **result["protocol"]},
        "seeds": result["seeds"],
        "cpu_minutes": result["cpu_minutes"],
        "versions": result["versions"],
        "rows": rows,
    }
    make_folder(path.parent)
    write_json(path, document)


def result_block(path: Path) -> str:
    """One result file as Markdown: its name, its account, its command, its protocol, its table.

    The account, what was asked and what the table says, is the text file of the same name, NAME.md, if there is one.
    Raises DataError naming a file that lacks a field.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    missing = [field for field in FIELDS if field not in document]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}: write it with the command that measures")
    head = [f"## {document['name']}", *filter(None, [_account(path)]), f"```\n{document['command']}\n```", _conditions(document)]
    return "\n\n".join([*head, "\n".join(_table(document["rows"]))]) + "\n"


def results_page(folder: Path) -> str:
    """The Markdown page of every result file in a folder: the figures that matter, where a list names them (`headlines`), then contents,
    the first sentence of each account, then everything.
    """
    files = sorted(folder.glob("*.json"))
    head = "# Results\n\nGenerated from `docs/results/*.json` (and the accounts beside them, `*.md`) by `make results`; do not edit.\n"
    contents = [f"- [{path.stem}](#{path.stem}): {_account(path).partition('. ')[0].rstrip('.')}".removesuffix(": ") for path in files]
    first = headlines(folder)
    screen = (
        [*first, "", "± is half of a 95 % interval, n what it is over. What each figure rests on stands below it.", ""] if first else []
    )
    titled = ["## Contents", ""] if first else []
    return "\n".join([head, *screen, *titled, *contents, "", *(result_block(path) for path in files)])


def _account(path: Path) -> str:
    text = path.with_suffix(".md")
    return text.read_text(encoding="utf-8").strip() if text.is_file() else ""


def insert_block(page: Path, block: str) -> None:
    """Replace what stands between the lines `<!-- results:begin -->` and `<!-- results:end -->` of a page. Raises DataError."""
    before, begin, rest = page.read_text(encoding="utf-8").partition("<!-- results:begin -->\n")
    _, end, after = rest.partition("<!-- results:end -->")
    if not begin or not end:
        raise DataError(f"{page} lacks the lines <!-- results:begin --> and <!-- results:end -->: put them where the results belong")
    write_text(page, before + begin + block.replace("\n## ", "\n### ").replace("## ", "### ", int(block.startswith("## "))) + end + after)


def write_page(folder: Path, page: Path) -> None:
    """Write `results_page(folder)` to `page`."""
    write_text(page, results_page(folder))


def _conditions(document: dict[str, Any]) -> str:
    """What was measured on, and at which cost: a list of four lines."""
    lines = {
        "Data": _words(document["data"]),
        "Seeds": _words(document["seeds"]),
        "CPU minutes": _words(document["cpu_minutes"]),
        "Versions": _words(document["versions"]),
    }
    return "\n".join(f"- {name}: {words}" for name, words in lines.items())


def _words(value: Any) -> str:
    """A value of a result file for people: many numbers as their range and sum, what is nested in brackets, nothing of what is empty."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        said = {key: _words(inner) for key, inner in value.items() if inner not in ("", None)}
        return "; ".join(f"{key} ({words})" if isinstance(value[key], dict) else f"{key} {words}" for key, words in said.items())
    if isinstance(value, list):
        if len(value) > _MANY and all(isinstance(one, int | float) for one in value):
            return f"{min(value):g} to {max(value):g} ({len(value)} of them, {sum(value):.4g} in all)"
        return ", ".join(map(_words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """Labels down and metrics across, or the other way round where there are many metrics."""
    rows = _means_alone(rows)
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    labels = list(dict.fromkeys(row["label"] for row in rows))
    cells = {(row["label"], row["metric"]): cell(row) for row in rows}
    wide = len(metrics) > _MANY and len(metrics) > len(labels)
    across, down = (labels, metrics) if wide else (metrics, labels)
    lines = ["| | " + " | ".join(across) + " |", "|" + "---|" * (len(across) + 1)]
    return lines + [f"| {d} | " + " | ".join(cells.get((a, d) if wide else (d, a), "") for a in across) + " |" for d in down]


def _means_alone(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where there are means over runs, the rows without those of the single runs, which stay in the file."""
    if any("part_of" in row for row in rows):
        parts = tuple({row["label"].partition(",")[0] for row in rows if "part_of" in row})
        return [row for row in rows if row["label"].partition(",")[0] not in parts]
    averaged = any(row["label"].startswith("mean of ") for row in rows)  # files of before rows said what they are part of
    return [row for row in rows if not (averaged and "/" in row["label"].partition(",")[0])]
