"""Progress on stderr: a bar on a terminal, a plain line now and then elsewhere; and plain text tables for stdout."""

from __future__ import annotations

import math
import os
import sys
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from torch import Tensor


_LONGEST_BAR, _SHORTEST_BAR = 40, 6


class Progress:
    """Shows how many steps are done, epoch and loss where there are any, images/s and the time left.

    A context manager. On a terminal it draws a bar (with rich, if installed; NO_COLOR is honoured), elsewhere it writes one
    line every `every` seconds; quiet, it writes nothing. Output that nobody reads any more never stops a run.

    Args:
        total: steps in the whole run; None where nobody knows.
        start: steps already done when this process took over.
        unit: what a plain line calls a step.
        quiet: show nothing.
        every: seconds between plain lines, or between redraws (at least 0.1).
        stream: where to, stderr unless told.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        total: int | None,
        start: int = 0,
        *,
        unit: str = "step",
        quiet: bool = False,
        every: float | None = None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.start, self.unit, self.quiet, self.clock = total, start, unit, quiet, clock
        self.stream = stream if stream is not None else sys.stderr
        self._bar = None if quiet else _rich_bar(self.stream, total, start)
        self.every = every if every is not None else (0.1 if self._bar else 10.0)
        self._began = self._shown = clock()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def update(self, step: int, *, epoch: int | None = None, loss: float | Tensor | None = None, rate: float = 0.0) -> None:
        """Show where the run is, if it is time to; only then is `loss` read (a tensor stays on its device till then).

        Args:
            step: steps done.
            epoch: 0-based epoch of the last step; None where nothing is repeated.
            loss: loss of the last step; None where there is none.
            rate: images per second, 0 if unknown.
        """
        now = self.clock()
        if self.quiet or (now - self._shown < self.every and step != self.total):
            return
        self._shown = now
        done = step - self.start
        left = (now - self._began) / done * (self.total - step) if done > 0 and self.total is not None else math.nan
        facts = [
            "" if epoch is None else f"epoch {epoch + 1}",
            "" if loss is None else f"loss {float(loss):.4f}",
            f"{rate:.0f} images/s" if rate else "",
            "" if self.total is None else f"{duration(left)} left",
        ]
        if self._bar is not None:
            with suppress(OSError):  # as below
                bar, text = fitting(self._bar.console.width, self.total or step, facts)
                self._bar.columns[0].bar_width = bar
                self._bar.update(self._bar.task_ids[0], completed=step, facts=text)
        else:
            self._line("  ".join([f"{self.unit} {step}" + ("" if self.total is None else f"/{self.total}"), *filter(None, facts)]))

    def close(self) -> None:
        """Leave the terminal as it was. May be called twice."""
        if self._bar is not None:
            with suppress(OSError):
                self._bar.stop()
            self._bar = None
            self.quiet = True

    def _line(self, text: str) -> None:
        with suppress(OSError, ValueError):  # a closed pipe or stream must not stop a run
            self.stream.write(text + "\n")
            self.stream.flush()


def fitting(width: int, total: int, facts: Sequence[str]) -> tuple[int, str]:
    """Width of the bar, and the facts (epoch, loss, rate, time left; empty ones left out) that fit beside it and the steps on one line.

    The bar shrinks first, then rate, epoch and loss go, in this order: the time left stays.
    """
    room = width - (2 * len(str(total)) + 1) - 3  # the steps done and their total, and a blank between columns and at the end
    kept = list(facts)
    for dropped in (None, 2, 0, 1):
        if dropped is not None:
            kept[dropped] = ""
        text = "  ".join(filter(None, kept))
        if len(text) + _SHORTEST_BAR <= room:
            break
    return max(_SHORTEST_BAR, min(_LONGEST_BAR, room - len(text))), text


class Work:
    """Says now and then how far a computation is and how long it will take, for studies whose parts are long.

    Nothing is said before `every` seconds are over, so that what is quick stays quiet.

    Args:
        total: amount of work, in any unit.
        say: takes a line for the person who waits.
        what: what the line is about.
        every: seconds between two lines.
        clock: seconds, for tests.
    """

    def __init__(
        self, total: float, say: Callable[[str], None], what: str, *, every: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total, self.say, self.what, self.every, self.clock = total, say, what, every, clock
        self.done = 0.0
        self._began = self._shown = clock()

    def step(self, amount: float = 1.0) -> None:
        """Count a finished amount, and say where the work is if it is time to."""
        self.done += amount
        now = self.clock()
        if now - self._shown < self.every or self.done >= self.total:
            return
        self._shown = now
        left = (now - self._began) / self.done * (self.total - self.done)
        self.say(f"{self.what}: {100 * self.done / self.total:.0f} % done, about {duration(left)} left")


def duration(seconds: float) -> str:
    """Seconds as people say them: 42s, 3m10s, 2h05m, 1d03h; ? if unknown."""
    if not math.isfinite(seconds):
        return "?"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def table(rows: Sequence[Mapping[str, Any] | Sequence[Any]], columns: Sequence[str]) -> str:
    """Rows as aligned plain text under a line of column names, for stdout; ends without a newline.

    Args:
        rows: each a mapping by column name (missing values show as "-") or a sequence in the order of `columns`.
        columns: names, also the keys of mappings. Columns of numbers are aligned to the right.
    """
    values = [[row.get(c) for c in columns] if isinstance(row, Mapping) else list(row) for row in rows]
    numeric = [all(row[i] is None or _is_number(row[i]) for row in values) for i in range(len(columns))]
    cells = [[_clean(str(c)) for c in columns], *([_cell(v) for v in row] for row in values)]
    widths = [max(_width(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join("  ".join(map(_pad, line, widths, numeric)).rstrip() for line in cells)


def _rich_bar(stream: TextIO, total: int | None, start: int) -> Any:
    """A started rich bar, or None where there is no terminal or no rich."""
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return None
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar
    except ImportError:
        return None
    bar = Bar(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
        console=Console(file=stream),
        refresh_per_second=5,
        transient=True,
        redirect_stdout=False,  # stdout carries results and is none of the bar's business
    )
    bar.add_task("", total=total, completed=start, facts="")
    bar.start()
    return bar


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else _clean(str(value))


def _clean(text: str) -> str:
    """No line breaks, and no control characters: a class name must not move the reader's cursor."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)


def _width(text: str) -> int:
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, width: int, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space
