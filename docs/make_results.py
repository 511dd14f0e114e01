"""Regenerate docs/results.md, the results in README.md and the figures of `ssl list` from docs/results/*.json (`make results`)."""

from __future__ import annotations

from pathlib import Path

from kinshot.core.atomic import make_folder, write_json
from kinshot.learn import METHODS
from kinshot.studies.measured import measured_of
from kinshot.studies.result_intervals import mend_folder
from kinshot.studies.results import insert_block, result_block, write_page

DOCS = Path(__file__).resolve().parent
PACKAGED = DOCS.parent / "kinshot" / "ssl" / "measured.json"
"""What `ssl list` says of methods."""
README_RESULTS = ("glyphs_demo", "omniglot_interclr", "protonet_omniglot")


def main() -> None:
    """Write both pages and what is packaged of methods, from files whose intervals have all their parts."""
    mend_folder(DOCS / "results")
    write_page(DOCS / "results", DOCS / "results.md")
    make_folder(PACKAGED.parent)
    write_json(PACKAGED, measured_of(DOCS / "results" / "ssl_family.json", METHODS.names()))
    files = [DOCS / "results" / f"{name}.json" for name in README_RESULTS]
    insert_block(DOCS.parent / "README.md", "\n".join(result_block(path) for path in files if path.is_file()))


if __name__ == "__main__":
    main()
