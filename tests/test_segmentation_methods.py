"""PANet and dual prototypical contrast: their losses against loops in float64, and what moves, enters and is drawn in a step."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.dense_cnn import DenseCNN
from kinshot.encoders.projector import mlp_projector
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.samples.batch import Batch
from kinshot.samples.class_map import IGNORE
from kinshot.samples.pixels import PixelSpec
from kinshot.segmentation.cosine_maps import cosine_maps
from kinshot.segmentation.dense import Dense, way_maps
from kinshot.segmentation.prototype_loss import PrototypeLoss, alignment_loss, batch_miou, without_lost
from kinshot.segmentation.prototypes import Averaging, mean_prototypes, shot_means

HOW = Averaging(pooling="nearest")
ALPHA, EPS = 20.0, 1e-5
SIDE, C, N = 16, 5, 60


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def episodes(ways: int = 2, shots: int = 2, queries: int = 2, count: int = 2) -> tuple[Dense, Tensor]:
    """Maps of 4 x 4 cells, masks of 8 x 8 pixels: each way in its own corner, some pixels of another way, some of which nothing is said."""
    draws = torch.Generator().manual_seed(1)
    masks = torch.zeros(count, ways, shots, 8, 8, dtype=torch.int64)
    for way in range(ways):
        masks[:, way, :, 4 * (way // 2) : 4 * (way // 2) + 4, 4 * (way % 2) : 4 * (way % 2) + 3] = way + 1
    masks[:, 0, 0, 6:, 6:] = ways
    masks[..., 7, 0] = IGNORE
    target = torch.randint(0, ways + 1, (count, queries, 8, 8), generator=draws)
    target[..., 0, 0] = IGNORE
    return Dense({"m": noise(count, ways, shots, 3, 4, 4)}, masks, {"m": noise(count, queries, 3, 4, 4, seed=2)}), target


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / lengths) if lengths > 0 else 0.0


def bilinear(scores: np.ndarray, side: int) -> np.ndarray:
    """Scores (K, h, w) in a square of `side`, corners not aligned, place by place."""
    (_, h, w), out = scores.shape, np.zeros((len(scores), side, side))
    for y in range(side):
        for x in range(side):
            v, u = (max((at + 0.5) * size / side - 0.5, 0.0) for at, size in ((y, h), (x, w)))
            top, left = min(int(v), h - 1), min(int(u), w - 1)
            below, right = min(top + 1, h - 1), min(left + 1, w - 1)
            fv, fu = v - top, u - left
            upper = scores[:, top, left] * (1 - fu) + scores[:, top, right] * fu
            lower = scores[:, below, left] * (1 - fu) + scores[:, below, right] * fu
            out[:, y, x] = upper * (1 - fv) + lower * fv
    return out


def cross_entropy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the pixels that say something, of scores (K, H, W)."""
    costs = []
    for y, x in np.argwhere(labels != IGNORE):
        row = scores[:, y, x]
        costs.append(np.log(np.exp(row - row.max()).sum()) + row.max() - row[labels[y, x]])
    return float(np.mean(costs)) if costs else 0.0


def aligned(support: np.ndarray, masks: np.ndarray, query: np.ndarray, scores: np.ndarray) -> float:
    """PANet's alignLoss of one episode, in loops."""
    (ways, shots), labels, total = masks.shape[:2], scores.argmax(1), 0.0
    for way in range(ways):
        if not (labels == way + 1).any():
            continue
        prototypes = []
        for label in (0, way + 1):
            cells = [query[q, :, y, x] for q, y, x in np.argwhere(labels == label)]
            prototypes.append(np.sum(cells, axis=0) / (len(cells) + EPS) if cells else np.zeros(query.shape[1]))
        for shot in range(shots):
            found = np.array([[[ALPHA * cosine(support[way, shot, :, y, x], p) for x in range(4)] for y in range(4)] for p in prototypes])
            truth = np.full(masks.shape[2:], IGNORE)
            truth[masks[way, shot] == 0] = 0
            truth[masks[way, shot] == way + 1] = 1
            total += cross_entropy(bilinear(found, 8), truth) / shots / ways
    return total


@pytest.mark.parametrize(("ways", "shots", "queries"), [(1, 1, 1), (2, 2, 2), (3, 1, 2)])
@pytest.mark.parametrize("skipped", [False, True])
def test_alignment_against_loops(ways: int, shots: int, queries: int, skipped: bool) -> None:
    given, _ = episodes(ways, shots, queries)
    scores = cosine_maps(given.query["m"], mean_prototypes(shot_means(given.support["m"], given.masks, HOW)), ALPHA)
    if skipped:  # the last way is predicted nowhere in the first episode
        scores = scores.clone()
        scores[0, :, -1] = -1e3
    expected = [aligned(*(part[e].numpy() for part in (given.support["m"], given.masks, given.query["m"], scores))) for e in range(2)]
    found = alignment_loss(given, scores, ALPHA, HOW)
    assert found.dtype == torch.float64
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-9)
    assert not skipped or ways > 1 or expected[0] == 0


def test_segmentation_loss_against_loops_and_its_weighted_sum() -> None:
    given, target = episodes()
    prototypes = mean_prototypes(shot_means(given.support["m"], given.masks, HOW)).numpy()
    costs, pixels = 0.0, 0
    for e in range(2):
        for q in range(2):
            maps = given.query["m"][e, q].numpy()
            scores = np.array([[[ALPHA * cosine(maps[:, y, x], p) for x in range(4)] for y in range(4)] for p in prototypes[e]])
            labels = target[e, q].numpy()
            costs += cross_entropy(bilinear(scores, 8), labels) * int((labels != IGNORE).sum())
            pixels += int((labels != IGNORE).sum())
    plain = PrototypeLoss(ALPHA, HOW, 0.0)(given, target).terms
    assert float(plain["loss"]) == pytest.approx(costs / pixels, rel=1e-9)
    assert plain.keys() == {"loss", "segmentation", "miou"}
    both = PrototypeLoss(ALPHA, HOW, 0.3)(given, target).terms
    assert float(both["loss"]) == pytest.approx(costs / pixels + 0.3 * float(both["alignment"]), rel=1e-12)


def test_the_alignment_reaches_support_and_query_through_the_prototypes() -> None:
    given, _ = episodes()
    support, query = (part["m"].clone().requires_grad_() for part in (given.support, given.query))
    scores = cosine_maps(query, mean_prototypes(shot_means(support, given.masks, HOW)), ALPHA)
    alignment_loss(Dense({"m": support}, given.masks, {"m": query}), scores, ALPHA, HOW).backward()
    assert all(x.grad is not None and x.grad.abs().max() > 0 for x in (support, query))


def test_pixels_of_255_change_no_loss() -> None:
    given, target = episodes()
    masks, support = given.masks.clone(), given.support["m"].clone()
    masks[..., 6:, :2] = IGNORE  # all of the cell at the lower left
    support[..., 3, 0] += 7
    for how, same in ((HOW, True), (Averaging(pooling="nearest", background="panet"), False)):
        loss = PrototypeLoss(ALPHA, how, 0.0)
        one, other = (loss(Dense({"m": maps}, masks, given.query), target).terms["loss"] for maps in (given.support["m"], support))
        assert torch.equal(one, other) == same
    hidden = target.clone()
    hidden[0, 0] = IGNORE
    loss = PrototypeLoss(ALPHA, HOW, 1.0)
    assert torch.isfinite(loss(given, hidden).terms["loss"])
    assert float(loss(given, torch.full_like(target, IGNORE)).terms["segmentation"]) == 0


def test_a_way_that_was_cut_away_says_nothing_of_the_queries() -> None:
    given, target = episodes()
    masks = given.masks.clone()
    masks[0, 1][masks[0, 1] == 2] = 0
    terms = PrototypeLoss(ALPHA, HOW, 1.0)(Dense(given.support, masks, given.query), target).terms
    expected = target.clone()
    expected[0][expected[0] == 2] = IGNORE
    assert torch.equal(without_lost(target, torch.tensor([[True, False], [True, True]])), expected)
    assert all(bool(torch.isfinite(value)) for value in terms.values())


def test_the_miou_of_a_batch_by_hand() -> None:
    scores = torch.full((1, 2, 3, 2, 2), -1.0)
    labels = torch.tensor([[[0, 1], [1, 1]], [[0, 0], [1, 0]]])
    scores.scatter_(2, labels.view(1, 2, 1, 2, 2), 1.0)
    target = torch.tensor([[[[1, 1], [1, IGNORE]], [[0, 0], [0, 0]]]])
    assert float(batch_miou(scores, target)) == pytest.approx(2 / 4)  # way 2 is neither there nor predicted
    assert float(batch_miou(scores, torch.full_like(target, IGNORE))) == 0


def scenes() -> tuple[Tensor, Tensor]:
    """Images (N, 3, SIDE, SIDE), and class maps: a square of one of C colours, and in every third image a second square of another one."""
    draws = torch.Generator().manual_seed(4)
    maps = torch.zeros(N, SIDE, SIDE, dtype=torch.int64)
    for i, (y, x) in enumerate(torch.randint(0, SIDE // 2, (N, 2), generator=draws).tolist()):
        maps[i, y : y + 7, x : x + 7] = i % C + 1
        if i % 3 == 0:
            maps[i, SIDE - 4 :, : SIDE // 4] = (i + 1) % C + 1
    colours = torch.randn(C + 1, 3, generator=draws)
    return colours[maps].movedim(-1, 1) + 0.7 * torch.randn(N, 3, SIDE, SIDE, generator=draws), maps


IMAGES, MAPS = scenes()
EPISODE = {"ways": 2, "shots": 2, "queries": 2, "tasks": 2}


def build(name: str, *, seed: int = 0, projector: int = 0, **settings: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = DenseCNN(PixelSpec.square(3, SIDE, (0.0,) * 3, (1.0,) * 3), width=8, depth=2)
    contains = np.stack([MAPS.eq(c + 1).flatten(1).any(1).numpy() for c in range(C)], axis=1)
    context = RunContext(N, 12, 5, 20, seed, contains=contains, photos=np.arange(N))
    model = Model(encoder, mlp_projector(encoder.dim, 8, 8, projector, last_norm=False))
    method: Method = METHODS.build(name, model, context, settings={**EPISODE, **settings})
    return method.train()


def batch_of(method: Any, step: int) -> Batch:
    rows = method.order(step // 5)[step % 5]
    noisy = [IMAGES[rows] + 0.1 * torch.randn(12, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(9 * step + v)) for v in range(2)]
    flipped = [noisy[0], noisy[1].flip(-1)][: method.view_count]
    return Batch(rows, flipped, beside={"mask": [MAPS[rows], MAPS[rows].flip(-1)][: method.view_count]})


def optimizer_of(method: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.05, momentum=0.9)


def train(method: Any, optimizer: torch.optim.Optimizer, first: int, last: int) -> list[dict[str, float]]:
    records = []
    for step in range(first, last):
        batch = batch_of(method, step)
        terms = method.loss(method.outputs(batch), batch, step)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        gauges = method.after_step(step)
        records.append({name: float(value.detach()) for name, value in {**terms, **gauges}.items()})
    return records


def begun(name: str, **settings: Any) -> Any:
    method = build(name, **settings)
    method.prepare(lambda head=None: torch.zeros(N, 8))
    return method


@pytest.mark.parametrize("alignment", [0.0, 1.0])
def test_without_both_weights_it_is_the_cosine_head_bit_for_bit(alignment: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(*_: object) -> None:
        raise AssertionError("nothing is to be drawn")

    one = begun("panet", alignment=alignment)
    other = begun("dual_prototype", alignment=alignment, class_specific=0.0, class_agnostic=0.0)
    monkeypatch.setattr("kinshot.segmentation.methods.dual_prototype.keyed_generator", drawn)
    assert one.view_count == other.view_count == 1
    assert other.key is None
    assert other.dictionary is None
    assert train(one, optimizer_of(one), 0, 6) == train(other, optimizer_of(other), 0, 6)
    assert one.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("name", ["panet", "dual_prototype"])
def test_a_short_run_learns(name: str) -> None:
    method = begun(name, **({"key_momentum": 0.9} if name == "dual_prototype" else {}))
    records = train(method, optimizer_of(method), 0, 25)
    assert np.mean([r["segmentation"] for r in records[-5:]]) < 0.8 * np.mean([r["segmentation"] for r in records[:5]])
    assert np.mean([r["miou"] for r in records[-5:]]) > np.mean([r["miou"] for r in records[:5]]) + 0.1
    assert {"intra_class", "inter_class"} <= records[-1].keys()


def test_records_hold_every_term_and_sum_up_to_the_loss() -> None:
    method = begun("dual_prototype", class_specific=0.3, class_agnostic=0.2, alignment=0.5)
    for record in train(method, optimizer_of(method), 0, 4):
        weighted = 0.3 * record["class_specific"] + 0.2 * record["class_agnostic"] + 0.5 * record["alignment"]
        assert record["loss"] == pytest.approx(record["segmentation"] + weighted, rel=1e-5)
        assert 0 < record["dictionary_fill"] < 1


def test_the_gradient_reaches_the_encoder_alone_and_the_keys_follow_exactly() -> None:
    method = begun("dual_prototype", key_momentum=0.75)
    optimizer = optimizer_of(method)
    train(method, optimizer, 0, 2)
    before = copy.deepcopy(method.key.state_dict())
    batch = batch_of(method, 2)
    method.loss(method.outputs(batch), batch, 2)["loss"].backward()
    assert all(p.grad is not None for p in method.encoder.parameters())
    assert all(p.grad is None and not p.requires_grad for p in method.key.parameters())
    assert not any(b.requires_grad for b in method.dictionary.buffers())
    optimizer.step()
    held = method.dictionary.held.clone()
    method.after_step(2)
    assert not torch.equal(held, method.dictionary.held)
    for name, theta in method.encoder.named_parameters():
        expected = before[name] + (1 - 0.75) * (theta.detach() - before[name])
        torch.testing.assert_close(method.key.get_parameter(name).detach(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("mode", "length"), [("fifo", 7), ("per_class", 2)])
def test_the_dictionary_holds_momentum_prototypes_of_supports_in_the_order_of_steps(mode: str, length: int) -> None:
    method = begun("dual_prototype", dictionary=mode, length=length, class_agnostic=0.0)
    optimizer, trace = optimizer_of(method), []
    for step in range(6):
        batch, classes = batch_of(method, step), method.scenes.classes(step)
        with torch.no_grad():
            maps = method.key.maps(batch.views[1], ("head",))[0].values
        support, masks = (method.shape.split(part)[0] for part in (maps, batch.beside["mask"][1]))
        found = shot_means(support, way_maps(masks, torch.from_numpy(classes)), method.head.how)
        prototypes, present = mean_prototypes(found)[:, 1:], found.present[..., 1].any(2)
        for task in range(2):
            for way in range(2):
                if present[task, way]:
                    trace.append((int(classes[task, way]) - 1, torch.nn.functional.normalize(prototypes[task, way], dim=0)))
        train(method, optimizer, step, step + 1)
    vectors, held = method.dictionary.ordered()
    expected = trace[-length:] if mode == "fifo" else [e for c in range(C) for e in [t for t in trace if t[0] == c][-length:]]
    assert held.tolist() == [c for c, _ in expected]
    torch.testing.assert_close(vectors, torch.stack([v for _, v in expected]))


def test_a_diverged_step_leaves_no_trace_and_an_empty_mask_never_enters() -> None:
    method = begun("dual_prototype")
    batch = batch_of(method, 0)
    empty = [mask.clone() for mask in batch.beside["mask"]]
    way = int(method.scenes.classes(0)[0, 0])
    empty[1][:4][empty[1][:4] == way] = 0  # the first task's way is cut out of its support in the second view
    method.loss(method.outputs(batch), Batch(batch.indices, batch.views, beside={"mask": empty}), 0)
    assert float(method.dictionary.fill) == 0
    method.after_step(0)
    assert int((method.dictionary.held >= 0).sum()) == 3


@pytest.mark.parametrize(
    "settings",
    [
        {"dictionary": "fifo", "length": 6},
        {"dictionary": "per_class", "length": 2, "positives": "momentum+dictionary", "keys": "grid"},
        {"length": 5, "class_agnostic": 0.0, "warmup": 4},
    ],
)
def test_a_run_that_goes_on_in_the_middle_of_a_dictionary_gives_the_same_losses(settings: dict[str, Any]) -> None:
    whole = begun("dual_prototype", **settings)
    optimizer = optimizer_of(whole)
    train(whole, optimizer, 0, 4)
    state, momenta = copy.deepcopy(whole.state_dict()), copy.deepcopy(optimizer.state_dict())
    expected = train(whole, optimizer, 4, 11)  # over the end of an epoch
    again = build("dual_prototype", **settings)
    again.load_state_dict(state)
    optimizer = optimizer_of(again)
    optimizer.load_state_dict(momenta)
    torch.manual_seed(123)
    assert train(again, optimizer, 4, 11) == expected
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())


def test_the_dictionary_fills_while_its_loss_warms_up() -> None:
    one, other = begun("dual_prototype", warmup=3), begun("dual_prototype", class_specific=0.0)
    warm, without = train(one, optimizer_of(one), 0, 5), train(other, optimizer_of(other), 0, 5)
    assert [r["loss"] for r in warm[:3]] == [r["loss"] for r in without[:3]]
    assert warm[0]["class_specific"] == 0  # nothing to be told apart from yet
    assert warm[2]["class_specific"] > 0
    assert warm[3]["loss"] != without[3]["loss"]
    assert warm[2]["dictionary_fill"] > 0


def test_permuted_ways_cost_the_same() -> None:
    given, target = episodes(3, 1, 2)
    order = torch.tensor([2, 0, 1])
    masks, swapped = given.masks[:, order], target.clone()
    renamed = masks.clone()
    for new, old in enumerate(order.tolist()):
        renamed[masks == old + 1] = new + 1
        swapped[target == old + 1] = new + 1
    loss = PrototypeLoss(ALPHA, HOW, 1.0)
    one, other = loss(given, target), loss(Dense({"m": given.support["m"][:, order]}, renamed, given.query), swapped)
    torch.testing.assert_close(one.terms["loss"], other.terms["loss"])


@pytest.mark.parametrize("name", ["panet", "dual_prototype"])
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"projector": 2}, r"projector\.layers=0"),
        ({"stage": "haed"}, "head"),
        ({"alpha": 0.0}, "alpha"),
        ({"alignment": -1.0}, "alignment"),
        ({"tasks": 3}, "set train.batch_size=18"),
    ],
)
def test_what_these_methods_cannot_do_is_said(name: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(name, **settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"class_specific": -0.1}, "class_specific"),
        ({"tau": 0.0}, "tau"),
        ({"tau_agnostic": -1.0}, "tau_agnostic"),
        ({"key_momentum": 1.5}, "key_momentum"),
        ({"length": -1}, "length"),
        ({"warmup": -1}, "warmup"),
        ({"key_count": 0}, "key_count"),
        ({"dictionary": "lifo"}, "fifo, per_class"),
        ({"positives": "momentum+dictionary", "exclude_same_class": False}, "exclude_same_class=true"),
    ],
)
def test_settings_of_dual_prototype_out_of_range(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build("dual_prototype", **settings)
