"""What every registered head must do, generated from the registry: a new head is tested without an edit here."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kinshot.core.errors import DataError
from kinshot.fewshot import HEADS
from kinshot.fewshot.base_statistics import base_statistics
from kinshot.fewshot.evaluate import build_head
from kinshot.fewshot.scores import BoundHead, confidence

EPISODES, WAYS, QUERIES, DIM = 2, 3, 6, 5
COUNTS = (2, 3, 4)  # an unbalanced support set


def _choices(annotation: str) -> tuple[Any, ...]:
    if annotation == "bool":
        return (False, True)
    if annotation.startswith("Literal["):
        return ast.literal_eval("(" + annotation[8:-1] + ",)")
    return ()


def _cases() -> list[Any]:
    """Each head with its defaults, then with every other choice of every setting that lists its choices."""
    cases = []
    for name in HEADS.names():
        cases.append(pytest.param(name, {}, id=name))
        for key, parameter in HEADS.entry(name).parameters.items():
            for choice in _choices(parameter.annotation):
                if choice != parameter.default:
                    cases.append(pytest.param(name, {key: choice}, id=f"{name}:{key}={choice}"))
    return cases


every_case = pytest.mark.parametrize(("name", "settings"), _cases())
every_head = pytest.mark.parametrize("name", HEADS.names())


@cache
def _provided() -> dict[str, Any]:
    """What a head may be wired with, by the name of its parameter; a head gets those that it has a parameter for.

    A head that cannot work without something else needs a line here, or every test of it fails with its own message.
    """
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(6).repeat_interleave(12)
    centres = 2 * torch.eye(DIM, dtype=torch.float64)[torch.arange(6) % DIM]
    features = centres[labels] + 0.3 * torch.randn(len(labels), DIM, generator=generator, dtype=torch.float64)

    def weight() -> Tensor:
        return 0.2 * torch.randn(DIM, DIM, generator=generator, dtype=torch.float64)

    return {
        "base_mean": torch.linspace(-0.2, 0.3, DIM),
        "base": base_statistics(features, labels),
        "maml:encoder": Smooth(weight()),
        "feat:network": {f"{layer}.weight": weight() for layer in ("w_qs", "w_ks", "w_vs", "fc")},
    }


class Smooth(nn.Module):
    """A tiny encoder in the precision of its input, with features large enough for a few small steps."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(4 * torch.eye(DIM, dtype=weight.dtype) + weight)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.softplus(nn.functional.linear(x, self.weight.to(x.dtype)))


def _head(name: str, settings: dict[str, Any], ways: int = WAYS) -> BoundHead:
    takes = inspect.signature(HEADS.get(name)).parameters
    given = {key.removeprefix(f"{name}:"): value for key, value in _provided().items()}
    if name in ("anil", "maml"):  # their start has a row for each way; equal rows know no order of the ways
        given["network"] = {"weight": torch.linspace(-0.2, 0.3, DIM).expand(ways, -1), "bias": torch.zeros(ways)}
    return build_head(name, settings, **{key: value for key, value in given.items() if key in takes})


def _transductive(name: str) -> bool:
    return re.search(r"\btransductive\b", HEADS.entry(name).summary) is not None


def _data(dtype: torch.dtype = torch.float64, spread: float = 0.6) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Clusters, overlapping unless `spread` is small, and then around orthogonal centres: support, labels, query, query labels."""
    generator = torch.Generator().manual_seed(7)
    centres = 2 * torch.eye(WAYS, DIM, dtype=torch.float64)
    centres = centres + 0.5 * spread * torch.randn(EPISODES, WAYS, DIM, generator=generator, dtype=torch.float64)
    labels = torch.repeat_interleave(torch.arange(WAYS), torch.tensor(COUNTS)).repeat(EPISODES, 1)
    targets = torch.arange(WAYS).repeat(QUERIES // WAYS).repeat(EPISODES, 1)

    def around(which: Tensor) -> Tensor:
        centre = centres.gather(1, which.unsqueeze(-1).expand(-1, -1, DIM))
        return centre + spread * torch.randn(centre.shape, generator=generator, dtype=torch.float64)

    return around(labels).to(dtype), labels, around(targets).to(dtype), targets


def _close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@every_head
def test_documentation(name: str) -> None:
    entry = HEADS.entry(name)
    said = re.findall(r"\b(inductive|transductive)\b", entry.summary)
    assert len(said) == 1, f"line 1 of head {name}'s docstring must say either inductive or transductive"
    assert "Paper:" in entry.docstring
    assert re.search(r"^Defaults: \S", entry.docstring, re.MULTILINE), "a head's docstring names the public code that its defaults are of"
    assert not [p.name for p in entry.parameters.values() if not p.help]


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_have_the_shape_and_dtype_of_the_input(name: str, settings: dict[str, Any], dtype: torch.dtype) -> None:
    support, labels, query, _ = _data(dtype)
    scores = _head(name, settings)(support, labels, query, WAYS)
    assert scores.shape == (EPISODES, QUERIES, WAYS)
    assert scores.dtype == dtype
    assert torch.isfinite(scores).all()


@every_case
@pytest.mark.parametrize("spread", [0.02, 0.6])
def test_scores_are_what_the_head_says(name: str, settings: dict[str, Any], spread: float) -> None:
    assert "scores" in HEADS.entry(name).facts, "a head says where it is registered what its scores are"
    head = _head(name, settings)
    support, labels, query, _ = _data(spread=spread)
    scores = head(support, labels, query, WAYS)
    each = {"probabilities": scores, "log_probabilities": scores.exp()}.get(head.scores)
    if each is not None:
        assert (each >= 0).all()
        torch.testing.assert_close(each.sum(-1), torch.ones(EPISODES, QUERIES, dtype=each.dtype), rtol=0, atol=1e-5)
    else:
        for kind in (scores, scores.exp()):
            assert not torch.allclose(kind.sum(-1), torch.ones_like(kind[..., 0])), "these scores are probabilities, or their logarithms"
    sure = confidence(scores, head.scores)
    if head.scores == "similarities":
        assert sure is None
    else:
        torch.testing.assert_close(sure, (scores.softmax(-1) if each is None else each).amax(-1), rtol=1e-5, atol=1e-5)


@every_case
def test_single_and_double_precision_predict_alike(name: str, settings: dict[str, Any]) -> None:
    head = _head(name, settings)
    predictions = []
    for dtype in (torch.float32, torch.float64):
        support, labels, query, _ = _data(dtype)
        predictions.append(head(support, labels, query, WAYS).argmax(-1))
    assert torch.equal(*predictions)


@every_case
def test_easy_episodes_are_solved(name: str, settings: dict[str, Any]) -> None:
    support, labels, query, targets = _data(spread=0.02)
    assert torch.equal(_head(name, settings)(support, labels, query, WAYS).argmax(-1), targets)


@every_case
def test_two_ways(name: str, settings: dict[str, Any]) -> None:
    support, labels, query, targets = _data(spread=0.02)
    kept, asked = labels[0] < 2, targets[0] < 2
    scores = _head(name, settings, ways=2)(support[:, kept], labels[:, kept], query[:, asked], 2)
    assert torch.equal(scores.argmax(-1), targets[:, asked])


@every_case
def test_support_order_does_not_matter(name: str, settings: dict[str, Any]) -> None:
    support, labels, query, _ = _data()
    head = _head(name, settings)
    order = torch.tensor([8, 2, 5, 0, 7, 1, 4, 6, 3])
    _close(head(support[:, order], labels[:, order], query, WAYS), head(support, labels, query, WAYS))


@every_case
def test_renaming_the_ways_renames_the_columns(name: str, settings: dict[str, Any]) -> None:
    support, labels, query, _ = _data()
    head = _head(name, settings)
    renamed = torch.tensor([2, 0, 1])
    _close(head(support, renamed[labels], query, WAYS)[..., renamed], head(support, labels, query, WAYS))


@every_case
def test_query_order_moves_the_rows(name: str, settings: dict[str, Any]) -> None:
    support, labels, query, _ = _data()
    head = _head(name, settings)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    _close(head(support, labels, query[:, order], WAYS), head(support, labels, query, WAYS)[:, order])


@every_case
def test_inductive_queries_are_independent(name: str, settings: dict[str, Any]) -> None:
    if _transductive(name):
        pytest.skip(f"head {name} is transductive: its queries are seen together")
    support, labels, query, _ = _data()
    head = _head(name, settings)
    alone = torch.cat([head(support, labels, query[:, [i]], WAYS) for i in range(QUERIES)], dim=1)
    _close(alone, head(support, labels, query, WAYS))


@every_case
def test_episodes_are_independent(name: str, settings: dict[str, Any]) -> None:
    support, labels, query, _ = _data()
    head = _head(name, settings)
    alone = torch.cat([head(support[[e]], labels[[e]], query[[e]], WAYS) for e in range(EPISODES)])
    _close(alone, head(support, labels, query, WAYS))


@every_case
def test_pure(name: str, settings: dict[str, Any]) -> None:
    support, labels, query, _ = _data()
    copies = [t.clone() for t in (support, labels, query)]
    head = _head(name, settings)
    before = torch.get_rng_state()
    first = head(support, labels, query, WAYS)
    assert torch.equal(before, torch.get_rng_state()), "a head must not draw from the global generator"
    assert torch.equal(first, head(support, labels, query, WAYS))
    for tensor, copy in zip((support, labels, query), copies, strict=True):
        assert torch.equal(tensor, copy), "a head must not change its inputs"


def _with_unlabelled(support: Tensor, labels: Tensor, where: list[int], far: float) -> tuple[Tensor, Tensor]:
    """Rows labelled -1 in front of the given ones (or behind all), one of them far from everything."""
    for place in sorted(where, reverse=True):
        row = torch.full((len(support), 1, DIM), far, dtype=support.dtype)
        support = torch.cat([support[:, :place], row, support[:, place:]], dim=1)
        labels = torch.cat([labels[:, :place], torch.full((len(labels), 1), -1), labels[:, place:]], dim=1)
    return support, labels


@every_case
@pytest.mark.parametrize("far", [0.0, 1e4])
def test_rows_labelled_minus_one_are_ignored(name: str, settings: dict[str, Any], far: float) -> None:
    support, labels, query, _ = _data()
    head, function = _head(name, settings), HEADS.get(name)
    expected = head(support, labels, query, WAYS)
    padded, marked = _with_unlabelled(support, labels, [0, 4, 9], far)
    assert torch.equal(head(padded, marked, query, WAYS), expected)
    assert function is vars(sys.modules[function.__module__])[HEADS.entry(name).symbol]  # it holds of the function by its own name too


@every_case
def test_episodes_may_differ_in_rows_labelled_minus_one(name: str, settings: dict[str, Any]) -> None:
    support, labels, query, _ = _data()
    labels = labels.clone()
    labels[1, 4] = -1  # one image of way 1 fewer
    kept = labels[1] >= 0
    head = _head(name, settings)
    alone = [head(support[:1], labels[:1], query[:1], WAYS), head(support[1:, kept], labels[1:, kept], query[1:], WAYS)]
    _close(head(support, labels, query, WAYS), torch.cat(alone))


@every_head
@pytest.mark.parametrize("label", [-2, WAYS])
def test_a_label_that_is_no_way_is_refused(name: str, label: int) -> None:
    support, labels, query, _ = _data()
    labels = labels.clone()
    labels[1, 4] = label
    with pytest.raises(DataError, match=f"label {label}: expected 0..{WAYS - 1}, or -1"):
        _head(name, {})(support, labels, query, WAYS)
