"""Proximal restarts: rows begun anew against loops, the penalty, when a problem ends, what a run does and resumes bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_numpy
from kinshot.datasets import SOURCES
from kinshot.encoders.mlp import MLP
from kinshot.kin.kin import Known
from kinshot.kin.kins.labels import LabelsKin
from kinshot.learn.model import Model
from kinshot.learn.place import Place
from kinshot.learn.restarts import ProximalRestarts
from kinshot.learn.term import Term
from kinshot.objectives.proxies.proxy_anchor import ProxyAnchor
from kinshot.objectives.proxies.reseeding import drawn_pool, farthest_rows
from kinshot.objectives.proxies.soft_triple import SoftTriple
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.load import load
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from kinshot.samples.rows import RowSpec
from tests.labelled_rows import QUIET, terms, trained_twice, write_rows

CONTEXT = RunContext(num_samples=12, batch_size=4, steps_per_epoch=3, total_steps=30, seed=3)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_rows(tmp_path_factory.mktemp("rows"))


def model() -> Model:
    torch.manual_seed(0)
    spec = RowSpec.unmeasured((6,))
    return Model(MLP(spec, widths=(5,)), nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), input=spec)


def loops(pool: np.ndarray, there: np.ndarray, before: np.ndarray, points: bool) -> np.ndarray:
    """`farthest_rows`, class by class and row by row."""
    found = before.copy()
    for c, rows in enumerate(before):

        def seen(row: np.ndarray) -> np.ndarray:
            return row if points else row / np.linalg.norm(row)

        left = [b for b in range(pool.shape[1]) if there[c, b] and (points or pool[c, b].any())]
        chosen: list[int] = []
        for place in range(len(rows)):
            if not left:
                break
            far = [
                min(((seen(pool[c, b]) - other) ** 2).sum() for other in [*map(seen, rows), *(seen(pool[c, k]) for k in chosen)])
                for b in left
            ]
            chosen.append(left.pop(int(np.argmax(far))))
            new = pool[c, chosen[-1]]
            found[c, place] = new if points else seen(new) * np.linalg.norm(rows[place])
    return found


@pytest.mark.parametrize("points", [False, True])
def test_rows_begin_anew_where_loops_say(points: bool) -> None:
    rng = np.random.default_rng(0)
    pool, before = rng.normal(size=(7, 5, 3)), 2 * rng.normal(size=(7, 3, 3))
    there = rng.random((7, 5)) < 0.7
    there[2], pool[4, 1] = False, 0.0
    found = farthest_rows(*map(torch.from_numpy, (pool, there, before)), points=points)
    np.testing.assert_allclose(found.numpy(), loops(pool, there, before, points), rtol=1e-12)
    assert np.array_equal(found[2].numpy(), before[2])
    if not points:
        np.testing.assert_allclose(np.linalg.norm(found, axis=2), np.linalg.norm(before, axis=2))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="farthest_rows"):
        farthest_rows(torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.bool), torch.ones(3, 1, 4))
    with pytest.raises(ConfigError, match="either every or patience"):
        ProximalRestarts(model(), CONTEXT)
    with pytest.raises(ConfigError, match="either every or patience"):
        ProximalRestarts(model(), CONTEXT, patience=2)


def test_a_pool_holds_samples_of_the_class_each_once() -> None:
    labels = np.array([0, 2, 0, -1, 2, 0, 0, 4, -1, 2])
    drawn = drawn_pool(labels, 5, 3, keyed_numpy(0, "pool"))
    assert drawn.shape == (5, 3)
    for c, own in enumerate(drawn):
        kept = own[own >= 0]
        assert len(set(kept)) == len(kept) == min(3, (labels == c).sum())
        assert (labels[kept] == c).all()
    assert {tuple(drawn_pool(labels, 5, 3, keyed_numpy(0, "pool", k))[0]) for k in range(9)} != {tuple(drawn[0])}


def test_the_penalty_is_half_lambda_times_the_squared_distance_from_the_second_problem_on() -> None:
    net = model()
    restarts = ProximalRestarts(net, CONTEXT, every=2, penalty=0.3)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(1.0)
    assert float(restarts.penalty(net).detach()) == 0
    assert [restarts.start_epoch(epoch, net, None) for epoch in range(5)] == [False, False, True, False, True]  # type: ignore[arg-type]
    assert float(restarts.penalty(net).detach()) == 0
    moved = {}
    with torch.no_grad():
        for number, (name, weight) in enumerate(net.named_parameters()):
            moved[name] = 0.1 * (number + 1)
            weight.add_(moved[name])
    value = restarts.penalty(net)
    sizes = {name: weight.numel() for name, weight in net.named_parameters()}
    assert float(value.detach()) == pytest.approx(0.15 * sum(sizes[name] * moved[name] ** 2 for name in moved), rel=1e-4)
    value.backward()
    for name, weight in net.named_parameters():
        torch.testing.assert_close(weight.grad, torch.full_like(weight, 0.3 * moved[name]), rtol=1e-3, atol=1e-5)


def test_a_problem_ends_when_nothing_gets_better_and_the_best_weights_come_back() -> None:
    net, values = model(), iter([0.3, 0.5, 0.4, 0.45, 0.4, 0.5, 0.6])
    restarts = ProximalRestarts(net, CONTEXT, patience=2, watch=lambda model, extract: next(values))
    weight, counted = net.projector[0].weight, net.projector[1].running_mean  # type: ignore[index]
    begun, seen = [], []
    for epoch in range(8):
        with torch.no_grad():
            weight.fill_(float(epoch))
            counted.fill_(10.0 * epoch)
        begun.append(restarts.start_epoch(epoch, net, None))  # type: ignore[arg-type]
        seen.append((float(weight.detach()[0, 0]), float(counted[0])))
    # the first epoch has nothing to measure; the best are those of epoch 2, and 0.5 once more is no better
    assert begun == [False, False, False, False, True, False, True, False]
    assert seen[4] == seen[6] == (2.0, 20.0)
    assert seen[7] == (7.0, 70.0)
    assert {name: float(value) for name, value in restarts.gauges().items()} == pytest.approx(
        {"restarts": 2, "map_at_r": 0.6, "best_map_at_r": 0.6}
    )


@pytest.mark.parametrize("objective", [ProxyAnchor, SoftTriple])
def test_rows_of_a_term_become_embeddings_of_their_class(objective: type) -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 2, -1, -1])
    net, kin = model(), LabelsKin(Known(CONTEXT, labels))
    z = torch.randn(12, 4, generator=torch.Generator().manual_seed(5))
    term = Term(Place(on="projector"), objective(4, 3, CONTEXT), kin, takes="proxies")
    before = term.objective.rows.weight.detach().clone()
    plain = Term(Place(on="projector"), lambda z, relation, refs: z.sum(), kin)
    restarts = ProximalRestarts(net, CONTEXT, every=1, pool=4)
    restarts.reseed_([plain, term], net, lambda head=None, rows=None: z[torch.from_numpy(rows)])
    after, per_class = term.objective.rows.weight.detach(), term.objective.rows.per_class
    cosines = nn.functional.normalize(after) @ nn.functional.normalize(z).T
    for c, count in enumerate((4, 4, 1)):
        own = range(c * per_class, c * per_class + min(per_class, count))
        assert all(float(cosines[row, torch.from_numpy(labels == c)].max()) == pytest.approx(1, abs=1e-5) for row in own)
        kept = range(c * per_class + min(per_class, count), (c + 1) * per_class)
        assert all(torch.equal(after[row], before[row]) for row in kept)
    restarts.pool = 0
    restarts.reseed_([term], net, lambda head=None, rows=None: z[torch.from_numpy(rows)])
    assert torch.equal(term.objective.rows.weight.detach(), after)


# -- runs


@pytest.mark.parametrize("point", [1, 2, 3, 4])
@pytest.mark.parametrize("how", ["every=1", "patience=1"])
def test_a_run_goes_on_bit_for_bit_from_any_checkpoint(how: str, point: int, recipe: str, tmp_path: Path) -> None:
    given = [terms("soft_triple"), "train.epochs=3", "train.lr=0.3", f"restarts.{how}", "restarts.penalty=0.1"]
    trained_twice(recipe, tmp_path, *given, point=point)
    records = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    count = [record["metric/restarts"] for record in records if "metric/restarts" in record]
    assert count[0] == 0
    assert count[-1] >= 1
    assert [record["train/proximal"] for record in records if record.get("metric/restarts") == 0] == [0.0] * count.count(0)
    assert any(record.get("train/proximal", 0) > 0 for record in records)


def trained(recipe: str, folder: Path, *given: str) -> dict[str, dict[str, torch.Tensor]]:
    train_recipe(load_recipe(recipe, [*QUIET, *given]), Options(folder, quiet=True), lambda text: None)
    return load_checkpoint(folder).tensors


def test_the_first_problem_is_the_run_without_restarts(recipe: str, tmp_path: Path) -> None:
    plain, other = (trained(recipe, tmp_path / name, terms("proxy_anchor"), *more) for name, more in (
        ("plain", []), ("restarts", ["restarts.every=1", "restarts.penalty=9"])))  # fmt: skip
    for part in ("encoder", "projector"):
        assert all(torch.equal(value, other[part][name]) for name, value in plain[part].items())
    assert not any("restarts" in name for name in plain["training"])
    assert any(name.startswith("terms/restarts.start.") for name in other["training"])


def test_a_heavy_penalty_keeps_later_problems_near_their_beginning(recipe: str, tmp_path: Path) -> None:
    def away(penalty: str) -> float:
        plain = ("train.optimizer=sgd", "train.lr=0.08", "train.momentum=0", "train.schedule=constant", "train.epochs=2")
        found = trained(recipe, tmp_path / penalty, terms("proxy_anchor"), *plain, "restarts.every=1", penalty)
        begun = {name.rpartition("restarts.start.")[2]: value for name, value in found["training"].items() if "restarts.start." in name}
        now = {f"encoder/{name.replace('.', '/')}": value for name, value in found["encoder"].items()}
        return sum(float((now[name] - value).square().sum()) for name, value in begun.items() if name in now)

    assert away("restarts.penalty=10") < 0.5 * away("restarts.penalty=0")


def test_patience_goes_by_classes_that_are_held_back(recipe: str, tmp_path: Path) -> None:
    """Two files, whose classes differ: what is recorded is MAP@R of the other one."""
    from kinshot.kin.measuring import measured
    from kinshot.kin.metric_names import wanted_metric
    from kinshot.kin.neighbors.found import ByLabel

    lines = (Path(recipe).parent / "rows.csv").read_text().splitlines()
    for name, chosen in (("train", "0123"), ("val", "34")):
        kept = [line for line in lines[1:] if line.split(",")[6] in chosen]
        (tmp_path / "parts").mkdir(exist_ok=True)
        (tmp_path / "parts" / f"{name}.csv").write_text("\n".join([lines[0], *kept]) + "\n", encoding="utf-8")
    data = [f"data.root={tmp_path / 'parts'}", "data.split=train", "validation.split=val", "validation.ways=2", "validation.queries=3"]
    given = [*data, terms("proxy_anchor"), "validation.episodes=4", "train.epochs=2", "restarts.patience=1"]
    loaded = load_recipe(recipe, [*QUIET, *given])
    train_recipe(loaded, Options(tmp_path / "run", quiet=True), lambda text: None)
    records = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    seen = next(record["metric/map_at_r"] for record in reversed(records) if "metric/map_at_r" in record)
    points = sorted((tmp_path / "run/checkpoints").iterdir())
    held = SOURCES.build("table", settings={**loaded.data.settings, "split": "val"})
    z = load(points[2]).embed(held.load(np.arange(len(held))))["projector"]  # after the first epoch
    expected = measured(z, ByLabel(held.labels), [wanted_metric("map_at_r")])["map_at_r"].value
    assert seen == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["restarts.every=2", "restarts.patience=3"], "every and restarts.patience: a problem ends"),
        (["restarts.penalty=0.1"], "restarts.penalty: nothing says when to restart"),
        (["restarts.every=2", "restarts.penalty=-1"], "restarts.penalty: expected a number from 0, got -1"),
        (["restarts.every=-2"], "restarts.every: expected a number from 0"),
        (["restarts.every=2", "method=student"], "restarts: MAP@R and rows of classes need class labels, and method student"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_when_the_recipe_is_read(given: list[str], words: str, recipe: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_recipe(recipe, [terms("triplet"), *given])


def test_a_recipe_keeps_what_it_says_of_restarts(recipe: str) -> None:
    assert "restarts" not in load_recipe(recipe, [terms("triplet")]).to_dict()
    kept = load_recipe(recipe, [terms("triplet"), "restarts.patience=3"]).to_dict()["restarts"]
    assert kept == {"every": 0, "patience": 3, "penalty": 2e-4, "pool": 12}
