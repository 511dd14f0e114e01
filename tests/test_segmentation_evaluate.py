"""The engine that evaluates dense episodes, against a loop over episodes, queries and pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.frames import Frame
from kinshot.datasets.scenes import ArrayScenes, Scenes
from kinshot.encoders.torchvision_resnet import ResNet18
from kinshot.learn.model import Model
from kinshot.samples.pixels import PixelSpec
from kinshot.segmentation import evaluate
from kinshot.segmentation.boundary import count_edges
from kinshot.segmentation.class_blind import CLASS_BLIND, class_blind
from kinshot.segmentation.cosine_maps import best_labels
from kinshot.segmentation.counts import Counts, counted, joined
from kinshot.segmentation.dense import Dense, way_maps
from kinshot.segmentation.episodes import DenseEpisodes, sample_dense_episodes
from kinshot.segmentation.evaluate import Limits, Outlines, encoder_maps, evaluate_episodes, predict_episodes
from kinshot.segmentation.protocol import Protocol

CLASSES, OTHER, IGNORE, SIDE = 3, 4, 255, 16


class Photographs(Scenes):
    """Pictures of several sizes with two rectangles each, one of them perhaps of another class; some pixels say nothing."""

    def __init__(self, frame: Frame, count: int = 18) -> None:
        rng = np.random.default_rng(0)
        sizes = np.array([[16, 16], [20, 12], [11, 23]])[rng.integers(0, 3, count)]
        self.pictures, self.maps = [], []
        for number, (height, width) in enumerate(sizes.tolist()):
            mask, image = np.zeros((height, width), dtype=np.int64), rng.integers(0, 60, (3, height, width))
            for value in (rng.integers(1, OTHER + 1), number % CLASSES + 1):
                top, left = rng.integers(0, height - 5), rng.integers(0, width - 5)
                mask[top : top + 8, left : left + 8] = value
                image[:, mask == value] += np.array([[20], [50], [30]]) * int(value) // 2
            mask[rng.random(mask.shape) < 0.05] = IGNORE
            self.pictures.append(torch.from_numpy(image.astype(np.uint8)))
            self.maps.append(torch.from_numpy(mask))
        contains = np.stack([[bool((mask == c + 1).any()) for c in range(CLASSES)] for mask in self.maps])
        super().__init__("photographs", frame, 3, ["ape", "bee", "cat"], contains, None, sizes)

    def native_image(self, row: int) -> Tensor:
        return self.pictures[row]

    def native_mask(self, row: int) -> Tensor:
        return self.maps[row]

    def _content(self) -> Iterable[bytes]:
        return [picture.numpy().tobytes() for picture in (*self.pictures, *self.maps)]


class Pooled:
    """Means of 4 x 4 and 8 x 8 pixels as maps; remembers what it was asked for."""

    def __init__(self, scenes: Scenes) -> None:
        self.scenes, self.asked = scenes, []  # type: ignore[var-annotated]

    def __call__(self, rows: np.ndarray) -> dict[str, Tensor]:
        self.asked.append(rows.tolist())
        images = self.scenes.load(rows, ("image",))["image"].double() / 255 - 0.3
        return {"fine": avg_pool2d(images, 4), "coarse": avg_pool2d(images, 8)}


def nearest_mean(dense: Dense, stage: str = "fine") -> Tensor:
    """Minus the squared distance of each place to the mean of each label of the support."""
    support, query = dense.support[stage], dense.query[stage]
    episodes, ways = support.shape[:2]
    masks = interpolate(dense.masks.flatten(0, 2)[:, None].double(), support.shape[-2:], mode="nearest-exact").view(
        episodes, -1, *support.shape[-2:]
    )
    places = support.flatten(1, 2).movedim(2, -1)
    scores = []
    for label in range(ways + 1):
        there = (masks == label).double()
        mean = torch.einsum("eshw,eshwc->ec", there, places) / (there.sum(dim=(1, 2, 3))[:, None] + 0.1)
        scores.append(-(query - mean[:, None, :, None, None]).square().sum(dim=2))
    return torch.stack(scores, dim=2)


def coarse(dense: Dense) -> Tensor:
    return nearest_mean(dense, "coarse")


SEGMENTERS: dict[str, Callable[[Dense], Tensor]] = {"fine": nearest_mean, "coarse": coarse}


def scenes_of(how: str) -> Photographs:
    return Photographs(Frame(SIDE, how))  # type: ignore[arg-type]


def drawn(scenes: Scenes, ways: int = 1, shots: int = 1, queries: int = 2, count: int = 11) -> DenseEpisodes:
    assert scenes.contains is not None
    return sample_dense_episodes(
        scenes.contains, scenes.photos, ways=ways, shots=shots, queries=queries, episodes=count, seed=0
    )  # fmt: skip


def at(scores: Tensor, frame: Frame, size: tuple[int, int], protocol: Protocol) -> np.ndarray:
    """Labels of one query's scores (L, h, w) at a size, with argmax before or after, place by place where it is before."""
    box = frame.box(*size) if protocol.size == "native" else (SIDE, SIDE)
    if protocol.argmax == "before":
        labels, found = scores.argmax(dim=0), np.zeros(size, dtype=np.int64)
        for y in range(size[0]):
            for x in range(size[1]):
                v = (y + 0.5) / size[0] * box[0] / SIDE * labels.shape[0]
                u = (x + 0.5) / size[1] * box[1] / SIDE * labels.shape[1]
                found[y, x] = labels[int(v), int(u)]
        return found
    corners: dict[str, Any] = {"mode": "bilinear", "align_corners": protocol.align_corners}
    if protocol.size == "native" and box != (SIDE, SIDE):
        scores = interpolate(scores[None], (SIDE, SIDE), **corners)[0][:, : box[0], : box[1]]
    return interpolate(scores[None], size, **corners)[0].argmax(dim=0).numpy()


def looped(episodes: DenseEpisodes, scenes: Photographs, protocol: Protocol, name: str) -> np.ndarray:
    """The confusion of one segmenter, (E, Q, L, L): episode by episode, pixel by pixel."""
    encode, labels = Pooled(scenes), episodes.ways + 1
    found = np.zeros((len(episodes), episodes.queries, labels, labels), dtype=np.int64)
    for e in range(len(episodes)):
        support, query = (encode(rows[e].ravel()) for rows in (episodes.support, episodes.query))
        maps = {key: value.view(1, *episodes.support.shape[1:], *value.shape[1:]) for key, value in support.items()}
        masks = scenes.load(episodes.support[e].ravel(), ("mask",))["mask"].view(1, *episodes.support.shape[1:], SIDE, SIDE)
        classes = torch.from_numpy(episodes.classes[e])[None]
        dense = Dense(maps, way_maps(masks, classes, protocol.others), {key: value[None] for key, value in query.items()})
        scores = SEGMENTERS[name](dense)[0]
        for q, row in enumerate(episodes.query[e].tolist()):
            mask = scenes.native_mask(row)
            if protocol.size != "native":
                side = SIDE if protocol.size == "frame" else int(protocol.size)
                mask = Frame(side, scenes.frame.how).mask(mask, IGNORE)
            said = at(scores[q], scenes.frame, tuple(mask.shape), protocol)
            for p, value in zip(said.ravel().tolist(), mask.ravel().tolist(), strict=True):
                ways = episodes.classes[e].tolist()
                if value != IGNORE and (value in ways or value == 0 or protocol.truth_others == "background"):
                    found[e, q, ways.index(value) + 1 if value in ways else 0, p] += 1
    return found


PROTOCOLS = [
    Protocol(),
    Protocol(align_corners=True, truth_others="ignore"),
    Protocol(size="frame", others="ignore"),
    Protocol(size=27),
    Protocol(argmax="before"),
    Protocol(size=9, argmax="before"),
]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
@pytest.mark.parametrize(("how", "ways", "shots"), [("squash", 1, 1), ("letterbox", 2, 2)])
def test_a_batch_of_episodes_is_a_loop_over_them(protocol: Protocol, how: str, ways: int, shots: int) -> None:
    scenes = scenes_of(how)
    episodes = drawn(scenes, ways, shots)
    found = evaluate_episodes(episodes, scenes, Pooled(scenes), SEGMENTERS, protocol=protocol)
    for name in SEGMENTERS:
        np.testing.assert_array_equal(found[name].confusion, looped(episodes, scenes, protocol, name))
        np.testing.assert_array_equal(found[name].classes, episodes.classes)


@pytest.mark.parametrize(
    "limits", [Limits(episodes=1), Limits(episodes=4, images=1), Limits(episodes=5, images=7), Limits(memory_mib=1, images=3)], ids=str
)
@pytest.mark.parametrize("mib", [1 << 20, 20_000, 1])
def test_no_count_depends_on_what_is_held(limits: Limits, mib: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = scenes_of("letterbox")
    episodes = drawn(scenes, ways=2)
    usual = evaluate_episodes(episodes, scenes, Pooled(scenes), SEGMENTERS, blind=True)
    monkeypatch.setattr(evaluate, "_MIB", mib)
    monkeypatch.setattr(evaluate, "_SCORES_AT_ONCE", 1500)
    encode = Pooled(scenes)
    found = evaluate_episodes(episodes, scenes, encode, SEGMENTERS, limits=limits, blind=True)
    assert usual.keys() == found.keys()
    for name in usual:
        np.testing.assert_array_equal(usual[name].confusion, found[name].confusion)
    assert max(map(len, encode.asked)) <= limits.images
    if mib == 1:  # no room beyond one episode and one batch of images
        assert len(np.concatenate(encode.asked)) > len(np.unique(episodes.query))


@pytest.mark.parametrize(("kib", "batch"), [(1, 1), (64, 6), (1 << 10, 11)])
def test_a_batch_looks_at_no_more_than_there_is_memory_for(kib: int, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = scenes_of("squash")
    episodes = drawn(scenes, ways=2)
    seen: list[int] = []

    def watched(dense: Dense) -> Tensor:
        maps = [*dense.support.values(), *dense.query.values(), dense.masks]
        seen.append(sum(one.numel() * one.element_size() for one in maps))
        return nearest_mean(dense)

    monkeypatch.setattr(evaluate, "_MIB", 1 << 10)
    evaluate_episodes(episodes, scenes, Pooled(scenes), {"watched": watched}, limits=Limits(memory_mib=kib))
    assert len(seen) == -(-len(episodes) // batch)
    assert batch == 1 or max(seen) <= kib << 10


def test_every_image_is_encoded_once_in_full_batches() -> None:
    scenes = scenes_of("squash")
    episodes = drawn(scenes, count=40)
    encode = Pooled(scenes)
    done: list[int] = []
    evaluate_episodes(episodes, scenes, encode, SEGMENTERS, limits=Limits(episodes=4, images=5), told=done.append)
    used = np.unique(np.concatenate([episodes.support.ravel(), episodes.query.ravel()]))
    asked = np.concatenate(encode.asked)
    assert sorted(asked.tolist()) == used.tolist()
    assert [len(some) for some in encode.asked[:-1]] == [5] * (len(encode.asked) - 1)
    assert done == list(range(4, 41, 4))


def test_episodes_may_come_in_any_order_and_in_parts() -> None:
    scenes = scenes_of("squash")
    episodes = drawn(scenes)
    whole = evaluate_episodes(episodes, scenes, Pooled(scenes), SEGMENTERS)["fine"]
    order = np.random.default_rng(0).permutation(len(episodes))
    turned = DenseEpisodes(*(getattr(episodes, name)[order] for name in ("classes", "support", "query", "target")))
    np.testing.assert_array_equal(evaluate_episodes(turned, scenes, Pooled(scenes), SEGMENTERS)["fine"].confusion, whole.confusion[order])
    parts = [evaluate_episodes(episodes[rows], scenes, Pooled(scenes), SEGMENTERS)["fine"] for rows in (slice(0, 4), slice(4, 11))]
    np.testing.assert_array_equal(joined(parts).confusion, whole.confusion)


@pytest.mark.parametrize("protocol", PROTOCOLS[::2], ids=str)
def test_predictions_are_those_that_are_counted(protocol: Protocol) -> None:
    scenes = scenes_of("letterbox")
    episodes = drawn(scenes, ways=2)
    chosen = episodes[2:7]
    counts = evaluate_episodes(episodes, scenes, Pooled(scenes), SEGMENTERS, protocol=protocol, blind=True)
    limits = Limits(episodes=2)
    found = list(predict_episodes(chosen, scenes, Pooled(scenes), SEGMENTERS, protocol=protocol, limits=limits, blind=True))
    assert [(one.episode, one.query) for one in found] == [(e, q) for e in range(5) for q in range(2)]
    for one in found:
        assert one.row == chosen.query[one.episode, one.query]
        assert set(one.labels) == {*SEGMENTERS, *CLASS_BLIND}
        for name, labels in one.labels.items():
            again = counted(labels[None, None], one.truth[None, None], chosen.classes[one.episode : one.episode + 1])
            np.testing.assert_array_equal(again.confusion[0, 0], counts[name].confusion[one.episode + 2, one.query])
        for name, scores in one.scores.items():
            assert scores.shape == (3, *one.truth.shape)
            assert protocol.argmax == "before" or torch.equal(scores.argmax(dim=0), one.labels[name])


def test_the_class_blind_rules_are_counted_without_an_encoder() -> None:
    scenes = scenes_of("squash")
    episodes = drawn(scenes)

    def never(rows: np.ndarray) -> dict[str, Tensor]:
        raise RuntimeError("asked")

    found = evaluate_episodes(episodes, scenes, never, {}, blind=True)
    assert set(found) == set(CLASS_BLIND)
    for name in CLASS_BLIND:
        for e in range(len(episodes)):
            for q, row in enumerate(episodes.query[e].tolist()):
                mask, classes = scenes.native_mask(row)[None], torch.from_numpy(episodes.classes[e : e + 1])
                alone = counted(class_blind(mask)[name][None], way_maps(mask, classes)[None], classes)
                np.testing.assert_array_equal(found[name].confusion[e, q], alone.confusion[0, 0])


def test_outlines_are_those_of_the_predictions() -> None:
    scenes = scenes_of("squash")
    episodes = drawn(scenes, ways=2)
    found = evaluate_episodes(episodes, scenes, Pooled(scenes), SEGMENTERS, outlines=Outlines(0.05))
    for one in predict_episodes(episodes, scenes, Pooled(scenes), SEGMENTERS):
        edges = count_edges(one.labels["fine"][None], one.truth[None], 2, tolerance=0.05)[0]
        counts: Counts = found["fine"]
        assert counts.edges is not None
        np.testing.assert_array_equal(counts.edges[one.episode, one.query], edges)


def test_an_encoder_speaks_in_evaluation_mode_and_is_left_as_it_was() -> None:
    rng = np.random.default_rng(0)
    images, masks = rng.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8), rng.integers(0, 3, (4, 32, 32), dtype=np.uint8)
    scenes = ArrayScenes(images, masks, ["ape", "bee"])
    encoder = ResNet18(PixelSpec.square(3, 32, (0.5,) * 3, (0.5,) * 3), width=0.125)
    model = Model(encoder).train()
    encoder.layer1.eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    found = encoder_maps(model, scenes, ("layer3", "layer2"))(np.array([2, 0]))
    assert [module.training for module in (encoder, encoder.layer1, encoder.layer2)] == [True, False, True]
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    with torch.no_grad():
        maps = encoder.eval().maps(model.prepare(torch.from_numpy(images[[2, 0]])), ("layer3", "layer2"))
    assert list(found) == ["layer3", "layer2"]
    for value, expected in zip(found.values(), maps, strict=True):
        torch.testing.assert_close(value, expected.values)
        assert not value.requires_grad


def test_the_lowest_of_equal_scores_has_the_pixel() -> None:
    scores = torch.randint(0, 4, (3, 5, 6, 7), generator=torch.Generator().manual_seed(0)).float()
    expected = np.argmax(scores.numpy(), axis=1)  # the first of equal ones
    np.testing.assert_array_equal(best_labels(scores).numpy(), expected)
    assert not best_labels(torch.zeros(1, 3, 2, 2)).any()


def test_bad_scores_and_settings_are_refused() -> None:
    scenes = scenes_of("squash")
    episodes = drawn(scenes)
    for wrong, words in (
        (lambda dense: nearest_mean(dense)[:, :1], r"is to give scores \(11, 2, 2, 'h', 'w'\), got \(11, 1, 2, 4, 4\)"),
        (lambda dense: nearest_mean(dense) * torch.nan, "not finite"),
    ):
        with pytest.raises(DataError, match=words):
            evaluate_episodes(episodes, scenes, Pooled(scenes), {"wrong": wrong})
    with pytest.raises(DataError, match="needs episodes"):
        evaluate_episodes(episodes[:0], scenes, Pooled(scenes), SEGMENTERS)
    for settings in ({"size": 0}, {"size": "whole"}, {"argmax": "never"}, {"others": "drop"}, {"truth_others": "drop"}):
        with pytest.raises(ConfigError, match="a protocol has size native, frame"):
            Protocol(**settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least 1"):
        Limits(images=0)
