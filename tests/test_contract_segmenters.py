"""What every registered segmenter must do, generated from the registry: a new one is tested without an edit here."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from kinshot.cli.parts import REGISTRIES, described
from kinshot.core.errors import ConfigError, DataError
from kinshot.encoders.build import keyed_initialisation
from kinshot.segmentation import SEGMENTERS
from kinshot.segmentation.base_classes import BaseClasses
from kinshot.segmentation.cosine_maps import pixel_cross_entropy
from kinshot.segmentation.dense import Dense
from kinshot.segmentation.pfenet import PFENet
from kinshot.segmentation.segmenter import BoundSegmenter, build_segmenter

EPISODES, WAYS, SHOTS, QUERIES, DIM, CELLS, PIXELS = 3, 2, 2, 2, 6, 6, 24
KINDS = {"logits", "log_probabilities", "probabilities", "similarities"}


def _cases() -> list[Any]:
    """Each segmenter with its defaults, then with every other choice of every setting that lists its choices."""
    cases = []
    for name in SEGMENTERS.names():
        cases.append(pytest.param(name, {}, id=name))
        for key, parameter in SEGMENTERS.entry(name).parameters.items():
            choices = (False, True) if parameter.annotation == "bool" else ()
            if parameter.annotation.startswith("Literal["):
                choices = ast.literal_eval("(" + parameter.annotation[8:-1] + ",)")
            cases += [pytest.param(name, {key: c}, id=f"{name}:{key}={c}") for c in choices if c != parameter.default]
    return cases


every_case = pytest.mark.parametrize(("name", "settings"), _cases())
every_segmenter = pytest.mark.parametrize("name", SEGMENTERS.names())


def _class_mean(support: Tensor, labels: Tensor, query: Tensor, ways: int) -> Tensor:
    """A few-shot head that cares for no copy of a row: cosine to the mean of unit rows."""
    hot = (labels.unsqueeze(-1) == torch.arange(ways)).to(support.dtype)
    means = hot.mT @ normalize(support, dim=-1) / hot.sum(1).clamp_min(1).unsqueeze(-1)
    return normalize(query, dim=-1) @ normalize(means, dim=-1).mT


@cache
def _provided() -> dict[str, Any]:
    """What a segmenter may be wired with, by its name and the name of its parameter.

    A segmenter that cannot work without something else needs a line here, or every test of it fails with its own message.
    """
    return {"rows:head": _class_mean, "pfenet:network": _trained_decoder(), "base_suppressed:network": _base_learner()}


def _trained_decoder() -> dict[str, Tensor]:
    """A decoder that learned the episodes of this file."""
    episodes, target = _data(torch.float32)
    with keyed_initialisation(0, "contract"):
        decoder = PFENet({"map": DIM}, "map", 12, (1.0, 0.5))
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        sum(pixel_cross_entropy(scores, target) for scores in decoder(episodes)).backward()
        optimizer.step()
    return decoder.state_dict()


def _base_learner() -> dict[str, Tensor]:
    """A base learner that mostly sees background, for ways are of no base class."""
    with keyed_initialisation(0, "contract"):
        learner = BaseClasses("map", DIM, 3)
    with torch.no_grad():
        learner.rows.bias[0] += 3
    return learner.state_dict()


def _segmenter(name: str, settings: dict[str, Any]) -> BoundSegmenter:
    given = {key.partition(":")[2]: value for key, value in _provided().items() if key.partition(":")[0] == name}
    return build_segmenter(name, settings, **given)


def _class_maps(generator: torch.Generator, *leading: int) -> Tensor:
    """Way maps of big pieces, with a rim of 255 around each image and every way somewhere."""
    coarse = torch.randint(0, WAYS + 1, (*leading, 4, 4), generator=generator)
    coarse[..., 1, 1], coarse[..., 2, 1], coarse[..., 1, 2] = 0, 1, 2
    flat = coarse.reshape(-1, 1, 4, 4).double()
    maps = interpolate(flat, (PIXELS, PIXELS), mode="nearest-exact").long().reshape(*leading, PIXELS, PIXELS)
    maps[..., :2], maps[..., -2:, :] = 255, 255
    return maps


def _data(dtype: torch.dtype = torch.float64, shots: int = SHOTS) -> tuple[Dense, Tensor]:
    """Episodes whose cells show what their pixels show, and the way maps of the queries."""
    generator = torch.Generator().manual_seed(3)
    centres = 2 * torch.eye(WAYS + 2, DIM, dtype=torch.float64)
    masks = _class_maps(generator, EPISODES, WAYS, shots)
    target = _class_maps(generator, EPISODES, QUERIES)

    def maps(of: Tensor) -> Tensor:
        hot = torch.nn.functional.one_hot(of.where(of != 255, WAYS + 1), WAYS + 2).double()
        pixels = (hot @ centres).movedim(-1, -3).reshape(-1, DIM, PIXELS, PIXELS)
        cells = interpolate(pixels, (CELLS, CELLS), mode="area")
        noise = 0.2 * torch.randn(cells.shape, generator=generator, dtype=torch.float64)
        return (cells + noise + 0.1).reshape(*of.shape[:-2], DIM, CELLS, CELLS).to(dtype)

    return Dense({"map": maps(masks)}, masks, {"map": maps(target)}), target


def _close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@every_segmenter
def test_documentation(name: str) -> None:
    entry = SEGMENTERS.entry(name)
    assert "Paper:" in entry.docstring
    assert re.search(r"^Defaults: \S", entry.docstring, re.MULTILINE), "a segmenter says whose defaults it has"
    assert not [p.name for p in entry.parameters.values() if not p.help]
    said = entry.facts.get("scores")
    assert (set(next(iter(said.values())).values()) if isinstance(said, dict) else {said}) <= KINDS
    assert SEGMENTERS in REGISTRIES
    assert "segmenter" in {one.kind for one in described(name)}


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_have_their_shape_and_the_precision_of_the_input(name: str, settings: dict[str, Any], dtype: torch.dtype) -> None:
    scores = _segmenter(name, settings)(_data(dtype)[0])
    assert scores.shape[:3] == (EPISODES, QUERIES, 1 + WAYS)
    assert scores.ndim == 5
    assert scores.dtype == dtype
    assert torch.isfinite(scores).all()


@every_segmenter
@pytest.mark.parametrize("given", [None, 3, {"map": torch.zeros(1)}])
def test_what_is_no_dense_episodes_is_refused_with_what_to_do(name: str, given: Any) -> None:
    with pytest.raises(
        ConfigError, match=rf"segmenter {name} takes dense episodes and got {type(given).__name__}: make them with kinshot.Dense"
    ):
        _segmenter(name, {})(given)
    with pytest.raises(ConfigError, match="takes dense episodes"):
        SEGMENTERS.get(name)(given)


@every_case
def test_scores_are_what_the_segmenter_says(name: str, settings: dict[str, Any]) -> None:
    segmenter = _segmenter(name, settings)
    scores = segmenter(_data()[0])
    sums = scores.sum(2)
    if segmenter.scores == "probabilities":
        torch.testing.assert_close(sums, torch.ones_like(sums))
    else:
        assert not torch.allclose(sums, torch.ones_like(sums)), "these scores are probabilities"


@every_case
def test_easy_episodes_are_solved(name: str, settings: dict[str, Any]) -> None:
    episodes, target = _data()
    scores = _segmenter(name, settings)(episodes)
    labels = interpolate(scores.flatten(0, 1), (PIXELS, PIXELS), mode="bilinear").argmax(1).view_as(target)
    known = target != 255
    assert float((labels == target)[known].double().mean()) > 0.75


@every_case
def test_permuting_ways_permutes_scores(name: str, settings: dict[str, Any]) -> None:
    episodes, _ = _data()
    order = torch.tensor([1, 0])
    renamed = torch.tensor([0, 2, 1, *range(3, 256)])[episodes.masks]
    permuted = Dense({"map": episodes.support["map"][:, order]}, renamed[:, order], episodes.query)
    segmenter = _segmenter(name, settings)
    _close(segmenter(permuted), segmenter(episodes)[:, :, torch.tensor([0, 2, 1])])


@every_case
def test_order_of_shots_plays_no_part(name: str, settings: dict[str, Any]) -> None:
    episodes, _ = _data()
    segmenter = _segmenter(name, settings)
    turned = replace(episodes, support={"map": episodes.support["map"].flip(2)}, masks=episodes.masks.flip(2))
    _close(segmenter(turned), segmenter(episodes))


@every_case
def test_equal_shots_are_one(name: str, settings: dict[str, Any]) -> None:
    one, _ = _data(shots=1)
    five = replace(one, support={"map": one.support["map"].repeat(1, 1, 5, 1, 1, 1)}, masks=one.masks.repeat(1, 1, 5, 1, 1))
    segmenter = _segmenter(name, settings)
    expected, found = segmenter(one), segmenter(five)
    if settings.get("shots") == "vote":  # a score for the background that depends on how many vote; the answer does not
        expected, found = expected.argmax(2).double(), found.argmax(2).double()
    _close(found, expected)


@every_case
def test_a_batch_of_episodes_equals_a_loop(name: str, settings: dict[str, Any]) -> None:
    episodes, _ = _data()
    segmenter = _segmenter(name, settings)
    alone = [
        segmenter(Dense({"map": episodes.support["map"][[e]]}, episodes.masks[[e]], {"map": episodes.query["map"][[e]]}))
        for e in range(EPISODES)
    ]
    _close(segmenter(episodes), torch.cat(alone))


@every_case
def test_the_length_of_features_plays_no_part_where_the_segmenter_says_so(name: str, settings: dict[str, Any]) -> None:
    if not SEGMENTERS.entry(name).facts.get("scale_free"):
        pytest.skip(f"segmenter {name} does not say scale_free=True")
    episodes, _ = _data()
    longer = Dense({"map": 7 * episodes.support["map"]}, episodes.masks, {"map": 7 * episodes.query["map"]})
    segmenter = _segmenter(name, settings)
    _close(segmenter(longer), segmenter(episodes))


@every_case
def test_what_lies_under_ignored_pixels_changes_nothing(name: str, settings: dict[str, Any]) -> None:
    if settings.get("background") == "panet":
        pytest.skip("PANet's background takes ignored pixels in")
    episodes, _ = _data()
    masks = episodes.masks.clone()
    masks[..., 4:16, 12:24] = 255  # three by three cells: the one in the middle is within a cell of nothing else
    changed = episodes.support["map"].clone()
    changed[..., 2, 4] += 50
    segmenter = _segmenter(name, settings)
    before = segmenter(replace(episodes, masks=masks))
    assert torch.equal(segmenter(replace(episodes, support={"map": changed}, masks=masks)), before)


@every_case
def test_a_shot_without_its_way_is_left_out(name: str, settings: dict[str, Any]) -> None:
    episodes, _ = _data()
    masks = episodes.masks.clone()
    masks[:, :, 1] = 255  # nothing is known of the second shot
    segmenter = _segmenter(name, settings)
    found = segmenter(replace(episodes, masks=masks))
    assert torch.isfinite(found).all()
    if settings.get("background") != "panet":
        alone = segmenter(Dense({"map": episodes.support["map"][:, :, :1]}, masks[:, :, :1], episodes.query))
        if settings.get("shots") == "vote":
            alone, found = alone.argmax(2).double(), found.argmax(2).double()
        _close(found, alone)


@every_case
def test_images_without_background_have_a_finite_answer(name: str, settings: dict[str, Any]) -> None:
    episodes, _ = _data()
    masks = torch.arange(1, WAYS + 1).view(1, -1, 1, 1, 1).expand_as(episodes.masks)
    assert torch.isfinite(_segmenter(name, settings)(replace(episodes, masks=masks))).all()


@every_case
def test_an_object_of_one_pixel_has_a_finite_answer(name: str, settings: dict[str, Any]) -> None:
    episodes, _ = _data()
    masks = torch.zeros_like(episodes.masks)
    masks[..., 5, 5] = torch.arange(1, WAYS + 1).view(1, -1, 1)
    assert torch.isfinite(_segmenter(name, settings)(replace(episodes, masks=masks))).all()


@every_case
def test_a_way_without_a_pixel_is_refused(name: str, settings: dict[str, Any]) -> None:
    episodes, _ = _data()
    masks = episodes.masks.clone()
    masks[1, 1][masks[1, 1] == 2] = 0
    with pytest.raises(DataError, match="way 1 of episode 1 has no pixel in the masks"):
        _segmenter(name, settings)(replace(episodes, masks=masks))


@every_case
def test_pure(name: str, settings: dict[str, Any]) -> None:
    episodes, _ = _data()
    tensors = [episodes.support["map"], episodes.masks, episodes.query["map"]]
    copies, before = [one.clone() for one in tensors], torch.get_rng_state()
    segmenter = _segmenter(name, settings)
    assert torch.equal(segmenter(episodes), segmenter(episodes))
    assert torch.equal(before, torch.get_rng_state()), "a segmenter must not draw from the global generator"
    assert all(torch.equal(one, copy) for one, copy in zip(tensors, copies, strict=True)), "a segmenter must not change its inputs"


@every_segmenter
def test_what_it_does_not_take_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="does not take 'flavour'"):
        build_segmenter(name, flavour=1)
    with pytest.raises(ConfigError, match="unknown key 'flavour'"):
        build_segmenter(name, {"flavour": 1})


@every_segmenter
def test_wired_parameters_may_be_left_out_of_a_call(name: str) -> None:
    parameters = inspect.signature(SEGMENTERS.get(name)).parameters.values()
    assert [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY] == ["episodes"]
    assert [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty] == []
