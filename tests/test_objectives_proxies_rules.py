"""Losses against rows of classes: what each of them promises beside its formula, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.objectives import OBJECTIVES, taking
from kinshot.objectives.proxies.arc_face import add_angle, arc_face_loss
from kinshot.objectives.proxies.pairwise_surrogate import pairwise_surrogate
from kinshot.objectives.proxies.rows import ProxyRows
from kinshot.objectives.proxies.soft_triple import center_spread
from kinshot.objectives.proxies.sphere_face import annealed, multiplied_angle, sphere_face_loss
from kinshot.objectives.proxies.sub_center_arc_face import dominant_angles, dominant_centers
from tests import reference_proxies as reference
from tests.proxy_cases import CLASSES, N, Y, build, close, drawn

every = pytest.mark.parametrize("name", taking("proxies"))
of_rows = pytest.mark.parametrize("name", [name for name in taking("proxies") if name != "pml"])  # whose rows are another package's


@of_rows
def test_the_module_is_its_function_and_its_logits_know_no_margin(name: str) -> None:
    module, z = build(name), drawn(N).float()
    module.eval()
    again = build(name)
    again.load_state_dict(module.state_dict())
    assert torch.equal(module(z, Y), again(z, Y))
    logits, seen = module.logits(z), module.logits(z, Y)
    assert logits.shape == seen.shape == (N, CLASSES)
    same = torch.isclose(logits, seen, rtol=1e-5, atol=1e-5)
    assert same[Y < 0].all() or name.endswith("proxy_anchor")
    moves = {"sphere_face", "cos_face", "arc_face", "sub_center_arc_face", "soft_triple", "proxy_anchor", "multi_proxy_anchor"}
    assert (not same.all()) == (name in moves)
    if name in moves:  # the margin makes the own class harder
        own = (Y >= 0).nonzero().squeeze(1)
        assert (seen[own, Y[own]] < logits[own, Y[own]]).all()


@of_rows
def test_imprinted_rows_classify(name: str) -> None:
    """Rows written from outside are what embeddings are compared with."""
    module, targets = build(name, classes=3), torch.eye(3)
    k = module.rows.per_class
    far = [0.05 * torch.roll(targets, 1, 1) * (j + 1) for j in range(k)]
    module.rows.imprint_(torch.cat([targets + one for one in far]), torch.arange(3).repeat(k))
    logits = module.logits(torch.eye(3) + 0.1)
    assert logits.argmax(1).tolist() == [0, 1, 2]


@every
def test_a_step_of_gradients_lowers_the_loss(name: str) -> None:
    settings = {"update": "gradient"} if name == "center" else {}
    module, z = build(name, **settings), drawn(N).float().requires_grad_()
    optimizer = torch.optim.SGD([z, *module.parameters()], lr=1e-3)
    before = module(z, Y)
    before.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())
    optimizer.step()
    assert module(z, Y) < before


@every
def test_rows_of_unknown_class_play_no_part(name: str) -> None:
    module, z = build(name), drawn(N).float()
    if "reduction" in OBJECTIVES.entry(name).parameters:
        module = build(name, reduction="valid")
    close(module(z, Y), module(z[Y >= 0], Y[Y >= 0]).detach(), 1e-5)


@every
def test_one_class_has_a_value(name: str) -> None:
    module, z = build(name, classes=1), drawn(3).float().requires_grad_()
    value = module(z, torch.tensor([0, 0, -1]))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(z.grad).all()
    if name == "proxy_nca":
        assert value == 0


@every
def test_what_does_not_fit_is_named(name: str) -> None:
    module, z = build(name), drawn(N).float()
    with pytest.raises(ConfigError, match=f"{name}.*class 4"):
        module(z, torch.full((N,), 4))
    with pytest.raises(ConfigError, match=f"{name}.*width"):
        module(z[:, :2], Y)
    with pytest.raises(ConfigError, match=f"{name}.*int64 class"):
        module(z, Y.float())
    with pytest.raises(ConfigError, match=r"classes.*kin: labels"):
        build(name, classes=0)
    with pytest.raises(ConfigError, match="proxy_lr"):
        build(name, proxy_lr=0.0)
    assert build(name, proxy_lr=100.0).lr_scale == 100


@every
def test_nan_gives_nan(name: str) -> None:
    """A run ends on it; no clamp makes a number of it."""
    z = drawn(N).float()
    z[0, 0] = float("nan")
    assert torch.isnan(build(name)(z, Y))


@of_rows
def test_rows_are_of_length_one_and_of_the_seed(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        one = build(name)
        torch.manual_seed(2)
        two = build(name)
    close(torch.linalg.vector_norm(one.rows.weight.detach(), dim=1), torch.ones(len(one.rows.weight)), 1e-5)
    assert torch.equal(one.rows.weight, two.rows.weight)


def test_imprinting_fills_the_places_of_a_class_in_order() -> None:
    rows = ProxyRows(2, 3, 2)
    before = rows.weight.detach().clone()
    rows.imprint_(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.tensor([2, 0, 2]))
    assert rows.weight.tolist() == [[3.0, 4.0], *before[1:4].tolist(), [1.0, 2.0], [5.0, 6.0]]
    assert rows.weight.requires_grad
    for given, classes, words in (
        (torch.ones(3, 2), torch.tensor([1, 1, 1]), "at most 2 rows of a class, got 3 of class 1"),
        (torch.ones(1, 2), torch.tensor([3]), "0..2"),
        (torch.ones(1, 3), torch.tensor([0]), "expected rows"),
        (torch.full((1, 2), float("nan")), torch.tensor([0]), "finite"),
    ):
        with pytest.raises(ConfigError, match=words):
            rows.imprint_(given, classes)


@pytest.mark.parametrize("past", ["linear", "turn", "easy"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_angle_has_a_finite_slope_everywhere(past: str, dtype: torch.dtype) -> None:
    near = 10 ** torch.linspace(-17, 0, 200, dtype=dtype)
    cosine = torch.cat([1 - near, near - 1, 1 + near[:50]]).requires_grad_()
    moved = add_angle(cosine, 0.5, past)
    moved.sum().backward()
    assert torch.isfinite(cosine.grad).all()
    close(moved[0].detach(), math.cos(0.5), 1e-6)


def test_an_embedding_on_its_row_has_a_finite_gradient() -> None:
    w = torch.eye(3)
    for z in (w.clone(), -w):
        z.requires_grad_()
        arc_face_loss(z, torch.arange(3), w).backward()
        assert torch.isfinite(z.grad).all()


def test_past_pi_the_linear_rule_keeps_falling_and_the_others_do_not() -> None:
    cosine = torch.linspace(1, -1, 500, dtype=torch.float64)
    falls = {past: bool((add_angle(cosine, 0.5, past).diff() < 0).all()) for past in ("linear", "turn", "easy")}
    assert falls == {"linear": True, "turn": False, "easy": False}


def test_a_margin_in_degrees_is_refused() -> None:
    with pytest.raises(ConfigError, match="radians"):
        build("arc_face", margin=28.6)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_the_multiplied_angle_falls_from_one_without_a_jump(m: int) -> None:
    psi = multiplied_angle(torch.linspace(1, -1, 20001, dtype=torch.float64), m)
    assert (psi.diff() < 1e-12).all()
    assert psi.diff().abs().max() < 0.1
    close(psi[[0, -1]], [1.0, 1.0 - 2 * m])


def test_annealing_falls_to_its_last() -> None:
    assert [annealed(step) for step in (0, 100, 10**9)] == pytest.approx([1000.0, 1000 / 13, 5.0])
    module, z = build("sphere_face"), drawn(N).float()
    for step in (0, 100):
        close(module(z, Y, step), sphere_face_loss(z, Y, module.rows.weight, annealing=annealed(step)).detach(), 1e-6)
    plain = build("sphere_face", first=0.0, last=0.0)
    assert plain.annealing(0) == 0


def test_dominant_angles_equal_loops_and_find_wrong_labels() -> None:
    z, w = drawn(N), drawn(CLASSES * 3, 10)
    found = dominant_angles(z, Y, w, 3)
    expected = reference.dominant_angles(z.numpy(), Y.tolist(), w.numpy(), 3)
    assert torch.isnan(found).tolist() == [angle is None for angle in expected]
    close(found[Y >= 0], [angle for angle in expected if angle is not None])
    generator = torch.Generator().manual_seed(3)
    truth = torch.arange(4).repeat_interleave(20)
    samples = torch.eye(4)[truth] + 0.1 * torch.randn(80, 4, generator=generator)
    wrong = torch.arange(80) % 5 == 0
    said = torch.where(wrong, (truth + 1) % 4, truth)
    rows = torch.stack([torch.eye(4), torch.eye(4).roll(1, 0)], 1).flatten(0, 1)  # of each class, then where its wrong labels come from
    assert dominant_centers(samples, said, rows, 2).tolist() == [0, 0, 0, 0]
    angles = dominant_angles(samples, said, rows, 2)
    assert angles[wrong].min() > angles[~wrong].max()


def test_centers_move_by_the_papers_rule_after_the_step_alone() -> None:
    module, z = build("center", alpha=0.5).double(), drawn(N)
    assert not list(module.parameters())
    before = module.rows.weight.clone()
    module(z, Y)
    assert torch.equal(module.rows.weight, before)
    module.after_step()
    after = module.rows.weight.clone()
    close(after, reference.centers_after(z.numpy(), Y.numpy(), before.numpy(), 0.5))
    module.after_step()
    assert torch.equal(module.rows.weight, after)
    learned = build("center", update="gradient")
    learned(z.float(), Y).backward()
    learned.after_step()
    assert torch.equal(learned.rows.weight, build("center").rows.weight)


@pytest.mark.parametrize("name", ["proxy_anchor", "multi_proxy_anchor"])
@pytest.mark.parametrize("anchor", ["class", "sample"])
def test_no_sharpness_overflows(name: str, anchor: str) -> None:
    module, z = build(name, alpha=3000.0, anchor=anchor), drawn(N).float().requires_grad_()
    value = module(z, Y)
    value.backward()
    close(value.detach(), module.double()(z.detach().double(), Y).detach().float(), 1e-5)
    assert torch.isfinite(z.grad).all()


def test_centers_that_met_stay_together() -> None:
    w = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    value = center_spread(w, 2)
    value.backward()
    assert value == 0
    assert torch.equal(w.grad, torch.zeros(4, 3, dtype=torch.float64))
    assert center_spread(drawn(4), 1) == 0


def test_the_surrogate_of_pairs_equals_loops_and_stands_below_what_it_bounds() -> None:
    z, y, w = drawn(N), torch.tensor([0, 1, 2, 0, 2, 1, 0]), drawn(3, 4)
    logits = z @ w.T
    found = pairwise_surrogate(z, y, logits, decay=0.7)
    close(torch.stack(found), reference.pairwise_surrogate(z.numpy(), y.numpy(), logits.numpy(), 0.7))
    again = pairwise_surrogate(torch.cat([z, z]), torch.cat([y, torch.full((N,), -1)]), torch.cat([logits, logits]), decay=0.7)
    close(torch.stack(again), torch.stack(found))

    def pull(rows: Tensor) -> Tensor:
        return -(rows[y] * z).sum() / N + 0.35 * rows.square().sum()

    best = torch.stack([z[y == c].sum(0) for c in range(3)]) / (0.7 * N)
    close(found.tightness, pull(best))
    assert all(pull(best + 0.1 * drawn(3, seed)) > found.tightness for seed in range(5))
    with pytest.raises(ConfigError, match="decay"):
        pairwise_surrogate(z, y, logits, decay=0)
    with pytest.raises(ConfigError, match="classes below"):
        pairwise_surrogate(z, y + 1, logits)


def test_plain_rows_start_at_zero_where_they_are_told_to() -> None:
    module = build("linear_softmax", initial=0.0)
    assert not module.rows.weight.any()
    close(module(drawn(N).float(), Y.clamp(min=0)).detach(), math.log(CLASSES), 1e-6)
