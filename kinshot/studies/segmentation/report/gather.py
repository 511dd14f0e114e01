"""Everything that a report on segmentation shows, measured: the rows of `segmentation eval`, and the details of one head on one task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib

from kinshot.core.runtime import resolve_device
from kinshot.segmentation.class_blind import CLASS_BLIND
from kinshot.studies.report.words import named_data, named_runs, printable
from kinshot.studies.results import SEEN, WARNING
from kinshot.studies.segmentation.evaluate import SegmentationProtocol, evaluate_segmentation
from kinshot.studies.segmentation.families import FOLD
from kinshot.studies.segmentation.report.content import Content, Focus, Kind, Line, Versus
from kinshot.studies.segmentation.report.details import classes_of, gallery_of, mistakes_of, spread_of
from kinshot.studies.segmentation.report.figures import rule_name
from kinshot.studies.segmentation.report.focus import Focused, focus_on
from kinshot.studies.segmentation.report.panels import EpisodePictures
from kinshot.studies.segmentation.tasks import Say
from kinshot.studies.study import load_runs
from kinshot.studies.summaries import is_reference


def gather(
    paths: list[Path], protocol: SegmentationProtocol, device: str, say: Say, command: str
) -> tuple[Content, dict[int, EpisodePictures]]:
    """Measure checkpoints under a protocol; returns the report, and the pictures of its gallery by the number of the episode.

    Details are those of the first checkpoint, segmenter, fold, number of ways and number of shots.

    Args:
        paths: checkpoints, run folders, or folders of sweeps.
        protocol: what is measured.
        device: auto, cpu, cuda, cuda:N or mps.
        say: takes messages for the person who waits.
        command: what the report says that it was made by.

    Raises:
        CheckpointError: a bad checkpoint.
        DataError: data that cannot give the episodes.
        ConfigError: settings.
    """
    where, runs = resolve_device(device), load_runs(paths, say=say)
    result = evaluate_segmentation(runs, protocol, device, say)
    # the evaluation has kept the episodes where that was asked for
    protocol = replace(protocol, drawing=replace(protocol.drawing, save=None))
    focused = focus_on(runs, protocol, where, say)
    names = [printable(name) for name in focused.scenes.class_names]
    blind = {rule_name(name): focused.counts[name] for name in CLASS_BLIND if protocol.reference}
    counts = focused.counts[focused.head]
    shown = gallery_of(counts, focused.episodes, names)
    say("making pictures of episodes")
    content = Content(
        title=printable(f"{named_runs([run.path for run in runs])} on {data_of(focused.scenes.name, result['data'])}"),
        command=printable(command),
        about=_about(result, focused),
        focus=Focus(printable(focused.run.label), focused.head, _fold(focused.fold), focused.episodes.ways, focused.episodes.shots),
        lines=lines_of(result),
        paired=paired_of(result),
        classes=classes_of(counts, blind, names),
        mistakes=mistakes_of(focused.taken, names),
        spread=spread_of(counts, names),
        gallery=shown,
        hashes=focused.hashes,
        versions={**result["versions"], "matplotlib": matplotlib.__version__},
        warning=printable(result["protocol"].get(WARNING, "")),
    )
    return content, focused.pictures([episode.number for episode in shown], [len(episode.queries) for episode in shown])


def data_of(name: str, settings: dict[str, Any]) -> str:
    """What people call the data; several folds by their numbers, in place of the one that a source has in its name."""
    folds = settings.get(FOLD)
    if not isinstance(folds, list) or len(folds) < 2:
        return named_data(name, settings)
    return f"{named_data(name.removesuffix(f'/{folds[0]}'), settings)}, folds {', '.join(map(str, folds))}"


def lines_of(result: dict[str, Any]) -> list[Line]:
    """The rows of an evaluation that have a figure."""
    who = _Names(result)
    return [
        Line(
            who.of(row["model"], row["head"]), _kind(row["model"]), _fold(row["fold"]), row["ways"], row["shots"], row["rule"], row["mean"],
            row["low"], row["high"], row["excluded"], row["part_of"],
        )
        for row in result["rows"]
        if row["mean"] is not None
    ]  # fmt: skip


def paired_of(result: dict[str, Any]) -> list[Versus]:
    """The differences of an evaluation that have a figure."""
    who = _Names(result)
    return [
        Versus(
            who.of(d["model"], d["head"]), who.of(d["against"], d["against_head"]), _fold(d["fold"]), d["ways"], d["shots"], d["rule"],
            d["mean"], d["low"], d["high"], d["p"], d["p_holm"],
        )
        for d in result["differences"]
        if d["mean"] is not None
    ]  # fmt: skip


class _Names:
    """What people call a model with a segmenter: by the segmenter alone where there is one trained model."""

    def __init__(self, result: dict[str, Any]) -> None:
        self.single = len({row["model"] for row in result["rows"] if _kind(row["model"]) == "model"}) == 1

    def of(self, model: str, head: str) -> str:
        if not head:
            return rule_name(model)
        return head if self.single and _kind(model) == "model" else printable(f"{model}, {head}")


def _kind(model: str) -> Kind:
    return "rule" if model in CLASS_BLIND else "untrained" if is_reference(model) else "model"


def _fold(fold: int | str | None) -> str:
    return "" if fold is None else str(fold)


def _about(result: dict[str, Any], focused: Focused) -> dict[str, str | list[str]]:
    """What was measured, in words: label to text or to several texts."""
    data, protocol = result["data"], result["protocol"]
    settings = [f"{key} {value}" for key, value in data.items() if key not in ("name", "classes", "images")]
    drawn = [f"{key} {protocol[key]}" for key in ("episodes", "from", "seed", "queries") if key in protocol]
    scored = [f"{key.replace('_', ' ')} {protocol[key]}" for key in ("size", "argmax", "align_corners", "others", "truth_others")]
    weights = zip(result["checkpoints"], result["weights"], strict=True)
    found: dict[str, str | list[str]] = {
        "Checkpoints": [f"{path} (weights {digest[:16]})" for path, digest in weights],
        "Trained by": result["pretrained_by"],
        "Training": protocol["training"],
        **{key.capitalize(): protocol[key] for key in (SEEN, WARNING) if key in protocol},
        "Seeds of training": ", ".join(map(str, result["seeds"])),
        "Data": ", ".join([data["name"], *settings, f"{data['classes']} classes, {data['images']} images"]),
        "Episodes": f"per task: {', '.join(drawn)}; support and query {protocol['support and query']}",
        "Episode hashes (SHA-256)": [f"{task}: {digest}" for task, digest in focused.hashes.items()],
        "Episode hashes of all": protocol["episode hashes"],
        "Scored at": ", ".join(scored),
        "Rules": f"{protocol['rules']}: sums over all episodes of a class, unless the figure says otherwise",
        "Intervals": protocol["interval"],
    }
    return {key: printable(text) if isinstance(text, str) else [printable(part) for part in text] for key, text in found.items()}
