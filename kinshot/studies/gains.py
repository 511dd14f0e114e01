"""How much more is right with a trained encoder than without: differences to the references on the same episodes, in points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kinshot.recipes.specs import Task
from kinshot.samples.pixels import PixelSpec
from kinshot.studies.intervals import Intervals
from kinshot.studies.study import Trained
from kinshot.studies.summaries import Measured, is_reference

SMALL, FEW = 5.0, 20_000
"""Points below which a gain is small, and photographs below which there are few to learn from."""
PACKAGED = "efficientnet_lite0"
"""The encoder of other photographs that comes with kinshot."""


@dataclass(frozen=True)
class Gain:
    """The best row of a trained encoder minus that of a reference on the same episodes: points, and the 95 % half-width.

    Args:
        against: the reference.
        ways: of the task.
        shots: of the task.
        mean: points.
        ci95: half-width of the interval.
        model: whose row it is.
        row: its feature and head.
        against_row: those of the reference.
    """

    against: str
    ways: int | str
    shots: int | str
    mean: float
    ci95: float
    model: str
    row: str
    against_row: str


def gains(ours: Sequence[Measured], references: Sequence[Measured], intervals: Intervals) -> list[Gain]:
    """The gain over each reference in every task. Of each the row with the highest mean counts."""
    found = []
    for task in dict.fromkeys(m.task for m in ours):
        best = _best(ours, task)
        for name in dict.fromkeys(m.model for m in references):
            other = _best([m for m in references if m.model == name], task)
            over = intervals.between(best.accuracy, other.accuracy, task)
            rows = best.model, f"{best.feature}, {best.head}", f"{other.feature}, {other.head}"
            found.append(Gain(name, *task, over.mean, over.half_width, *rows))
    return found


def next_step(found: Sequence[Gain], runs: Sequence[Trained]) -> str:
    """What to try where photographs were few and the gain over the best reference is small in some task; empty where there is no such."""
    least = _least(found)
    photographs = [run for run in runs if _few_photographs(run)]
    if least is None or least.mean >= SMALL or len(photographs) < len(runs):
        return ""
    count = max(int(run.checkpoint.state["samples"]) for run in photographs)
    return (
        f"{count} photographs are few to learn from, and the gain over {least.against} is only {least.mean:.1f} points "
        f"({least.ways}-way {least.shots}-shot): try the packaged encoder, which has seen others, next: fewshot eval {PACKAGED}, "
        f"or adapt it to yours without labels: ssl pretrain photos --init {PACKAGED} data.root=FOLDER"
    )


def _best(measured: Sequence[Measured], task: Task) -> Measured:
    return max((m for m in measured if m.task == task), key=lambda m: float(m.accuracy.mean()))


def _least(found: Sequence[Gain]) -> Gain | None:
    """Of each task the smallest gain, and of these the smallest."""
    return min((gain for gain in found if is_reference(gain.against)), key=lambda gain: gain.mean, default=None)


def _few_photographs(run: Trained) -> bool:
    """Whether an encoder was trained from scratch on few photographs in colour."""
    samples = run.checkpoint.state.get("samples")
    colour = isinstance(run.input, PixelSpec) and run.input.channels == 3
    began = run.checkpoint.origin or run.recipe.init or run.recipe.encoder.settings.get("pretrained")
    return colour and not began and isinstance(samples, int) and samples < FEW
