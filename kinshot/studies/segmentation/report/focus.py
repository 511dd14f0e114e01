"""The predictions behind the details of a report: one segmenter of one checkpoint on one task, query by query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kinshot.core.progress import Work
from kinshot.datasets.scenes import Scenes
from kinshot.runs.trained_segmenters import ModelSegmenter, model_segmenter, own_segmenter
from kinshot.segmentation.class_blind import CLASS_BLIND
from kinshot.segmentation.counts import Counts, count_pixels
from kinshot.segmentation.episodes import DenseEpisodes
from kinshot.segmentation.evaluate import Predicted, encoder_maps, predict_episodes
from kinshot.segmentation.mistakes import count_taken
from kinshot.segmentation.pictures import pixels_of
from kinshot.segmentation.sheet import image_at_size, support_of
from kinshot.studies.segmentation.evaluate import SegmentationProtocol, chosen_folds, meet, with_fold
from kinshot.studies.segmentation.families import Fold, runs_on
from kinshot.studies.segmentation.report.panels import EpisodePictures, query_pictures, support_pictures
from kinshot.studies.segmentation.tasks import Say
from kinshot.studies.study import Trained


@dataclass(frozen=True)
class Focused:
    """One segmenter on one task.

    Args:
        run: whose model it is of.
        head: the segmenter as it was written.
        fold: of the data.
        scenes: the images.
        episodes: of the task.
        hashes: of the episodes of every task of the fold.
        counts: of the segmenter under `head`, and of the class-blind rules.
        taken: pixels by what they are and were said to be, see `count_taken`.
        made: the segmenter with the stages that it looks at.
        protocol: what was measured.
    """

    run: Trained
    head: str
    fold: Fold
    scenes: Scenes
    episodes: DenseEpisodes
    hashes: dict[str, str]
    counts: dict[str, Counts]
    taken: np.ndarray
    made: ModelSegmenter
    protocol: SegmentationProtocol

    def pictures(self, numbers: Sequence[int], queries: Sequence[int]) -> dict[int, EpisodePictures]:
        """Pictures of some episodes by their number, with so many of the queries of each."""
        some = self.episodes[np.array(numbers, dtype=np.int64)] if numbers else None
        found: dict[int, EpisodePictures] = {
            n: EpisodePictures(support_pictures(support_of(self.scenes, self.episodes, n, self.protocol.scoring)), []) for n in numbers
        }
        for one in _predictions(self.run, self.head, self.made, self.scenes, some, self.protocol) if some is not None else ():
            n = numbers[one.episode]
            if one.query < queries[one.episode]:
                image = pixels_of(image_at_size(self.scenes, one.row, self.protocol.scoring).numpy())
                target = int(self.episodes.target[n, one.query])
                pictures = query_pictures(image, one.truth.cpu().numpy(), one.scores[self.head].cpu().numpy(), target)
                found[n].queries.append(pictures)
        return found


def focus_on(runs: Sequence[Trained], protocol: SegmentationProtocol, device: torch.device, say: Say) -> Focused:
    """The first checkpoint's predictions with the first segmenter, on the first fold and task, in one pass over its queries."""
    data, folds = chosen_folds(runs, protocol)
    fold = folds[0]
    run = runs_on(fold, runs, data, folds)[0]
    met = meet(with_fold(data, fold), [run.input], protocol.drawing, lambda text: None)
    scenes, episodes = met.sources[run.input.meets], next(iter(met.tasks.values()))
    choice = protocol.heads[0] if protocol.heads else own_segmenter(run)
    made = model_segmenter(choice, run.model, run, protocol.stage)
    if made is None:  # only references are without
        raise RuntimeError(f"no segmenter {choice.text} for {run.path}")
    run.model.to(device)
    counts, taken = _counted(_predictions(run, choice.text, made, scenes, episodes, protocol), choice.text, scenes, episodes, protocol, say)
    hashes = {f"{ways}-way {shots}-shot": found.hash() for (ways, shots), found in met.tasks.items()}
    return Focused(run, choice.text, fold, scenes, episodes, hashes, counts, taken, made, protocol)


def _predictions(
    run: Trained, head: str, made: ModelSegmenter, scenes: Scenes, episodes: DenseEpisodes, protocol: SegmentationProtocol
) -> Iterator[Predicted]:
    encode = encoder_maps(run.model, scenes, made.stages)
    return predict_episodes(episodes, scenes, encode, {head: made.segmenter}, protocol=protocol.scoring, limits=protocol.limits, blind=True)


def _counted(
    predicted: Iterator[Predicted], head: str, scenes: Scenes, episodes: DenseEpisodes, protocol: SegmentationProtocol, say: Say
) -> tuple[dict[str, Counts], np.ndarray]:
    """Counts by true and predicted label of the segmenter and the class-blind rules, and where wrong pixels lie."""
    labels, values, names = episodes.ways + 1, len(scenes.class_names) + 2, (head, *CLASS_BLIND)
    tables = {name: np.zeros((len(episodes), episodes.queries, labels, labels), dtype=np.int64) for name in names}
    taken = torch.zeros(2, values, values, dtype=torch.int64)
    work = Work(len(episodes) * episodes.queries, say, "reading predictions of the first task")
    for one in predicted:
        for name in names:
            tables[name][one.episode, one.query] = count_pixels(one.labels[name][None], one.truth[None], labels)[0].cpu().numpy()
        mask, classes = protocol.scoring.truth(scenes, one.row), torch.from_numpy(episodes.classes[one.episode])
        taken += count_taken(one.labels[head][None].cpu(), mask[None].long(), classes[None], values)
        work.step()
    return {name: Counts(episodes.classes, table) for name, table in tables.items()}, taken.numpy()
