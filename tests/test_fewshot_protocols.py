"""Episodes beyond the balanced ones: Dirichlet queries, variable sizes, all classes, the low-shot probe."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, kstest

from kinshot.core.draws import distinct
from kinshot.core.errors import ConfigError, DataError
from kinshot.fewshot import episodes as episodes_module
from kinshot.fewshot.dirichlet import apportion, dirichlet_episodes, dirichlet_shares, exhausted
from kinshot.fewshot.episodes import Episodes, sample_episodes
from kinshot.fewshot.evaluate import build_head
from kinshot.fewshot.groups import EpisodeGroups, grouped
from kinshot.fewshot.low_shot import low_shot_probe
from kinshot.fewshot.protocols import all_way_episodes, variable_episodes

EPISODE_PARTS = ("support", "support_labels", "query", "query_labels", "classes")


def _labels(counts: list[int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


def _equal(a: Episodes, b: Episodes) -> bool:
    return all(torch.equal(getattr(a, part), getattr(b, part)) for part in EPISODE_PARTS)


def _well_formed(drawn: Episodes, labels: np.ndarray) -> None:
    """By loops: classes differ, no image twice, every image of the class that its way plays."""
    for e in range(len(drawn)):
        classes = drawn.classes[e].tolist()
        assert len(set(classes)) == len(classes)
        used = drawn.support[e].tolist() + drawn.query[e].tolist()
        assert len(set(used)) == len(used)
        for part in ("support", "query"):
            images, ways = getattr(drawn, part)[e].tolist(), getattr(drawn, f"{part}_labels")[e].tolist()
            assert [labels[i] for i in images] == [classes[w] for w in ways]


# ------------------------------------------------------------------------------------------------------------ Dirichlet queries


@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.integers(14, 25), min_size=4, max_size=7),
    ways=st.integers(2, 4),
    shots=st.integers(1, 3),
    total=st.integers(1, 11),
    alpha=st.sampled_from([0.01, 0.5, 2.0, 100.0]),
    seed=st.integers(0, 2**32),
)
def test_dirichlet_episodes_are_well_formed(counts, ways, shots, total, alpha, seed):
    labels = _labels(counts)
    drawn = dirichlet_episodes(labels, ways=ways, shots=shots, total=total, episodes=5, seed=seed, alpha=alpha)
    _well_formed(drawn, labels)
    assert drawn.support.shape == (5, ways * shots)
    assert drawn.query.shape == (5, total)
    assert _equal(drawn, dirichlet_episodes(labels, ways=ways, shots=shots, total=total, episodes=5, seed=seed, alpha=alpha))


def test_dirichlet_episodes_share_classes_and_support_with_balanced_ones():
    labels = _labels([40] * 8)
    common = {"ways": 4, "shots": 2, "episodes": 30, "seed": 3}
    even, uneven = sample_episodes(labels, queries=5, **common), dirichlet_episodes(labels, total=20, **common)
    assert torch.equal(even.classes, uneven.classes)
    assert torch.equal(even.support, uneven.support)
    sizes = torch.stack([torch.bincount(row, minlength=4) for row in uneven.query_labels])
    assert (sizes == 0).any()
    assert (sizes > 10).any()  # far from the balanced 5
    first = [(e, w) for e in range(30) for w in range(4) if sizes[e, w]]
    for e, w in first:  # the queries of a class begin with the balanced ones
        mine, theirs = (d.query[e][d.query_labels[e] == w].tolist() for d in (uneven, even))
        assert mine[: len(theirs)] == theirs[: len(mine)]


@pytest.mark.parametrize("alpha", [0.3, 2.0, 9.0])
def test_shares_follow_the_dirichlet_distribution(alpha):
    shares = dirichlet_shares(np.arange(4000), 5, alpha, seed=1)
    assert np.allclose(shares.sum(1), 1)
    for way in range(5):  # each marginal of a symmetric Dirichlet is Beta(a, (W - 1) a)
        assert kstest(shares[:, way], beta(alpha, 4 * alpha).cdf).pvalue > 1e-4
    expected = -1 / (5 * 5 * (5 * alpha + 1))  # covariance of two shares
    assert np.cov(shares[:, 0], shares[:, 1])[0, 1] == pytest.approx(expected, rel=0.2)


def test_dirichlet_episodes_do_not_depend_on_chunks_or_on_how_many_there_are(monkeypatch):
    labels = _labels([60] * 6)
    common = {"ways": 3, "shots": 2, "total": 12, "seed": 5}
    whole = dirichlet_episodes(labels, episodes=20, **common)
    few = dirichlet_episodes(labels, episodes=7, **common)
    monkeypatch.setattr(episodes_module, "_CHUNK", 100)
    assert _equal(whole, dirichlet_episodes(labels, episodes=20, **common))
    assert all(torch.equal(getattr(few, part), getattr(whole, part)[:7]) for part in EPISODE_PARTS)


def _apportion_slowly(share: np.ndarray, total: int, caps: np.ndarray) -> list[int]:
    counts = [0] * len(share)
    while (left := total - sum(counts)) > 0:
        free = [w for w in range(len(share)) if counts[w] < caps[w]]
        norm = sum(share[w] for w in free)
        quota = {w: left * share[w] / norm for w in free}
        grant = {w: int(quota[w]) for w in free}
        for w in sorted(free, key=lambda w: -(quota[w] - grant[w]))[: left - sum(grant.values())]:
            grant[w] += 1
        counts = [min(c + grant.get(w, 0), int(caps[w])) for w, c in enumerate(counts)]
    return counts


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), ways=st.integers(2, 6), total=st.integers(0, 40), tight=st.booleans())
def test_apportion_is_largest_remainder_with_caps(seed, ways, total, tight):
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(ways, 0.7), size=3)
    caps = rng.integers(0, 15, (3, ways)) if tight else np.full((3, ways), total)
    caps[:, 0] += np.maximum(0, total - caps.sum(1))
    got = apportion(shares, total, caps)
    assert got.tolist() == [_apportion_slowly(*row) for row in zip(shares, [total] * 3, caps, strict=True)]
    assert (got.sum(1) == total).all()
    assert (got <= caps).all()


def test_apportion_where_a_share_is_nothing():
    assert apportion(np.array([[1.0, 0.0, 0.0]]), 5, np.array([[3, 2, 2]])).tolist() == [[3, 1, 1]]


def test_small_classes_are_refused_or_filled_up():
    labels = _labels([6, 30, 30])
    common = {"ways": 3, "shots": 2, "total": 20, "episodes": 40, "seed": 0, "class_names": ["ant", "bee", "cat"]}
    with pytest.raises(DataError, match=r"class 0 \('ant'\) has 6 images, an episode needs 22 .*limit='redistribute'"):
        dirichlet_episodes(labels, **common)
    drawn = dirichlet_episodes(labels, limit="redistribute", **common)
    _well_formed(drawn, labels)
    assert (labels[drawn.query.numpy()] == 0).sum(1).max() == 4  # every image that the support set leaves
    with pytest.raises(DataError, match="the 3 smallest classes have 60 images beside 2 shots, an episode needs 61 queries"):
        dirichlet_episodes(labels, limit="redistribute", **common | {"total": 61})
    with pytest.raises(DataError, match=r"class 0 .*has 6 images, an episode needs 7"):
        dirichlet_episodes(labels, limit="redistribute", **common | {"shots": 7})


@pytest.mark.parametrize("bad", [{"alpha": 0.0}, {"alpha": float("nan")}, {"total": 0}, {"ways": 1}, {"shots": 0}, {"episodes": 0}])
def test_dirichlet_numbers_below_their_minimum(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        dirichlet_episodes(_labels([30, 30]), **{"ways": 2, "shots": 1, "total": 4, "episodes": 2, "seed": 0} | bad)


@settings(max_examples=20, deadline=None)
@given(needed=st.lists(st.integers(0, 6), min_size=1, max_size=8), seed=st.integers(0, 10**6))
def test_draws_that_are_not_needed_do_not_change_the_others(needed, seed):
    needed = np.sort(np.array(needed))[::-1]
    uniform = np.random.default_rng(seed).random((len(needed), 6), dtype=np.float32)
    sizes = np.full(len(needed), 6)
    full, part = distinct(uniform, sizes), distinct(uniform, sizes, needed)
    for row, count in enumerate(needed):
        assert part[row, :count].tolist() == full[row, :count].tolist()
        assert sorted(full[row]) == list(range(6))


# ------------------------------------------------------------------------------------------------------------ variable sizes


@settings(max_examples=20, deadline=None)
@given(
    counts=st.lists(st.integers(8, 12), min_size=5, max_size=8),
    ways=st.tuples(st.integers(2, 3), st.integers(3, 5)),
    shots=st.tuples(st.integers(1, 2), st.integers(2, 5)),
    per=st.sampled_from(["class", "episode"]),
    seed=st.integers(0, 2**32),
)
def test_variable_episodes_are_well_formed(counts, ways, shots, per, seed):
    labels = _labels(counts)
    found = variable_episodes(labels, ways=ways, shots=shots, queries=3, episodes=12, seed=seed, shots_per=per)
    assert len(found) == 12
    assert torch.cat(found.numbers).sort().values.tolist() == list(range(12))
    for group in found.groups:
        _well_formed(group, labels)
        assert ways[0] <= group.ways <= ways[1]
        for e in range(len(group)):
            support, query = (torch.bincount(x[e], minlength=group.ways) for x in (group.support_labels, group.query_labels))
            assert (support >= shots[0]).all()
            assert (support <= shots[1]).all()
            assert (query == 3).all()
            assert per == "class" or len(support.unique()) == 1


def test_variable_sizes_are_uniform_in_their_ranges():
    labels = _labels([12] * 8)
    found = variable_episodes(labels, ways=(3, 6), shots=(1, 4), queries=2, episodes=2000, seed=0)
    ways = np.concatenate([np.full(len(g), g.ways) for g in found.groups])
    assert np.bincount(ways)[3:].tolist() == pytest.approx([500] * 4, abs=100)
    shots = np.concatenate([torch.stack([torch.bincount(r) for r in g.support_labels]).flatten().numpy() for g in found.groups])
    share = np.bincount(shots)[1:] / len(shots)
    assert share.tolist() == pytest.approx([0.25] * 4, abs=0.03)


def test_variable_episodes_keep_their_order_whatever_the_chunks(monkeypatch):
    labels = _labels([12] * 8)
    arguments = {"ways": (2, 4), "shots": (1, 3), "queries": 2, "episodes": 30, "seed": 4}
    whole = variable_episodes(labels, **arguments)
    monkeypatch.setattr(episodes_module, "_CHUNK", 60)
    parts = variable_episodes(labels, **arguments)
    assert len(parts.groups) > len(whole.groups)
    first = [g.in_order([group.classes[:, 0].numpy() for group in g.groups]) for g in (whole, parts)]
    assert np.array_equal(*first)
    with pytest.raises(DataError, match="expected"):
        whole.in_order([np.zeros(3)])


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"ways": (1, 3)}, ConfigError, "ways must be at least 2, got 1"),
        ({"ways": (3, 2)}, ConfigError, "ways: expected the least and the most, got 3 and 2"),
        ({"shots": (4, 1)}, ConfigError, "shots: expected"),
        ({"queries": 0}, ConfigError, "queries must be at least 1, got 0"),
        ({"ways": (2, 9)}, DataError, "9-way episodes need 9 classes, got 4"),
        ({"shots": (1, 9)}, DataError, r"has 10 images, an episode needs 11 \(9 shots \+ 2 queries\)"),
    ],
)
def test_variable_ranges_that_cannot_be(bad, error, message):
    with pytest.raises(error, match=message):
        variable_episodes(_labels([10] * 4), **{"ways": (2, 3), "shots": (1, 2), "queries": 2, "episodes": 3, "seed": 0} | bad)


def test_one_shape_is_a_group_of_its_own_and_can_be_taken_out():
    labels = _labels([12] * 8)
    plain = sample_episodes(labels, ways=3, shots=2, queries=2, episodes=5, seed=0)
    assert grouped(plain).alone().hash() == plain.hash()
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = Episodes(*(getattr(plain, field.name)[order] for field in fields(Episodes)))
    assert EpisodeGroups((moved,), (order,)).alone().hash() == plain.hash()
    several = variable_episodes(labels, ways=(2, 4), shots=(1, 3), queries=2, episodes=9, seed=0)
    assert grouped(several) is several
    with pytest.raises(DataError, match="expected episodes of one shape"):
        several.alone()


# ------------------------------------------------------------------------------------------------------------ all classes


def test_all_way_episodes_ask_every_other_image():
    labels = _labels([4, 7, 3]) * 5 - 2  # labels -2, 3, 8
    drawn = all_way_episodes(labels, shots=2, episodes=6, seed=0)
    _well_formed(drawn, labels)
    assert drawn.classes.tolist() == [[-2, 3, 8]] * 6
    assert (torch.cat([drawn.support, drawn.query], 1).sort(1).values == torch.arange(14)).all()
    assert len({tuple(row) for row in drawn.support.tolist()}) > 1
    one = all_way_episodes(labels, shots=1, episodes=6, seed=0)
    assert torch.equal(one.support, drawn.support.view(6, 3, 2)[:, :, 0])


def test_all_way_episodes_with_a_number_of_queries():
    labels = _labels([9] * 12)
    drawn = all_way_episodes(labels, shots=2, queries=3, episodes=4, seed=1)
    _well_formed(drawn, labels)
    assert (drawn.ways, drawn.query.shape) == (12, (4, 36))
    assert torch.equal(drawn.support, all_way_episodes(labels, shots=2, episodes=4, seed=1).support)


def test_all_way_episodes_that_cannot_be():
    with pytest.raises(DataError, match="2-way episodes need 2 classes, got 1"):
        all_way_episodes(np.zeros(9, dtype=int), shots=1, episodes=1, seed=0)
    with pytest.raises(DataError, match=r"class 1 has 2 images, an episode needs 3 \(2 shots \+ 1 queries\)"):
        all_way_episodes(_labels([5, 2]), shots=2, episodes=1, seed=0)
    with pytest.raises(ConfigError, match="queries must be at least 1, got 0"):
        all_way_episodes(_labels([5, 5]), shots=2, queries=0, episodes=1, seed=0)


# ------------------------------------------------------------------------------------------------------------ low-shot probe


def _clusters(counts: list[int], spread: float = 1.0, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = _labels(counts, seed)
    centers = np.random.default_rng(9).normal(size=(len(counts), 6)) * 2
    return torch.tensor(centers[labels] + spread * rng.normal(size=(len(labels), 6))), labels


def test_low_shot_probe_is_scikit_learns_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    features, labels = _clusters([20, 12, 9], spread=2.5)
    found = low_shot_probe(features, labels, shots=(1, 4), draws=3, seed=2)
    unit = (features / features.norm(dim=1, keepdim=True)).numpy()
    for result, shots in zip(found, (1, 4), strict=True):
        episodes = all_way_episodes(labels, shots=shots, episodes=3, seed=2)
        for draw in range(3):
            known = episodes.support[draw].numpy()
            rest = np.setdiff1d(np.arange(41), known)
            predicted = LogisticRegression(C=1.0, max_iter=1000).fit(unit[known], labels[known]).predict(unit[rest])
            hits = predicted == labels[rest]
            assert result.accuracy[draw] == pytest.approx(hits.mean())
            assert result.class_mean[draw] == pytest.approx(np.mean([hits[labels[rest] == c].mean() for c in range(3)]))
        assert (result.shots, result.tested) == (shots, 41 - 3 * shots)
    assert found[1].accuracy.mean() > found[0].accuracy.mean()


def test_low_shot_probe_on_other_images():
    features, labels = _clusters([5, 5, 5])
    other, truth = _clusters([30, 30, 0], seed=1)
    head = build_head("prototype")
    (result,) = low_shot_probe(
        features, labels, shots=(5,), draws=2, test=(other.float(), truth), head=head
    )  # every labelled image is used
    assert result.tested == 60
    assert result.accuracy[0] == result.accuracy[1]
    scores = head(features[None], torch.from_numpy(labels)[None], other.float().double()[None], 3)[0]
    assert result.accuracy[0] == pytest.approx((scores.argmax(1).numpy() == truth).mean())


def test_low_shot_probe_refuses_what_it_cannot_measure():
    features, labels = _clusters([6, 6])
    with pytest.raises(DataError, match=r"test image 1 is of class 7, .*\(1 of 2 such\)"):
        low_shot_probe(features, labels, shots=(1,), test=(features[:2], np.array([0, 7])))
    with pytest.raises(DataError, match="has 6 images, an episode needs 7"):
        low_shot_probe(features, labels, shots=(1, 6))
    with pytest.raises(DataError, match="one label per feature row"):
        low_shot_probe(features, labels[:5])
    with pytest.raises(ConfigError, match="shots"):
        low_shot_probe(features, labels, shots=())
    with pytest.raises(ConfigError, match="draws must be at least 1, got 0"):
        low_shot_probe(features, labels, draws=0)


def test_exhausted_classes_are_counted():
    labels = np.repeat(np.arange(6), [4, 20, 20, 20, 20, 20])
    found = dirichlet_episodes(labels, ways=3, shots=1, total=12, episodes=40, seed=0, limit="redistribute")
    slowly = []
    for e in range(40):
        for way in range(3):
            used = int((found.support_labels[e] == way).sum() + (found.query_labels[e] == way).sum())
            slowly.append(used == np.count_nonzero(labels == int(found.classes[e, way])))
    assert 0 < np.mean(slowly) < 1
    assert exhausted(found, labels) == pytest.approx(np.mean(slowly))
