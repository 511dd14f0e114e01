"""Passages of novels as rows of numbers, which passages of unseen books and authors get by the same rule.

    python -m benchmarks.claims.passages NOVELS OUT     (writes OUT/train.npz, books.npz, val.npz, test.npz)

Character trigrams, tf-idf with logarithmic counts, the largest principal directions; rules are those of the passages of train.npz alone.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from kinshot.core.atomic import make_folder

NUMBERS, RAREST = 300, 5


def main(novels: Path, out: Path) -> None:
    """Write the tables: `train` without the last book of each author, which is in `books`; the authors of `val` and `test` are others."""
    known, val, test = (read(novels / f"{part}.csv") for part in ("train", "val", "test"))
    last = dict(zip(known["author"], known["book"], strict=True))
    held = np.array([last[author] == book for author, book in zip(known["author"], known["book"], strict=True)])
    counted = TfidfVectorizer(analyzer="char", ngram_range=(3, 3), lowercase=False, sublinear_tf=True, min_df=RAREST)
    reduced = TruncatedSVD(NUMBERS, random_state=0)
    rows = reduced.fit_transform(counted.fit_transform(known["text"][~held]))
    spread, middle = rows.std(axis=0).mean(), rows.mean(axis=0)
    make_folder(out)
    parts = {"train": {key: column[~held] for key, column in known.items()}, "books": {key: column[held] for key, column in known.items()}}
    for name, part in {**parts, "val": val, "test": test}.items():
        features = (reduced.transform(counted.transform(part["text"])) - middle) / spread
        np.savez(out / f"{name}.npz", features=features.astype(np.float32), author=part["author"], book=part["book"])


def read(path: Path) -> dict[str, np.ndarray]:
    """Columns text, author and book of a table, in the order of its rows."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {key: np.array([row[key] for row in rows]) for key in ("text", "author", "book")}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
