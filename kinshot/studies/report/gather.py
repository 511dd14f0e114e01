"""Everything that a report shows, measured: the lines of `fewshot eval`, and the details of one head on one task."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import matplotlib

from kinshot.core.runtime import resolve_device
from kinshot.datasets.base import Source
from kinshot.studies.answers import Protocol, Say
from kinshot.studies.evaluate import evaluate
from kinshot.studies.report.content import Content, Focus
from kinshot.studies.report.details import classes_of, confusion_of, gallery_of, reliability_of, spread_of
from kinshot.studies.report.focus import Field, field_of, focus_records
from kinshot.studies.report.words import named_data, named_runs, printable
from kinshot.studies.results import COVERS, ROUGH, SEEN, WARNING
from kinshot.studies.study import load_runs
from kinshot.studies.summaries import Difference, Line


def gather(
    paths: list[Path], protocol: Protocol, device: str, say: Say, command: str, free: Collection[str] = ()
) -> tuple[Content, Source]:
    """Measure checkpoints under a protocol; returns the report, and the source that its images are loaded from.

    Details are those of the first checkpoint, feature, head, number of ways and number of shots.

    Args:
        paths: checkpoints, run folders, or folders of sweeps.
        protocol: what is measured.
        device: auto, cpu, cuda, cuda:N or mps.
        say: takes messages for the person who waits.
        command: what the report says that it was made by.
        free: what of the drawing may follow the data: ways, shots, queries.

    Raises:
        CheckpointError: a bad checkpoint.
        DataError: data that cannot give the episodes.
        ConfigError: settings.
    """
    where, runs = resolve_device(device), load_runs(paths, say=say)
    field, drawing, decided = field_of(runs, protocol, free)
    for change in decided:
        say(change)
    protocol = replace(protocol, drawing=drawing)
    result = evaluate(runs, protocol, device, say)
    say("reading the answers of the first task")
    feature, records = focus_records(field, runs[0], protocol, where)
    names = [printable(name) for name in field.source.class_names]
    head, answers = next(iter(records.items()))
    (ways, shots), _ = next(iter(field.tasks.items()))
    main, several = result["main"], len(result["checkpoints"]) > 1
    model = str(runs[0].path) if several else main
    content = Content(
        title=printable(f"{named_runs([run.path for run in runs])} on {named_data(field.source.name, result['data'])}, {ways}-way"),
        command=printable(command),
        about=_about(result, field, decided),
        focus=Focus(printable(model), feature, head, ways, shots),
        main=main,
        rows=[Line(**_known(Line, row)) for row in result["rows"]],
        beats_references=result["beats_references"],
        warning=printable(result["protocol"].get(WARNING, "")),
        paired=[Difference(**_known(Difference, row)) for row in result["heads paired"]],
        classes=classes_of(records, names),
        confusion=confusion_of(answers, names),
        reliability=reliability_of(records),
        spread=spread_of(answers, names),
        gallery=gallery_of(answers, names),
        versions={**result["versions"], "matplotlib": matplotlib.__version__},
        weights=result["weights"],
        hashes={f"{ways}-way {shots}-shot": episodes.hash() for (ways, shots), episodes in field.tasks.items()},
    )
    return content, field.source


def _known(kind: type[Line] | type[Difference], row: dict[str, Any]) -> dict[str, Any]:
    known = {field.name for field in fields(kind)}
    return {key: printable(value) if isinstance(value, str) else value for key, value in row.items() if key in known}


def _about(result: dict[str, Any], field: Field, decided: list[str]) -> dict[str, str | list[str]]:
    """What was measured, in words: label to text or to several texts."""
    data, protocol = result["data"], result["protocol"]
    settings = [f"{key} {value}" for key, value in data.items() if key not in ("name", "classes", "images")]
    drawn = [f"{key} {protocol[key]}" for key in ("episodes", "from", "seed", "queries") if key in protocol]
    named = zip(result["checkpoints"], result["weights"], strict=True)
    found: dict[str, str | list[str]] = {
        "Checkpoints": [f"{path} (weights {digest[:16]})" for path, digest in named],
        "Trained by": result["pretrained_by"],
        "Training": protocol["training"],
        **{key.capitalize(): protocol[key] for key in (SEEN, WARNING) if key in protocol},
        "Seeds of training": ", ".join(map(str, result["seeds"])),
        "Data": ", ".join([field.source.name, *settings, f"{data['classes']} classes, {data['images']} samples"]),
        "Episodes": f"per task: {', '.join(drawn)}; support and query {protocol['support and query']}",
        **({"Fitted to the data": decided} if decided else {}),
        "Episode hashes (SHA-256)": [f"{ways}-way {shots}-shot: {e.hash()}" for (ways, shots), e in field.tasks.items()],
        "Intervals": [protocol["interval"], *(f"{key}: {protocol[key]}" for key in (COVERS, ROUGH) if key in protocol)],
    }
    return {key: printable(text) if isinstance(text, str) else [printable(part) for part in text] for key, text in found.items()}
