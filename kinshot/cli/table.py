"""The accuracy table that `fewshot eval` prints."""

from __future__ import annotations

from typing import Any


def accuracy_table(result: dict[str, Any]) -> str:
    """Rows of model, feature and head against tasks; the protocol stands above, the verdict below."""
    rows = result["rows"]
    tasks = list(dict.fromkeys((r["ways"], r["shots"]) for r in rows))
    found: dict[tuple[str, str, str], dict[tuple[int, int], str]] = {}
    for r in rows:
        line = found.setdefault((r["model"], r["feature"], r["head"]), {})
        line[(r["ways"], r["shots"])] = f"{r['mean']:.2f} ± {r['ci95']:.2f}"
    head = ["model", "feature", "head", *(f"{w}-way {k}-shot" for w, k in tasks)]
    body = [[*key, *(cells.get(task, "") for task in tasks)] for key, cells in found.items()]
    widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
    protocol, data = result["protocol"], result["data"]
    lines = [
        f"{data['name']} {data.get('split', '')}: {data['classes']} classes, {data['images']} images".replace(" :", ":"),
        f"accuracy in %, {protocol['episodes']} episodes (seed {protocol['seed']}), {protocol['queries']} queries per class",
        f"± {protocol['interval']}; support and query images are {protocol['support and query']}",
        "",
        *("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in [head, *body]),
    ]
    if result["beats_references"] is not None:
        verdict = "lies above both references on every task, with disjoint intervals"
        if not result["beats_references"]:
            verdict = "does NOT lie above both references on every task with disjoint intervals"
        lines += ["", f"The best pretrained row {verdict}."]
    return "\n".join(lines)
