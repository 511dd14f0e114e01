"""The door to pytorch-metric-learning: its values, nothing drawn outside, and what it does not know."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.build import keyed_initialisation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.proxies.pml import OTHER
from kinshot.recipes.terms import read_terms

package = pytest.importorskip("pytorch_metric_learning", reason="needs the optional package pytorch-metric-learning")
from pytorch_metric_learning import losses, miners  # noqa: E402

CONTEXT = RunContext(num_samples=40, batch_size=12, steps_per_epoch=3, total_steps=6, seed=3)
Y = torch.arange(12) % 3
NEEDS = {"HistogramLoss": "n_bins=10", "RankedListLoss": "margin=0.4,Tn=10"}
NAMES = [name for name in dir(losses) if name.endswith("Loss") and not name.startswith("Base") and name not in OTHER]


def rows(seed: int = 0) -> torch.Tensor:
    return torch.randn(12, 16, generator=torch.Generator().manual_seed(seed))


def made(**settings):
    with keyed_initialisation(1, "pml"):
        return OBJECTIVES.build("pml", 16, 3, CONTEXT, settings=settings)


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_over_classes_has_a_value_and_a_gradient(name: str) -> None:
    loss, z = made(loss=name, arguments=NEEDS.get(name, "")), rows().requires_grad_()
    value = loss(z, Y, 2)
    value.backward()
    assert value.shape == ()
    assert torch.isfinite(value)
    assert torch.isfinite(z.grad).all()


def test_values_are_the_packages_own() -> None:
    z = rows()
    ours = made(arguments="alpha=1.5,base=0.4", mined_by="MultiSimilarityMiner", mining="epsilon=0.2")(z, Y)
    theirs = losses.MultiSimilarityLoss(alpha=1.5, base=0.4)(z, Y, miners.MultiSimilarityMiner(epsilon=0.2)(z, Y))
    assert torch.equal(ours, theirs)


def test_a_row_of_unknown_class_is_left_out() -> None:
    z, y = rows(), torch.where(torch.arange(12) == 5, -1, Y)
    loss = made(loss="TripletMarginLoss")
    assert torch.equal(loss(z, y), loss(z[y >= 0], y[y >= 0]))


@pytest.mark.parametrize(
    ("loss", "miner"), [("NPairsLoss", ""), ("MarginLoss", "DistanceWeightedMiner"), ("TripletMarginLoss", "UniformHistogramMiner")]
)
def test_what_is_drawn_depends_on_seed_and_step_alone(loss: str, miner: str) -> None:
    found = []
    for number in (1, 2):
        torch.manual_seed(number)
        np.random.seed(number)
        before = torch.get_rng_state(), np.random.get_state()[1].copy()
        objective = made(loss=loss, mined_by=miner)
        found.append(torch.stack([objective(rows(), Y, step) for step in range(6)]))
        assert torch.equal(before[0], torch.get_rng_state())
        assert np.array_equal(before[1], np.random.get_state()[1])
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"loss": "ProxyAnchor"}, "loss 'ProxyAnchor' is not one of pytorch-metric-learning: did you mean 'ProxyAnchorLoss'"),
        ({"mined_by": "MultiSimilarityLoss"}, "miner 'MultiSimilarityLoss' is not one of"),
        ({"arguments": "alfa=2"}, "MultiSimilarityLoss has no argument 'alfa': did you mean 'alpha'"),
        ({"arguments": "alpha"}, "'alpha' is not setting=value"),
        ({"loss": "RankedListLoss"}, r"RankedListLoss\(\) cannot be made: .*'margin'"),
        ({"loss": "VICRegLoss"}, "VICRegLoss is no loss of embeddings and classes alone"),
        ({"proxy_lr": 0.0}, "proxy_lr: expected a number above 0"),
    ],
)
def test_what_the_package_does_not_know_is_said(settings: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        made(**settings)


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    with pytest.raises(ConfigError, match=r"pip install 'kinshot\[pml\]'"):
        made()


def test_the_short_name_in_a_recipe() -> None:
    (short,), problems = read_terms([{"objective": "pml:ProxyAnchorLoss", "kin": "labels"}])
    (long,), others = read_terms([{"objective": "pml", "loss": "ProxyAnchorLoss", "kin": "labels"}])
    assert (problems, others) == ([], [])
    assert short == long
