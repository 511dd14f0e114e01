"""Segmenters against loops: prototypes of several shots, votes, cells as rows."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from kinshot.core.errors import ConfigError, DataError
from kinshot.fewshot.evaluate import build_head
from kinshot.segmentation.cells import cell_labels, cover, even_choice, support_rows
from kinshot.segmentation.dense import Dense, way_pixels
from kinshot.segmentation.gram import gram_difference, shot_shares
from kinshot.segmentation.heads.cosine import cosine
from kinshot.segmentation.pooling import EPS
from kinshot.segmentation.segmenter import build_segmenter
from kinshot.segmentation.votes import count_votes, hsnet_vote, majority_vote
from tests import reference_segmentation as slow

CONVENTIONS = [
    ("upsample", False, "strict", "drop"),
    ("upsample", True, "panet", "background"),
    ("downsample", True, "panet", "drop"),
    ("downsample", False, "strict", "background"),
    ("nearest", False, "strict", "drop"),
]
conventions = pytest.mark.parametrize(("pooling", "align_corners", "background", "other_ways"), CONVENTIONS)


def _episodes() -> Dense:
    """Two episodes of two ways and three shots; one shot without its way, one of nothing else, one of which nothing is said."""
    generator = torch.Generator().manual_seed(2)
    values = torch.tensor([0, 0, 1, 2, 255])
    masks = values[torch.randint(5, (2, 2, 3, 8, 6), generator=generator)]
    masks[0, 0, 1][masks[0, 0, 1] == 1] = 0
    masks[0, 1, 2], masks[1, 1, 0] = 2, 255
    support = torch.randn(2, 2, 3, 5, 4, 3, generator=generator, dtype=torch.float64)
    return Dense({"map": support}, masks, {"map": torch.randn(2, 2, 5, 4, 3, generator=generator, dtype=torch.float64)})


@conventions
@pytest.mark.parametrize("shots", ["mean", "pooled", "weighted"])
def test_prototypes_of_several_shots(pooling: str, align_corners: bool, background: str, other_ways: str, shots: str) -> None:
    episodes = _episodes()
    settings: dict[str, Any] = {"pooling": pooling, "align_corners": align_corners, "background": background, "other_ways": other_ways}
    found = cosine(episodes, alpha=3.0, shots=shots, temperature=0.05, **settings)  # type: ignore[arg-type]
    how = (pooling, align_corners, EPS[pooling], background, other_ways)
    support, masks, query = episodes.support["map"].numpy(), episodes.masks.numpy(), episodes.query["map"].numpy()
    known = cover(episodes.masks != 255, (4, 3)).double().numpy()
    for e, q in np.ndindex(2, 2):
        shares = None
        if shots == "weighted":
            seen = support[e] * known[e][:, :, None]
            distances = [[slow.gram_difference(query[e, q], image) for image in way] for way in seen]
            shares = np.stack([slow.softmax([-d / 0.05 for d in way]) for way in distances])
        rows = (
            slow.pooled_prototypes(support[e], masks[e], how) if shots == "pooled" else slow.prototypes(support[e], masks[e], how, shares)
        )
        np.testing.assert_allclose(found[e, q].numpy(), slow.scores_of(query[e, q], rows, 3.0), atol=1e-9)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("rule", ["vote", "majority"])
def test_votes_of_one_way_are_those_of_public_code(rule: str, align_corners: bool) -> None:
    """Each shot is segmented alone; two maps of sums decide."""
    whole = _episodes()
    masks = whole.masks[:, :1].clone()
    masks[masks == 2] = 0
    episodes = Dense({"map": whole.support["map"][:, :1]}, masks, whole.query)
    found = cosine(episodes, shots=rule, align_corners=align_corners).argmax(2)  # type: ignore[arg-type]
    for e, q in np.ndindex(2, 2):
        answers = []
        for k in range(3):
            if not (masks[e, 0, k] == 1).any():
                continue  # a shot without the way says nothing
            how = ("upsample", align_corners, 1e-5, "strict", "drop")
            alone = episodes.support["map"][e, :, [k]].numpy(), masks[e, :, [k]].numpy()
            scores = slow.scores_of(episodes.query["map"][e, q].numpy(), slow.prototypes(*alone, how), 20.0)
            answers.append(slow.resized(scores, 8, 6, align_corners).argmax(0))
        labels = np.stack(answers)
        wanted = slow.hsnet_vote(labels) if rule == "vote" else labels.mean(0) > 0.5
        assert np.array_equal(found[e, q].numpy(), wanted)


def test_the_two_votes_differ_where_no_pixel_has_all_votes() -> None:
    """One of five shots is enough for HSNet's rule if no pixel has more than two."""
    labels = torch.zeros(1, 1, 5, 1, 3, dtype=torch.int64)
    labels[0, 0, 0, 0, :2] = 1
    labels[0, 0, 1, 0, 0] = 1
    voters = torch.ones(1, 5, dtype=torch.bool)
    votes = count_votes(labels, 2, voters)
    assert votes[0, 0].tolist() == [[[3, 4, 5]], [[2, 1, 0]]]
    assert hsnet_vote(votes, 5).argmax(2).tolist() == [[[[1, 1, 0]]]]
    assert majority_vote(votes, voters).argmax(2).tolist() == [[[[0, 0, 0]]]]


@pytest.mark.parametrize("shots", range(1, 12))
def test_the_threshold_of_votes_lies_between_the_shares_below_one_half_and_one_half(shots: int) -> None:
    for most in range(1, shots + 1):
        votes = torch.zeros(1, 1, 2, 1, most + 1)
        votes[0, 0, 1, 0] = torch.arange(most + 1)
        wanted = [number / most >= 0.5 for number in range(most + 1)]
        assert hsnet_vote(votes, shots).argmax(2).flatten().bool().tolist() == wanted


def test_nobody_voting_is_background() -> None:
    votes, voters = torch.zeros(1, 1, 3, 2, 2), torch.zeros(1, 4, dtype=torch.bool)
    for scores in (hsnet_vote(votes, 4), majority_vote(votes, voters)):
        assert not scores.argmax(2).any()


def test_gram_differences_are_those_of_the_reference() -> None:
    episodes = _episodes()
    support, query = episodes.support["map"], episodes.query["map"]
    found = gram_difference(support, query)
    for e, q, w, k in np.ndindex(2, 2, 2, 3):
        assert float(found[e, q, w, k]) == pytest.approx(slow.gram_difference(query[e, q].numpy(), support[e, w, k].numpy()), abs=1e-12)
    shares = shot_shares(found, 0.1)
    torch.testing.assert_close(shares.sum(-1), torch.ones_like(shares[..., 0]))
    assert torch.equal(shares.argmax(-1), found.argmin(-1)), "the shot that looks most like the query counts most"
    assert not gram_difference(query[:, :, None], query)[:, [0, 1], [0, 1]].any(), "an image does not differ from itself"


# -- cells as rows


@pytest.mark.parametrize("other_ways", ["drop", "background"])
@pytest.mark.parametrize(("way_cover", "background_cover"), [(0.5, 0.9), (0.25, 0.5), (1.0, 1.0), (0.9, 0.1)])
def test_labels_of_cells_are_those_of_the_reference(way_cover: float, background_cover: float, other_ways: str) -> None:
    masks = _episodes().masks
    masks[1, 0, 0, :4], masks[1, 0, 1, :, :2] = 0, 1
    found = cell_labels(masks, (4, 3), way_cover, background_cover, other_ways)  # type: ignore[arg-type]
    for e, w, k in np.ndindex(2, 2, 3):
        wanted = slow.cell_label(masks[e, w, k].numpy(), w + 1, (4, 3), way_cover, background_cover, other_ways)
        assert np.array_equal(found[e, w, k].numpy(), wanted)


@pytest.mark.parametrize(("pixels", "cells"), [((24, 24), (6, 6)), ((25, 17), (6, 4)), ((5, 6), (8, 9)), ((13, 26), (1, 2))])
def test_cover_is_the_mean_of_the_pixels_in_a_cell(pixels: tuple[int, int], cells: tuple[int, int]) -> None:
    mask = torch.rand(3, 2, *pixels, generator=torch.Generator().manual_seed(0)) > 0.3
    mask[0] = True
    found = cover(mask, cells)
    torch.testing.assert_close(found, adaptive_avg_pool2d(mask.float(), cells))
    assert (found[0] == 1).all(), "what is covered wholly reaches a threshold of 1"


def test_votes_of_a_few_queries_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    episodes = _episodes()
    whole = cosine(episodes, shots="majority")
    monkeypatch.setattr(sys.modules[cosine.__module__], "_SCORES_AT_ONCE", 1)
    assert torch.equal(cosine(episodes, shots="majority"), whole)


@pytest.mark.parametrize("most", [1, 2, 3, 5, 12, 50])
def test_cells_are_chosen_evenly(most: int) -> None:
    generator = torch.Generator().manual_seed(0)
    marked = torch.rand(7, 12, generator=generator) > 0.4
    marked[0], marked[1] = False, True
    places, real = even_choice(marked, most)
    assert places.shape == (7, min(most, 12))
    for row in range(7):
        where = marked[row].nonzero().flatten()
        wanted = where[slow.even_choice(len(where), most)].tolist()
        assert places[row][real[row]].tolist() == wanted
        assert len(wanted) == min(len(where), most)


def test_rows_are_the_chosen_cells_with_their_labels() -> None:
    episodes = _episodes()
    labels = cell_labels(episodes.masks, (4, 3), 0.5, 0.5)
    rows, named = support_rows(episodes.support["map"], labels, 2)
    flat = episodes.support["map"].flatten(-2)
    for e in range(2):
        wanted: list[tuple[int, list[float]]] = []
        for w, k in np.ndindex(2, 3):
            for label in (0, w + 1):
                where = (labels[e, w, k].flatten() == label).nonzero().flatten().tolist()
                wanted += [(label, flat[e, w, k, :, where[r]].tolist()) for r in slow.even_choice(len(where), 2)]
        kept = named[e] >= 0
        assert list(zip(named[e][kept].tolist(), rows[e][kept].tolist(), strict=True)) == wanted
    assert (named >= 0).any(0).all(), "no row is idle in every episode"


def test_a_zero_row_stands_for_a_background_without_a_cell() -> None:
    episodes = _episodes()
    labels = cell_labels(episodes.masks, (4, 3), 0.5, 0.5)
    labels[1][labels[1] == 0] = -1
    rows, named = support_rows(episodes.support["map"], labels, 4)
    assert not rows[1][named[1] == 0].any()
    assert (named == 0).sum(1)[1] == 1
    assert named[0, -1] == -1
    assert rows[0][named[0] == 0].any(1).all()


@pytest.mark.parametrize("name", ["prototype", "ridge", "tim"])
def test_few_shot_heads_segment(name: str) -> None:
    """Cells of three kinds, each with a direction of its own: every few-shot head finds them again."""
    generator = torch.Generator().manual_seed(1)
    shown = torch.randint(3, (4, 8), generator=generator)
    shown[0, :3] = torch.tensor([0, 1, 2])
    centres = 3 * torch.eye(3, 6)
    maps = centres[shown].movedim(-1, 0)

    def noisy(*leading: int) -> Tensor:
        return maps + 0.1 * torch.randn(*leading, 6, 4, 8, generator=generator)

    masks = shown.repeat_interleave(4, 0).repeat_interleave(4, 1).expand(2, 2, 2, 16, 32)
    episodes = Dense({"map": noisy(2, 2, 2)}, masks, {"map": noisy(2, 2)})
    settings = {"steps": 20} if name == "tim" else {}
    segmenter = build_segmenter(name, {"cells": 5, **settings}, heads=build_head)
    scores = segmenter(episodes)
    assert torch.equal(scores.argmax(2), shown.expand(2, 2, -1, -1))
    assert segmenter.scores == build_head(name).scores
    assert segmenter.name == name


def test_a_head_sees_cells_as_its_rows() -> None:
    episodes, seen = _episodes(), {}

    def head(support: Tensor, labels: Tensor, query: Tensor, ways: int) -> Tensor:
        seen.update(support=support, labels=labels, query=query, ways=ways)
        return query[..., :ways]

    scores = build_segmenter("rows", {"cells": 2}, head=head)(episodes)
    assert torch.equal(scores, episodes.query["map"][:, :, :3]), "what is said of a row stands at its cell"
    assert seen["ways"] == 3
    assert seen["query"].shape == (2, 2 * 12, 5)
    assert set(seen["labels"].unique().tolist()) <= {-1, 0, 1, 2}


# -- names and settings


def test_settings_of_rows_are_told_from_those_of_the_head() -> None:
    asked: dict[str, Any] = {}

    def heads(name: str, settings: Any) -> Any:
        asked.update(name=name, settings=dict(settings))
        return build_head(name, settings)

    build_segmenter("ridge", {"penalty": 0.5, "cells": 7, "way_cover": 0.3}, heads=heads)
    assert asked == {"name": "ridge", "settings": {"penalty": 0.5}}
    with pytest.raises(ConfigError, match="unknown key 'flavour'"):
        build_segmenter("ridge", {"flavour": 1}, heads=build_head)
    with pytest.raises(ConfigError, match="unknown segmenter 'ridge'"):
        build_segmenter("ridge")
    with pytest.raises(ConfigError, match="unknown head 'prototpye': did you mean 'prototype'"):
        build_segmenter("prototpye", heads=build_head)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("cosine", {"alpha": 0.0}, "alpha and temperature must be positive"),
        ("cosine", {"shots": "weighted", "temperature": -1.0}, "alpha and temperature must be positive"),
        ("cosine", {"eps": -1e-3}, "eps at least 0"),
        ("rows", {"cells": 0}, "cells must be at least 1"),
        ("rows", {"way_cover": 0.0}, "covers above 0 and at most 1"),
        ("rows", {"background_cover": 1.5}, "covers above 0 and at most 1"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, settings: dict[str, Any], words: str) -> None:
    given = {"head": lambda *_: torch.zeros(0)} if name == "rows" else {}
    with pytest.raises(ConfigError, match=words):
        build_segmenter(name, settings, **given)(_episodes())


def test_rows_without_a_head_say_what_to_do() -> None:
    with pytest.raises(ConfigError, match="needs a few-shot head and none was given: name the head itself"):
        build_segmenter("rows")(_episodes())


def test_scores_depend_on_the_setting_that_says_so() -> None:
    kinds = {shots: build_segmenter("cosine", {"shots": shots}).scores for shots in ("mean", "weighted", "vote", "majority")}
    assert kinds == {"mean": "logits", "weighted": "logits", "vote": "similarities", "majority": "probabilities"}


def test_way_pixels_are_those_of_dense() -> None:
    episodes = _episodes()
    assert torch.equal(way_pixels(episodes.masks), episodes.own())
    assert torch.equal(episodes.own()[:, 1], episodes.masks[:, 1] == 2)


def test_dense_episodes_are_checked_where_they_are_made() -> None:
    maps, masks, query = torch.zeros(2, 1, 3, 4, 5, 5), torch.zeros(2, 1, 3, 9, 9, dtype=torch.int64), torch.zeros(2, 1, 4, 5, 5)
    assert Dense({"map": maps}, masks, {"map": query}).shots == 3
    for support, way_maps, asked, told in (
        (None, masks, {"map": query}, r"expected support as maps \(E, W, K, C, h, w\) by stage, got NoneType"),
        ({}, masks, {"map": query}, "expected support as maps .* got none"),
        (maps, masks, {"map": query}, r"expected support as maps .* got float32 \(2, 1, 3, 4, 5, 5\): give one name to each stage"),
        ({"map": maps}, masks, {"map": maps}, r"expected query as maps \(E, Q, C, h, w\) by stage, got map: float32 \(2, 1, 3, 4, 5, 5\)"),
        ({"map": maps}, masks.float(), {"map": query}, r"expected masks as way maps .* got float32 \(2, 1, 3, 9, 9\): 0 is background"),
        ({"map": maps}, masks[:1], {"map": query}, r"masks are of \(1, 1, 3\) episodes, ways and shots, support maps of \[\(2, 1, 3\)\]"),
        ({"map": maps}, masks, {"map": query[:1]}, r"queries of \[1\] episodes: give as many of each"),
    ):
        with pytest.raises(DataError, match=told):
            Dense(support, way_maps, asked)  # type: ignore[arg-type]
