"""Self-paced weights: ranks within classes against loops, what a term remembers, and that wrong labels end with little weight."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.kin import constructors as make
from kinshot.kin.kin import Pairs
from kinshot.learn.features import weights_hash
from kinshot.learn.self_paced import SelfPaced, balanced_weights
from kinshot.objectives.multi_similarity import multi_similarity
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from tests.tiny import TINY

CONTEXT = RunContext(num_samples=40, batch_size=40, steps_per_epoch=1, total_steps=20, seed=0)


def each(z, relation, refs):
    return multi_similarity(z, relation, refs, reduction="each")


@pytest.mark.parametrize("share", [0.3, 0.8, 1.0])
def test_weights_follow_the_rank_within_a_class(share: float) -> None:
    generator = torch.Generator().manual_seed(1)
    losses, y = torch.rand(30, generator=generator), torch.randint(-1, 4, (30,), generator=generator)
    losses[[3, 8]] = torch.nan
    got = balanced_weights(losses, y, share, 0.6)
    for i in range(30):
        if y[i] < 0 or losses[i].isnan() or share == 1:
            assert got[i] == 1
            continue
        mates = [float(losses[j]) for j in range(30) if y[j] == y[i] and not losses[j].isnan()]
        place = (sum(x < float(losses[i]) for x in mates) + 0.5) / len(mates)
        assert float(got[i]) == pytest.approx(min(1.0, max(0.0, (share - place) / (share * 0.4))), abs=1e-6)


def test_a_class_that_costs_more_than_another_keeps_as_much_weight() -> None:
    y = torch.arange(20) % 2
    losses = torch.rand(20, generator=torch.Generator().manual_seed(0)) + 10.0 * y
    weights = balanced_weights(losses, y, 0.6)
    torch.testing.assert_close(weights[y == 0].sort().values, weights[y == 1].sort().values)
    assert 0 < float(weights.mean()) < 1


def test_pairs_weigh_the_product_and_state_moves_after_the_step() -> None:
    paced = SelfPaced(0.7, each, CONTEXT)
    y, samples = torch.tensor([0, 0, 1, 1]), torch.tensor([5, 9, 7, 2])
    paced.weights[samples] = torch.tensor([1.0, 0.5, 0.25, 0.0])
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in paced.state_dict().items()}
    pairs = paced(Pairs(z, make.labels(y), y=y), samples, 4)
    v = paced.weights[samples]
    for got, own in zip(pairs.relation.validate().dense(), make.labels(y).dense(), strict=True):
        torch.testing.assert_close(got, own * v.unsqueeze(1) * v)
    assert all(torch.equal(value, before[name]) or name == "losses" for name, value in paced.state_dict().items())
    assert bool(paced.losses.isnan().all())
    paced.after_step()
    losses, counts = each(z, make.labels(y), None)
    torch.testing.assert_close(paced.losses[samples][counts > 0], losses[counts > 0])
    assert paced.classes[samples][counts > 0].tolist() == y[counts > 0].tolist()
    again = SelfPaced(0.7, each, CONTEXT)
    again.load_state_dict(paced.state_dict())
    assert torch.equal(again.weights, paced.weights)


def test_views_of_a_sample_are_one_and_old_losses_fade() -> None:
    given = iter([torch.tensor([[1.0, 3.0], [1.0, 1.0]]), torch.tensor([[4.0, 8.0], [1.0, 0.0]])])
    paced = SelfPaced(0.7, lambda *_: next(given), CONTEXT)
    y, samples, z = torch.tensor([0, 0]), torch.tensor([6, 6]), torch.ones(2, 3)
    for expected in (2.0, 3.0):  # the mean of 1 and 3, then half of it and half of 4: the second view does not count there
        paced(Pairs(z, make.labels(y), y=y), samples, 0)
        paced.after_step()
        assert float(paced.losses[6]) == expected


def test_more_of_a_class_counts_from_round_to_round() -> None:
    paced = SelfPaced(0.8, each, CONTEXT)
    assert [round(paced.share_at(step), 3) for step in (0, 3, 4, 12, 20)] == [1.0, 1.0, 0.5, 0.65, 0.8]
    assert SelfPaced(0.3, each, CONTEXT).share_at(8) == pytest.approx(0.3)


def test_wrong_labels_end_with_less_weight_than_right_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(40) % 4
    y = truth.clone()
    wrong = torch.zeros(40, dtype=torch.bool)
    wrong[::5] = True
    y[wrong] = (truth[wrong] + 1) % 4
    z = torch.nn.functional.one_hot(truth, 4).float() + 0.15 * torch.randn(40, 4, generator=generator)
    paced = SelfPaced(0.75, each, CONTEXT)
    for step in range(20):
        paced(Pairs(z, make.labels(y), y=y), torch.arange(40), step)
        paced.after_step()
    right, other = paced.weights[~wrong], paced.weights[wrong]
    above = (right.unsqueeze(1) > other).float().mean() + 0.5 * (right.unsqueeze(1) == other).float().mean()
    assert float(above) > 0.9


def run(out: Path, start: str = "") -> Path:
    terms = "terms=[{objective: multi_similarity, kin: labels, paced: 0.7}]"
    recipe = load_recipe(str(TINY), [terms, "train.epochs=3", "monitor.tensorboard=false", "monitor.knn_every=0", "monitor.keep=99"])
    train_recipe(recipe, Options(out, start, quiet=True) if start else Options(out, quiet=True), lambda text: None)
    return out


def test_a_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    points = sorted((whole / "checkpoints").iterdir())
    again = run(tmp_path / "again", str(points[len(points) // 2]))
    loaded = [load_checkpoint(path).tensors for path in (whole, again)]
    for part in ("encoder", "projector", "training"):
        assert weights_hash(loaded[0][part]) == weights_hash(loaded[1][part])
    weights = next(value for name, value in loaded[0]["training"].items() if name.endswith("paced.weights"))
    assert 0 < float(weights.float().mean()) < 1


@pytest.mark.parametrize(
    ("term", "words"),
    [
        ("{objective: triplet, kin: labels, paced: 0}", r"terms\.0\.paced: expected a share above 0"),
        ("{objective: triplet, kin: views, paced: 0.8}", r"terms\.0\.paced: needs.*kin labels"),
        ("{objective: hier, kin: labels, paced: 0.8}", r"terms\.0\.paced: needs an objective over pairs that has a reduction"),
    ],
)
def test_what_does_not_fit_is_said_when_the_recipe_is_read(term: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_recipe(str(TINY), [f"terms=[{term}]"])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="paced"):
        SelfPaced(1.0, each, CONTEXT)
    y = torch.tensor([0, 0])
    with pytest.raises(ConfigError, match="kin labels"):
        SelfPaced(0.5, partial(each), CONTEXT)(Pairs(torch.ones(2, 3), make.labels(y)), y, 0)
