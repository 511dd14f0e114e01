"""Rows at unit length that are not held twice: the same rankings, to the last bit, and blocks of products in tiles that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kinshot.kin.neighbors import proposals, rows
from kinshot.kin.neighbors.proposals import largest
from kinshot.kin.neighbors.ranking import rank
from kinshot.kin.neighbors.rows import Rows


def drawn(count: int, width: int, seed: int = 0) -> torch.Tensor:
    z = 3 * torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    z[count // 2] = 0
    return z


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("itself", [True, False])
def test_many_rows_are_ranked_as_few_are(monkeypatch: pytest.MonkeyPatch, metric: Any, dtype: torch.dtype, itself: bool) -> None:
    z, others = drawn(90, 8).to(dtype), None if itself else drawn(700, 8, 1).to(dtype)
    held = rank(z, others, k=5, metric=metric)
    monkeypatch.setattr(rows, "HELD", 0)
    monkeypatch.setattr(proposals, "HELD", 0)
    monkeypatch.setattr(proposals, "BLOCK", 2048)
    again = rank(z, others, k=5, metric=metric, chunk=16)
    assert torch.equal(held.index, again.index)
    assert torch.equal(held.value, again.value)


def test_rows_that_are_not_held_are_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    z = drawn(20, 6)
    held = Rows(z, unit=True)
    monkeypatch.setattr(rows, "HELD", 0)
    lazy = Rows(z, unit=True)
    assert lazy.raw is z
    index = torch.tensor([[3, 10], [19, 3]])
    for one in (held, lazy):
        assert torch.equal(one.take(index), held.all()[index])
        assert torch.equal(torch.cat(list(one.parts(13))), held.all())
    torch.testing.assert_close(Rows(z[:5] * 1e-20, unit=True).raw.norm(dim=1), torch.ones(5))


@pytest.mark.parametrize("width", [63, 64, 130, 1000])
def test_the_highest_of_a_row_are_found_in_tiles_of_any_rest(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(proposals, "TILE", 4 * proposals.GROUP)
    scores = torch.randperm(7 * width, generator=torch.Generator().manual_seed(width)).view(7, width).float()
    best, at = largest(scores, 1)
    plain = scores.topk(1, dim=1)
    assert torch.equal(best, plain.values)
    assert torch.equal(at, plain.indices)
    best, at = largest(scores, 3)
    assert torch.equal(best, scores.topk(3, dim=1).values)
    assert torch.equal(scores.gather(1, at), best)
