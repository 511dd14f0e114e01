"""`ssl stream`: what an encoder says of sensors, line by line, as they measure."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import click

from kinshot.cli.common import ended_by_reader, say
from kinshot.cli.options import ALLOW_UNFINISHED, DEVICE, QUIET, WHERE, named_source
from kinshot.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from kinshot.datasets.stream_lines import BadLine, Layout, Reader
    from kinshot.datasets.stream_windows import LineWindows, StreamWindows

_TOLD = 5


@click.command(name="stream")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("file", default="-", metavar="[FILE|-]")
@click.option("--window", type=float, metavar="SECONDS", help="Length of a window [default: that of the encoder's training, at most].")
@click.option("--step", type=float, metavar="SECONDS", help="From the begin of a window to that of the next [default: half a window].")
@click.option("--every", type=float, metavar="SECONDS", help="Instead: so often, the feature of all that came (causal encoders).")
@click.option("--each-line", is_flag=True, help="Instead: every line is a window of its own.")
@click.option("--feature", default="backbone", show_default=True, help="backbone, projector, or an output of the projector.")
@click.option("--predict", is_flag=True, help="Classes for embeddings: those that the checkpoint learned, or those of --support.")
@click.option("--support", metavar=WHERE, help="Labelled samples: predict the class whose mean feature is nearest.")
@click.option("--form", type=click.Choice(["auto", "json", "csv"]), default="auto", show_default=True, help="What lines are.")
@click.option("--schema", type=click.Path(path_type=Path), metavar="FOLDER", help="Columns of a table are as its recordings.json says.")
@click.option("--wait", type=float, metavar="SECONDS", help="How long windows wait for late modalities [default: the longest step].")
@click.option("--gap", type=float, metavar="SECONDS", help="A longer pause begins a new stream [default: the encoder's window].")
@click.option("--measured", type=float, metavar="SHARE", help="Least share of a window that a modality must have measured [default: 0.5].")
@click.option("--pad", is_flag=True, help="Fill up a stream that is shorter than a window.")
@click.option("--skip-bad", is_flag=True, help="Leave out lines that cannot be used, and say how many.")
@ALLOW_UNFINISHED
@DEVICE
@QUIET
def stream_command(
    checkpoint: Path, file: str, window: float | None, step: float | None, every: float | None, feature: str, predict: bool,
    support: str | None, form: Literal["auto", "json", "csv"], schema: Path | None, wait: float | None, gap: float | None,
    measured: float | None, pad: bool, each_line: bool, skip_bad: bool, allow_unfinished: bool, device: str, quiet: bool,
) -> None:  # fmt: skip
    """Read what sensors measure from FILE, or standard input, and print what the encoder of CHECKPOINT says of it: JSON, a line a window.

    A line of input is JSON, {"t": 12.34, "acc": [0.1, 0.2, 9.8]}: what modalities measured by name, one step or several ([[...], [...]]),
    null for what was not measured; t, in seconds, and "recording" may be left out. For an encoder of one series any one name will do, or
    the list alone. Or lines are a table with a header: t, acc.x, acc.y, acc.z, one step to a row, or with --schema
    what the recordings of a folder are. Without times every modality counts its steps by its rate. Pauses, times that go back and other
    recordings begin a new stream, which a line with "event" says.

    Of a window it prints {"start", "end", "measured", "embedding"}, or "label" and "scores": probabilities of the classes that the
    checkpoint learned, or cosines to the mean features of --support; null where too little was measured. What is held in memory is one
    window and one line.
    """
    wanted: dict[str, Any] = {"window": window, "step": step, "every": every, "wait": wait, "gap": gap, "measured": measured, "pad": pad}
    _check(wanted, each_line)
    _check_there(file)
    if predict and support is None and feature != "backbone":
        raise ConfigError(f"--feature {feature}: learned classes stand on a feature of their own: leave --feature out")
    labelled = named_source(support, "all") if support else None
    layout = _layout(schema) if schema else None
    from kinshot.runs.reached import refuse_unfinished

    refuse_unfinished([checkpoint], allow_unfinished)
    tell: Callable[[str], None] = (lambda text: None) if quiet else say
    from kinshot.core.runtime import resolve_device
    from kinshot.datasets.stream_lines import Reader
    from kinshot.recipes.loaded import read
    from kinshot.runs.embedder import from_checkpoint, with_rows
    from kinshot.samples.bundle import BundleSpec
    from kinshot.studies import stream as streams
    from kinshot.studies.stream_plan import Wanted, series_of, wanted_features, windows_of

    run, place = read(checkpoint, parts=("encoder", "projector", "rows")), resolve_device(device)
    model = with_rows(from_checkpoint(run), run).to(place)
    series = series_of(model.input, str(checkpoint))
    plan = Wanted(**wanted, each_line=each_line)
    windows, features = windows_of(series, plan), wanted_features(model, series, plan, run.recipe.encoder.name, tell)
    if labelled is not None:
        answer = streams.by_support(model, labelled, feature, str(checkpoint), place)
    elif predict:
        answer = streams.own_classes(model, run, str(checkpoint), tell)
    else:
        answer = streams.embedding(model, feature, str(checkpoint))
    account, alone = _Account(tell), not isinstance(model.input, BundleSpec)
    with _opened(file) as source, ended_by_reader():
        reader = Reader(source, windows.modalities, alone=alone, layout=layout, form=form, bad=account.left_out if skip_bad else None)
        try:
            for record in streams.records(reader, windows, features, answer, tell):
                click.echo(json.dumps(record, allow_nan=False))
                account.windows += "event" not in record
        except KeyboardInterrupt:  # the end of a stream that has none
            account.give(reader, windows)
            raise
        account.give(reader, windows)


_OF_STREAMS = ("step", "wait", "gap", "pad", "every")


def _check(wanted: dict[str, Any], each_line: bool) -> None:
    """Raises ConfigError for options that contradict each other, or are out of range."""
    given = {name for name, value in wanted.items() if value is not None and value is not False}
    for asked, what, other in (
        ("--every", "no windows, as it goes on with all that came", {"window", "step", "measured", "pad"} if "every" in given else set()),
        ("--each-line", "no streams, as every line is a window", set(_OF_STREAMS) if each_line else set()),
    ):
        if other & given:
            raise ConfigError(f"{asked} knows {what}: leave {', '.join(f'--{name}' for name in wanted if name in other & given)} out")
    for name in ("window", "step", "every"):
        if name in given and not 0 < wanted[name] < float("inf"):
            raise ConfigError(f"--{name}: expected seconds above 0, got {wanted[name]:g}")
    if "measured" in given and not 0 < wanted["measured"] <= 1:
        raise ConfigError(f"--measured: expected a share of steps above 0 and up to 1, got {wanted['measured']:g}")


def _check_there(file: str) -> None:
    """Raises DataError for a file that cannot be read, before a model is."""
    if file != "-" and not os.path.lexists(file):
        raise DataError(f"FILE names {file}, which is not there: give the path of a file, or - for standard input")
    if Path(file).is_dir():
        raise DataError(f"FILE names {file}, which is a folder: give the path of a file")


def _layout(schema: Path) -> Layout:
    """Whose columns are whose in the tables of a folder of recordings. Raises DataError for sensors that are none of one table."""
    from kinshot.datasets.recordings_schema import SCHEMA, Sensor, read_schema
    from kinshot.datasets.stream_lines import Layout

    found = read_schema(schema.parent if schema.name == SCHEMA else schema)
    columns = {name: sensor.columns for name, sensor in found.sensors.items() if isinstance(sensor, Sensor)}
    own = [name for name, sensor in found.sensors.items() if isinstance(sensor, Sensor) and sensor.time not in ("", found.time)]
    if own:
        raise DataError(f"{schema}: {own[0]} has times of its own, and a row of a stream has one time: give its steps as lines of JSON")
    return Layout(columns, found.time, found.seconds)


class _Account:
    """What a person should know when a stream has ended; of the lines that are left out the first are told at once."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell, self.windows, self.skipped = tell, 0, 0

    def left_out(self, error: BadLine) -> None:
        """Of a line that cannot be used."""
        self.skipped += 1
        if self.skipped <= _TOLD:
            self.tell(f"left out: {error}")

    def give(self, reader: Reader, windows: StreamWindows | LineWindows) -> None:
        """Say it."""
        self.tell(f"{reader.count} lines, {self.windows} {'window' if self.windows == 1 else 'windows'}")
        if self.skipped:
            self.tell(f"{self.skipped} lines are left out, which could not be used")
        if reader.unfinished:
            self.tell(f"the last line is left out, which the end cut off: {reader.unfinished}")
        if windows.left > 1e-6:
            self.tell(f"{windows.left:.4g} s lie in no window, at the ends of streams")
        for what, number in windows.counts.items():
            if number:
                self.tell(f"{number} {what}")


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        if sys.stdin is None:
            raise DataError("standard input is closed: give it lines, or name a FILE")
        yield sys.stdin.buffer
        return
    with Path(file).open("rb") as found:
        yield found
