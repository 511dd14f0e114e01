"""Terms of a recipe: every objective meets every kin, values are what the parts give, and what does not fit is refused before a step."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.kin import KINS, constructors
from kinshot.kin.graph import from_labels
from kinshot.kin.kin import Known
from kinshot.kin.miners import MINERS
from kinshot.learn import METHODS
from kinshot.learn.features import weights_hash
from kinshot.learn.learner import Learner
from kinshot.learn.place import Place
from kinshot.objectives import OBJECTIVES, taking
from kinshot.objectives.augmenters import AUGMENTERS
from kinshot.objectives.info_nce import info_nce
from kinshot.recipes.recipe import load_recipe
from kinshot.recipes.terms import Choice, TermChoice, read_terms
from kinshot.runs.start import Options
from kinshot.runs.teachers import Teachers
from kinshot.runs.terms import terms_of
from kinshot.runs.train import train_recipe
from kinshot.samples.batch import Batch, Partners
from kinshot.samples.rows import RowSpec
from tests.objective_cases import FEW
from tests.steps import each_method, model_of, of_images
from tests.tiny import TINY

N, B, D = 24, 6, 5
SPEC = RowSpec(3, (0.0,) * 3, (1.0,) * 3)
LABELS = np.arange(N) % 3
CONTEXT = RunContext(N, B, N // B, 100, 0)
WANTED = {
    "time": {"time": "at", "max_lag": 4.0},
    "shared_labels": {"attribute": "marks"},
    "teacher": {"checkpoint": "T", "k": 2},
    "windows": {"length": 2.0},
    "neighborhood": {"spread": 1.0, "reach": 2.0},
}


class Encoder(nn.Module):
    dim = D

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, D)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.linear(x))


class Said:
    """A teacher's word that is the samples themselves."""

    needs_clean = False

    def __call__(self, shown, batch, step) -> Tensor:
        return samples()[shown.samples]


def samples() -> Tensor:
    return torch.randn(N, 3, generator=torch.Generator().manual_seed(0))


def known() -> Known:
    attributes = {"at": np.arange(N, dtype=np.float64), "marks": np.stack([c == LABELS for c in range(3)], axis=1).astype(np.int64)}
    attributes |= {"start": np.arange(N, dtype=np.float64), "recording": np.arange(N) // 4}
    return Known(CONTEXT, LABELS, attributes, lambda text: from_labels(LABELS), lambda *given, **more: Said())


def choice(objective: str, kin: str, **more) -> TermChoice:
    settings, problems = KINS.check(kin, WANTED.get(kin, {}))
    assert not problems
    own, problems = OBJECTIVES.check(objective, FEW.get(objective, {}))
    assert not problems
    return TermChoice(Choice(objective, own), Choice(kin, settings), Place(**more))


def learner(*choices: TermChoice, task: float = 1.0) -> Learner:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        method = METHODS.build("simclr", model_of(Encoder(), nn.Linear(D, 4)), CONTEXT, settings={})
    terms = terms_of(choices, method, known(), Teachers(None, SPEC, torch.device("cpu")), SPEC, "method")
    return Learner(method, terms, CONTEXT, task=task)


def batch_for(what: Learner, step: int = 0) -> Batch:
    indices, x = torch.arange(B), samples()
    noise = torch.Generator().manual_seed(step)
    views = [x[indices] + 0.1 * torch.randn(B, 3, generator=noise) for _ in range(2)]
    drawn = {number: term.kin.draw(indices, step) for number, term in what.asking.items()}
    return Batch(indices, views, x[indices], {number: Partners(ids, x[ids]) for number, ids in drawn.items()})


@pytest.mark.parametrize("kin", KINS.names())
@pytest.mark.parametrize("objective", taking("relation"))
def test_every_objective_over_relations_meets_every_kin(objective: str, kin: str) -> None:
    one = learner(choice(objective, kin, weight=0.5))
    terms = one.loss(batch_for(one), 0)
    assert torch.isfinite(terms["loss"])
    torch.testing.assert_close(terms["loss"].detach(), terms["task"] + 0.5 * terms[objective])
    terms["loss"].backward()
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in one.parameters())


@pytest.mark.parametrize("on", ["backbone", "projector"])
def test_a_term_is_its_objective_of_the_outputs(on: str) -> None:
    one = learner(choice("info_nce", "labels", on=on))
    batch = batch_for(one)
    z = one.model.outputs(torch.cat(list(batch.views)), [on])[on]
    expected = info_nce(z, constructors.labels(torch.from_numpy(LABELS)[batch.indices].repeat(2)))
    torch.testing.assert_close(one.loss(batch, 0)["info_nce"], expected.detach())


def test_terms_stack_and_are_summed_as_their_weights_say() -> None:
    choices = [choice("info_nce", "labels", weight=0.25), choice("info_nce", "graph", weight=2.0), choice("triplet", "time", weight=0.0)]
    one = learner(*choices, task=0.5)
    found = one.loss(batch_for(one), 0)
    assert {"task", "info_nce_1", "info_nce_2", "triplet"} <= found.keys()
    expected = 0.5 * found["task"] + 0.25 * found["info_nce_1"] + 2 * found["info_nce_2"]
    torch.testing.assert_close(found["loss"].detach(), expected)


@pytest.mark.parametrize("miner", MINERS.names())
def test_a_miner_chooses_the_pairs(miner: str) -> None:
    settings, _ = MINERS.check(miner, {})
    plain = choice("margin_contrastive", "labels")
    mined = TermChoice(plain.objective, plain.kin, plain.place, Choice(miner, settings))
    one, other = learner(plain), learner(mined)
    values = [what.loss(batch_for(what), 0)["margin_contrastive"] for what in (one, other)]
    assert torch.isfinite(values[1])
    assert values[0] != values[1]


def test_a_miner_sees_cosines() -> None:
    settings, _ = MINERS.check("multi_similarity", {})
    plain = choice("multi_similarity", "labels")
    by_itself = TermChoice(Choice("multi_similarity", {**plain.objective.settings, "mining_margin": None}), plain.kin, plain.place,
                           Choice("multi_similarity", settings))  # fmt: skip
    one, other = learner(plain), learner(by_itself)
    torch.testing.assert_close(one.loss(batch_for(one), 0)["loss"], other.loss(batch_for(other), 0)["loss"])


@pytest.mark.parametrize("name", AUGMENTERS.names())
def test_an_augmenter_adds_rows(name: str) -> None:
    settings, _ = AUGMENTERS.check(name, {})
    plain = choice("triplet", "labels")
    more = replace(plain, augmenter=Choice(name, settings))
    one, other = learner(plain), learner(more)
    for step in (97, 98):  # what remembers has something to remember
        for what in (one, other):
            what.loss(batch_for(what, step), step)
            what.after_step(step)
    values = [what.loss(batch_for(what), 99)["triplet"] for what in (one, other)]
    assert torch.isfinite(values[1])
    assert values[0] != values[1]
    drawn, _ = KINS.check("graph", {"pairs": "drawn"})
    with pytest.raises(ConfigError, match="augmenter"):
        (against := learner(replace(more, kin=Choice("graph", drawn)))).loss(batch_for(against), 0)


def trained(out: Path, *overrides: str) -> dict:
    quick = ["train.epochs=1", "monitor.tensorboard=false", "monitor.knn_every=0", "monitor.log_every=1"]
    recipe = load_recipe(str(TINY), [*overrides, *quick])
    return train_recipe(recipe, Options(out, quiet=True), lambda text: None)


def test_the_short_form_and_the_term_it_stands_for_train_the_same_weights(tmp_path: Path) -> None:
    structure = ["structure.loss=multi_similarity", "structure.per_anchor=0", "structure.weight=0.25"]
    short = trained(tmp_path / "short", "graph=labels", *structure)
    term = "{objective: multi_similarity, kin: {name: graph, per_anchor: 0}, weight: 0.25, gradients: true, label: structure}"
    long = trained(tmp_path / "long", "graph=labels", "structure.weight=0", "task=0.75", f"terms=[{term}]")
    assert short["weights"] == long["weights"]


BY_GRAPH = "{objective: triplet, kin: {name: graph, of: 'knn:k=3'}, weight: 0.5}"
REMEMBERING = [name for name in AUGMENTERS.names() if AUGMENTERS.entry(name).facts.get("classes")]


@pytest.mark.parametrize("more", ["", *(f", augmenter: {name}" for name in REMEMBERING), ", miner: distance_weighted"])
def test_a_run_with_terms_goes_on_bit_for_bit(more: str, tmp_path: Path) -> None:
    terms = f"terms=[{{objective: info_nce, kin: labels, on: projector{more}}}, {BY_GRAPH}]"
    overrides = [terms, "train.epochs=1", "monitor.tensorboard=false", "monitor.knn_every=0", "monitor.keep=99"]
    recipe = load_recipe(str(TINY), overrides)
    train_recipe(recipe, Options(tmp_path / "whole", quiet=True), lambda text: None)
    point = sorted((tmp_path / "whole/checkpoints").iterdir())[2]
    train_recipe(recipe, Options(tmp_path / "again", str(point), quiet=True), lambda text: None)
    whole, again = (load_checkpoint(tmp_path / name) for name in ("whole", "again"))
    for part in ("encoder", "projector", "training"):
        assert weights_hash(whole.tensors[part]) == weights_hash(again.tensors[part])
    assert load_recipe(str(TINY), overrides).to_dict() == recipe.to_dict()
    lines = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    assert any({"train/task", "train/info_nce", "train/triplet"} <= line.keys() for line in lines)


def test_plain_data_reads_back_to_the_same_terms() -> None:
    given = [{"objective": "info_nce", "kin": "labels", "temperature": 0.3, "miner": "hard", "weight": 2}]
    terms, problems = read_terms(given)
    assert problems == []
    assert read_terms([term.to_dict() for term in terms]) == (terms, [])


@pytest.mark.parametrize(
    ("term", "words"),
    [
        ("{objective: info_nec, kin: labels}", r"terms\.0\.objective: unknown objective 'info_nec'.*info_nce"),
        ("{objective: info_nce, kin: label}", r"terms\.0\.kin: unknown kin 'label'.*labels"),
        ("{objective: info_nce}", r"terms\.0\.kin: expected one of"),
        ("{objective: info_nce, kin: labels, temprature: 1}", r"did you mean 'temperature'"),
        ("{objective: info_nce, kin: {name: labels, atribute: x}}", r"did you mean 'attribute'"),
        ("{objective: info_nce, kin: labels, miner: hrad}", r"terms\.0\.miner: unknown miner 'hrad'.*hard"),
        ("{objective: info_nce, kin: labels, weight: -1}", r"terms\.0\.weight: expected a number from 0"),
        ("{objective: rkd_angle, kin: labels}", r"compares a student with its teacher"),
        ("{objective: rkd_angle, kin: {name: teacher, checkpoint: x}, miner: hard}", r"has no pairs"),
        ("{objective: info_nce, kin: {name: teacher, checkpoint: x}}", r"either k or threshold"),
        ("{objective: info_nce, kin: labels, unit: both}", r"terms\.0\.unit"),
        ("{objective: info_nce, kin: graph}", r"the recipe has no graph"),
        ("{objective: cross_entropy, kin: labels}", r"no objective over kin"),
        ("{objective: info_nce, kin: labels, reduction: each}", r"a term is one number"),
        ("{objective: triplet, kin: views, augmenter: das}", r"terms\.0\.augmenter: das remembers.*choose kin labels"),
        ("3", r"expected an objective and who is kin"),
    ],
)
def test_what_does_not_fit_is_said_when_the_recipe_is_read(term: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_recipe(str(TINY), [f"terms=[{term}]"])


@pytest.mark.parametrize(
    ("term", "words"),
    [
        ("{objective: info_nce, kin: labels, on: projectr}", r"no output 'projectr'.*projector"),
        ("{objective: info_nce, kin: labels, on: logits}", r"has no logits"),
        ("{objective: info_nce, kin: labels, on: blocks.0}", r"takes embeddings \(B, D\)"),
        ("{objective: info_nce, kin: {name: time, time: clock, max_lag: 1}}", r"needs the attribute 'clock'"),
        ("{objective: info_nce, kin: {name: graph, of: 'knn:k=0'}}", r"k: expected 1 to"),
    ],
)
def test_what_does_not_fit_the_run_is_said_before_its_first_step(term: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        trained(tmp_path / "run", f"terms=[{term}]")
    assert not (tmp_path / "run").exists()


def test_a_method_without_a_loss_learns_from_a_term_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no loss of its own"):
        load_recipe(str(TINY), ["method=student", "views.views=1"])
    trained(tmp_path / "run", "method=student", "views.views=1", "terms=[{objective: multi_similarity, kin: labels}]")
    begun, ended = (load_checkpoint(path).encoder for path in (min, max) for path in [path((tmp_path / "run/checkpoints").iterdir())])
    assert weights_hash(begun) != weights_hash(ended)


ALONE = [name for name in METHODS.names() if not METHODS.entry(name).flags.get("by_terms") and of_images(name)]


@pytest.mark.parametrize("name", each_method(ALONE))
def test_every_method_says_whom_its_rows_show_and_gradients_reach_them(name: str) -> None:
    """Rows of maml and anil were passes of the inner loop, and its anchors carried no gradient."""
    from tests.test_contract_methods import Case, batch_of, build, inputs, settings_of

    method = build(Case(name, "image", settings_of(name)[0]))
    method.train()
    indices = batch_of(method, 0)
    views = inputs(method, indices, 0)
    batch = Batch(indices, views[: method.view_count], views[-1] if method.needs_clean else None)
    outputs = method.outputs(batch, ("backbone",))
    assert outputs["backbone"].shape == (len(outputs.shown.samples), method.model.dim)
    assert torch.equal(outputs.shown.samples, indices.repeat(len(outputs.shown.views)))
    assert torch.equal(torch.cat(outputs.shown.inputs), torch.cat([views[number] for number in outputs.shown.views]))
    first = outputs.blocks("backbone")[0]
    assert len(first) == len(indices)
    first.square().sum().backward()
    frozen = [p for p in method.encoder.parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert frozen == []


def test_an_encoder_takes_its_share_of_the_learning_rate(tmp_path: Path) -> None:
    """A share that is next to nothing leaves the encoder nearly where it began, and the projector not."""
    trained(tmp_path / "run", "train.encoder_lr=1e-6", "train.weight_decay=0", "monitor.keep=99")
    begun, ended = (load_checkpoint(path) for path in (min, max) for path in [path((tmp_path / "run/checkpoints").iterdir())])

    def moved(part: str) -> float:
        old, new = begun.tensors[part], ended.tensors[part]
        return max(float((old[n] - new[n]).abs().max()) for n in old if n.endswith(("weight", "bias")) and "num" not in n)

    assert moved("encoder") < 1e-5
    assert moved("projector") > 1e-3
    with pytest.raises(ConfigError, match=r"train\.encoder_lr"):
        load_recipe(str(TINY), ["train.encoder_lr=0"])


def test_batches_of_classes_show_a_term_over_labels_its_kin(tmp_path: Path) -> None:
    order = ["order.name=classes", "order.per_class=8"]
    done = trained(tmp_path / "run", *order, "terms=[{objective: triplet, kin: labels}]")
    assert done["steps"] > 0
    assert load_recipe(str(TINY), order).order == ("classes", {"per_class": 8, "repeat": False})
    assert load_recipe(str(TINY), [*order, "order=null"]).order is None
    with pytest.raises(ConfigError, match="chooses its own batches"):
        trained(tmp_path / "own", *order, "method=protonet", "views.views=1", "method.ways=8", "method.shots=1", "method.queries=3")
