"""`segmentation eval`: checkpoints on dense episodes, and its tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kinshot.cli.common import command_line, say, show
from kinshot.cli.options import DEVICE, JSON, QUIET, checkpoint_arguments
from kinshot.cli.outputs import OUTPUT_FILE, printed_anyway
from kinshot.cli.segment_options import evaluation_options, evaluation_protocol
from kinshot.cli.table import align


@click.command(name="eval")
@checkpoint_arguments("CHECKPOINTS...")
@evaluation_options(shots="1,5", episodes=1000, tolerance=0.008)
@DEVICE
@click.option("--results", type=OUTPUT_FILE, metavar="FILE", help="Also write the rows to this JSON file.")
@QUIET
@JSON
def eval_command(checkpoints: tuple[Path, ...], device: str, results: Path | None, quiet: bool, as_json: bool, **given: Any) -> None:
    """Measure CHECKPOINTS (or run folders, a sweep's folder, or backbones by name) on seeded episodes of images with masks.

    Runs that differ by their seed alone give the mean over them too, and those trained on one fold each are measured on their own;
    others give the differences between any two. Class-blind rules and the untrained encoder stand beside them: a few-shot method has
    shown something above perfect saliency only.
    """
    protocol = evaluation_protocol(**given)
    from kinshot.studies.segmentation.evaluate import evaluate_segmentation
    from kinshot.studies.study import load_runs

    tell = (lambda text: None) if quiet else say
    result = {"command": command_line("segmentation"), **evaluate_segmentation(load_runs(checkpoints, say=tell), protocol, device, tell)}
    from kinshot.studies.results import write_document
    from kinshot.studies.segmentation.rows import document_rows

    with printed_anyway(lambda: show(result, as_json, lambda: segmentation_table(result))):
        if results is not None:
            write_document(results, result, result["command"], document_rows(result))


def segmentation_table(result: dict[str, Any]) -> str:
    """For each task rows of model and segmenter; the protocol stands above, classes, differences and the verdict below."""
    from kinshot.studies.results import SEEN, WARNING

    data, protocol = result["data"], result["protocol"]
    drawn = f"{protocol['episodes']} episodes " + (f"from {protocol['from']}" if "from" in protocol else f"(seed {protocol['seed']})")
    lines = [
        f"{data['name']}: {data['classes']} classes, {data['images']} images, {data['frame']}",
        f"{drawn}; scored at size {protocol['size']}, rules {protocol['rules']}; figures in %",
        f"± is half of: {protocol['interval']}",
        f"episode hashes: {protocol['episode hashes']}",
        f"training: {protocol['training']}",
        *(f"{key}: {value}" for key, value in protocol.items() if key.startswith((SEEN, WARNING))),
    ]
    for ways, shots in dict.fromkeys((row["ways"], row["shots"]) for row in result["rows"]):
        task = [row for row in result["rows"] if (row["ways"], row["shots"]) == (ways, shots)]
        lines += ["", f"{ways}-way {shots}-shot", *_figures(task)]
    lines += _classes(result)
    if result["above_saliency"] is not None:
        verdict = "lies above" if result["above_saliency"] else "does NOT lie above"
        lines += ["", f"The best trained row {verdict} perfect class-blind saliency on every task, by the interval of their difference."]
    return "\n".join([*lines, *_differences(result["differences"])])


def _figures(rows: list[dict[str, Any]]) -> list[str]:
    """Models and segmenters against rules; where there are several folds, of the first rule all of them, of others the mean."""
    from kinshot.studies.segmentation.rows import MEAN, NAMES

    folds = list(dict.fromkeys(row["fold"] for row in rows))
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    columns = [(rules[0], fold) for fold in folds]
    columns += [(rule, fold) for rule in rules[1:] for fold in folds if len(folds) == 1 or fold == MEAN]
    found: dict[tuple[str, str], dict[tuple[str, Any], str]] = {}
    for row in rows:
        text = (
            "none"
            if row["mean"] is None
            else f"{row['mean']:.2f} ± {row['ci95']:.2f}" + (f" (-{row['excluded']})" if row["excluded"] else "")
        )
        found.setdefault((row["model"], row["head"]), {})[(row["rule"], row["fold"])] = text
    titles = [NAMES[rule] + ("" if fold is None else f", {fold}" if fold == MEAN else f", fold {fold}") for rule, fold in columns]
    body = [[model, head, *(cells.get(column, "") for column in columns)] for (model, head), cells in found.items()]
    excluded = any(row["excluded"] for row in rows)
    return [*align([["model", "head", *titles], *body]), *(["(-N): N classes without a figure are left out"] if excluded else [])]


def _classes(result: dict[str, Any]) -> list[str]:
    """IoU of every class for the first model, by segmenter, beside the class-blind rules."""
    from kinshot.segmentation.class_blind import CLASS_BLIND

    rows = result["classes"]
    if not rows:
        return []
    first = rows[0]
    task = [
        row
        for row in rows
        if (row["ways"], row["shots"]) == (first["ways"], first["shots"]) and row["model"] in (first["model"], *CLASS_BLIND)
    ]
    heads = list(dict.fromkeys(row["head"] or row["model"] for row in task))
    found: dict[tuple[Any, str], dict[str, dict[str, Any]]] = {}
    for row in task:
        found.setdefault((row["fold"], row["name"]), {})[row["head"] or row["model"]] = row
    folds = len({fold for fold, _ in found}) > 1
    body = []
    for (fold, name), cells in found.items():
        one = next(iter(cells.values()))
        figures = [_cell(cells[head]["iou"]) if head in cells else "" for head in heads]
        body.append([*([str(fold)] if folds else []), name, str(one["episodes"]), *figures])
    title = f"IoU by class, {first['model']}, {first['ways']}-way {first['shots']}-shot"
    return ["", title, *align([[*(["fold"] if folds else []), "class", "episodes", *heads], *body])]


def _cell(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def _differences(found: list[dict[str, Any]]) -> list[str]:
    """What is compared with what, on the mean over folds where there are several."""
    from kinshot.studies.segmentation.rows import MEAN, NAMES

    several = any(one["fold"] == MEAN for one in found)
    shown = [one for one in found if (not several or one["fold"] == MEAN) and one["mean"] is not None]
    if not shown:
        return []
    rows = [
        [d["model"], d["head"], d["against"], d["against_head"], f"{d['ways']}-way {d['shots']}-shot",
         f"{d['mean']:+.2f} ± {d['ci95']:.2f}", f"{d['p']:.2g}", f"{d['p_holm']:.2g}"]
        for d in shown
    ]  # fmt: skip
    told = f"points of {NAMES[shown[0]['rule']]} on the same episodes; Holm: corrected for those of one task:"
    return ["", told, *align([["model", "head", "minus", "head", "task", "points", "p", "p (Holm)"], *rows])]
