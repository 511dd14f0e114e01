"""A made-up graph of papers, authors, subjects and venues in the layout of source `hetero_graph`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from kinshot.datasets import SOURCES
from kinshot.samples.nodes import NodeSpec

PAPERS, AUTHORS, SUBJECTS, VENUES, WORDS = 24, 10, 4, 3, 8


def graph_arrays(seed: int = 0, papers: int = PAPERS) -> dict[str, Any]:
    """Arrays of the file: three classes of papers, whose authors, subjects and words mostly go with them; the last has no author."""
    rng = np.random.default_rng(seed)
    labels = np.arange(papers) % 3
    authors = [
        (paper, author) for paper in range(papers - 1) for author in {int(3 * rng.integers(3) + labels[paper]), int(rng.integers(AUTHORS))}
    ]
    venues = [(author, author % VENUES) for author in range(AUTHORS)] + [(0, 1), (4, 2)]
    words = rng.random((papers, WORDS)) < 0.5
    words[np.arange(papers), labels] = True
    lists = {}
    for count in (1, 2):
        order = rng.permutation(np.arange(papers - 6))
        lists |= {f"train_{count}": np.arange(papers - 6, papers - 6 + 3 * count), f"val_{count}": order[:8], f"test_{count}": order[8:]}
    return {
        "node_type": np.array(["p", "a", "s", "v"]),
        "node_count": np.array([papers, AUTHORS, SUBJECTS, VENUES]),
        "target_type": np.array("p"),
        "edges_pa": np.array(sorted(authors)).T,
        "edges_ps": np.array([np.arange(papers), (labels + (rng.random(papers) < 0.3)) % SUBJECTS]),
        "edges_av": np.array(venues).T,
        "feat_p": words.astype(np.float32),
        "metapath": np.array(["pap", "psp", "pavap"]),
        "labels": labels,
        **lists,
    }


def write_graph(path: Path, papers: int = PAPERS, **changed: Any) -> Path:
    """Write the file, with arrays exchanged, or left out where None is given."""
    arrays = {name: value for name, value in {**graph_arrays(papers=papers), **changed}.items() if value is not None}
    np.savez(path, **arrays)
    return path


def graph_source(papers: int = PAPERS, **settings: Any) -> Any:
    """The source of such a file."""
    with tempfile.TemporaryDirectory() as folder:
        return SOURCES.build("hetero_graph", settings={"root": str(write_graph(Path(folder) / "papers.npz", papers)), **settings})


def graph_spec(papers: int = PAPERS, **settings: Any) -> NodeSpec:
    """What its nodes are."""
    spec: NodeSpec = graph_source(papers, **settings).spec
    return spec
