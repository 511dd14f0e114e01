"""Enrolled classes: means, heads as rows, leaving out, temperature and threshold, beside loops that fit everything anew."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import roc_auc_score

from kinshot.core.errors import ConfigError, DataError
from kinshot.fewshot import HEADS
from kinshot.fewshot.enrolled.fit import fit, sureness
from kinshot.fewshot.enrolled.open_set import fit_open_set, played, separation, threshold_between
from kinshot.fewshot.enrolled.rows import FITTED, check_head, fit_rows, left_out, means
from kinshot.fewshot.enrolled.support import Shot, Support, joined, nothing, renamed
from kinshot.fewshot.enrolled.temperature import LEAST, fit_temperature, probabilities
from kinshot.fewshot.evaluate import build_head
from kinshot.fewshot.specs import parse_head

HEADS_TRIED = [
    "imprint",
    "imprint:scale=3",
    "prototype",
    "prototype:distance=squared",
    "prototype:distance=squared:transform=none",
    "ridge",
    "ridge:penalty=0.1:transform=l2n:scale=2:bias=-1",
    "logistic",
    "logistic:C=10:transform=none",
]
EXACT = [text for text in HEADS_TRIED if not text.startswith("logistic")]


def taught(counts: list[int], dim: int = 6, seed: int = 0, spread: float = 0.7) -> Support:
    """Classes a, b, ... of so many images around centres of their own."""
    rng = np.random.default_rng(seed)
    support = nothing(dim)
    for number, count in enumerate(counts):
        centre = rng.normal(size=dim)
        label = chr(ord("a") + number)
        shots = tuple(Shot(label, f"{label}{row:02d}", f"{label}{row}.png") for row in range(count))
        features = torch.from_numpy(centre + spread * rng.normal(size=(count, dim))).float()
        support = joined(support, Support(shots, features))
    return support


def parts(support: Support) -> list[Support]:
    return [support.taken([row]) for row in range(len(support.shots))]


def rebuilt(pieces: list[Support], dim: int = 6) -> Support:
    support = nothing(dim)
    for piece in pieces:
        support = joined(support, piece)
    return support


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_order_of_teaching_does_not_matter_to_the_bit(seed):
    support = taught([3, 1, 4, 2])
    shuffled = [parts(support)[row] for row in np.random.default_rng(seed).permutation(len(support.shots))]
    again = rebuilt(shuffled)
    assert again.shots == support.shots
    for head in ("imprint", "ridge", "logistic"):
        name, settings = parse_head(head)
        one, other = fit(support, name, settings), fit(again, name, settings)
        assert torch.equal(one.rows.weight, other.rows.weight)
        assert torch.equal(one.means, other.means)
        assert (one.sureness, one.open_set) == (other.sureness, other.open_set)


def test_a_class_mean_is_the_mean_and_others_stay_as_they_are():
    small, whole = taught([3, 2]), taught([3, 2, 5])
    rows = means(whole)
    for number, label in enumerate(whole.classes):
        own = [z.double().numpy() for z, shot in zip(whole.features, whole.shots, strict=True) if shot.label == label]
        mean = sum(z / np.linalg.norm(z) for z in own) / len(own)
        assert np.allclose(rows[number].numpy(), mean / np.linalg.norm(mean), atol=1e-14)
    assert torch.equal(means(small), rows[:2])  # bitwise
    imprint = [fit_rows(one, *parse_head("imprint")).weight for one in (small, whole)]
    assert torch.equal(imprint[0], imprint[1][:2])


def test_taking_away_gives_what_was_there_before():
    whole = taught([3, 2, 5])
    rest = whole.taken([row for row, shot in enumerate(whole.shots) if shot.label != "b"])
    assert rest.classes == ("a", "c")
    assert torch.equal(means(rest), means(whole)[[0, 2]])


def test_an_image_may_move_to_another_class():
    moved = renamed(taught([2, 2]), "a01", "b")
    assert [shot.label for shot in moved.shots] == ["a", "b", "b", "b"]
    assert [shot.digest for shot in moved.shots] == ["a00", "a01", "b00", "b01"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (Support((Shot("z", "a00", "x"),), torch.zeros(1, 6)), "given twice"),
        (Support((Shot("z", "z", "x"),), torch.zeros(1, 5)), "features of 6 numbers, the new images have 5"),
        (Support((Shot("z", "z", "x"),), torch.zeros(1, 6), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)), "of every image or of none"),
    ],
)
def test_what_does_not_fit_is_refused(more, words):
    with pytest.raises(DataError, match=words):
        joined(taught([2]), more)


@pytest.mark.parametrize("text", HEADS_TRIED)
@pytest.mark.parametrize("counts", [[2, 3], [1, 4, 2, 3]])
def test_rows_score_as_the_head_does(text, counts):
    support, query = taught(counts), torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    name, settings = parse_head(text)
    ours = fit_rows(support, name, settings).scores(query)
    head = build_head(name, settings)
    theirs = head(support.features[None].double(), support.labels[None], query[None].double(), len(support.classes))[0]
    gap = ours - theirs
    assert torch.allclose(gap, gap.mean(1, keepdim=True).expand_as(gap), atol=1e-7)


def test_every_head_that_has_rows_is_registered():
    assert FITTED.keys() <= HEADS.entries.keys()


@pytest.mark.parametrize("text", EXACT)
@pytest.mark.parametrize("counts", [[2, 2], [1, 4, 2, 3], [5, 1, 1]])
@pytest.mark.parametrize("dim", [3, 20])  # more images than features, and fewer
def test_leaving_out_is_a_fit_without_the_image(text, counts, dim):
    support = taught(counts, dim)
    name, settings = parse_head(text)
    found = left_out(support, name, settings)
    expected = [row for row, shot in enumerate(support.shots) if counts[ord(shot.label) - ord("a")] > 1]
    assert found.index.tolist() == expected
    for scores, row in zip(found.scores, expected, strict=True):
        rest = support.taken([other for other in range(len(support.shots)) if other != row])
        assert torch.allclose(scores, fit_rows(rest, name, settings).scores(support.features[row : row + 1])[0], atol=1e-8)


def test_logistic_leaves_out_a_fold_of_every_class():
    support = taught([1, 7, 2])
    name, settings = parse_head("logistic")
    found = left_out(support, name, settings)
    out = [row for row, shot in enumerate(support.shots) if shot.digest in {"b00", "b05", "c00"}]
    rest = support.taken([row for row in range(len(support.shots)) if row not in out])
    expected = fit_rows(rest, name, settings).scores(support.features[out])
    assert torch.allclose(found.scores[[found.index.tolist().index(row) for row in out]], expected, atol=1e-8)


@pytest.mark.parametrize("text", ["imprint:proxies=multi", "prototype:distance=euclidean", "ridge:transform=cl2n", "nearest", "tim"])
def test_heads_without_rows_are_refused(text):
    with pytest.raises(ConfigError, match=r"use|keeps one of"):
        check_head(*parse_head(text))


def naive_closeness(support: Support, row: int, *, without_class: bool) -> float:
    own = support.shots[row].label
    rest = [r for r, shot in enumerate(support.shots) if r != row and not (without_class and shot.label == own)]
    z = support.features[row].double().numpy()
    return max(float(np.dot(z / np.linalg.norm(z), m)) for m in means(support.taken(rest)).numpy())


def naive_shares(support: Support) -> tuple[float, float]:
    """Each class's images judged by the threshold of a support that never had it."""
    refused, through = [], []
    for label in support.classes:
        others = support.taken([r for r, shot in enumerate(support.shots) if shot.label != label])
        counts = dict(zip(others.classes, others.counts.tolist(), strict=True))
        known = [naive_closeness(others, r, without_class=False) for r, s in enumerate(others.shots) if counts[s.label] > 1]
        unknown = [naive_closeness(others, r, without_class=True) for r in range(len(others.shots))]
        threshold = threshold_between(np.array(known), np.array(unknown))[0]
        own = [r for r, shot in enumerate(support.shots) if shot.label == label]
        refused += [naive_closeness(support, r, without_class=False) < threshold for r in own if len(own) > 1]
        through += [naive_closeness(support, r, without_class=True) >= threshold for r in own]
    return float(np.mean(refused)), float(np.mean(through))


@pytest.mark.parametrize("counts", [[3, 2, 4], [1, 3, 2, 2, 1], [5, 5, 5, 5]])
@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_open_set_is_what_a_loop_that_fits_anew_finds(counts, spread):
    support = taught(counts, spread=spread)
    found = fit_open_set(support)
    several = [r for r, s in enumerate(support.shots) if counts[ord(s.label) - ord("a")] > 1]
    known = np.array([naive_closeness(support, r, without_class=False) for r in several])
    unknown = np.array([naive_closeness(support, r, without_class=True) for r in range(len(support.shots))])
    ours = played(support).parts()
    assert np.allclose(ours[0][several], known, atol=1e-12)
    assert np.allclose(ours[1], unknown, atol=1e-12)
    assert found.threshold == pytest.approx(threshold_between(known, unknown)[0])
    assert (found.refused, found.let_through) == pytest.approx(naive_shares(support))
    assert (found.known, found.unknown) == (len(known), len(unknown))


def test_what_cannot_be_estimated_is_said():
    alone = fit_open_set(taught([1, 1, 1]))
    assert (alone.threshold, alone.refused, alone.let_through) == (None, None, None)
    assert "no class has two images" in alone.how
    one = fit_open_set(taught([4]))
    assert one.threshold is not None
    assert one.refused == pytest.approx(1 / 5)
    assert one.let_through is None
    assert "teach a second class" in one.how
    assert fit_open_set(taught([1])).threshold is None
    two = fit_open_set(taught([3, 3]))
    assert two.let_through is not None
    assert "too kind" in two.how
    for counts, words in (([5], "second one"), ([1, 1], "no class has two images"), ([1], "second one")):
        found = sureness(taught(counts), *parse_head("imprint"))
        assert found.temperature is None
        assert words in found.how
    assert "1 of 2 classes have one image" in sureness(taught([1, 3]), *parse_head("imprint")).how


@pytest.mark.parametrize("text", HEADS_TRIED)
@pytest.mark.parametrize("counts", [[1], [3], [1, 1], [1, 2]])
def test_every_head_answers_with_next_to_nothing(text, counts):
    support = taught(counts)
    answers = fit(support, *parse_head(text)).answer(support.features)
    assert answers.scores.shape == (sum(counts), len(counts))
    assert torch.isfinite(answers.scores).all()
    assert (answers.probabilities is None) == (counts in ([1], [3], [1, 1]))


def test_threshold_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for _ in range(40):
        known, unknown = rng.integers(3, 9, rng.integers(1, 9)) / 4, rng.integers(0, 7, rng.integers(1, 9)) / 4
        threshold, refused = threshold_between(known, unknown)
        cost = [(known < t).mean() + (unknown >= t).mean() for t in np.arange(-0.125, 3, 0.125)]
        assert (known < threshold).mean() + (unknown >= threshold).mean() == pytest.approx(min(cost))
        assert refused == pytest.approx((known < threshold).mean())


def test_threshold_of_known_figures_alone_refuses_what_it_says():
    rng = np.random.default_rng(0)
    for count in (1, 4, 60):
        said, below = [], []
        for _ in range(2000):
            figures = rng.normal(size=count + 1)
            threshold, share = threshold_between(figures[:-1], np.empty(0))
            said.append(share)
            below.append(figures[-1] < threshold)
        assert np.mean(below) == pytest.approx(np.mean(said), abs=0.03)
    with pytest.raises(DataError, match="known"):
        threshold_between(np.empty(0), np.ones(2))


def test_separation_is_the_area_under_the_curve():
    rng = np.random.default_rng(0)
    known, unknown = rng.integers(2, 9, 30), rng.integers(0, 7, 20)  # with ties
    truth = np.repeat([1, 0], [30, 20])
    assert separation(known, unknown) == pytest.approx(roc_auc_score(truth, np.concatenate([known, unknown])))
    with pytest.raises(DataError, match="got 0 and 2"):
        separation(np.empty(0), np.ones(2))


@pytest.mark.parametrize("seed", range(4))
def test_temperature_is_where_the_loss_is_least(seed):
    rng = np.random.default_rng(seed)
    count, classes = 12, 4
    labels = rng.integers(0, classes, count)
    scores = rng.normal(size=(count, classes)) * 10.0 ** rng.integers(-2, 3)
    scores[np.arange(count), labels] += scores.std() * 1.5
    right = (count + 1) / (count + 2)
    target = np.full((count, classes), (1 - right) / (classes - 1))
    target[np.arange(count), labels] = right

    def loss(log_temperature: float) -> float:
        logits = torch.from_numpy(scores) / np.exp(log_temperature)
        return float(-(torch.from_numpy(target) * logits.log_softmax(1)).sum(1).mean())

    found = fit_temperature(torch.from_numpy(scores), torch.from_numpy(labels))
    best = min(
        (minimize_scalar(loss, bounds=(a, a + 4), method="bounded", options={"xatol": 1e-10}) for a in range(-12, 12, 4)),
        key=lambda r: r.fun,
    )
    assert np.log(found) == pytest.approx(best.x, abs=1e-4)
    doubled = fit_temperature(2 * torch.from_numpy(scores) + 5, torch.from_numpy(labels))
    assert doubled == pytest.approx(2 * found)  # scores mean the same on another scale
    assert torch.allclose(probabilities(torch.from_numpy(scores), found).sum(1), torch.ones(count, dtype=torch.float64))


def test_few_images_never_make_an_answer_certain():
    scores = torch.eye(5).double()  # five images, all told apart
    temperature = fit_temperature(scores, torch.arange(5))
    assert probabilities(scores, temperature).max() == pytest.approx(6 / 7)
    misled = fit_temperature(-scores, torch.arange(5))  # always the wrong answer: no class is likelier than another
    assert misled == pytest.approx(1 / LEAST)
    for bad in (scores[:0], scores[:, :1]):
        with pytest.raises(DataError, match="at least two classes"):
            fit_temperature(bad, torch.zeros(len(bad), dtype=torch.int64))


def test_classes_may_be_taught_in_any_sequence():
    pieces = parts(taught([2, 1, 1]))
    orders = [rebuilt(list(order)) for order in itertools.permutations(pieces)]
    assert len({order.shots for order in orders}) == 1
    assert all(torch.equal(order.features, orders[0].features) for order in orders)
