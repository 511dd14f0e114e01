"""What `ssl search`, `duplicates` and `outliers` print for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinshot.cli.table import align

if TYPE_CHECKING:
    from kinshot.index.opened import Duplicates, Hit, Index


def _shown(path: str | Path) -> str:
    from kinshot.datasets.survey import shown  # which brings NumPy

    return shown(path)


def _engine(result: dict[str, Any]) -> str:
    return f"exact, candidates by {result['engine']}"


def search_text(found: list[tuple[Path, list[Hit]]], result: dict[str, Any]) -> str:
    """Queries and what each has found."""
    rows = [["query", "cosine", "image", "more copies"]]
    for file, hits in found:
        rows += [
            [_shown(file) if not at else "", f"{hit.cosine:.4f}", _shown(hit.path), str(len(hit.copies) or "")]
            for at, hit in enumerate(hits)
        ]
    return "\n".join([*align(rows), "", f"{result['files']:,} files of {result['contents']:,} contents; {_engine(result)}"])


def duplicates_text(index: Index, found: Duplicates) -> str:
    """Clusters, and how many pairs there are."""
    lines = []
    for one in found.clusters:
        kind = "one content" if one.exact else f"{len(set(one.rows))} contents, cosines from {one.lowest:.4f}"
        lines += [f"{len(one.paths)} files, {kind}:", *(f"  {_shown(path)}" for path in one.paths)]
    files = sum(len(one.paths) for one in found.clusters)
    near = f"half of all images have another at {found.nearest[0]:.4f} or nearer; " if found.nearest else ""
    lines += [
        *[""] * bool(lines),
        f"{len(found.clusters):,} clusters of {files:,} files, of {len(index.state.table):,}: {found.copies:,} have the content of "
        f"another; {found.pairs:,} pairs of contents have a cosine of at least {found.threshold:g}",
        f"{near}every pair compared, candidates by {index.shelves.engine_for(len(index))}",
    ]
    return "\n".join(lines)


def outliers_text(index: Index, result: dict[str, Any]) -> str:
    """The strangest images."""
    rows = [["score", "image"], *([f"{one['score']:.4f}", _shown(one["image"])] for one in result["outliers"])]
    told = f"score: {result['score']}; the middle one of {len(index):,} is {result['median']:.4f}; {_engine(result)}"
    return "\n".join([*align(rows), "", told])
