"""Regenerate docs/results.md and the results in README.md from docs/results/*.json (`make results`)."""

from __future__ import annotations

from pathlib import Path

from kinshot.studies.result_intervals import mend_folder
from kinshot.studies.results import insert_block, result_block, write_page

DOCS = Path(__file__).resolve().parent
README_RESULTS = ("glyphs_demo", "omniglot_interclr", "protonet_omniglot")


def main() -> None:
    """Write both pages, from files whose intervals have all their parts."""
    mend_folder(DOCS / "results")
    write_page(DOCS / "results", DOCS / "results.md")
    files = [DOCS / "results" / f"{name}.json" for name in README_RESULTS]
    insert_block(DOCS.parent / "README.md", "\n".join(result_block(path) for path in files if path.is_file()))


if __name__ == "__main__":
    main()
