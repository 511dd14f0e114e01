"""What is said, before anything is measured, of the support's objects that a segmenter's maps lose."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kinshot.datasets.scenes import Scenes
from kinshot.datasets.survey import named
from kinshot.recipes.segmenters import SegmenterChoice
from kinshot.runs.trained_segmenters import model_segmenter
from kinshot.segmentation.evaluate import encoder_maps
from kinshot.segmentation.lost import Convention, LostShots, convention, lost_shots
from kinshot.studies.segmentation.tasks import SceneTasks
from kinshot.studies.study import Trained


def losing(choice: SegmenterChoice, run: Trained, stage: str, scenes: Scenes) -> list[tuple[Convention, tuple[int, int]]]:
    """How a segmenter brings masks to a run's maps, and the sizes of these, where that can lose an object; one image is encoded for it."""
    how = convention(choice.name, choice.settings)
    made = model_segmenter(choice, run.model, run, stage) if how is not None else None
    if how is None or made is None:
        return []
    maps = encoder_maps(run.model, scenes, made.stages)(np.zeros(1, dtype=np.int64))
    return [(how, size) for size in sorted({(one.shape[-2], one.shape[-1]) for one in maps.values()})]


def lost_notes(choice: SegmenterChoice, how: Convention, size: tuple[int, int], scenes: Scenes, tasks: SceneTasks) -> Iterator[str]:
    """A line for each task in which objects of the support are lost in maps of a size."""
    for (ways, shots), episodes in tasks.items():
        found = lost_shots(episodes, scenes, how, size)
        if len(found.rows):
            bare = f", and in {found.bare} of {len(episodes)} episodes a way is left without any" if found.bare else ""
            remedy = ", or pooling=upsample" if "pooling" in choice.settings else ""
            yield (
                f"{choice.text}, {ways}-way {shots}-shot: {len(found.rows)} of {found.of} objects of the support are lost in maps of "
                f"{size[0]} x {size[1]} cells and left out{bare} ({_places(found, scenes)}): a larger size or min_area keeps to objects "
                f"that are seen{remedy}"
            )


def _places(found: LostShots, scenes: Scenes) -> str:
    """The first few of them: class and image."""
    where = [f"image {row}" if scenes.files is None else str(scenes.files[row]) for row in found.rows.tolist()]
    return named(f"{scenes.class_names[value - 1]} in {one}" for value, one in zip(found.classes.tolist(), where, strict=True))
