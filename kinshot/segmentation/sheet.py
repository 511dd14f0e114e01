"""Predictions of dense episodes as one picture: each query in a row with support, truth, prediction and score."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from kinshot.datasets.frames import Frame
from kinshot.datasets.scenes import Scenes
from kinshot.segmentation.dense import way_maps
from kinshot.segmentation.episodes import DenseEpisodes
from kinshot.segmentation.evaluate import Predicted
from kinshot.segmentation.pictures import pixels_of
from kinshot.segmentation.protocol import USUAL, Protocol
from kinshot.segmentation.strips import episode_panels, stacked, strip


def prediction_sheet(
    predicted: Iterable[Predicted], name: str, scenes: Scenes, episodes: DenseEpisodes, protocol: Protocol = USUAL, height: int = 128
) -> np.ndarray:
    """Queries below one another, each with the support of the way that it was drawn for, uint8 (H, W, 3).

    Args:
        predicted: what `predict_episodes` gives of these episodes.
        name: of the segmenter whose predictions are shown.
        scenes: where the images are.
        episodes: that the predictions are of.
        protocol: at which size.
        height: of each picture.
    """
    rows = []
    for one in predicted:
        way = int(episodes.target[one.episode, one.query])
        support = support_of(scenes, episodes, one.episode, protocol)[way]
        query = pixels_of(image_at_size(scenes, one.row, protocol).numpy())
        labels, scores, truth = (found.cpu().numpy() for found in (one.labels[name], one.scores[name], one.truth))
        rows.append(strip(episode_panels(support, query, labels, scores, truth, way=way, side=height), height))
    return stacked(rows)


def support_of(
    scenes: Scenes, episodes: DenseEpisodes, number: int, protocol: Protocol = USUAL
) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """The support of an episode by way and shot as it is: pictures uint8 (H, W, 3) with their way maps (H, W)."""
    classes = torch.from_numpy(episodes.classes[number : number + 1])
    return [
        [
            (pixels_of(scenes.native_image(row).numpy()), way_maps(scenes.native_mask(row)[None], classes, protocol.others)[0].numpy())
            for row in way
        ]
        for way in episodes.support[number].tolist()
    ]


def image_at_size(scenes: Scenes, row: int, protocol: Protocol = USUAL) -> Tensor:
    """The image of a sample at the size at which it is scored, uint8 (C, H, W)."""
    image, side = scenes.native_image(row), protocol.size
    if side == "native":
        return image
    return Frame(scenes.frame.size if side == "frame" else int(side), scenes.frame.how).image(image)
