"""All records of a run as one table."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from kinshot.core.atomic import open_plain, write_text
from kinshot.learn.logger import TIMING, LoggedRun, Logger
from kinshot.learn.loggers import LOGGERS

FILE = "metrics.csv"
_FIRST = ("step", "epoch")


@LOGGERS.register("csv")
class CsvLogger(Logger):
    """`metrics.csv` in the run's folder: a row for each record, a column for each tag in the order of their first records.

    As RFC 4180 has it: commas, CRLF, a header. A cell is empty where a record does not say the tag, `nan` where the number is not finite.
    A run that goes on leaves the same file as one that was never stopped; times, which differ from run to run, stay in `timing.jsonl`.
    """

    part_of_run: ClassVar[bool] = True

    def __init__(self, run: LoggedRun) -> None:
        self.path = run.folder / FILE
        self._rows: list[Mapping[str, Any]] = [dict(record) for record in run.records]
        self._columns = list(dict.fromkeys([*_FIRST, *(tag for record in self._rows for tag in record)]))
        self._descriptor = -1
        self._begin()

    def scalars(self, step: int, epoch: int | None, values: Mapping[str, float]) -> None:
        """A row; the file is written anew where it has a tag that no row had."""
        row = {"step": step, **({} if epoch is None else {"epoch": epoch}), **{t: v for t, v in values.items() if not t.startswith(TIMING)}}
        if not row.keys() - set(_FIRST):
            return
        self._rows.append(row)
        new = [tag for tag in row if tag not in self._columns]
        if new:
            self._columns += new
            self._begin()
            return
        data = _lines(self._columns, [row]).encode()
        while data:
            data = data[os.write(self._descriptor, data) :]

    def flush(self) -> None:
        """Wait for the disk."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _begin(self) -> None:
        """The file with all rows so far, in whole; it is never seen half written."""
        self.close()
        header = dict(zip(self._columns, self._columns, strict=True))
        write_text(self.path, _lines(self._columns, [header, *self._rows]))
        self._descriptor = open_plain(self.path, os.O_WRONLY | os.O_APPEND)


def _lines(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_cell(row, column) for column in columns] for row in rows)
    return text.getvalue()


def _cell(row: Mapping[str, Any], column: str) -> Any:
    if column not in row:
        return ""
    value = row[column]
    return "nan" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value
