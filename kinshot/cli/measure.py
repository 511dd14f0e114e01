"""`ssl measure`: what encoders cost and what they reach, with a plot of accuracy against size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kinshot.cli.common import command_line, say, show, shown
from kinshot.cli.options import ALLOW_UNFINISHED, DEVICE, JSON, QUIET, check_counts, chosen_data, episode_options, parsed_heads, parsed_ways
from kinshot.cli.outputs import OUTPUT_FILE, printed_anyway
from kinshot.cli.table import align
from kinshot.core.errors import ConfigError
from kinshot.recipes.specs import parse_features, parse_numbers


@click.command(name="measure")
@click.argument("runs", metavar="[NAME=]RUN...", nargs=-1, required=True)
@click.option("--data", metavar="NAME[:ROOT]", help="Source of episodes and kNN [default: the first run's own data, split test].")
@click.option("--split", help="Split of --data [default: test where it has one].")
@click.option("--set", "options", multiple=True, metavar="KEY=VALUE", help="Further settings of --data; may be repeated.")
@episode_options(shots="1,5")
@click.option("--head", default="prototype", show_default=True, help="Head with settings, such as prototype:distance=euclidean.")
@click.option("--feature", default="backbone", show_default=True, help="backbone, projector, joint, or an output of the projector.")
@click.option("--k", default=20, show_default=True, help="Neighbors that vote in kNN.")
@click.option("--to", default="", metavar="NAME", help="Row to which differences are taken [default: the first].")
@click.option("--quantize", is_flag=True, help="Measure every run in int8 too (post-training, with PyTorch's own tools).")
@click.option("--threads", default=1, show_default=True, help="Threads of the CPU whose latency is measured.")
@click.option("--repeats", default=50, show_default=True, help="Calls of which the latency is the median.")
@click.option("--plot", type=OUTPUT_FILE, metavar="FILE", help="Write a figure of accuracy against size to this PNG file.")
@click.option("--results", type=OUTPUT_FILE, metavar="FILE", help="Also write the rows to this JSON file.")
@ALLOW_UNFINISHED
@DEVICE
@QUIET
@JSON
def measure_command(
    runs: tuple[str, ...], data: str | None, split: str | None, options: tuple[str, ...], ways: str | None, shots: str, queries: int | None,
    episodes: int, seed: int, head: str, feature: str, k: int, to: str, quantize: bool, threads: int, repeats: int, plot: Path | None,
    results: Path | None, allow_unfinished: bool, device: str, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Measure what encoders cost (parameters, MACs, file, CPU latency) and reach (few-shot, kNN); the first RUN is the teacher.

    NAME is what a table and a plot call a run; runs that differ by their seed alone are averaged, and several sizes under one NAME
    are joined in the plot.
    """
    check_counts(queries, episodes)
    if k < 1:
        raise ConfigError(f"--k: expected at least 1, got {k}")
    if plot is not None and plot.suffix.lower() != ".png":
        raise ConfigError(f"--plot writes a PNG file, got {plot}: give it the ending .png")
    choice, parsed = chosen_data(data, split, options), parsed_heads(head)
    names, shot_list, way_list = parse_features(feature), parse_numbers(shots, "--shots"), parsed_ways(ways)
    if len(parsed) != 1 or len(names) != 1:
        raise ConfigError(f"--head and --feature take one each, got {head!r} and {feature!r}: measure the others with fewshot eval")
    given = [named_run(text) for text in runs]
    from kinshot.runs.reached import refuse_unfinished
    from kinshot.studies.latency import Timing
    from kinshot.studies.measure import MeasureSettings, measure
    from kinshot.studies.tasks import Drawing

    refuse_unfinished([path for _, path in given], allow_unfinished)
    settings = MeasureSettings(
        Drawing(way_list, shot_list, queries, episodes, seed), choice, parsed[0], names[0], k, to, quantize,
        timing=Timing(threads=threads, repeats=repeats), device=device,
    )  # fmt: skip
    speaker = (lambda text: None) if quiet else say
    measured = measure([path for _, path in given], settings, speaker, names=[name for name, _ in given])
    found = {"command": command_line("ssl"), **measured}
    with printed_anyway(lambda: show(found, as_json, lambda: measure_table(found))):
        _write(found, plot, results)


def named_run(text: str) -> tuple[str, Path]:
    """`NAME=PATH` as both, a path alone with an empty name; paths that exist may themselves contain `=`."""
    name, equals, path = text.partition("=")
    if Path(text).exists() or not equals or not name or "/" in name:
        return "", Path(text)
    return name, Path(path)


def _write(found: dict[str, Any], plot: Path | None, results: Path | None) -> None:
    if plot is not None:
        from kinshot.core.atomic import make_folder, write_bytes
        from kinshot.studies.report.theme import png
        from kinshot.studies.size_plot import size_figure

        make_folder(plot.parent)
        write_bytes(plot, png(size_figure(found["rows"])))
    if results is not None:
        from kinshot.studies.measure_rows import result_rows
        from kinshot.studies.results import write_document

        write_document(results, found, found["command"], result_rows(found["rows"]))


def measure_table(found: dict[str, Any]) -> str:
    """Rows of models; the protocol stands above."""
    from kinshot.studies.footprint import counted

    rows = found["rows"]
    tasks = [f"{task['ways']}-way {task['shots']}-shot, %" for task in rows[0]["accuracy"]]
    head = ["", "role", "parameters", "MACs", "file", *(f"batch {t['batch']}, ms" for t in rows[0]["latency_ms"])]
    head += [part for task in tasks for part in (task, f"minus {rows[0]['to']}")] + ["kNN, %"]
    body = []
    for row in rows:
        cells = [row["label"], row["role"], *(counted(row[key]) for key in ("parameters", "macs")), counted(row["file_bytes"]) + "B"]
        cells += [f"{t['median']:.3g} [{t['low']:.3g}, {t['high']:.3g}]" for t in row["latency_ms"]]
        for task in row["accuracy"]:
            cells += [_cell(task), _cell(task["difference"], "+") if task["difference"] else ""]
        body.append([*cells, _cell(row["knn"])])
    said = [f"{key}: {shown(value)}" for key, value in {**found["data"], **found["protocol"]}.items() if value not in ("", None)]
    return "\n".join([*said, "latency in ms: median [quartiles]", "", *align([head, *body])])


def _cell(value: dict[str, Any], sign: str = "") -> str:
    text = format(value["mean"], f"{sign}.2f")
    return f"{text} ± {value['ci95']:.2f}" if value["n"] > 1 else text
