"""Structure-inducing pretraining: the wrapper, what it draws, and what it leaves alone."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.kin.graph import from_edges, from_labels
from kinshot.kin.kin import Known
from kinshot.kin.kins.graph import GraphKin
from kinshot.learn import METHODS
from kinshot.learn.features import weights_hash
from kinshot.learn.learner import Learner
from kinshot.recipes.recipe import load_recipe
from kinshot.recipes.structure import StructureSettings, check_structure, structure_terms
from kinshot.runs.start import Options
from kinshot.runs.teachers import Teachers
from kinshot.runs.terms import terms_of
from kinshot.runs.train import train_recipe
from kinshot.samples.batch import Batch, Partners, Shown
from kinshot.samples.rows import RowSpec
from tests.steps import alone, each_method, model_of, of_images
from tests.tiny import STRUCTURE, TINY

N, B, D = 24, 6, 5
LOSSES = ("contrastive", "multi_similarity", "triplet")


class Encoder(nn.Module):
    """Without batch normalisation: what one sample gives does not depend on its batch."""

    dim = D

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, D)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return torch.tanh(self.linear(x))


def samples():
    return torch.randn(N, 3, generator=torch.Generator().manual_seed(0))


SPEC = RowSpec(3, (0.0,) * 3, (1.0,) * 3)


def wrapped(graph, name="simclr", gauge_every=1, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder, projector = Encoder(), nn.Linear(D, 4)
    context = RunContext(num_samples=N, batch_size=B, steps_per_epoch=N // B, total_steps=100, seed=0)
    method = METHODS.build(name, model_of(encoder, projector), context, settings={})
    chosen = StructureSettings(**settings)
    known = Known(context, graph=lambda text: graph)
    terms = terms_of(structure_terms(chosen), method, known, Teachers(None, SPEC, torch.device("cpu")), SPEC, "method")
    encoder.calls = 0
    return Learner(method, terms, context, task=1 - chosen.weight, task_label="base", gauge_every=gauge_every)


def batch_of(learner, anchors, step):
    """What the recipe's inputs would be: two noisy views, the clean batch if asked for, clean partners."""
    x = samples()
    noise = torch.Generator().manual_seed(step)
    views = [x[anchors] + 0.1 * torch.randn(len(anchors), 3, generator=noise) for _ in range(2)]
    drawn = {number: term.kin.draw(anchors, step) for number, term in learner.asking.items()}
    partners = {number: Partners(ids, x[ids]) for number, ids in drawn.items() if len(ids)}
    return Batch(anchors, views, x[anchors] if learner.needs_clean else None, partners)


def loss_of(learner, step=0, anchors=None):
    return learner.loss(batch_of(learner, torch.arange(B) if anchors is None else anchors, step), step)


RING = from_edges(np.array([[i, (i + 1) % N] for i in range(N)]), n=N)


@pytest.mark.parametrize("loss", LOSSES)
def test_terms_mix_as_the_weight_says(loss):
    terms = loss_of(wrapped(RING, weight=0.25, loss=loss))
    assert terms["structure"] > 0
    torch.testing.assert_close(terms["loss"].detach(), 0.75 * terms["base"] + 0.25 * terms["structure"])


def test_contrastive_term_is_the_mean_over_drawn_pairs():
    method = wrapped(RING, weight=0.5)
    anchors = torch.arange(B)
    batch = batch_of(method, anchors, 3)
    drawn = method.terms[0].kin.drawn_for(anchors, 3)
    z, partners = (method.model.encoder(x).detach().double().numpy() for x in (batch.views[0], batch.partners[0].samples))
    costs = []
    for i in range(B):
        for column, kin in ((drawn.positive[i], True), (drawn.negative[i], False)):
            for p in column.tolist():
                distance = np.sqrt((((z[i] - partners[p]) + 1e-6) ** 2).sum())
                costs.append(distance if kin else max(0.0, 10 - distance))
    assert len(costs) == 2 * B
    assert float(method.loss(batch, 3)["structure"]) == pytest.approx(np.mean(costs), rel=1e-5)


@pytest.mark.parametrize(("anchor", "calls"), [("view", 2), ("clean", 3)])
def test_no_sample_is_encoded_twice(anchor, calls):
    method = wrapped(RING, weight=0.5, anchor=anchor)
    loss_of(method)
    assert method.model.encoder.calls == calls  # both views at once, the partners, and the clean anchors when they are asked for


def test_weight_zero_is_the_base_alone():
    alone, zero = wrapped(RING, weight=0.5).method, wrapped(RING, weight=0.0)
    assert not zero.asking
    batch = batch_of(zero, torch.arange(B), 0)
    terms, expected = zero.loss(batch, 0), alone.loss(alone.outputs(batch), batch, 0)
    assert terms.keys() == expected.keys()
    assert torch.equal(terms["loss"], expected["loss"])
    terms["loss"].backward()
    expected["loss"].backward()
    for mine, theirs in zip(zero.parameters(), alone.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_graph_without_edges_adds_nothing(loss):
    method = wrapped(from_labels(np.full(N, -1)), weight=0.25, loss=loss)
    terms = loss_of(method)
    assert terms["structure"] == 0
    torch.testing.assert_close(terms["loss"].detach(), 0.75 * terms["base"])
    terms["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())


@pytest.mark.parametrize("loss", LOSSES[1:])
def test_links_inside_the_batch_are_enough_when_nothing_is_drawn(loss):
    method = wrapped(RING, weight=0.5, loss=loss, per_anchor=0, mining=10.0)
    assert not method.asking
    terms = loss_of(method)
    assert terms["structure"] > 0
    alone = loss_of(method, anchors=torch.arange(0, 2 * B, 2))  # no two of these are linked
    assert alone["structure"] == 0


def kin_of(graph, seed=0, **settings):
    return GraphKin(Known(RunContext(N, B, N // B, 100, seed), graph=lambda text: graph), pairs="drawn", **settings)


def test_the_margin_of_a_triplet_is_its_own_and_one_that_unit_vectors_can_keep():
    """Two kin in one place and the strangers opposite cost nothing, and gave a loss of 8 where margin_negative was the margin."""

    def cost(z, **settings):
        term = wrapped(from_labels([0, 0, 0, 1, 1, 1]), loss="triplet", normalize=True, per_anchor=0, **settings).terms[0]
        shown = Shown(torch.arange(6), (0,), ())
        pairs = term.kin.pairs(z, None, shown, Batch(shown.samples, []), 0)
        return float(term.objective(pairs.z, pairs.relation, pairs.refs))

    assert cost(torch.tensor([[1.0, 0.0]] * 3 + [[-1.0, 0.0]] * 3)) == 0
    near = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 3)
    assert cost(near, margin=1.5) == pytest.approx(1.5 - 2**0.5, abs=1e-6)


def test_isolated_nodes_draw_no_partners():
    labels = np.full(N, -1)
    labels[:3] = 0
    drawn = kin_of(from_labels(labels)).drawn_for(torch.arange(B), 0)
    assert (drawn.positive[:3] >= 0).all()
    assert (drawn.positive[3:] == -1).all()
    assert (drawn.negative[3:] == -1).all()
    assert len(drawn.ids) == 6


def test_draws_are_keyed_and_kin_are_kin():
    labels = np.arange(N) % 4
    hood = kin_of(from_labels(labels), seed=7, per_anchor=2)
    anchors = torch.tensor([5, 1, 20])
    first, again, later = hood.drawn_for(anchors, 3), hood.drawn_for(anchors, 3), hood.drawn_for(anchors, 4)
    assert torch.equal(first.ids, again.ids)
    assert not torch.equal(first.ids, later.ids)
    ids = first.ids.numpy()
    for row, anchor in enumerate(anchors.tolist()):
        assert all(labels[ids[p]] == labels[anchor] and ids[p] != anchor for p in first.positive[row].tolist())
        assert all(labels[ids[p]] != labels[anchor] for p in first.negative[row].tolist())


def test_gradient_ratio_is_measured_and_changes_no_gradient():
    method = wrapped(RING, weight=0.5)
    silent = copy.deepcopy(method)
    silent.gauge_every = 0
    for one in (method, silent):
        loss_of(one)["loss"].backward()
    for mine, theirs in zip(method.parameters(), silent.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad)
    assert method.after_step(0)["gradient_ratio"] > 0
    assert "gradient_ratio" not in silent.after_step(0)


@pytest.mark.parametrize(
    "name",
    each_method(name for name in METHODS.names() if not METHODS.entry(name).flags.keys() & {"by_terms", "fields"} and of_images(name)),
)
def test_every_method_can_be_wrapped(name, tmp_path):
    extra = {
        "interclr": ["method.clusters=12", "method.min_cluster=3", "method.negatives=16", "method.pool=64"],
        "dual_path": ["projector.paths=[structural, contrastive]"],
    }.get(name, [])
    if "ways" in METHODS.entry(name).parameters:  # episodes that fill a batch of 32
        extra = ["method.ways=8", "method.shots=1", "method.queries=3"]
    overrides = [*alone(name), *extra, "graph=labels", "structure.loss=multi_similarity", "train.epochs=1"]
    recipe = load_recipe(str(TINY), [*overrides, "monitor.tensorboard=false"])
    result = train_recipe(recipe, Options(tmp_path / "run", quiet=True), lambda text: None)
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert result["steps"] > 0
    assert any(f"{name}/gradient_ratio" in record for record in records)
    assert 0 < result["metrics"]["eval/graph/lrap"] <= 1
    assert any("train/structure" in record and "train/base" in record for record in records)
    assert records[0]["graph/labels/class/homophily"] == 1.0


def test_weight_zero_trains_the_very_weights_of_the_base_alone(tmp_path):
    hashes = []
    for name, extra in (("alone", []), ("zero", ["graph=labels", "structure.weight=0"])):
        recipe = load_recipe(str(TINY), ["monitor.tensorboard=false", *extra])
        train_recipe(recipe, Options(tmp_path / name, quiet=True), lambda text: None)
        checkpoint = load_checkpoint(tmp_path / name)
        hashes.append((weights_hash(checkpoint.encoder), weights_hash(checkpoint.projector)))
    assert hashes[0] == hashes[1]


def test_loader_processes_change_nothing(tmp_path):
    found = set()
    for workers in (0, 2):
        recipe = load_recipe(str(TINY), [*STRUCTURE, f"train.workers={workers}", "train.epochs=1", "monitor.tensorboard=false"])
        found.add(train_recipe(recipe, Options(tmp_path / str(workers), quiet=True), lambda text: None)["weights"])
    assert len(found) == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weight": 1.5}, "structure.weight"),
        ({"hops": 0}, "structure.hops"),
        ({"per_anchor": 0}, "per_anchor"),
        ({"normalize": True}, "margin_negative"),
        ({"margin_negative": 1.0, "margin_positive": 2.0}, "margin_negative"),
        ({"scale_negative": 0.0}, "scale_negative"),
        ({"loss": "triplet", "margin": 0.0}, "structure.margin"),
        ({"loss": "triplet", "margin": 2.0, "normalize": True}, "structure.margin"),
        ({"loss": "triplet", "margin_negative": 1.0}, "margin_negative"),
    ],
)
def test_bad_settings_are_named(settings, words):
    assert any(words in problem for problem in check_structure(StructureSettings(**settings)))
    given = [f"structure.{name}={value}" for name, value in settings.items()]
    with pytest.raises(ConfigError, match=words):
        load_recipe(str(TINY), ["graph=labels", *given])


def test_a_structure_without_a_graph_is_refused():
    with pytest.raises(ConfigError, match="needs a graph"):
        load_recipe(str(TINY), ["structure.weight=0.1"])
    with pytest.raises(ConfigError, match=r"structure\.weight"):
        load_recipe(str(TINY), ["graph=labels", "structure.weight=2"])
    with pytest.raises(ConfigError, match=r"unknown graph 'label'.*labels"):
        load_recipe(str(TINY), ["graph=label"])
    assert load_recipe(str(TINY), ["graph=labels", "graph=null"]).graph is None
