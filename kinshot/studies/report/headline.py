"""The first numbers of a report: the best head beside the best reference."""

from __future__ import annotations

from kinshot.recipes.specs import Task
from kinshot.studies.report.content import Content
from kinshot.studies.report.markup import Html, fill, joined
from kinshot.studies.summaries import Line, is_reference


def headline(content: Content) -> Html:
    """The best line of every number of shots, large, and the best reference."""
    tasks = [task for task in tasks_of(content) if task[0] == content.focus.ways]
    tiles = joined(_tile(shots, *best_lines(content, (ways, shots))) for ways, shots in tasks)
    heads = f"the best of {len(content.heads)} heads" if len(content.heads) > 1 else f"head {content.heads[0]}"
    against = ", and the best reference" if any(is_reference(r.model) for r in content.rows) else ""
    note = fill('<p class="note">Accuracy of $heads$against, ± half of the 95 % interval.</p>', heads=heads, against=against)
    return joined([fill('<ul class="tiles">$tiles</ul>', tiles=tiles), note])


def _tile(shots: int | str, best: Line | None, reference: Line | None) -> Html:
    if best is None:
        return Html("")
    below = "$model, $head: $mean ± $half %"
    against = fill(
        f'<span class="against">{below}</span>',
        model=reference.model, head=reference.head, mean=f"{reference.mean:.1f}", half=f"{reference.ci95:.1f}",
    ) if reference else ""  # fmt: skip
    return fill(
        "<li><b>$mean<small> ± $half %</small></b><span>$shots-shot, $head</span>$against</li>",
        mean=f"{best.mean:.1f}", half=f"{best.ci95:.1f}", shots=shots, head=best.head, against=against,
    )  # fmt: skip


def tasks_of(content: Content) -> list[Task]:
    """Every (ways, shots) that was measured, ascending."""
    return sorted({(r.ways, r.shots) for r in content.rows})


def best_lines(content: Content, task: Task) -> tuple[Line | None, Line | None]:
    """The best line of a task, and the best one of the references."""
    mine = [r for r in content.rows if (r.ways, r.shots) == task]
    best, reference = (
        max((r for r in mine if chosen(r)), key=lambda r: r.mean, default=None)
        for chosen in (lambda r: r.model == content.main, lambda r: is_reference(r.model))
    )
    return best, reference
