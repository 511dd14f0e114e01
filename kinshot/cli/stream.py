"""`ssl stream`: what an encoder says of sensors, line by line, as they measure."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import click

from kinshot.cli.common import ended_by_reader, say
from kinshot.cli.options import ALLOW_UNFINISHED, DEVICE, QUIET, WHERE, named_source
from kinshot.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from kinshot.datasets.stream_lines import BadLine, Layout, Reader
    from kinshot.datasets.stream_windows import StreamWindows

_TOLD = 5


@click.command(name="stream")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("file", default="-", metavar="[FILE|-]")
@click.option("--window", type=float, metavar="SECONDS", help="Length of a window [default: that of the encoder's training, at most].")
@click.option("--step", type=float, metavar="SECONDS", help="From the begin of a window to that of the next [default: half a window].")
@click.option("--every", type=float, metavar="SECONDS", help="Instead: so often, the feature of all that came (causal encoders).")
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
    measured: float | None, pad: bool, skip_bad: bool, allow_unfinished: bool, device: str, quiet: bool,
) -> None:  # fmt: skip
    """Read what sensors measure from FILE, or standard input, and print what the encoder of CHECKPOINT says of it: JSON, a line a window.

    A line of input is JSON, {"t": 12.34, "acc": [0.1, 0.2, 9.8]}: what modalities measured by name, one step or several ([[...], [...]]),
    null for what was not measured; t, in seconds, and "recording" may be left out. For an encoder of one series any one name will do, or
    the list alone. Or lines are a table with a header: t, acc.x, acc.y, acc.z, one step to a row, or with
    --schema what the recordings of a folder are. Without times every modality counts its steps by its rate. Pauses, times that go back and
    other recordings begin a new stream, which a line with "event" says.

    Of a window it prints {"start", "end", "measured", "embedding"}, or "label" and "scores": probabilities of the classes that the
    checkpoint learned, or cosines to the mean features of --support. What is held in memory is one window and one line.
    """
    _check(window, step, every, measured, pad)
    _check_there(file)
    if predict and support is None and feature != "backbone":
        raise ConfigError(f"--feature {feature}: learned classes stand on a feature of their own: leave --feature out")
    labelled = named_source(support, "all") if support else None
    layout = _layout(schema) if schema else None
    from kinshot.runs.reached import refuse_unfinished

    refuse_unfinished([checkpoint], allow_unfinished)
    tell = (lambda text: None) if quiet else say
    from kinshot.core.runtime import resolve_device
    from kinshot.datasets.stream_lines import Reader
    from kinshot.datasets.stream_windows import StreamWindows
    from kinshot.recipes.loaded import read
    from kinshot.runs.embedder import from_checkpoint, with_rows
    from kinshot.samples.bundle import BundleSpec
    from kinshot.studies import stream as streams
    from kinshot.studies.stream_plan import Wanted, cut_of, modalities_of, series_of, wanted_features

    run, place = read(checkpoint, parts=("encoder", "projector", "rows")), resolve_device(device)
    model = with_rows(from_checkpoint(run), run).to(place)
    series = series_of(model.input, str(checkpoint))
    wanted = Wanted(window, step, every, wait, gap, measured, pad)
    windows, features = StreamWindows(modalities_of(series), cut_of(series, wanted)), wanted_features(model, series, wanted, run)
    if labelled is not None:
        answer = streams.by_support(model, labelled, feature, str(checkpoint), place)
    elif predict:
        answer = streams.own_classes(model, run, str(checkpoint), tell)
    else:
        answer = streams.embedding(model, feature, str(checkpoint))
    bad, alone = _Skipped(tell), not isinstance(model.input, BundleSpec)
    with _opened(file) as source, ended_by_reader():
        reader = Reader(source, windows.modalities, alone=alone, layout=layout, form=form, bad=bad if skip_bad else None)
        count = 0
        for record in streams.records(reader, windows, features, answer, tell):
            click.echo(json.dumps(record, allow_nan=False))
            count += "event" not in record
        for text in _summary(reader, windows, count, bad.count):
            tell(text)


def _check(window: float | None, step: float | None, every: float | None, measured: float | None, pad: bool) -> None:
    """Raises ConfigError for options that contradict each other, or are out of range."""
    if every is not None and (window, step, measured, pad) != (None, None, None, False):
        raise ConfigError("--every knows no windows, as it goes on with all that came: leave --window, --step, --measured and --pad out")
    for name, value in (("window", window), ("step", step), ("every", every)):
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(f"--{name}: expected seconds above 0, got {value:g}")
    if measured is not None and not 0 < measured <= 1:
        raise ConfigError(f"--measured: expected a share of steps above 0 and up to 1, got {measured:g}")


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


class _Skipped:
    """Says the first of the lines that are left out, and counts all."""

    def __init__(self, tell: Any) -> None:
        self.tell, self.count = tell, 0

    def __call__(self, error: BadLine) -> None:
        self.count += 1
        if self.count <= _TOLD:
            self.tell(f"left out: {error}")


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    with Path(file).open("rb") as found:
        yield found


def _summary(reader: Reader, windows: StreamWindows, count: int, skipped: int) -> list[str]:
    """What a person should know when a stream has ended."""
    found = [f"{reader.count} lines, {count} {'window' if count == 1 else 'windows'}"]
    if skipped:
        found.append(f"{skipped} lines are left out, which could not be used")
    if reader.unfinished:
        found.append(f"the last line is left out, which the end cut off: {reader.unfinished}")
    if windows.left > 1e-6:
        found.append(f"{windows.left:.4g} s lie in no window, at the ends of streams")
    return found + [f"{number} {what}" for what, number in windows.counts.items() if number]
