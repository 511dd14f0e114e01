"""Augmented views as the run made them: the same seed, epoch and sample give the same view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinshot.studies.report.samples import Sample, picture_of
from kinshot.studies.run_report.content import ViewsShown
from kinshot.studies.run_report.looked import Looked

SAMPLES, MOST_VIEWS = 8, 4


@dataclass(frozen=True)
class Grid:
    """Pictures of views: for each sample of `shown`, its views in the order of epochs and views."""

    shown: ViewsShown
    pictures: list[list[Sample]]


def view_grid(looked: Looked, epochs: list[int]) -> Grid | None:
    """Views of a few samples in some epochs, counted from 0; None for samples that are no pictures."""
    rows = looked.rows[np.linspace(0, len(looked.rows) - 1, min(SAMPLES, len(looked.rows))).astype(np.int64)]
    samples = looked.source.load(rows)
    if looked.source.spec.pictures(samples) is None:
        return None
    pictures: list[list[Sample]] = [[] for _ in rows]
    count = 0
    for epoch in epochs:
        views = made_views(looked, rows, epoch)[:MOST_VIEWS]
        count = len(views)
        for view in views:
            for row, pixels in zip(pictures, view.numpy(), strict=True):
                row.append(Sample(picture=picture_of(pixels)))
    return Grid(ViewsShown(rows.tolist(), [epoch + 1 for epoch in epochs], count, looked.own), pictures)


def made_views(looked: Looked, rows: np.ndarray, epoch: int) -> list[Tensor]:
    """Each view of some samples in an epoch from 0, as pixels uint8 (n, C, H, W)."""
    samples = looked.source.load(rows).to(looked.by.device)
    made = looked.views(samples, torch.from_numpy(rows), seed=looked.by.run.recipe.seed, epoch=epoch)
    return [(looked.by.input.denormalize(view).clamp(0, 1) * 255).round().to(torch.uint8).cpu() for view in made]
