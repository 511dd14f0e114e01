"""The pure functions of the distillation losses: values against loops, gradients against finite differences, what changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import tests.reference_distillation as ref
from kinshot.core.errors import ConfigError
from kinshot.objectives.distillation.attention_transfer import attention_transfer
from kinshot.objectives.distillation.compress import anchored_divergence
from kinshot.objectives.distillation.correlation_congruence import neighbor_congruence
from kinshot.objectives.distillation.coss import coss
from kinshot.objectives.distillation.crd import contrast_nce, contrast_scores, log_normalizer
from kinshot.objectives.distillation.darkrank import darkrank
from kinshot.objectives.distillation.fitnet import hint_error
from kinshot.objectives.distillation.kd import kd
from kinshot.objectives.distillation.pkt import pkt
from kinshot.objectives.distillation.seed import seed_cross_entropy
from kinshot.objectives.distillation.similarity_preserving import similarity_preserving
from kinshot.objectives.distillation.simreg import unit_regression

seeds = st.integers(0, 10**6)


def rows(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def units(*shape: int, seed: int = 0) -> Tensor:
    return torch.nn.functional.normalize(rows(*shape, seed=seed), dim=-1)


def close(value: Tensor, expected: float, tolerance: float = 1e-10) -> None:
    assert value.dim() == 0
    assert value.item() == pytest.approx(expected, rel=tolerance, abs=tolerance)


def rotation(width: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(rows(width, width, seed=seed))[0]


# -- values against loops


@settings(max_examples=10)
@given(seeds, st.sampled_from([0.5, 1.0, 4.0]))
def test_kd_equals_loops(seed: int, temperature: float) -> None:
    s, t = rows(4, 5, seed=seed), 3 * rows(4, 5, seed=seed + 1)
    close(kd(s, t, temperature=temperature), ref.kd(s.numpy(), t.numpy(), temperature))


@pytest.mark.parametrize("sizes", [((6, 6), (3, 3)), ((3, 4), (6, 4)), ((5, 7), (3, 9)), ((1, 1), (2, 2)), ((4, 4), (4, 4))])
def test_losses_of_maps_equal_loops(sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    s, t, weight, bias = rows(3, 2, *sizes[0]), rows(3, 4, *sizes[1], seed=1), rows(4, 2, seed=2), rows(4, seed=3)
    close(attention_transfer(s, t), ref.attention_transfer(s.numpy(), t.numpy()))
    close(hint_error(s, t, weight, bias), ref.fitnet(s.numpy(), t.numpy(), weight.numpy(), bias.numpy()))
    close(similarity_preserving(s, t), ref.similarity_preserving(s.numpy(), t.numpy()))


@settings(max_examples=10)
@given(seeds)
def test_losses_of_embeddings_equal_loops(seed: int) -> None:
    s, t, wide = rows(6, 3, seed=seed), rows(6, 3, seed=seed + 1), rows(6, 4, seed=seed + 2)
    weight, bias = rows(4, 3, seed=seed), rows(4, seed=seed)
    for loss, expected in ((similarity_preserving, ref.similarity_preserving), (pkt, ref.pkt), (darkrank, ref.darkrank)):
        close(loss(s, wide), expected(s.numpy(), wide.numpy()))
    for loss, expected in ((coss, ref.coss), (neighbor_congruence, ref.correlation_congruence), (unit_regression, ref.simreg)):
        close(loss(s, t), expected(s.numpy(), t.numpy()))
    close(hint_error(s, wide, weight, bias), ref.fitnet(s.numpy(), wide.numpy(), weight.numpy(), bias.numpy()))


@pytest.mark.parametrize(("alpha", "beta", "length"), [(1.0, 1.0, 2), (2.0, 0.5, 5), (3.0, 3.0, 3)])
@pytest.mark.parametrize("normalize", [True, False])
def test_darkrank_settings_equal_loops(alpha: float, beta: float, length: int, normalize: bool) -> None:
    s, t = rows(7, 3), rows(7, 2, seed=1)
    value = darkrank(s, t, alpha=alpha, beta=beta, length=length, normalize=normalize)
    close(value, ref.darkrank(s.numpy(), t.numpy(), alpha, beta, length, normalize))


@settings(max_examples=10)
@given(seeds, st.integers(0, 5))
def test_losses_with_a_queue_equal_loops(seed: int, filled: int) -> None:
    s, t, queue, own = rows(4, 3, seed=seed), rows(4, 3, seed=seed + 1), units(5, 3, seed=seed + 2), units(5, 2, seed=seed + 3)
    held, narrow = torch.arange(5) < filled, rows(4, 2, seed=seed + 4)
    kept, kept_own = queue[held].numpy(), own[held].numpy()
    value = seed_cross_entropy(s, t, queue, held, student_temperature=0.3, teacher_temperature=0.1)
    close(value, ref.seed(s.numpy(), t.numpy(), kept, 0.3, 0.1))
    expected = ref.compress(narrow.numpy(), t.numpy(), kept_own, kept) if filled else 0.0
    close(anchored_divergence(narrow, t, own, queue, held), expected)


def test_all_of_a_queue_counts_unless_told() -> None:
    s, t, queue = rows(4, 3), rows(4, 3, seed=1), units(5, 3)
    close(seed_cross_entropy(s, t, queue), ref.seed(s.numpy(), t.numpy(), queue.numpy()))
    close(anchored_divergence(s, t, queue, queue, temperature=0.5), ref.compress(s.numpy(), t.numpy(), queue.numpy(), queue.numpy(), 0.5))


def test_crd_with_banks_equals_loops_over_two_steps() -> None:
    """The released form: banks of one row per sample, drawn negatives, Z of the first step, rows moved by half after each."""
    n, drawn, width = 9, 4, 5
    banks = [0.3 * rows(n, width, seed=side) for side in (1, 2)]
    generator = torch.Generator().manual_seed(3)
    constants = expected_z = None
    for step in range(2):
        batch = torch.randperm(n, generator=generator)[:3]
        others = (batch.unsqueeze(1) + torch.randint(1, n, (3, drawn), generator=generator)) % n
        v1, v2 = units(3, width, seed=10 + step), units(3, width, seed=20 + step)
        chosen = [bank[torch.cat([batch.unsqueeze(1), others], 1)] for bank in banks]
        scores = [contrast_scores(v, keys[:, 0], keys[:, 1:]) for v, keys in ((v1, chosen[1]), (v2, chosen[0]))]
        counted = torch.ones(3, drawn, dtype=torch.bool)
        constants = constants or [log_normalizer(one, counted, n) for one in scores]
        value = sum(contrast_nce(one, counted, z, n) for one, z in zip(scores, constants, strict=True))
        expected, expected_z = ref.crd(v1.numpy(), v2.numpy(), chosen[0].numpy(), chosen[1].numpy(), n, expected_z)
        close(torch.as_tensor(value), expected)
        assert [z.exp().item() for z in constants] == pytest.approx(expected_z)
        for bank, v in zip(banks, (v1, v2), strict=True):
            bank[batch] = torch.nn.functional.normalize(0.5 * bank[batch] + 0.5 * v, dim=1)


def test_crd_counts_only_negatives() -> None:
    own, others, counted = rows(3), rows(3, 4), torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.bool)
    scores, kept = (own, others), [[first, *row[mask]] for first, row, mask in zip(own, others, counted, strict=True)]
    log_z = log_normalizer(scores, counted, 50)
    flat = [x for row in kept for x in row]
    close(log_z, math.log(50 * sum(math.exp(x) for x in flat) / len(flat)))
    close(contrast_nce(scores, counted, log_z, 50), ref.nce([[math.exp(x - log_z) for x in row] for row in kept], 50))


def test_no_gradient_flows_into_keys() -> None:
    v, own, others, anchors = (units(3, 4, seed=seed).requires_grad_() for seed in range(4))
    torch.cat([part.flatten() for part in contrast_scores(v, own, others)]).sum().backward()
    anchored_divergence(v, v, anchors, anchors).backward()
    assert v.grad is not None
    assert [x.grad for x in (own, others, anchors)] == [None, None, None]


def test_crd_survives_a_temperature_whose_exponential_overflows() -> None:
    own, others = torch.tensor([400.0], requires_grad=True), torch.tensor([[-400.0, 399.0]], requires_grad=True)
    scores, counted = (own, others), torch.ones(1, 2, dtype=torch.bool)
    loss = contrast_nce(scores, counted, log_normalizer(scores, counted, 10), 10)
    loss.backward()
    assert torch.isfinite(loss)
    for part in scores:
        assert part.grad is not None
        assert torch.isfinite(part.grad).all()


# -- gradients


def gradient(loss: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(loss(x), x)[0]


T, QUEUE, OWN, MASK = rows(6, 3, seed=9), units(5, 3, seed=7), units(5, 3, seed=8), torch.tensor([1, 1, 0, 1, 1], dtype=torch.bool)
COUNTED = torch.tensor([[1, 1, 0, 1, 1]] * 5 + [[0] * 5], dtype=torch.bool)
MAPS = rows(2, 3, 2, 3, seed=4)


def scored(s: Tensor) -> tuple[Tensor, Tensor]:
    return contrast_scores(torch.nn.functional.normalize(s, dim=1), units(6, 3, seed=5), QUEUE)


OF_ROWS: dict[str, Callable[[Tensor], Tensor]] = {
    "kd": lambda s: kd(s, T),
    "fitnet": lambda s: hint_error(s, T, rows(3, 3), rows(3)),
    "similarity_preserving": lambda s: similarity_preserving(s, T),
    "pkt": lambda s: pkt(s, T),
    "coss": lambda s: coss(s, T),
    "darkrank": lambda s: darkrank(s, T),
    "darkrank_as_is": lambda s: darkrank(s, T, normalize=False, beta=1.5),
    "correlation_congruence": lambda s: neighbor_congruence(s, T),
    "simreg": lambda s: unit_regression(s, T),
    "seed": lambda s: seed_cross_entropy(s, T, QUEUE, MASK),
    "compress_1q": lambda s: anchored_divergence(s, T, QUEUE, QUEUE, MASK, temperature=0.3),
    "compress_2q": lambda s: anchored_divergence(s, T, OWN, QUEUE, MASK, temperature=0.3),
    "crd": lambda s: contrast_nce(scored(s), COUNTED, torch.tensor(3.0, dtype=torch.float64), 40),
}
OF_MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "attention_transfer": lambda s: attention_transfer(s, MAPS),
    "similarity_preserving": lambda s: similarity_preserving(s, MAPS),
    "fitnet": lambda s: hint_error(s, MAPS, rows(3, 2), rows(3)),
}


@pytest.mark.parametrize("name", OF_ROWS)
def test_gradient_of_rows_equals_finite_differences(name: str) -> None:
    assert torch.autograd.gradcheck(OF_ROWS[name], (rows(6, 3, seed=1).requires_grad_(),))


@pytest.mark.parametrize("name", OF_MAPS)
def test_gradient_of_maps_equals_finite_differences(name: str) -> None:
    assert torch.autograd.gradcheck(OF_MAPS[name], (rows(2, 2, 3, 3, seed=1).requires_grad_(),))


def test_learned_weights_get_gradients_that_equal_finite_differences() -> None:
    arguments = rows(3, 2).requires_grad_(), rows(3).requires_grad_()
    assert torch.autograd.gradcheck(lambda weight, bias: hint_error(rows(4, 2, seed=1), rows(4, 3, seed=2), weight, bias), arguments)
    # the teacher's side of CRD and of congruence is a learned projection, and learns
    assert torch.autograd.gradcheck(lambda t: neighbor_congruence(rows(4, 2), t), (rows(4, 2, seed=1).requires_grad_(),))


# -- where both sides agree


def test_losses_are_zero_where_both_sides_agree() -> None:
    z, maps = rows(6, 3), rows(4, 2, 3, 3)
    values = {
        "kd": kd(z + 5, z),
        "fitnet": hint_error(z, z, torch.eye(3, dtype=z.dtype), torch.zeros(3, dtype=z.dtype)),
        "attention_transfer": attention_transfer(maps, maps),
        "similarity_preserving": similarity_preserving(z, z),
        "pkt": pkt(z, z),
        "correlation_congruence": neighbor_congruence(z, z),
        "simreg": unit_regression(z, z),
        "compress": anchored_divergence(z, z, QUEUE, QUEUE),
    }
    assert {name: value.item() for name, value in values.items()} == pytest.approx(dict.fromkeys(values, 0), abs=1e-14)
    close(coss(z, z), -2)
    close(coss(-z, z), 2)
    close(unit_regression(-z, z), 4)


@settings(max_examples=10)
@given(seeds)
def test_agreement_is_a_minimum(seed: int) -> None:
    t = rows(6, 3, seed=seed)
    moved = t + 0.1 * rows(6, 3, seed=seed + 1)
    losses: dict[str, Callable[[Tensor], Tensor]] = {
        "kd": lambda s: kd(s, t),
        "similarity_preserving": lambda s: similarity_preserving(s, t),
        "pkt": lambda s: pkt(s, t),
        "coss": lambda s: coss(s, t),
        "simreg": lambda s: unit_regression(s, t),
        "compress": lambda s: anchored_divergence(s, t, QUEUE, QUEUE),
        "seed": lambda s: seed_cross_entropy(s, t, QUEUE, student_temperature=0.1, teacher_temperature=0.1),
    }
    for name, loss in losses.items():
        assert loss(moved) > loss(t), name
        assert gradient(loss, t).abs().max() < 1e-6, name


def test_darkrank_prefers_the_order_of_the_teacher() -> None:
    t = torch.tensor([[0.0], [1.0], [3.0], [7.0], [15.0]], dtype=torch.float64)
    swapped = t[[0, 3, 2, 1, 4]]
    assert darkrank(t, t, normalize=False) < darkrank(swapped, t, normalize=False)


# -- what changes nothing


@settings(max_examples=10)
@given(seeds, st.floats(0.1, 10), st.floats(0.1, 10))
def test_scale_and_rotation_of_either_side(seed: int, ours: float, theirs: float) -> None:
    s, t = rows(6, 3, seed=seed), rows(6, 4, seed=seed + 1)
    turned = ours * s @ rotation(3, seed), theirs * t @ rotation(4, seed)
    for loss in (similarity_preserving, pkt, darkrank):
        close(loss(*turned), loss(s, t).item(), 1e-8)
    each = rows(6, 1, seed=seed + 2).exp()
    close(pkt(s * each, t), pkt(s, t).item(), 1e-8)
    close(darkrank(s * each, t), darkrank(s, t).item(), 1e-8)
    narrow = t[:, :3]
    close(coss(ours * s, theirs * narrow), coss(s, narrow).item(), 1e-8)
    close(unit_regression(s * each, narrow * theirs), unit_regression(s, narrow).item(), 1e-8)
    close(attention_transfer(ours * s[..., None, None], theirs * t[..., None, None]), 0, 1e-12)  # one place: all attention is there
    queue = units(5, 3, seed=seed)
    close(seed_cross_entropy(s * each, narrow * theirs, queue), seed_cross_entropy(s, narrow, queue).item(), 1e-8)
    close(anchored_divergence(s * each, narrow, queue, queue), anchored_divergence(s, narrow, queue, queue).item(), 1e-8)


def test_attention_does_not_see_scale_nor_the_order_of_channels() -> None:
    s, t = rows(3, 4, 3, 3), rows(3, 2, 3, 3, seed=1)
    close(attention_transfer(2 * s[:, [2, 0, 3, 1]], -3 * t), attention_transfer(s, t).item())


def test_congruence_sees_the_order_of_the_batch() -> None:
    s, t = rows(6, 3), rows(6, 3, seed=1)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert abs(neighbor_congruence(s[order], t[order]) - neighbor_congruence(s, t)) > 1e-3


def test_a_key_of_no_account_changes_nothing() -> None:
    s, t, moved = rows(4, 3), rows(4, 3, seed=1), QUEUE.clone()
    moved[2] = 100
    assert seed_cross_entropy(s, t, QUEUE, MASK) == seed_cross_entropy(s, t, moved, MASK)
    assert anchored_divergence(s, t, QUEUE, QUEUE, MASK) == anchored_divergence(s, t, moved, moved, MASK)


# -- numerics and border


def test_a_duplicate_is_ranked_and_a_sample_itself_is_not() -> None:
    t = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    s = rows(4, 2)
    close(darkrank(s, t, length=3), ref.darkrank(s.numpy(), t.numpy(), L=3))


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
def test_darkrank_of_equal_students_has_no_gradient(beta: float) -> None:
    assert (gradient(lambda s: darkrank(s, T, beta=beta), torch.ones(6, 3, dtype=torch.float64)) == 0).all()


def test_opposite_rows_stay_finite() -> None:
    s = torch.tensor([[1.0, 0.1], [-1.0, -0.1]], requires_grad=True)
    loss = pkt(s, torch.ones(2, 2))
    loss.backward()
    assert torch.isfinite(loss)
    assert s.grad is not None
    assert torch.isfinite(s.grad).all()


def test_a_dead_unit_of_the_student_does_not_blow_up_the_gradient() -> None:
    s, t = rows(6, 3), rows(6, 3, seed=1)
    s[:, 1] = 0
    assert gradient(lambda x: coss(x, t), s).abs().max() < 10
    s[2] = 0
    for loss in (coss, pkt, unit_regression, similarity_preserving):
        assert gradient(lambda x, loss=loss: loss(x, t), s).abs().max() < 10  # type: ignore[misc]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: kd(rows(3, 4), rows(3, 5)), r"\(3, 4\) and teacher \(3, 5\): give the student a projection to 5"),
        (lambda: kd(rows(3, 1), rows(3, 1)), "at least 2 logits"),
        (lambda: kd(rows(3, 4), rows(3, 4), temperature=0.0), "temperature: expected a number above 0, got 0"),
        (lambda: coss(rows(3, 4), rows(3, 5)), "equally wide"),
        (lambda: coss(rows(1, 4), rows(1, 4)), "at least 2"),
        (lambda: pkt(rows(1, 4), rows(1, 4)), "at least 2"),
        (lambda: pkt(rows(3, 4, 2, 2), rows(3, 4)), "take a layer after pooling"),
        (lambda: similarity_preserving(rows(3), rows(3)), r"outputs \(B, \.\.\.\)"),
        (lambda: similarity_preserving(rows(3, 0), rows(3, 4)), "at least one number"),
        (lambda: attention_transfer(rows(3, 4), rows(3, 4)), r"feature maps \(B, C, H, W\)"),
        (lambda: darkrank(rows(4, 3), rows(4, 3)), "at least 5"),
        (lambda: darkrank(rows(4, 3), rows(4, 3), length=1), "length: expected at least 2"),
        (lambda: darkrank(rows(6, 3), rows(6, 3), alpha=-1.0), "alpha"),
        (lambda: darkrank(rows(6, 3), rows(6, 3), beta=0.0), "beta"),
        (lambda: seed_cross_entropy(rows(3, 4), rows(3, 5), units(2, 5)), "equally wide"),
        (lambda: seed_cross_entropy(rows(3, 4), rows(3, 4), units(2, 4), teacher_temperature=0.0), "teacher_temperature"),
        (lambda: anchored_divergence(rows(3, 4), rows(3, 4), units(2, 4), units(2, 4), temperature=-1.0), "temperature"),
    ],
)
def test_messages_say_what_does_not_fit(call: Callable[[], Tensor], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        call()


def test_references_can_fail() -> None:
    """The loops give what the formulas give on numbers that can be worked out by hand."""
    assert ref.kd(np.array([[0.0, 0.0]]), np.array([[math.log(3), 0.0]]), 1.0) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert ref.correlation_congruence(np.array([[1.0], [2.0], [3.0]]), np.zeros((3, 1))) == pytest.approx((2 + 6) / 2)
    assert ref.simreg(np.array([[2.0, 0.0]]), np.array([[0.0, 5.0]])) == pytest.approx(2)
    assert ref.nce([[0.5, 0.5]], 2, eps=0) == pytest.approx(2 * math.log(2))
