"""Prototypes' contrast and their dictionary, against numpy in float64 and lists that grow at one end."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.segmentation.background_keys import background_cells, background_keys
from kinshot.segmentation.contrast import class_agnostic, class_specific
from kinshot.segmentation.prototype_dictionary import EMPTY, PrototypeDictionary, class_distances

TAU = 0.1


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def reference(p: np.ndarray, positives: list[np.ndarray], negatives: list[np.ndarray], tau: float) -> float:
    """The mean over positives of -log(e^s+ / (all positives + all negatives)); 0 without negatives."""
    if not negatives:
        return 0.0
    all_of_them = sum(np.exp(cosine(p, other) / tau) for other in [*positives, *negatives])
    return float(np.mean([-cosine(p, one) / tau + np.log(all_of_them) for one in positives]))


@pytest.mark.parametrize(
    ("kin", "exclude"), [("momentum", True), ("momentum", False), ("momentum+dictionary", True)], ids=["plain", "trap", "supervised"]
)
def test_class_specific_by_hand(kin: Any, exclude: bool) -> None:
    p, plus, entries = noise(4, 5), noise(4, 5, seed=1), noise(7, 5, seed=2)
    classes, held = torch.tensor([0, 1, 2, 5]), torch.tensor([0, 0, 1, 3, EMPTY, 1, 0])
    present = torch.tensor([True, True, False, True])
    expected = []
    for a in (0, 1, 3):
        own = [entries[j].numpy() for j in range(7) if held[j] == classes[a]]
        others = [entries[j].numpy() for j in range(7) if held[j] not in (EMPTY, classes[a])]
        positives = [plus[a].numpy(), *(own if kin == "momentum+dictionary" else [])]
        expected.append(reference(p[a].numpy(), positives, others if exclude else [*others, *own], TAU))
    found = class_specific(p, plus, entries, classes, held, tau=TAU, exclude_same_class=exclude, kin=kin, present=present)
    assert found.dtype == torch.float64
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-10)


def test_a_same_class_entry_among_the_negatives_multiplies_the_loss() -> None:
    p = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    entries = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    held, classes = torch.tensor([3, 4]), torch.tensor([3])
    kept = class_specific(p, p, entries, classes, held, tau=TAU)
    repelled = class_specific(p, p, entries, classes, held, tau=TAU, exclude_same_class=False)
    assert float(kept) == pytest.approx(np.log(1 + np.exp(-20)), rel=1e-6)
    assert float(repelled) == pytest.approx(np.log(2 + np.exp(-20)), rel=1e-9)


@pytest.mark.parametrize("kin", ["momentum", "momentum+dictionary"])
def test_without_a_valid_negative_there_is_no_loss_and_no_gradient(kin: Any) -> None:
    p = noise(2, 3).requires_grad_()
    entries, held = noise(3, 3, seed=1), torch.tensor([1, 1, EMPTY])
    loss = class_specific(p, noise(2, 3, seed=2), entries, torch.tensor([1, 1]), held, kin=kin)
    loss.backward()
    assert loss.item() == 0
    assert p.grad is not None
    assert p.grad.abs().max() == 0


def test_an_empty_dictionary_and_absent_anchors_are_no_error() -> None:
    p = noise(2, 3).requires_grad_()
    nobody = torch.zeros(2, dtype=torch.bool)
    nothing, none = torch.zeros(0, 3, dtype=torch.float64), torch.zeros(0, dtype=torch.int64)
    assert class_specific(p, p.detach(), nothing, torch.tensor([1, 2]), none).item() == 0
    assert class_specific(p, p.detach(), noise(1, 3), torch.tensor([1, 2]), torch.tensor([7]), present=nobody).item() == 0
    assert class_agnostic(p, p.detach(), noise(2, 4, 3), torch.ones(2, 4, dtype=torch.bool), present=nobody).item() == 0


def test_class_agnostic_by_hand() -> None:
    p, plus, keys = noise(3, 5), noise(3, 5, seed=1), noise(3, 4, 5, seed=2)
    valid = torch.tensor([[True, True, False, True], [False] * 4, [True] * 4])
    expected = [reference(p[a].numpy(), [plus[a].numpy()], [k.numpy() for k in keys[a][valid[a]]], 0.2) for a in range(3)]
    assert expected[1] == 0
    assert float(class_agnostic(p, plus, keys, valid, tau=0.2)) == pytest.approx(np.mean(expected), rel=1e-10)
    present = torch.tensor([True, False, False])
    assert float(class_agnostic(p, plus, keys, valid, tau=0.2, present=present)) == pytest.approx(expected[0], rel=1e-10)


def test_contrast_that_cannot_be_meant_is_refused() -> None:
    p = noise(1, 3)
    for settings, words in (
        ({"tau": 0.0}, "temperature"),
        ({"kin": "dictionary"}, "positives"),
        ({"kin": "momentum+dictionary", "exclude_same_class": False}, "at once"),
    ):
        with pytest.raises(ConfigError, match=words):
            class_specific(p, p, p, torch.tensor([0]), torch.tensor([1]), **settings)  # type: ignore[arg-type]


def listed(dictionary: PrototypeDictionary) -> list[tuple[int, list[float]]]:
    vectors, classes = dictionary.ordered()
    return [(int(c), [round(float(x), 6) for x in v]) for v, c in zip(vectors, classes, strict=True)]


@pytest.mark.parametrize("mode", ["fifo", "per_class"])
def test_the_dictionary_against_lists(mode: Any) -> None:
    """Order, wraparound, caps by class, empty masks that stay outside, more in one step than a ring holds."""
    generator = np.random.default_rng(0)
    dictionary, model = PrototypeDictionary(2, 5, mode, 3), [[] for _ in range(3 if mode == "per_class" else 1)]  # type: ignore[var-annotated]
    for size in (1, 3, 0, 4, 9, 2, 17):
        vectors, classes = generator.normal(size=(size, 2)), generator.integers(0, 3, size)
        present = generator.random(size) < 0.8
        dictionary.enqueue_(torch.from_numpy(vectors), torch.from_numpy(classes), torch.from_numpy(present))
        for vector, own, there in zip(vectors, classes, present, strict=True):
            if there:
                ring = model[own if mode == "per_class" else 0]
                ring.append((int(own), [round(float(np.float32(x)), 6) for x in vector / np.linalg.norm(vector)]))
                del ring[:-5]
        found, expected = listed(dictionary), [entry for ring in model for entry in ring]
        assert [c for c, _ in found] == [c for c, _ in expected]
        np.testing.assert_allclose([v for _, v in found] or [[0, 0]], [v for _, v in expected] or [[0, 0]], atol=2e-6)
        assert float(dictionary.fill) == pytest.approx(len(expected) / (5 * len(model)))


def test_content_and_pointer_can_be_given_and_a_copy_of_the_state_goes_on_alike() -> None:
    held = torch.tensor([4, 2, EMPTY])
    dictionary = PrototypeDictionary(2, 3, vectors=torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0]]), held=held, pointer=torch.tensor([1]))
    assert listed(dictionary) == [(2, [0.0, 1.0]), (4, [1.0, 0.0])]
    dictionary.enqueue_(torch.tensor([[0.0, -1.0]]), torch.tensor([9]))
    assert listed(dictionary) == [(4, [1.0, 0.0]), (9, [0.0, -1.0])]
    twin = PrototypeDictionary(2, 3)
    twin.load_state_dict(copy.deepcopy(dictionary.state_dict()))
    for one in (dictionary, twin):
        one.enqueue_(noise(2, 2), torch.tensor([5, 6]))
    assert listed(dictionary) == listed(twin)
    assert all(torch.equal(a, b) for a, b in zip(dictionary.state_dict().values(), twin.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"length": 0}, "at least 1"),
        ({"mode": "lifo"}, "fifo or per_class"),
        ({"vectors": torch.zeros(3, 2)}, "without the other"),
        ({"vectors": torch.zeros(2, 2), "held": torch.zeros(3)}, "vectors to begin with are"),
        ({"pointer": torch.zeros(2)}, "pointer to begin with are"),
    ],
)
def test_a_dictionary_that_cannot_be_meant_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        PrototypeDictionary(**{"dim": 2, "length": 3, **settings})


def test_distances_of_classes_against_all_pairs() -> None:
    vectors, classes = noise(9, 4), torch.tensor([0, 0, 2, 2, 2, 5, 0, 7, 7])
    pairs = [(i, j) for i in range(9) for j in range(9) if i != j]
    rows = vectors.numpy()
    means = {
        same: np.mean([1 - cosine(rows[i], rows[j]) for i, j in pairs if (classes[i] == classes[j]) == same]) for same in (True, False)
    }
    found = class_distances(vectors, classes)
    assert float(found["intra_class"]) == pytest.approx(means[True], rel=1e-5)
    assert float(found["inter_class"]) == pytest.approx(means[False], rel=1e-5)
    assert class_distances(vectors[:2], classes[:2]).keys() == {"intra_class"}
    assert class_distances(vectors[:1], classes[:1]) == {}


def way_masks() -> Tensor:
    """Two queries of 8 x 8 pixels under maps of 4 x 4 cells: ways 1 and 2, and some pixels of which nothing is said."""
    masks = torch.zeros(1, 2, 8, 8, dtype=torch.int64)
    masks[0, 0, :3, :2] = 1  # two cells, one of them half
    masks[0, 0, 7, 7] = 255
    masks[0, 1, 0:4, 4:8] = 2  # four cells
    return masks


@pytest.mark.parametrize("other_ways", ["negative", "drop"])
def test_background_cells_by_hand(other_ways: Any) -> None:
    masks, size = way_masks(), (4, 4)
    found = background_cells(masks, 2, size, other_ways)
    for w in range(2):
        for q in range(2):
            for y in range(4):
                for x in range(4):
                    seen = set(masks[0, q, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].flatten().tolist())
                    excluded = {w + 1, 255} if other_ways == "negative" else {1, 2, 255}
                    assert bool(found[0, w, q, y, x]) == (not seen & excluded)


def test_keys_are_different_background_cells_drawn_by_the_generator_alone() -> None:
    query, cells = noise(1, 2, 3, 4, 4), background_cells(way_masks(), 2, (4, 4))
    keys, valid = background_keys(query, cells, count=20, generator=torch.Generator().manual_seed(5))
    assert keys.shape == (1, 2, 20, 3)
    for w in range(2):
        allowed = {tuple(query[0, q, :, y, x].tolist()) for q in range(2) for y in range(4) for x in range(4) if cells[0, w, q, y, x]}
        drawn = [tuple(key.tolist()) for key in keys[0, w][valid[0, w]]]
        assert len(set(drawn)) == len(drawn) == min(20, len(allowed))
        assert set(drawn) <= allowed
    again, _ = background_keys(query, cells, count=20, generator=torch.Generator().manual_seed(5))
    other, _ = background_keys(query, cells, count=20, generator=torch.Generator().manual_seed(6))
    assert torch.equal(keys, again)
    assert not torch.equal(keys, other)


def test_where_there_are_few_background_cells_the_keys_are_fewer() -> None:
    cells = torch.zeros(1, 1, 2, 4, 4, dtype=torch.bool)
    cells[0, 0, 1, 2, 3] = True
    query = noise(1, 2, 3, 4, 4)
    keys, valid = background_keys(query, cells, count=64, generator=torch.Generator().manual_seed(0))
    assert valid.sum() == 1
    assert torch.equal(keys[0, 0, 0], query[0, 1, :, 2, 3])
    for how in ("grid", "global"):
        keys, valid = background_keys(query, cells, how)  # type: ignore[arg-type]
        assert valid.sum() == 1
        torch.testing.assert_close(keys[valid][0], query[0, 1, :, 2, 3])
        assert bool(torch.isfinite(keys).all())


@pytest.mark.parametrize("how", ["grid", "global"])
def test_regions_and_the_one_mean_against_loops(how: Any) -> None:
    query, cells = noise(2, 2, 3, 8, 8), torch.rand(2, 2, 2, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.3
    keys, valid = background_keys(query, cells, how)
    assert keys.shape[2] == (2 * 16 if how == "grid" else 1)
    for e in range(2):
        for w in range(2):
            if how == "global":
                rows = query[e].movedim(1, -1)[cells[e, w]]
                np.testing.assert_allclose(keys[e, w, 0], rows.mean(0), rtol=1e-9)
                continue
            for place in range(32):
                q, y, x = place // 16, place % 16 // 4 * 2, place % 4 * 2
                inside = cells[e, w, q, y : y + 2, x : x + 2]
                assert bool(valid[e, w, place]) == bool(inside.any())
                if inside.any():
                    rows = query[e, q, :, y : y + 2, x : x + 2][:, inside]
                    np.testing.assert_allclose(keys[e, w, place], rows.mean(1), rtol=1e-9)
