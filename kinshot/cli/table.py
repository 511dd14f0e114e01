"""The tables that `fewshot eval` and `ssl probe` print."""

from __future__ import annotations

from typing import Any

from kinshot.cli.common import lines as said
from kinshot.cli.common import shown
from kinshot.recipes.specs import Task
from kinshot.studies.results import CHOSEN, COVERS, ROUGH, SEEN, WARNING


def accuracy_table(result: dict[str, Any]) -> str:
    """Rows of model, feature and head against tasks; the protocol stands above, the verdict below."""
    rows = result["rows"]
    tasks = list(dict.fromkeys((r["ways"], r["shots"]) for r in rows))
    found: dict[tuple[str, str, str], dict[Task, str]] = {}
    for r in rows:
        line = found.setdefault((r["model"], r["feature"], r["head"]), {})
        line[(r["ways"], r["shots"])] = f"{r['mean']:.2f} ± {r['ci95']:.2f}"
    head = ["model", "feature", "head", *(f"{w}-way {k}-shot" for w, k in tasks)]
    body = [[*key, *(cells.get(task, "") for task in tasks)] for key, cells in found.items()]
    protocol, data = result["protocol"], result["data"]
    lines = [
        f"{data['name']} {data.get('split', '')}: {data['classes']} classes, {data['images']} images".replace(" :", ":"),
        f"accuracy in %, {_drawn(protocol)}",
        f"± {protocol['interval']}; support and query images are {protocol['support and query']}",
        f"training: {protocol['training']}",
        *(f"{key}: {value}" for key, value in protocol.items() if key.startswith((SEEN, WARNING))),
        *_tried(result.get(CHOSEN)),
        "",
        *align([head, *body]),
        "",
        *(f"{key}: {protocol[key]}" for key in (COVERS, ROUGH) if key in protocol),
    ]
    if result["beats_references"] is not None:
        from kinshot.studies.summaries import is_reference

        known = len({r["model"] for r in rows if is_reference(r["model"])})
        both = "both references" if known == 2 else "every reference"
        verdict = f"lies above {both} on every task, with disjoint intervals"
        if not result["beats_references"]:
            verdict = f"does NOT lie above {both} on every task with disjoint intervals"
        seen = " But see the warning above." if WARNING in protocol else ""
        lines += ["", f"The best pretrained row {verdict}.{seen}", *_gains(result)]
    lines += [*_paired(result["heads paired"]), *_between(result["models paired"])]
    return "\n".join(lines)


def _gains(result: dict[str, Any]) -> list[str]:
    """How much more is right than with each reference, and what to try next where that is little."""
    head = ["gain over", "task", "points", "row", "minus"]
    rows = [
        [g["against"], f"{g['ways']}-way {g['shots']}-shot", f"{g['mean']:+.2f} ± {g['ci95']:.2f}", f"{g['model']}, {g['row']}",
         g["against_row"]]
        for g in result.get("gains over references", [])
    ]  # fmt: skip
    step = result.get("next step", "")
    return [*(["", "best row of each, on the same episodes:", *align([head, *rows])] if rows else []), *(["", step] if step else [])]


def _tried(account: dict[str, Any] | None) -> list[str]:
    """What was tried on validation classes, best first, and what of it was chosen."""
    if account is None:
        return []
    kept = [(one["head"], one["feature"]) for one in account["chosen"]]
    tried = sorted(account["tried"], key=lambda one: -one["accuracy"])
    rows = [
        [one["head"], one["feature"], f"{one['accuracy']:.2f}", "chosen" if (one["head"], one["feature"]) in kept else ""] for one in tried
    ]
    data = account["data"]
    told = f"chosen on {data['name']}: {data['classes']} classes, {_drawn(account)}; by {account['by']}"
    return ["", told, *align([["head", "feature", "%", ""], *rows])]


def _drawn(protocol: dict[str, Any]) -> str:
    if "from" in protocol:
        return f"{protocol['episodes']} episodes from {protocol['from']}"
    sizes = f", sizes: {protocol['sizes']}" if "sizes" in protocol else ""
    return f"{protocol['episodes']} episodes (seed {protocol['seed']}), queries: {protocol['queries']}{sizes}"


def _paired(differences: list[dict[str, Any]]) -> list[str]:
    """Heads against the first one, when there are several."""
    if not differences:
        return []
    head = ["model", "feature", "head", "minus", "task", "points", "p", "p (Holm)", "wins/losses"]
    rows = [
        [d["model"], d["feature"], d["head"], d["against"], f"{d['ways']}-way {d['shots']}-shot", f"{d['mean']:+.2f} ± {d['ci95']:.2f}",
         f"{d['p']:.2g}", f"{d['p_holm']:.2g}", f"{d['wins']}/{d['losses']}"]
        for d in differences
    ]  # fmt: skip
    return ["", "paired on the same episodes; Holm: corrected for the heads that one model, feature and task has:", *align([head, *rows])]


def _between(differences: list[dict[str, Any]]) -> list[str]:
    """Checkpoints against one another, where they differ by more than their seed."""
    if not differences:
        return []
    head = ["model", "minus", "feature", "head", "task", "points", "p", "p (Holm)"]
    rows = [
        [d["model"], d["against"], d["feature"], d["head"], f"{d['ways']}-way {d['shots']}-shot", f"{d['mean']:+.2f} ± {d['ci95']:.2f}",
         f"{d['p']:.2g}", f"{d['p_holm']:.2g}"]
        for d in differences
    ]  # fmt: skip
    told = "checkpoints that differ by more than their seed, on the same episodes; Holm: corrected for the pairs of one task:"
    return ["", told, *align([head, *rows])]


def rows_table(result: dict[str, Any]) -> str:
    """Rows `{label, metric, mean, ci95, n}` as labels against metrics; the protocol stands above."""
    rows = result["rows"]
    metrics = list(dict.fromkeys(r["metric"] for r in rows))
    found: dict[str, dict[str, str]] = {}
    for r in rows:
        found.setdefault(r["label"], {})[r["metric"]] = f"{r['mean']:.2f} ± {r['ci95']:.2f}" if r["n"] > 1 else f"{r['mean']:.2f}"
    body = [[label, *(cells.get(metric, "") for metric in metrics)] for label, cells in found.items()]
    told = ", ".join(f"{key} {shown(value)}" for key, value in {**result["data"], **result["protocol"]}.items())
    return "\n".join([told, "", *align([["", *metrics], *body])])


def protocols_table(result: dict[str, Any]) -> str:
    """Rows `{label, metric, mean, ci95, n}` as metrics against labels; what was measured and how stands above, a line each."""
    rows = result["rows"]
    labels = list(dict.fromkeys(r["label"] for r in rows))
    found: dict[str, dict[str, str]] = {}
    for r in rows:
        width = f" ± {r['ci95']:.2f}" if r["n"] > 1 else ""
        found.setdefault(r["metric"], {})[r["label"]] = f"{r['mean']:.2f}{width}"
    body = [[metric, *(cells.get(label, "") for label in labels)] for metric, cells in found.items()]
    return "\n".join([said({**result["data"], **result["protocol"]}), "", *align([["", *labels], *body])])


def align(rows: list[list[str]]) -> list[str]:
    """Lines with the columns under one another."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
