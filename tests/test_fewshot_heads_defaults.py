"""The defaults of heads are those of public code: against that code's steps written out, and against plain class means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kinshot.fewshot import HEADS
from kinshot.fewshot.evaluate import build_head
from tests import reference_transductive as reference

WAYS = 3
NEEDS_MORE = ("anil", "distribution_calibration", "feat", "maml")  # trained parts or base classes


def by_default(name: str, expected_of: Any, *, seed: int = 0, unit: bool = True, within: float = 1e-9) -> None:
    """The head without settings against `expected_of(support, labels, query)` of each episode's features."""
    support, labels, query, _ = reference.random_episodes(seed, ways=WAYS, positive=True)
    got = build_head(name)(*reference.tensors(support, labels, query), WAYS).numpy()
    s, q = (reference.unit(support), reference.unit(query)) if unit else (support, query)
    expected = np.stack([expected_of(s[e], labels[e], q[e]) for e in range(len(s))])
    np.testing.assert_allclose(got, expected, rtol=within, atol=within)


def test_laplacian_shot_is_easyfsls() -> None:
    settings = {"lam": 0.1, "neighbors": 2, "steps": 10, "tolerance": 1e-6, "rectify": "within", "epsilon": 1.0}
    by_default("laplacian_shot", lambda s, y, q: reference.laplacian_shot(s, y, q, WAYS, **settings))


def test_bd_cspn_is_easyfsls() -> None:
    settings = {"variant": "within", "epsilon": 1.0, "shift_query": False, "distance": "cosine"}
    by_default("bd_cspn", lambda s, y, q: reference.bd_cspn(s, y, q, WAYS, **settings))


def test_soft_kmeans_is_the_authors() -> None:
    settings = {"steps": 1, "temperature": 1.0, "distance": "squared", "shift": False}
    by_default("soft_kmeans", lambda s, y, q: reference.soft_kmeans(s, y, q, WAYS, **settings), unit=False)


def fine_tuned(logits_of: Any, entropy: float) -> Any:
    """easyfsl's fine-tuning of class means, as autograd and torch's Adam do it."""

    def scores(support: np.ndarray, labels: np.ndarray, query: np.ndarray, steps: int) -> np.ndarray:
        s, y, q = reference.tensors(support, labels, query)
        rows = torch.from_numpy(reference.means_of(support, labels, WAYS)).requires_grad_()
        adam = torch.optim.Adam([rows], lr=1e-4)
        for _ in range(steps):
            p = (10 * logits_of(q, rows)).softmax(-1)
            loss = torch.nn.functional.cross_entropy(10 * logits_of(s, rows), y) - entropy * (p * (p + 1e-12).log()).sum(-1).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        return (10 * logits_of(q, rows)).detach().numpy()

    return scores


def _distance(z: Tensor, rows: Tensor) -> Tensor:
    return -torch.cdist(z, rows)


def _cosine(z: Tensor, rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(z, dim=-1) @ torch.nn.functional.normalize(rows, dim=-1).T


def test_transductive_finetune_is_easyfsls() -> None:
    expected = fine_tuned(_distance, 1.0)
    by_default("transductive_finetune", lambda s, y, q: expected(s, y, q, 10), within=1e-7)


def test_baseline_pp_is_easyfsls() -> None:
    expected = fine_tuned(_cosine, 0.0)
    by_default("baseline_pp", lambda s, y, q: expected(s, y, q, 50), within=1e-7)


def test_the_defaults_of_svm_are_the_authors() -> None:
    """A one on the kernel's diagonal is a unit vector of its own beside each support feature, which no query has."""
    support, labels, query = reference.tensors(*reference.random_episodes(3, ways=WAYS)[:3])
    count = support.shape[1]
    beside = torch.eye(count, dtype=support.dtype).expand(len(support), -1, -1)
    machine = build_head("svm", {"diagonal": 0.0, "tolerance": 1e-7})
    nothing = query.new_zeros(*query.shape[:2], count)
    expected = machine(torch.cat([support, beside], -1), labels, torch.cat([query, nothing], -1), WAYS)
    torch.testing.assert_close(build_head("svm", {"tolerance": 1e-7})(support, labels, query, WAYS), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("name", [name for name in HEADS.names() if name not in NEEDS_MORE])
def test_no_default_falls_far_behind_class_means(name: str, shots: int) -> None:
    """On features as encoders with a ReLU give them: all in one orthant, far more alike than not, lengths of a few units."""
    ways, queries, dim, episodes = 5, 15, 32, 20
    generator = torch.Generator().manual_seed(1)
    centres = 1.5 + 0.5 * torch.randn(episodes, ways, 1, dim, generator=generator)
    drawn = (centres + 0.5 * torch.randn(episodes, ways, shots + queries, dim, generator=generator)).relu()
    labels = torch.arange(ways).repeat_interleave(shots).expand(episodes, -1)
    asked = torch.arange(ways).repeat_interleave(queries)

    def accuracy(head: str) -> float:
        scores = build_head(head)(drawn[:, :, :shots].flatten(1, 2), labels, drawn[:, :, shots:].flatten(1, 2), ways)
        return float((scores.argmax(-1) == asked).double().mean())

    means = accuracy("prototype")
    assert 0.7 < means < 1
    assert accuracy(name) > means - 0.05
