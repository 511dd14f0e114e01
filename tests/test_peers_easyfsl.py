"""Our heads against easyfsl's classes of the same name, where the definitions agree; optional, `make learn2learn` runs these.

Not compared, as easyfsl means something else by the name:

* PT-MAP agrees for `centre=none`, balanced queries and a Sinkhorn that converged. easyfsl's stops where its rows' sums change by less
  than 1e-6 in a round, or after 1000, which leaves sums a few parts in a thousand off; here it is told to go on. For counts that
  the ways do not divide its columns sum to the integer part of Q / W.
* TIM's scores are cosines there and logits, temperature times that, here.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kinshot.core.rng import keyed_generator
from kinshot.fewshot.evaluate import build_head
from kinshot.fewshot.set_attention import SetAttention

WAYS, SHOTS, QUERIES, DIM, EPISODES = 5, 3, 9, 12, 6
WHY = "easyfsl is optional: `make learn2learn` makes an environment with it"


@pytest.fixture
def methods() -> Any:
    return pytest.importorskip("easyfsl.methods", reason=WHY, exc_type=ImportError)


def base_mean() -> Tensor:
    return torch.linspace(0.2, 0.9, DIM)


L2N = {"feature_normalization": 2}
CL2N = {**L2N, "feature_centering": base_mean()}


def episodes(spread: float = 0.8) -> tuple[Tensor, Tensor, Tensor]:
    """Overlapping classes of features that are never negative, as after a ReLU; support rows in any order."""
    generator = keyed_generator(0, "easyfsl")
    centres = torch.randn(EPISODES, WAYS, 1, DIM, generator=generator) + 0.5
    drawn = (centres + spread * torch.randn(EPISODES, WAYS, SHOTS + QUERIES, DIM, generator=generator)).relu()
    order = torch.randperm(WAYS * SHOTS, generator=generator)
    labels = torch.arange(WAYS).repeat_interleave(SHOTS)[order]
    return drawn[:, :, :SHOTS].flatten(1, 2)[:, order], labels.repeat(EPISODES, 1), drawn[:, :, SHOTS:].flatten(1, 2)


def theirs(classifier: nn.Module, dtype: torch.dtype = torch.float32, count: int = EPISODES) -> Tensor:
    """Scores (E, Q, W), one episode after another, as easyfsl works."""
    support_sets, label_sets, query_sets = (part[:count] for part in episodes())
    found = []
    for support, labels, query in zip(support_sets.to(dtype), label_sets, query_sets.to(dtype), strict=True):
        classifier.eval()
        classifier.process_support_set(support, labels)
        found.append(classifier(query).detach())
    return torch.stack(found)


def ours(name: str, settings: dict[str, Any], **injected: Any) -> Tensor:
    support, labels, query = episodes()
    return build_head(name, settings, base_mean=base_mean(), **injected)(support, labels, query, WAYS)


def agree(mine: Tensor, other: Tensor) -> None:
    assert torch.equal(mine.argmax(-1), other.argmax(-1))
    torch.testing.assert_close(mine, other, rtol=0, atol=1e-4)
    assert 0.2 < (mine.argmax(-1) == torch.arange(WAYS).repeat_interleave(QUERIES)).float().mean() < 1, "episodes that tell nothing"


# (easyfsl's class, its arguments, our head, its settings, ours = factor * theirs)
SAME = [
    ("PrototypicalNetworks", {}, "prototype", {"distance": "euclidean", "transform": "none"}, 1),
    ("PrototypicalNetworks", L2N, "prototype", {"distance": "euclidean"}, 1),
    ("PrototypicalNetworks", CL2N, "prototype", {"distance": "euclidean", "transform": "cl2n"}, 1),  # SimpleShot as its authors define it
    ("SimpleShot", {}, "prototype", {"distance": "cosine", "transform": "none"}, 1),
    ("SimpleShot", L2N, "prototype", {"distance": "cosine"}, 1),
    ("SimpleShot", CL2N, "prototype", {"distance": "cosine", "transform": "cl2n"}, 1),
    ("BDCSPN", L2N, "bd_cspn", {}, 1),
    ("BDCSPN", CL2N, "bd_cspn", {"variant": "within", "epsilon": 1.0, "transform": "cl2n"}, 1),
    (
        "LaplacianShot",
        {**L2N, "lambda_regularization": 0.7, "knn": 3},
        "laplacian_shot",
        {"lam": 0.7, "neighbors": 2, "steps": 20, "rectify": "within", "epsilon": 1.0},
        1,
    ),
    (
        "LaplacianShot",
        {**CL2N, "lambda_regularization": 0.1, "knn": 4, "inference_steps": 10},
        "laplacian_shot",
        {"lam": 0.1, "neighbors": 3, "steps": 10, "rectify": "within", "epsilon": 1.0, "transform": "cl2n"},
        1,
    ),
    (
        "TIM",
        {**L2N, "fine_tuning_lr": 1e-3, "conditional_entropy_weight": 0.5},
        "tim",
        {"variant": "cosine", "temperature": 10.0, "cross_entropy": 1.0, "conditional": 0.5, "steps": 50, "lr": 1e-3},
        10,
    ),
    (
        "TIM",
        {**CL2N, "fine_tuning_steps": 20, "fine_tuning_lr": 1e-2, "marginal_entropy_weight": 2.0, "temperature": 15.0},
        "tim",
        {"variant": "cosine", "cross_entropy": 1.0, "marginal": 2.0, "steps": 20, "lr": 1e-2, "transform": "cl2n"},
        15,
    ),
    (
        "Finetune",
        {**L2N, "fine_tuning_steps": 40, "fine_tuning_lr": 1e-2, "temperature": 5.0},
        "transductive_finetune",  # without the queries' entropy it is the inductive one
        {"distance": "cosine", "steps": 40, "lr": 1e-2, "temperature": 5.0, "entropy": 0.0},
        5,
    ),
    # our defaults are those of easyfsl's benchmark
    ("Finetune", {**L2N, "fine_tuning_steps": 50, "fine_tuning_lr": 1e-4, "temperature": 10.0}, "baseline_pp", {}, 10),
    (
        "TransductiveFinetuning",
        {**L2N, "fine_tuning_steps": 10, "fine_tuning_lr": 1e-4, "temperature": 10.0},
        "transductive_finetune",
        {},
        10,
    ),
    ("LaplacianShot", {**L2N, "lambda_regularization": 0.1, "knn": 3, "inference_steps": 10}, "laplacian_shot", {}, 1),
    ("TransductiveFinetuning", {"fine_tuning_steps": 0}, "prototype", {"distance": "euclidean", "transform": "none"}, 1),
]


@pytest.mark.parametrize(("theirs_name", "arguments", "name", "settings", "factor"), SAME)
def test_scores(methods: Any, theirs_name: str, arguments: dict[str, Any], name: str, settings: dict[str, Any], factor: float) -> None:
    classifier = getattr(methods, theirs_name)(nn.Identity(), **arguments)
    agree(ours(name, settings) / factor, theirs(classifier))


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (
            {**L2N, "fine_tuning_steps": 2, "fine_tuning_lr": 0.2},
            {"transform": "l2n", "steps": 2, "rate": 0.2},
        ),
        (
            {**L2N, "fine_tuning_steps": 1, "fine_tuning_lr": 0.3, "lambda_regularization": 5.0, "power_factor": 0.7},
            {"transform": "l2n", "steps": 1, "rate": 0.3, "lam": 5.0, "power": 0.7},
        ),
    ],
)
def test_pt_map(methods: Any, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], settings: dict[str, Any]) -> None:
    mine = ours("pt_map", {"balanced_prior": True, "centre": "none", "tolerance": 1e-7, **settings})
    as_it_is = theirs(methods.PTMAP(nn.Identity(), **arguments))
    assert torch.equal(mine.argmax(-1), as_it_is.argmax(-1))
    transport = methods.PTMAP.compute_optimal_transport
    monkeypatch.setattr(methods.pt_map, "MAXIMUM_SINKHORN_ITERATIONS", 10_000)
    monkeypatch.setattr(methods.PTMAP, "compute_optimal_transport", lambda self, cost, epsilon: transport(self, cost, 1e-3 * epsilon))
    agree(mine[:2], theirs(methods.PTMAP(nn.Identity(), **arguments), torch.float64, count=2).float())


def test_matching_networks(methods: Any) -> None:
    """With encoders that add nothing to the features, which is what no full context means."""

    class NoContext(nn.Module):
        def forward(self, rows: Tensor) -> tuple[Tensor, None]:
            return torch.zeros(*rows.shape[:-1], 2 * DIM), None

    class NoReadOut(nn.Module):
        def forward(self, _: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return torch.zeros_like(state[0]), state[1]

    classifier = methods.MatchingNetworks(
        nn.Identity(), feature_dimension=DIM, support_encoder=NoContext(), query_encoder=NoReadOut(), feature_normalization=2
    )
    agree(ours("matching", {"variant": "easyfsl", "transform": "l2n"}), theirs(classifier))


def test_feat(methods: Any) -> None:
    from easyfsl.modules import MultiHeadAttention

    network = SetAttention(DIM)
    generator = keyed_generator(0, "attention")
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(0.4 * torch.randn(weight.shape, generator=generator))
    attention = MultiHeadAttention(1, DIM, DIM, DIM)
    attention.load_state_dict(network.state_dict())
    classifier = methods.FEAT(nn.Identity(), attention_module=attention)
    weights = {name: value.detach() for name, value in network.state_dict().items()}
    scores = ours("feat", {"distance": "euclidean", "temperature": 1.0}, network=weights)
    other = theirs(classifier)
    assert torch.equal(scores.argmax(-1), other.argmax(-1))
    torch.testing.assert_close(scores, other, rtol=0, atol=1e-4)
    plain = ours("prototype", {"distance": "euclidean", "transform": "none"})
    assert (plain - scores).abs().max() > 0.1, "an attention that changes nothing tells nothing"


def test_the_definitions_that_differ_do_differ(methods: Any) -> None:
    """Each variant is a method of its own: were they equal, one of them would be superfluous."""
    entropy = theirs(methods.TransductiveFinetuning(nn.Identity(), feature_normalization=2, fine_tuning_steps=25, fine_tuning_lr=1e-3))
    assert (entropy - ours("transductive_finetune", {"distance": "cosine", "steps": 25, "lr": 1e-3})).abs().max() > 0.1
    bd_cspn = theirs(methods.BDCSPN(nn.Identity(), feature_normalization=2))
    assert (bd_cspn - ours("bd_cspn", {"variant": "across"})).abs().max() > 1e-3
    simpleshot = theirs(methods.SimpleShot(nn.Identity(), feature_normalization=2))
    assert (simpleshot - ours("prototype", {"distance": "euclidean"})).abs().max() > 1e-3
