"""What `ssl list` and `ssl show` say of a method beside its summary: the paper that it is from, and what it measured."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

MEASURED = Path(__file__).resolve().parents[1] / "ssl" / "measured.json"
"""Figures of methods at equal budget, written by `make results` from docs/results/ssl_family.json."""
_CITED = re.compile(
    r"(?P<who>[^;:(\"]*?),?\s*(?:\"[^\"]*\",?\s*)?(?:(?:ICML|ICLR|NeurIPS|CVPR) )?"  # authors, perhaps a title in quotes and a venue
    r"(?P<year>(?:19|20)\d\d)\b(?:, arXiv (?P<id>\d{4}\.\d{4,5}))?"
)


def papers(docstring: str) -> list[str]:
    """The papers of the lines `Paper:` of a docstring, short: `Chen et al. 2020, arXiv 2002.05709`; none where a line says so."""
    found = []
    for line in re.findall(r"^\s*Paper: (.+)$", docstring, re.MULTILINE):
        for part in line.split(";")[: 0 if line.startswith("none") else None]:
            if cited := _CITED.search(part):
                arxiv = f", arXiv {cited['id']}" if cited["id"] else ""
                found.append(f"{_short(cited['who'])} {cited['year']}{arxiv}")
    return list(dict.fromkeys(found))


def figures(name: str) -> dict[str, Any]:
    """What a method measured, by metric, with the data in `on`; empty where nothing is published."""
    known = _measured(MEASURED)
    found = known.get("methods", {}).get(name)
    return {"on": known.get("on", ""), **found} if found else {}


def method_facts(name: str, docstring: str) -> dict[str, Any]:
    """Papers and figures for programs."""
    return {"paper": papers(docstring), "measured": figures(name)}


def line_of(docstring: str, name: str) -> str:
    """Its first paper and its figures, for the end of a line; empty where there are neither."""
    return "; ".join([*papers(docstring)[:1], *([figures_text(name)] if figures(name) else [])])


def figures_text(name: str) -> str:
    """A method's figures in words."""
    known = figures(name)
    budget = f" after {known['CPU minutes']:.1f} CPU minutes" if "CPU minutes" in known else ""
    said = [
        f"{metric.removesuffix(', %').replace(' accuracy', '')} {value:.1f} %"
        for metric, value in known.items()
        if metric not in ("on", "CPU minutes")
    ]
    return f"{known['on']}{budget}: {', '.join(said)}"


def _short(authors: str) -> str:
    """One author, two, or the first one and others."""
    names = [name.strip() for name in re.sub(r"^(?!van )(?:[a-z]+ )+", "", authors.strip()).strip(" ,").split(",") if name.strip()]
    return " and ".join(names) if len(names) < 3 else f"{names[0]} et al."  # as papers are cited


@cache
def _measured(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found
