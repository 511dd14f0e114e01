"""Lines of text that say what sensors measure, as it comes: JSON or a table, one step or several to a line, read without torch.

A line of JSON is an object with what each modality measured, by its name: one step `[0.1, 0.2, 9.8]`, one number to a channel, or several
`[[0.1, 0.2, 9.8], [0.1, 0.3, 9.7]]`; a modality of one channel may write a step as a number. null, or NaN, is what was not measured: a
channel, a step; a modality that is null or left out is not spoken of. `t` is the time of the line's first step in seconds; a line of
`t` alone says that time goes on. `recording` names what a line belongs to, and holds until another is named. For an encoder of one
series the modality has any one name, or none: the line is the list.

A table is a header and rows of numbers, separated by commas or tabs, one step to a row: columns `t` and `recording`, if there are any, and
of each modality a column for each channel, in their order, called `modality.anything`, or `modality` where it is one; for an encoder of one
series called anything. An empty cell is what was not measured; where there is `t`, a row that leaves all cells of a modality empty does not
speak of it, so that several rates fit into one table. A `Layout` says otherwise which columns are whose.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal

import numpy as np

from kinshot.core.errors import ConfigError, DataError, suggest

TIME, RECORDING = "t", "recording"
LONGEST = 16 * 2**20
"""Bytes that a line may have: what is held of a stream is bounded by it."""

_LATEST = 1e11  # seconds: times beyond are in milliseconds, or in something smaller
_EMPTY = ("", "nan", "NaN", "NA", "null")
Form = Literal["auto", "json", "csv"]


class BadLine(DataError):
    """A line that says nothing that can be used; the lines behind it may."""


class HalfLine(BadLine):
    """A line that may be the first part of one that can be used."""


@dataclass(frozen=True)
class Modality:
    """What a line may say of one modality: numbers to a step, and steps in a second."""

    channels: int
    rate: float


@dataclass(frozen=True)
class Layout:
    """Which columns of a table are whose, where names do not say it; others say nothing.

    Args:
        columns: of each modality, in the order of its channels.
        time: column of times; empty for none.
        seconds: of one unit of the times.
    """

    columns: Mapping[str, Sequence[str]]
    time: str = ""
    seconds: float = 1.0


@dataclass(frozen=True)
class Line:
    """What a line says.

    Args:
        number: of the line, from 1.
        time: of the first step of every modality, in seconds; None where the line does not say.
        recording: what it belongs to; None where it does not say.
        steps: float32 (n, C) by modality, NaN where nothing was measured.
    """

    number: int
    time: float | None = None
    recording: str | None = None
    steps: Mapping[str, np.ndarray] = field(default_factory=dict)


class Reader:
    """The lines of a stream, one after the other; blank ones are left out, and never more than one is held.

    Args:
        stream: of bytes, UTF-8.
        modalities: what lines may speak of.
        alone: the encoder takes one series, whose name in lines is anything.
        layout: of a table, in place of what names of columns say.
        form: of the lines; `auto` takes lines for JSON where the first begins with { or [, and for a table otherwise.
        bad: what is done with an error of one line; None raises it.

    Attributes:
        count: lines read so far, blank ones among them.
        unfinished: what is wrong with the last line, which the end cut off; it is left out. Empty for a last line that can be read.

    Raises:
        ConfigError: a modality with the name of something else.
        DataError: by number of the line; `BadLine` where others could be gone on with.
    """

    def __init__(
        self,
        stream: BinaryIO,
        modalities: Mapping[str, Modality],
        *,
        alone: bool = False,
        layout: Layout | None = None,
        form: Form = "auto",
        bad: Callable[[BadLine], None] | None = None,
    ) -> None:
        taken = [name for name in modalities if name in (TIME, RECORDING)]
        if taken and not alone:
            raise ConfigError(
                f"a modality is called {taken[0]}, which means something else in lines: rename it in the data and train again"
            )
        self.stream, self.modalities, self.alone, self.form, self.bad = stream, modalities, alone, form, bad
        self.layout = layout
        self.count, self.unfinished = 0, ""

    def __iter__(self) -> Iterator[Line]:
        parse: Callable[[str, int], Line] | None = None
        while raw := self.stream.readline(LONGEST + 1):
            self.count += 1
            if len(raw) > LONGEST:
                raise DataError(f"line {self.count} is longer than {LONGEST // 2**20} MiB: write fewer steps to a line")
            try:
                text = _decoded(raw, self.count)
                if not text.strip():
                    continue
                if parse is None:
                    form = self.form if self.form != "auto" else "json" if text.lstrip()[0] in "{[" else "csv"
                    if form == "csv":
                        parse = _Table(text, self.count, self.modalities, self.alone, self.layout)
                        continue
                    parse = _Objects(self.modalities, self.alone)
                yield parse(text, self.count)
            except BadLine as error:
                if isinstance(error, HalfLine) and not raw.endswith(b"\n"):
                    self.unfinished = str(error)
                else:
                    self.refuse(error)

    def refuse(self, error: BadLine) -> None:
        """What is done with a line that cannot be used: its error is raised, or handed to `bad`."""
        if self.bad is None:
            raise error
        self.bad(error)


def _decoded(raw: bytes, number: int) -> str:
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise HalfLine(f"line {number} is no text in UTF-8: write it as that") from None


class _Objects:
    """Lines of JSON."""

    def __init__(self, modalities: Mapping[str, Modality], alone: bool) -> None:
        self.modalities, self.own = modalities, next(iter(modalities)) if alone else ""
        self.called = ""  # how lines call the one series

    def __call__(self, text: str, number: int) -> Line:
        try:
            given = json.loads(text, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise HalfLine(f"line {number} is no JSON ({error}): write one object to a line") from None
        if self.own and isinstance(given, list):
            given = {self.called or self.own: given}
        if not isinstance(given, dict):
            what = f"an object, {_form(self.modalities)}" + (" or a list" if self.own else "")
            raise BadLine(f"line {number}: expected {what}, got {_short(given)}: name what each number is")
        time, recording, steps = None, given.get(RECORDING), {}
        if TIME in given:
            time = _time(given[TIME], number)
        if RECORDING in given and (not isinstance(recording, str) or not recording):
            raise BadLine(f"line {number}: {RECORDING} must be a text, got {_short(recording)}: put it into quotes, or leave it out")
        for key, value in given.items():
            if key in (TIME, RECORDING):
                continue
            name = self._name(key, number)
            if value is not None:
                steps[name] = _steps(value, key, number, self.modalities[name].channels)
        if not steps and time is None:
            raise BadLine(f"line {number} says nothing: expected {_form(self.modalities)}; leave it out")
        return Line(number, time, recording, steps)

    def _name(self, key: str, number: int) -> str:
        """The modality that a key means."""
        if not self.own:
            if key not in self.modalities:
                raise BadLine(f"line {number}: the encoder knows no modality {key!r}: {suggest(key, self.modalities)}")
            return key
        self.called = self.called or key
        if key != self.called:
            raise BadLine(f"line {number}: the encoder takes one series, got {self.called!r} and {key!r}: leave one of them out")
        return self.own


class _Table:
    """Rows of a table, by its header."""

    def __init__(self, header: str, number: int, modalities: Mapping[str, Modality], alone: bool, layout: Layout | None) -> None:
        self.delimiter = "\t" if "\t" in header else ","
        self.modalities, self.names = modalities, [name.strip() for name in _cells(header, self.delimiter, number)]
        self.time, self.seconds = (TIME, 1.0) if layout is None else (layout.time, layout.seconds)
        where = f"line {number} is a header of {', '.join(self.names)} (no JSON, which begins with {{ or [)"
        twice = next((name for name in self.names if self.names.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"{where}, which has {twice!r} twice: give every column a name of its own")
        found = self._named(where, alone) if layout is None else self._laid_out(where, alone, layout)
        self.columns = {name: places for name, places in found.items() if places}
        for name, places in self.columns.items():
            if len(places) != modalities[name].channels:
                wanted = f"{modalities[name].channels} for its channels, in their order"
                raise DataError(f"{where}: {len(places)} columns are of {name}, and the encoder takes {wanted}: give these")
        rates = {name: modalities[name].rate for name in self.columns}
        if not rates:
            raise DataError(f"{where}: no column is of a modality: {_form(modalities)} would be columns of {', '.join(modalities)}")
        if self.time not in self.names and len(set(rates.values())) > 1:
            got = ", ".join(f"{name} {rate:g} Hz" for name, rate in rates.items())
            raise DataError(f"{where}: of several rates ({got}) a table needs a column {self.time or TIME} of times: add it, or write JSON")

    def _named(self, where: str, alone: bool) -> dict[str, list[int]]:
        """Places of each modality's columns by their names."""
        values = [name for name in self.names if name not in (TIME, RECORDING)]
        own = next(iter(self.modalities))
        owners = {name: own if alone else name.partition(".")[0] for name in values}
        unknown = [name for name in values if owners[name] not in self.modalities]
        if unknown:
            got, known = owners[unknown[0]], self.modalities
            raise DataError(f"{where}, and the encoder knows no modality {got!r}: {suggest(got, known)}; or give a schema of its columns")
        return {name: [place for place, column in enumerate(self.names) if owners.get(column) == name] for name in self.modalities}

    def _laid_out(self, where: str, alone: bool, layout: Layout) -> dict[str, list[int]]:
        """Places of each modality's columns by the layout; a modality of which none is there is not measured."""
        columns = layout.columns
        if alone:
            if len(columns) != 1:
                raise DataError(f"{where}: the encoder takes one series, and the schema has {', '.join(columns)}: leave others out")
            columns = dict(zip(self.modalities, columns.values(), strict=True))
        found = {}
        for name in self.modalities:
            wanted = columns.get(name, ())
            gone = [column for column in wanted if column not in self.names]
            if gone and len(gone) < len(wanted):
                raise DataError(f"{where}, which lacks the column {gone[0]!r} of {name}: {suggest(gone[0], self.names)}")
            found[name] = [] if gone else [self.names.index(column) for column in wanted]
        return found

    def __call__(self, text: str, number: int) -> Line:
        cells = [cell.strip() for cell in _cells(text, self.delimiter, number)]
        if len(cells) != len(self.names):
            raise HalfLine(f"line {number} has {len(cells)} cells, the header {len(self.names)}: give one to a column, empty where unknown")
        named = dict(zip(self.names, cells, strict=True))
        time = None
        if self.time in named:
            time = _time(_number_of(named[self.time], self.time, number), number, self.seconds)
        steps = {}
        for name, places in self.columns.items():
            if time is None or any(cells[place] not in _EMPTY for place in places):
                row = [_number_of(cells[place], self.names[place], number) for place in places]
                steps[name] = _steps(row, name, number, len(places))
        return Line(number, time, named.get(RECORDING) or None, steps)


def _cells(text: str, delimiter: str, number: int) -> list[str]:
    try:
        rows = list(csv.reader([text.rstrip("\r\n")], delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise HalfLine(f"line {number} is no row of a table ({error}): close its quotes") from None
    return rows[0] if rows else []


def _number_of(cell: str, column: str, number: int) -> float | None:
    """A cell's number; None for an empty one."""
    if cell in _EMPTY:
        return None
    try:
        return float(cell)
    except ValueError:
        raise HalfLine(f"line {number}: {column} is {cell!r}, no number: correct it, or empty the cell") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _time(value: Any, number: int, seconds: float = 1.0) -> float:
    if type(value) not in (int, float) or not abs(value) < math.inf:
        raise BadLine(f"line {number}: {TIME} must be a number of seconds, got {_short(value)}: correct it, or leave the line out")
    value = value * seconds
    if abs(value) > _LATEST:
        raise BadLine(f"line {number}: {TIME} is {value:g} s, which is no time: bring milliseconds, or smaller ones, to seconds")
    return float(value)


def _steps(value: Any, name: str, number: int, channels: int) -> np.ndarray:
    """float32 (n, C) of one step or several."""
    where = f"line {number}, {name}"
    if not isinstance(value, list):
        value = [value]
    rows = value if value and any(isinstance(row, list) for row in value) else [value]
    if not value:
        raise BadLine(f"{where} is an empty list: leave it out, or write null for what was not measured")
    found = np.full((len(rows), channels), np.nan)
    for place, row in enumerate(rows):
        if row is None:
            continue
        numbers = row if isinstance(row, list) else [row]
        if len(numbers) != channels or any(isinstance(one, list) for one in numbers):
            which = f"step {place + 1} has" if rows is value else "one step has"
            raise BadLine(
                f"{where}: {which} {len(numbers)} values, the encoder takes {channels} to a step, one for each channel: write null for a "
                f"channel that was not measured, and several steps as [[...], [...]]"
            )
        found[place] = [_number(one, where) for one in numbers]
    with np.errstate(over="ignore"):  # what float32 cannot hold is reported below
        small = found.astype(np.float32)
    if np.isinf(small).any():
        raise BadLine(f"{where} has a value that is infinite: write null where nothing was measured")
    return small


def _number(value: Any, where: str) -> float:
    if value is None:
        return math.nan
    if type(value) not in (int, float):
        raise BadLine(f"{where} holds {_short(value)}, no number: correct it, or write null where nothing was measured")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _form(modalities: Mapping[str, Modality]) -> str:
    """An example of a line."""
    name, one = next(iter(modalities.items()))
    return f'{{"{TIME}": 0.0, "{name}": [{", ".join(["0.0"] * min(one.channels, 3))}{", ..." if one.channels > 3 else ""}]}}'


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
