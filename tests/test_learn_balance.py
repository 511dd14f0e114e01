"""Learned weights of several losses: values and gradients against loops, what a run learns, records and resumes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.errors import ConfigError
from kinshot.learn.balance import LearnedBalance, by_softmax, by_uncertainty
from kinshot.learn.features import weights_hash
from kinshot.learn.learner import Learner
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.load import load
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from tests.test_terms import CONTEXT, batch_for, choice, learner
from tests.tiny import TINY

TERMS = "terms=[{objective: info_nce, kin: labels, weight: 0.5}, {objective: triplet, kin: labels}]"
QUICK = ["train.epochs=1", "monitor.tensorboard=false", "monitor.knn_every=0", "monitor.log_every=1", "monitor.keep=99"]


def test_values_and_gradients_equal_loops() -> None:
    losses = torch.tensor([0.5, 3.0, 1.25], dtype=torch.float64, requires_grad=True)
    a = torch.tensor([0.2, -0.4, 0.1], dtype=torch.float64, requires_grad=True)
    total, weights = by_uncertainty(losses, a)
    expected = sum(math.exp(-float(x)) * float(loss) + float(x) for x, loss in zip(a.detach(), losses.detach(), strict=True))
    assert float(total.detach()) == pytest.approx(expected)
    to_losses, to_a = torch.autograd.grad(total, [losses, a])
    torch.testing.assert_close(to_losses, weights.detach())
    torch.testing.assert_close(to_a, (1 - weights * losses).detach())
    total, weights = by_softmax(losses, a, penalty=0.7)
    share = [math.exp(float(x)) / sum(math.exp(float(y)) for y in a.detach()) for x in a.detach()]
    divergence = sum((1 / 3) * math.log((1 / 3) / s) for s in share)
    expected = sum(3 * s * float(loss) for s, loss in zip(share, losses.detach(), strict=True)) + 0.7 * divergence
    assert float(total.detach()) == pytest.approx(expected)
    torch.testing.assert_close(weights.detach(), 3 * torch.tensor(share, dtype=torch.float64))
    torch.autograd.gradcheck(lambda x, y: by_softmax(x, y, 0.7)[0], (losses, a))


def test_uncertainty_ends_where_every_loss_weighs_one() -> None:
    """The best a for a loss that stays as it is: exp(-a) L = 1."""
    balance = LearnedBalance(["one", "other"])
    optimizer = torch.optim.SGD(balance.parameters(), lr=0.2)
    losses = [torch.tensor(0.25), torch.tensor(4.0)]
    for _ in range(200):
        optimizer.zero_grad()
        balance(losses)[0].backward()
        optimizer.step()
    assert {name: float(weight) for name, weight in balance(losses)[1].items()} == pytest.approx(
        {"balance_one": 4.0, "balance_other": 0.25}, rel=1e-3
    )


def test_softmax_prefers_small_losses_and_its_penalty_stops_it() -> None:
    found = []
    for penalty in (5.0, 50.0):
        a = torch.zeros(2, requires_grad=True)
        optimizer = torch.optim.SGD([a], lr=0.05)
        for _ in range(400):
            optimizer.zero_grad()
            by_softmax(torch.tensor([0.5, 2.0]), a, penalty)[0].backward()
            optimizer.step()
        found.append(by_softmax(torch.tensor([0.5, 2.0]), a, penalty)[1].tolist())
    assert found[0][0] > found[1][0] > 1 > found[1][1] > found[0][1] > 0


@pytest.mark.parametrize("kind", ["uncertainty", "softmax"])
def test_a_learner_begins_with_the_recipes_weights_and_moves_from_there(kind: Any) -> None:
    plain = learner(choice("info_nce", "labels", weight=0.25), choice("triplet", "labels"), choice("triplet", "graph", weight=0.0))
    other = Learner(plain.method, list(plain.terms), CONTEXT, balance=kind)
    batch = batch_for(plain)
    one, two = plain.loss(batch, 0), other.loss(batch, 0)
    torch.testing.assert_close(one["loss"], two["loss"])
    assert {"balance_task", "balance_info_nce", "balance_triplet_2"} == {name for name in two if name.startswith("balance_")}
    two["loss"].backward()
    assert bool((other.balance.a.grad != 0).all())
    assert "balance.a" in other.state_dict()


def run(out: Path, *overrides: str, start: str = "") -> Path:
    recipe = load_recipe(str(TINY), [TERMS, *overrides, *QUICK])
    train_recipe(recipe, Options(out, start, quiet=True) if start else Options(out, quiet=True), lambda text: None)
    return out


def test_a_run_learns_its_weights_records_them_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", "balance=uncertainty")
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    seen = [line["train/balance_triplet"] for line in lines if "train/balance_triplet" in line]
    assert seen[0] == 1
    assert seen[-1] != 1
    again = run(tmp_path / "again", "balance=uncertainty", start=str(sorted((whole / "checkpoints").iterdir())[2]))
    loaded = [load_checkpoint(path).tensors for path in (whole, again)]
    for part in ("encoder", "projector", "training"):
        assert weights_hash(loaded[0][part]) == weights_hash(loaded[1][part])


def test_paths_are_measured_by_the_weights_that_their_losses_learned(tmp_path: Path) -> None:
    """`projector` is the paths side by side, `weighted` each times the sum of its losses' factors; a path without a loss counts nothing."""
    paths = "projector.paths=[one, two, idle]"
    terms = "terms=[{objective: info_nce, kin: labels, on: one, weight: 0.5}, {objective: triplet, kin: labels, on: two}]"
    whole = run(tmp_path / "whole", "balance=uncertainty", "method=student", "views.views=1", "train.lr=0.05", paths, terms)
    factors = (-load_checkpoint(whole).tensors["training"]["terms/balance.a"]).exp()
    assert bool((factors != 1).all())
    model = load(whole)
    found = model.embed(torch.rand(3, 1, 16, 16))
    parts = [factors[0] * found["one"], factors[1] * found["two"], 0 * found["idle"]]
    torch.testing.assert_close(found["weighted"], torch.cat(parts, dim=1))
    torch.testing.assert_close(found["projector"], torch.cat([found[name] for name in ("one", "two", "idle")], dim=1))
    again = run(tmp_path / "again", "balance=uncertainty", "method=student", "views.views=1", "train.lr=0.05", paths, terms,
                start=str(sorted((whole / "checkpoints").iterdir())[1]))  # fmt: skip
    assert weights_hash(load_checkpoint(again).tensors["projector"]) == weights_hash(load_checkpoint(whole).tensors["projector"])
    assert load_recipe(str(whole / "config.yaml")).features == ("one", "two", "idle", "weighted")
    assert "weighted" not in load_recipe(str(TINY), [paths]).features


def test_without_a_loss_of_its_own_a_method_has_no_weight(tmp_path: Path) -> None:
    alone = run(tmp_path / "run", "balance=softmax", "method=student", "views.views=1")
    text = (alone / "metrics.jsonl").read_text()
    assert "balance_triplet" in text
    assert "balance_task" not in text


def test_what_does_not_fit_is_said_when_the_recipe_is_read() -> None:
    assert load_recipe(str(TINY), [TERMS, "balance=softmax"]).to_dict()["balance"] == "softmax"
    assert "balance" not in load_recipe(str(TINY), [TERMS]).to_dict()
    for overrides, words in (
        (["balance=even", TERMS], r"balance: got 'even'.*softmax"),
        (["balance=softmax"], r"there is one: add terms"),
        (["balance=softmax", "method=student", "views.views=1", "terms=[{objective: triplet, kin: labels}]"], r"there is one"),
    ):
        with pytest.raises(ConfigError, match=words):
            load_recipe(str(TINY), overrides)
    with pytest.raises(ConfigError, match="balance"):
        LearnedBalance(["a"], "even")  # type: ignore[arg-type]
