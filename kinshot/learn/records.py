"""Reading what a run has recorded: `metrics.jsonl` and `timing.jsonl`, also while it is being written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kinshot.core.errors import DataError


def read_records(path: Path, until: int | None = None) -> list[dict[str, Any]]:
    """Records of a JSON Lines file up to the step `until`, or all; none where there is no file.

    A last line cut short by a kill, or by a run that is writing it, is dropped. Raises DataError for any other line that is no record.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except OSError as problem:
        raise DataError(f"cannot read {path}: {problem.strerror}; move it away to start a new one") from problem
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or not isinstance(record.get("step"), int):
                raise ValueError("no step")
        except (ValueError, RecursionError) as problem:
            if number == len(lines) and not line.endswith(b"\n"):
                break
            raise DataError(f"{path}, line {number} is not a record ({problem}): move the file away to start a new one") from problem
        if until is None or record["step"] <= until:
            records.append(record)
    return records
