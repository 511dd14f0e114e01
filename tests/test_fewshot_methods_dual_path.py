"""Dual path: the loss from its formulas, terms that switch off, state that resumes; and the projector with named paths."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.paths import PathProjector
from kinshot.learn import METHODS
from kinshot.learn.optim import build_optimizer
from tests.steps import loss_of, model_of
from tests.test_objectives_dual_path import directions, slow_alignment, slow_class_uniformity, slow_structure, slow_uniformity

N, B, CLASSES, DIM = 24, 8, 4, 6
TERMS = ("classification", "structural", "contrastive", "alignment", "uniformity")
LABELS = torch.arange(N) % CLASSES
PATHS = ("structural", "contrastive")


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def paths(names=PATHS, **more):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return PathProjector(**{"dim": DIM, "hidden": 10, "out": 5, "layers": 2, "names": names, "last_norm": False, **more})


def build(projector=None, *, batch=B, labels=LABELS, seed=0, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = nn.Sequential(nn.Linear(5, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, DIM))
    encoder.dim = DIM  # type: ignore[assignment]
    context = RunContext(N, batch, N // batch, 100, seed, labels)
    return METHODS.build("dual_path", model_of(encoder, paths() if projector is None else projector), context, settings=settings)


def only(**weights):
    return {**dict.fromkeys(TERMS, 0.0), **weights}


def views(indices, step=0):
    centers = 2 * noise(50, CLASSES, 5)
    return [centers[LABELS[indices]] + 0.7 * noise(60, N, 5)[indices] + 0.2 * noise(2 * step + view, len(indices), 5) for view in (0, 1)]


def batch_of(step):
    return torch.randperm(N, generator=torch.Generator().manual_seed(step))[:B]


def step_of(method, optimizer, step):
    indices = batch_of(step)
    terms = loss_of(method, views(indices, step), indices, step)
    optimizer.zero_grad(set_to_none=True)
    terms["loss"].backward()
    optimizer.step()
    method.after_step(step)
    return {name: value.item() for name, value in terms.items()}


def optimizer_of(method):
    return build_optimizer("sgd", method, lr=0.05, weight_decay=1e-2, momentum=0.9)


def slow_terms(method, indices, *, form="kl", T=0.1, tau=0.1, alpha=2.0, t=2.0, level="samples"):
    """Every term from the formulas in float64, given what the networks put out."""
    with torch.no_grad():
        z = method.encoder(torch.cat(views(indices)))
        out = {name: value.double().numpy() for name, value in method.projector.outputs(z).items()}
    y = LABELS[indices].repeat(2).tolist()
    a, b, rows = out["structural"], out["contrastive"], directions(method.model.rows.weight.detach().double())
    found = {"structural": slow_structure(a[: len(indices)], a[len(indices) :], indices.tolist(), form, T)}
    crossed = 0.0
    for row, label in zip(directions(z.double()), y, strict=True):
        logits = [method.model.rows.scale.item() * sum(p * q for p, q in zip(row, w, strict=True)) for w in rows]
        crossed -= logits[label] - math.log(sum(math.exp(v) for v in logits))
    found["classification"] = crossed / len(y)
    contrast = 0.0
    for i in range(len(y)):
        below = sum(math.exp(b[i] @ b[k] / tau) for k in range(len(y)) if k != i)
        kin = [p for p in range(len(y)) if p != i and y[p] == y[i]]
        contrast -= sum(math.log(math.exp(b[i] @ b[p] / tau) / below) for p in kin) / len(kin)
    found["contrastive"] = contrast / len(y)
    found["alignment"] = slow_alignment(b, y, alpha)
    found["uniformity"] = slow_uniformity(b, t) if level == "samples" else slow_class_uniformity(b, y, t)
    return found


@pytest.mark.parametrize("form", ["kl", "distance", "cka"])
@pytest.mark.parametrize("level", ["samples", "classes"])
def test_the_loss_is_the_weighted_sum_of_its_formulas(form, level):
    weights = {"classification": 0.5, "structural": 2.0, "contrastive": 1.5, "alignment": 0.3, "uniformity": 0.7}
    method = build(
        **weights,
        structural_form=form,
        structural_temperature=0.3,
        temperature=0.2,
        scale=7.0,
        alignment_power=1.0,
        uniformity_level=level,
        uniformity_sharpness=1.0,
    )
    method.train()
    indices = torch.tensor([0, 4, 1, 1, 7, 9, 2, 8])  # a sample twice, classes of different sizes
    got = loss_of(method, views(indices), indices, 0)
    expected = slow_terms(method, indices, form=form, T=0.3, tau=0.2, alpha=1.0, t=1.0, level=level)
    for name in TERMS:
        assert got[name].item() == pytest.approx(expected[name], rel=1e-5, abs=1e-5), name
    assert got["loss"].item() == pytest.approx(sum(weights[name] * expected[name] for name in TERMS), rel=1e-5)
    assert got["loss"].dtype == torch.float32
    assert got["scale"] == 7
    assert [name for name, value in got.items() if value.requires_grad] == ["loss"]


def test_the_default_is_classes_structure_and_contrast():
    method = build()
    got = loss_of(method, views(torch.arange(B)), torch.arange(B), 0)
    assert got["loss"].item() == pytest.approx(sum(got[name].item() for name in TERMS[:3]), rel=1e-6)
    assert got.keys() == {"loss", *TERMS, "accuracy", "scale", "structural_std"}
    got["loss"].backward()
    assert [name for name, p in method.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", TERMS)
def test_a_term_of_weight_0_is_recorded_and_moves_nothing(name):
    path = {"structural": "structural", "classification": None}.get(name, "contrastive")
    method = build(**only(**{name: 1.0}))
    untouched = [p for p in PATHS if p != path]
    before = copy.deepcopy(method.state_dict())
    optimizer = optimizer_of(method)
    got = [step_of(method, optimizer, step) for step in range(3)]
    assert all(one["loss"] == one[name] for one in got)
    assert got[0].keys() >= {"structural", "contrastive", "alignment", "uniformity"}
    assert ("classification" in got[0]) == (name == "classification")
    moved = {key for key, value in method.state_dict().items() if not torch.equal(value, before[key])}
    weights = {key for key, _ in method.named_parameters()}
    assert not {key for key in moved & weights if any(f"paths.{other}." in key for other in untouched)}
    assert path is None or any(f"paths.{path}." in key for key in moved & weights)
    assert any(key.startswith("model.encoder.") for key in moved & weights)
    assert (method.model.rows is None) == (name != "classification")


def test_a_switched_off_term_leaves_the_gradient_of_the_others_bit_for_bit():
    grads = []
    for settings in (
        {"structural": 0.0},
        {"structural": 0.0, "structural_form": "cka", "uniformity_sharpness": 5.0, "alignment_power": 1.0},
    ):
        method = build(**settings)
        loss_of(method, views(torch.arange(B)), torch.arange(B), 0)["loss"].backward()
        grads.append([p.grad for p in method.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize(
    "settings", [{}, only(structural=1.0), only(contrastive=1.0, alignment=1.0, uniformity=1.0), {"structural_form": "cka"}]
)
def test_training_lowers_the_loss(settings):
    method = build(**settings)
    optimizer = optimizer_of(method)
    losses = [step_of(method, optimizer, 0)["loss"] for _ in range(25)]
    assert losses[-1] < losses[0] - 0.01


def test_a_resumed_run_continues_bit_for_bit():
    weights = dict.fromkeys(TERMS, 1.0)
    method = build(**weights)
    optimizer = optimizer_of(method)
    for step in range(3):
        step_of(method, optimizer, step)
    state, momenta = copy.deepcopy(method.state_dict()), copy.deepcopy(optimizer.state_dict())
    assert "labels" not in state
    expected = [step_of(method, optimizer, step) for step in range(3, 6)]
    again = build(**weights)
    again.load_state_dict(state)
    optimizer = optimizer_of(again)
    optimizer.load_state_dict(momenta)
    assert [step_of(again, optimizer, step) for step in range(3, 6)] == expected


def test_rows_are_drawn_from_the_seed_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = build().model.rows.weight
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(6)
    assert torch.equal(first, build().model.rows.weight)
    assert not torch.equal(first, build(seed=1).model.rows.weight)


def test_one_class_and_copies_are_finite():
    for indices in (torch.zeros(B, dtype=torch.int64), torch.arange(0, N, CLASSES)[:6]):
        for form in ("kl", "distance", "cka"):
            for level in ("samples", "classes"):
                method = build(**dict.fromkeys(TERMS, 1.0), structural_form=form, uniformity_level=level)
                got = loss_of(method, views(indices), indices, 0)
                assert all(math.isfinite(value.item()) for value in got.values())
                got["loss"].backward()
                assert all(bool(torch.isfinite(p.grad).all()) for p in method.parameters())


def test_views_of_two_sizes_pass_one_by_one():
    method = build()
    method.model.encoder = nn.Sequential(nn.AdaptiveAvgPool1d(5), method.encoder)
    small, large = noise(1, B, 5), noise(2, B, 10)
    method.eval()
    apart = loss_of(method, [small, large], torch.arange(B), 0)
    together = loss_of(method, [small, nn.functional.adaptive_avg_pool1d(large, 5)], torch.arange(B), 0)
    assert apart["loss"].item() == pytest.approx(together["loss"].item(), rel=1e-5)


def test_autocast_leaves_the_losses_in_float32():
    method = build(**dict.fromkeys(TERMS, 1.0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = loss_of(method, views(torch.arange(B)), torch.arange(B), 0)
    assert {value.dtype for value in got.values()} == {torch.float32}
    assert got["loss"].item() == pytest.approx(
        loss_of(build(**dict.fromkeys(TERMS, 1.0)), views(torch.arange(B)), torch.arange(B), 0)["loss"].item(), rel=0.1
    )


@pytest.mark.parametrize(
    ("projector", "settings", "message"),
    [
        (nn.Linear(DIM, 4), {}, r"structural needs .*'structural', got a single output.*paths: \[structural, contrastive\]"),
        (paths(("contrastive",)), {}, "got contrastive: .*structural=0"),
        (paths(("structural",)), {}, "contrastive needs"),
        (paths(("structural",)), {"contrastive": 0.0, "uniformity": 1.0}, "uniformity needs"),
        (None, {"alignment": -1.0}, "alignment: expected a weight of at least 0"),
        (None, {"structural": -0.5}, "structural: expected a weight"),
        (None, only(), "every weight is 0"),
        (None, {"temperature": 0.0}, "temperature"),
        (None, {"structural_temperature": -1.0}, "structural_temperature"),
        (None, {"alignment_power": 0.0}, "alignment_power"),
        (None, {"uniformity_sharpness": 0.0}, "uniformity_sharpness"),
        (None, {"scale": 0.0}, "scale"),
    ],
)
def test_settings_that_cannot_work_are_refused(projector, settings, message):
    with pytest.raises(ConfigError, match=message):
        build(projector, **settings)


def test_a_run_without_labels_or_with_tiny_batches_is_refused():
    with pytest.raises(ConfigError, match="labels"):
        build(labels=None)
    with pytest.raises(ConfigError, match="batch_size 2"):
        build(batch=2)
    assert build(batch=2, structural=0.0)


def test_one_path_is_enough_for_an_ablation():
    for name in PATHS:
        other = PATHS[1 - PATHS.index(name)]
        method = build(paths((name,)), **{other: 0.0})
        got = loss_of(method, views(torch.arange(B)), torch.arange(B), 0)
        assert other not in got
        got["loss"].backward()
        assert [n for n, p in method.named_parameters() if p.grad is None] == []
    alone = build(nn.Linear(DIM, 4), structural=0.0, contrastive=0.0)
    assert loss_of(alone, views(torch.arange(B)), torch.arange(B), 0).keys() == {"loss", "classification", "accuracy", "scale"}


def test_paths_are_unit_rows_and_their_concatenation():
    projector, z = paths(last_norm=True), noise(3, 7, DIM)
    outputs = projector.outputs(z)
    assert list(outputs) == list(projector.names) == list(PATHS)
    for name, rows in outputs.items():
        expected = np.stack(directions(projector.paths[name](z).detach().double()))
        np.testing.assert_allclose(rows.detach().numpy(), expected, atol=1e-6)
    assert torch.equal(projector(z), torch.cat([outputs["structural"], outputs["contrastive"]], dim=1))
    assert projector(z).shape == (7, 10)
    assert {name.split(".")[1] for name in projector.state_dict()} == set(PATHS)
    assert projector.outputs(z.double().float().bfloat16().float())["structural"].dtype == torch.float32


def test_paths_are_independent_networks():
    projector, z = paths(), noise(3, 7, DIM)
    projector.outputs(z)["structural"].sum().backward()
    assert all((p.grad is None) == ("paths.contrastive." in name) for name, p in projector.named_parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert projector(z).dtype == torch.float32
    assert projector.double().outputs(z.double())["structural"].dtype == torch.float64


def test_paths_without_layers_are_the_backbone_at_unit_length():
    z = noise(3, 4, DIM)
    outputs = paths(layers=0).outputs(z)
    torch.testing.assert_close(outputs["structural"], nn.functional.normalize(z, dim=1))
    assert torch.equal(outputs["structural"], outputs["contrastive"])


@pytest.mark.parametrize("names", [(), ("a", "a"), ("joint",), ("backbone", "a"), ("a b",), ("a.b",), ("keys",), ("training",), ("",)])
def test_names_of_paths_are_checked(names):
    with pytest.raises(ConfigError, match=r"paths: \[structural, contrastive\]"):
        paths(names)
