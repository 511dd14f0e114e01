"""A sheet of predictions: every query beside the support of its way, at the size at which it is scored."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinshot.datasets.frames import Frame
from kinshot.datasets.scenes import ArrayScenes
from kinshot.segmentation.dense import Dense
from kinshot.segmentation.episodes import DenseEpisodes
from kinshot.segmentation.evaluate import predict_episodes
from kinshot.segmentation.pictures import overlay
from kinshot.segmentation.protocol import Protocol
from kinshot.segmentation.sheet import image_at_size, prediction_sheet, support_of
from kinshot.segmentation.strips import GAP, enlarged


@pytest.fixture
def scenes() -> ArrayScenes:
    rng = np.random.default_rng(0)
    masks = np.zeros((6, 20, 20), dtype=np.uint8)
    for row in range(6):
        masks[row, row : row + 8, 4:12] = 1 + row % 2
        masks[row, 17:] = 255
    return ArrayScenes(rng.integers(0, 256, (6, 3, 20, 20), dtype=np.uint8), masks, ["a", "b"], frame=Frame(16))


EPISODES = DenseEpisodes(
    classes=np.array([[2, 1]]), support=np.array([[[1, 3], [0, 2]]]), query=np.array([[4, 5]]), target=np.array([[1, 0]])
)  # fmt: skip


def guesses(episodes: Dense) -> torch.Tensor:
    """Scores from the first channel of the query's map: above 0 the first way."""
    first = episodes.query[episodes.stage][:, :, 0]
    return torch.stack([torch.zeros_like(first), first, torch.full_like(first, -1)], dim=2)


@pytest.mark.parametrize("protocol", [Protocol(), Protocol(size="frame"), Protocol(size=10)])
def test_each_query_stands_beside_its_support(scenes: ArrayScenes, protocol: Protocol) -> None:
    def encode(rows: np.ndarray) -> dict[str, torch.Tensor]:
        return {"last": scenes.load(rows, ("image",))["image"].float()[:, :, ::4, ::4] - 128}

    found = list(predict_episodes(EPISODES, scenes, encode, {"guess": guesses}, protocol=protocol))
    height = 20
    drawn = prediction_sheet(found, "guess", scenes, EPISODES, protocol, height)
    panels = 2 + 4  # two shots, query, truth, prediction, score
    assert drawn.shape[1] == GAP + panels * (height + GAP)
    lines = len(drawn) // 2
    for row, one in enumerate(found):
        way = EPISODES.target[0, one.query]
        top = row * lines + lines - GAP - height
        for shot, sample in enumerate(EPISODES.support[0, way].tolist()):
            picture, mask = scenes.images[sample].transpose(1, 2, 0), scenes.masks[sample].astype(int)
            ways = np.where(mask == 255, 255, np.where(mask == EPISODES.classes[0, way], way + 1, mask))
            left = GAP + shot * (height + GAP)
            assert (drawn[top : top + height, left : left + height] == overlay(picture, ways)).all()
        image = image_at_size(scenes, one.row, protocol)
        assert image.shape[1:] == one.truth.shape == one.scores["guess"].shape[1:]
        if len(enlarged(one.truth.numpy(), height)) == height:
            left = GAP + 2 * (height + GAP)
            expected = enlarged(image.numpy().transpose(1, 2, 0), height)
            assert (drawn[top : top + height, left : left + height] == expected).all()


def test_objects_that_are_no_way_follow_the_protocol(scenes: ArrayScenes) -> None:
    one_way = DenseEpisodes(np.array([[1]]), np.array([[[0, 1]]]), np.array([[2]]), np.array([[0]]))
    for others, expected in (("background", {0, 255}), ("ignore", {0, 255})):
        (_, with_class), (_, without) = support_of(scenes, one_way, 0, Protocol(others=others))[0]
        assert set(np.unique(with_class)) == {0, 1, 255}
        assert set(np.unique(without)) == expected
        assert (without[scenes.masks[1] == 2] == (0 if others == "background" else 255)).all()
