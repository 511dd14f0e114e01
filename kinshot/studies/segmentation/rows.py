"""What counts of pixels become: rows with intervals by model, segmenter, task and fold, differences, and a table of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from kinshot.segmentation.class_blind import CLASS_BLIND, SALIENCY
from kinshot.segmentation.counts import Counts
from kinshot.segmentation.intervals import Over
from kinshot.segmentation.rules import RULES, class_table
from kinshot.studies.results import rounded_p
from kinshot.studies.sampled import Figure, Sampled
from kinshot.studies.segmentation.families import Family, Fold
from kinshot.studies.segmentation.figures import mean_of_folds, sampled
from kinshot.studies.summaries import corrected

MEAN = "mean"
"""What stands for a fold in the rows of the mean over folds."""
NAMES = {
    "miou": "mIoU", "fb_iou": "FB-IoU", "dice": "Dice", "boundary_f": "boundary F", "image_iou": "IoU of images",
    "panet_miou": "mIoU (PANet's rule)", "panet_fb_iou": "FB-IoU (PANet's rule)",
}  # fmt: skip
"""What people call the rules."""


@dataclass(frozen=True, order=True)
class Cell:
    """A list of episodes: fold, ways and shots."""

    fold: Fold
    ways: int
    shots: int


Results = dict[Cell, dict[tuple[str, str], Counts]]
"""Counts by list of episodes, and by label of the model and text of the segmenter, which is empty for class-blind rules."""


@dataclass(frozen=True)
class SegmentationRow:
    """A figure in percent; `part_of` is the mean that a single run is part of, `excluded` how many classes say nothing of it."""

    model: str
    head: str
    fold: Fold | str
    ways: int
    shots: int
    rule: str
    mean: float | None
    low: float | None
    high: float | None
    ci95: float | None
    n: int
    excluded: int = 0
    part_of: str = ""


@dataclass(frozen=True)
class SegmentationDifference:
    """How far a model and segmenter are above others on the same episodes; `p_holm` is corrected for those of one task and fold."""

    model: str
    head: str
    against: str
    against_head: str
    fold: Fold | str
    ways: int
    shots: int
    rule: str
    mean: float | None
    low: float | None
    high: float | None
    ci95: float | None
    n: int
    p: float
    p_holm: float = 1.0


@dataclass(frozen=True)
class _Line:
    """A model and a segmenter over all folds of a task: the figure of a rule for each fold."""

    model: str
    head: str
    folds: Mapping[Fold | str, Sampled]
    excluded: int
    part_of: str = ""


def all_rows(
    found: Results,
    made: Sequence[Family],
    own: Mapping[str, str],
    folds: Sequence[Fold],
    references: Sequence[str],
    measures: Sequence[str],
    over: Over,
    seed: int,
) -> dict[str, Any]:
    """Rows, differences between models and segmenters, and whether learners are above class-blind saliency, as plain data.

    Args:
        found: counts of everything.
        made: the models.
        own: by label of a model, the name of the segmenter that its training is for.
        folds: that were measured.
        references: labels of untrained encoders.
        measures: names of rules; differences are of the first one.
        over: what is drawn again.
        seed: of the draws.
    """
    rows: list[SegmentationRow] = []
    between: list[SegmentationDifference] = []
    for ways, shots in dict.fromkeys((cell.ways, cell.shots) for cell in found):
        cells = {fold: found[Cell(fold, ways, shots)] for fold in folds}
        for rule in measures:
            lines = _lines(cells, made, references, rule, over, seed)
            rows += [
                SegmentationRow(
                    line.model, line.head, fold, ways, shots, rule, **_plain(one.figure()), excluded=line.excluded, part_of=line.part_of
                )
                for line in lines
                for fold, one in line.folds.items()
            ]
            if rule == measures[0]:
                between += _differences([line for line in lines if not line.part_of], own, {*references, *CLASS_BLIND}, ways, shots, rule)
    tested = corrected(between, lambda one: (one.fold, one.ways, one.shots))
    learned = {family.label for family in made}
    saliency = [
        d for d in tested if d.against == SALIENCY and d.model in learned and d.fold in (MEAN, folds[0] if len(folds) == 1 else MEAN)
    ]
    return {
        "rows": [asdict(row) for row in rows],
        "differences": [asdict(one) for one in tested],
        "above_saliency": all((d.low or 0) > 0 for d in _best(saliency)) if saliency else None,
    }


def _best(of: Sequence[SegmentationDifference]) -> list[SegmentationDifference]:
    """The best of every task."""
    found: dict[tuple[int, int], SegmentationDifference] = {}
    for one in of:
        held = found.get((one.ways, one.shots))
        found[(one.ways, one.shots)] = one if held is None or (one.low or 0) > (held.low or 0) else held
    return list(found.values())


def _lines(
    cells: Mapping[Fold, Mapping[tuple[str, str], Counts]],
    made: Sequence[Family],
    references: Sequence[str],
    rule: str,
    over: Over,
    seed: int,
) -> list[_Line]:
    """Every model with every segmenter: means over seeds first, then the runs behind them, references and class-blind rules."""
    heads = list(dict.fromkeys(head for of in cells.values() for _, head in of if head))
    wanted: list[tuple[str, str, Mapping[Fold, Mapping[int, str]], str]] = []
    for head in heads:
        for family in made:
            several = any(len(of) > 1 for of in family.runs.values())
            wanted.append((family.label, head, {fold: {s: run.label for s, run in of.items()} for fold, of in family.runs.items()}, ""))
            for run in family.members if several else ():
                there = {fold: {s: one.label for s, one in of.items() if one is run} for fold, of in family.runs.items()}
                wanted.append((run.label, head, {fold: of for fold, of in there.items() if of}, family.label))
        wanted += [(label, head, {fold: {0: label} for fold in cells}, "") for label in references]
    wanted += [(name, "", {fold: {0: name} for fold in cells}, "") for name in CLASS_BLIND]
    lines = []
    for label, head, where, part_of in wanted:
        counts = {
            fold: {s: cells[fold][(name, head)] for s, name in of.items()}
            for fold, of in where.items()
            if all((name, head) in cells[fold] for name in of.values())
        }
        if counts:
            lines.append(_line(label, head, counts, len(cells), rule, over, seed, part_of))
    return lines


def _line(
    label: str, head: str, counts: Mapping[Fold, Mapping[int, Counts]], folds: int, rule: str, over: Over, seed: int, part_of: str
) -> _Line:
    each: dict[Fold | str, Sampled] = {fold: sampled(of, RULES[rule], over, seed, fold) for fold, of in counts.items()}
    excluded = max(RULES[rule](one).excluded for of in counts.values() for one in of.values())
    if folds > 1 and len(each) == folds:
        each[MEAN] = mean_of_folds(list(each.values()))
    return _Line(label, head, each, excluded, part_of)


def _plain(figure: Figure) -> dict[str, Any]:
    """Mean, ends and half-width of a figure, None where it has none: JSON knows no NaN."""
    numbers = {key: getattr(figure, key) for key in ("mean", "low", "high", "ci95")}
    return {**{key: None if np.isnan(value) else round(value, 6) for key, value in numbers.items()}, "n": figure.n}


def _differences(
    lines: Sequence[_Line], own: Mapping[str, str], known: set[str], ways: int, shots: int, rule: str
) -> list[SegmentationDifference]:
    """Later models minus earlier ones, later segmenters minus earlier ones of one model, and all minus what is known.

    Models are compared by the same segmenter, and by those that each trained. What is known are references and class-blind rules; of the
    latter perfect saliency.
    """
    found = []
    for first, second in combinations([line for line in lines if line.model not in CLASS_BLIND or line.model == SALIENCY], 2):
        a, b = (first, second) if second.model in known else (second, first)
        trained = all(own.get(line.model) == line.head.partition(":")[0] for line in (a, b))
        alike = a.model == b.model or a.head == b.head or trained or b.model == SALIENCY
        if a.model not in known and alike:
            for fold in [fold for fold in a.folds if fold in b.folds]:
                figure = a.folds[fold].minus(b.folds[fold])
                who = (a.model, a.head, b.model, b.head, fold, ways, shots, rule)
                found.append(SegmentationDifference(*who, **_plain(figure), p=figure.p))
    return found


def class_rows(found: Results, names: Mapping[Fold, Sequence[str]]) -> list[dict[str, Any]]:
    """Every class of every model, segmenter and list of episodes, figures in percent, None where nothing can be said."""
    rates = ("iou", "dice", "precision", "recall", "boundary")
    rows = []
    for cell, of in found.items():
        for (model, head), counts in of.items():
            for one in class_table(counts, names[cell.fold]):
                told = one.as_dict()
                percent = {rate: None if told[rate] is None else round(100 * told[rate], 3) for rate in rates}
                rows.append({"model": model, "head": head, **asdict(cell), **told, **percent})
    return rows


def document_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows and differences of a result as result files hold them."""

    def one(row: Mapping[str, Any], label: str) -> dict[str, Any]:
        fold = "" if row["fold"] is None else "mean of folds, " if row["fold"] == MEAN else f"fold {row['fold']}, "
        metric = f"{fold}{row['ways']}-way {row['shots']}-shot {NAMES[row['rule']]}, %"
        kept = {key: row[key] for key in ("n", "part_of") if row.get(key) not in (None, "")} | rounded_p(row)
        return {"label": label, "metric": metric, **{key: round(row[key], 3) for key in ("mean", "ci95")}, **kept}

    def named(model: str, head: str) -> str:
        return f"{model}, {head}" if head else model.replace("_", " ")

    rows = [one(row, named(row["model"], row["head"])) for row in result["rows"] if row["mean"] is not None]
    return rows + [one(d, f"{named(d['model'], d['head'])} minus {named(d['against'], d['against_head'])}") for d in result["differences"]]
