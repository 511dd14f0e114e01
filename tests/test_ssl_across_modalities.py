"""Each method across modalities against the slow references, and what an absent modality does to all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.build import build_encoder, keyed_initialisation
from kinshot.encoders.modality_projector import modality_projector
from kinshot.encoders.projector import mlp_projector
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.samples.batch import Batch
from kinshot.samples.bundle import BundleSpec
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.series import SeriesSpec
from kinshot.ssl.methods.masked_vicreg import kept
from tests import reference_temporal as reference
from tests.steps import batch_of

ACC, AIR = SeriesSpec(3, 24, 50.0, (0.0,) * 3, (1.0,) * 3), SeriesSpec(1, 8, 10.0, (0.0,), (1.0,))
SPEC = BundleSpec(("acc", "gyro", "air"), (ACC, ACC, AIR))
ABSENT = {"acc": [6], "gyro": [2, 3], "air": [0, 3]}
"""Of a batch of eight: the fourth sample has one modality, the others two or all."""
B = 8
# windows of 0.8 s at steps of 0.4 s, four to a recording
CLOCK = (np.arange(24) % 4 * 0.4, np.arange(24) // 4)
SHOWN = torch.tensor([0, 1, 4, 6, 9, 10, 13, 20])
# two to a sequence, for a method that takes them; the second one begins before the first one ends
SEQUENCES = torch.tensor([0, 1, 2, 3, 8, 9, 13, 14])
METHOD_SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("cmc", {}),
    ("cmc", {"core": "air"}),
    ("cocoa", {}),
    ("cocoa", {"form": "ratio", "temperature": 0.1}),
    ("vicreg_x", {}),
    ("vicreg_x", {"intra": 0.5}),
    ("barlow_x", {"redundancy": 0.1}),
    ("barlow_x", {"intra": 0.5, "core": "gyro"}),
    ("focal", {"length": 2}),
    ("focal", {"length": 2, "distance": "unit", "margin": 0.2}),
]
# one projector for all modalities
JOINED: list[tuple[str, dict[str, Any]]] = [("masked_vicreg", {"fusion": fusion}) for fusion in ("concat", "mean", "attention")]
every_method = pytest.mark.parametrize(("name", "settings"), [*METHOD_SETTINGS, *JOINED])
by_modality = pytest.mark.parametrize(("name", "settings"), METHOD_SETTINGS)


def method(name: str, fusion: str = "concat", **settings: Any) -> Method:
    with keyed_initialisation(0, "encoder"):
        encoder = build_encoder("fused", {"each": "series_cnn:widths=[8, 12]:kernels=[4, 4]:strides=[2, 2]", "fusion": fusion}, SPEC)
    with keyed_initialisation(0, "projector"):
        joined = name == "masked_vicreg"
        projector = (
            mlp_projector(encoder.dim, 16, 8, 2, last_norm=False) if joined else modality_projector(encoder, 16, 8, 2, last_norm=False)
        )
        network = Model(encoder, projector)
    return METHODS.build(name, network, RunContext(24, B, 3, 30, 0, clock=CLOCK), settings=settings).train()


def rows(seed: int, absent: dict[str, list[int]]) -> torch.Tensor:
    parts = {name: values.clone() for name, values in SPEC.split(SPEC.noise(B, torch.Generator().manual_seed(seed))).items()}
    for name, lacking in absent.items():
        parts[name][lacking] = float("nan")
    return SPEC.join(parts)


def shown(what: Method, absent: dict[str, list[int]] = ABSENT) -> Batch:
    return batch_of(what, [rows(view, absent) for view in range(what.view_count)], samples(what), step=3)


def samples(what: Method) -> torch.Tensor:
    return SHOWN if what.order is None else SEQUENCES


def losses(what: Method, batch: Batch) -> tuple[Outputs, dict[str, torch.Tensor]]:
    found = what.outputs(batch)
    return found, what.loss(found, batch, batch.step)


def embeddings(found: Outputs) -> list[list[np.ndarray]]:
    """View by view, modality by modality, float64 (B, D)."""
    by_name = [[block.detach().double().numpy() for block in found.blocks(name)] for name in SPEC.names]
    return [list(z) for z in zip(*by_name, strict=True)]


def there(absent: dict[str, list[int]] = ABSENT) -> np.ndarray:
    return np.array([[i not in absent.get(name, []) for i in range(B)] for name in SPEC.names])


def apart() -> np.ndarray:
    """Which samples of the batch are told apart."""
    start, recording = (values[SHOWN.numpy()] for values in CLOCK)
    return np.array([[not reference.overlap(recording, start, [0.8] * 24, i, j) for j in range(B)] for i in range(B)])


def test_some_windows_of_the_batch_overlap() -> None:
    overlapping = ~apart() & ~np.eye(B, dtype=bool)
    assert 0 < overlapping.sum() < B


@pytest.mark.parametrize("core", ["", "air"])
def test_cmc_is_the_formula_of_what_its_networks_say(core: str) -> None:
    what = method("cmc", temperature=0.2, core=core)
    found, terms = losses(what, shown(what))
    (z,) = embeddings(found)
    expected = reference.cmc(z, there(), apart(), 0.2, core=SPEC.names.index(core) if core else None)
    assert terms["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert terms["present"].item() == pytest.approx(there().mean())


@pytest.mark.parametrize(("form", "T", "alpha", "lam"), [("sum", 0.5, 0.25, 2.0), ("ratio", 0.1, 1.0, 1.0)])
def test_cocoa_is_the_formula_of_what_its_networks_say(form: str, T: float, alpha: float, lam: float) -> None:
    what = method("cocoa", form=form, temperature=T, alpha=alpha, lam=lam)
    found, terms = losses(what, shown(what))
    ((z,), has, told) = (embeddings(found), there(), apart())
    number = len(SPEC.names) * B
    P, N = np.zeros((number, number)), np.zeros((number, number))
    for a in range(number):
        for b in range(number):
            (m, i), (n, j) = divmod(a, B), divmod(b, B)
            P[a, b] = m != n and i == j and has[m, i] and has[n, j]
            N[a, b] = m == n and told[i, j] and has[m, i] and has[n, j]
    one = np.concatenate(z) + 0.0
    costs = {
        name: reference.mean(c for c, k in zip(reference.cocoa(safe(one), safe(one), P, N, T, form, *weights), P.any(1), strict=True) if k)
        for name, weights in {"loss": (alpha, lam), "attract": (1.0, 0.0), "repel": (0.0, 1.0)}.items()
    }
    assert terms["loss"].item() == pytest.approx(costs["loss"], rel=1e-5)
    assert [terms[name].item() for name in ("attract", "repel") if name in terms] == pytest.approx(
        [costs[name] for name in ("attract", "repel") if form == "sum"], rel=1e-5
    )


def safe(z: np.ndarray) -> np.ndarray:
    """Absent rows, which are zero and have no cosine, as anything."""
    return np.where(z.any(1, keepdims=True), z, 1.0)


@pytest.mark.parametrize("name", ["vicreg_x", "barlow_x"])
@pytest.mark.parametrize("intra", [0.0, 0.5])
@pytest.mark.parametrize("core", ["", "gyro"])
def test_agreement_is_the_formula_of_what_its_networks_say(name: str, intra: float, core: str) -> None:
    weights = {"invariance": 3.0, "variance": 2.0, "covariance": 0.5} if name == "vicreg_x" else {"redundancy": 0.1}
    what = method(name, intra=intra, core=core, **weights)
    found, terms = losses(what, shown(what))
    views, has = embeddings(found), there()
    formula, weights = (reference.vicreg, weights) if name == "vicreg_x" else (reference.barlow_twins, {"invariance": 1.0, **weights})
    pairs = [(a, b) for a in range(3) for b in range(a + 1, 3) if not core or SPEC.names.index(core) in (a, b)]
    each = [formula(z[a][has[a] & has[b]], z[b][has[a] & has[b]]) for z in views for a, b in pairs]
    across = {term: reference.mean(one[term] for one in each) for term in weights}
    expected = sum(weights[term] * across[term] for term in weights)
    if intra:
        own = [formula(views[0][m][has[m]], views[1][m][has[m]]) for m in range(3)]
        within = reference.mean(sum(weights[term] * one[term] for term in weights) for one in own)
        assert terms["within"].item() == pytest.approx(within, rel=1e-4)
        expected += intra * within
    assert len(views) == what.view_count == (2 if intra else 1)
    assert {term: terms[term].item() for term in weights} == pytest.approx(across, rel=1e-4)
    assert terms["loss"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("distance", "margin"), [("raw", 1.0), ("unit", 0.3)])
def test_focal_is_the_formula_of_what_its_networks_say(distance: str, margin: float) -> None:
    weights = {"shared": 1.0, "private": 0.5, "orthogonality": 3.0, "temporal": 5.0}
    what = method("focal", temperature=0.3, length=2, distance=distance, margin=margin, **weights)
    found, terms = losses(what, shown(what))
    z = np.array(embeddings(found))
    if distance == "unit":
        z = z / np.maximum(np.linalg.norm(z, axis=-1, keepdims=True), 1e-12)
    start, recording = (values[SEQUENCES.numpy()[::2]] for values in CLOCK)
    told = np.array([[i != j and not reference.overlap(recording, start, [1.2] * 4, i, j) for j in range(4)] for i in range(4)])
    assert told.sum() == 4 * 3 - 2
    expected = reference.focal(z.reshape(2, 3, 4, 2, 8), there().reshape(3, 4, 2), told, 0.3, margin)
    assert {name: terms[name].item() for name in expected} == pytest.approx(expected, rel=1e-4)
    assert terms["loss"].item() == pytest.approx(sum(weights[name] * expected[name] for name in weights), rel=1e-4)
    assert min(expected.values()) > 0


def test_focal_makes_its_batches_of_sequences() -> None:
    what = method("focal", length=2, spacing=2)
    assert what.order is not None
    found = what.order(0).view(3, 4, 2)
    start, recording = (values[found.numpy()] for values in CLOCK)
    assert (recording[..., 0] == recording[..., 1]).all()
    np.testing.assert_allclose(start[..., 1] - start[..., 0], 0.8)


def test_a_modality_that_one_view_lacks_is_absent_for_focal() -> None:
    what = method("focal", length=2)
    one, other = rows(0, ABSENT), rows(1, {**ABSENT, "air": [0, 3, 5]})
    both = losses(what, batch_of(what, [one, other], SEQUENCES))[1]
    assert both["present"].item() == pytest.approx((3 * B - 6) / (3 * B))
    assert torch.isfinite(both["loss"])


@pytest.mark.parametrize("fusion", ["concat", "mean", "attention"])
def test_masked_vicreg_is_the_formula_of_two_subsets_of_modalities(fusion: str) -> None:
    what = method("masked_vicreg", fusion=fusion, invariance=3.0, variance=2.0, covariance=0.5)
    batch = shown(what)
    found, terms = losses(what, batch)
    first, second = (block.detach().double().numpy() for block in found.blocks("projector"))
    expected = reference.vicreg(first, second)
    assert {name: terms[name].item() for name in expected} == pytest.approx(expected, rel=1e-4)
    assert terms["loss"].item() == pytest.approx(
        3 * expected["invariance"] + 2 * expected["variance"] + 0.5 * expected["covariance"], rel=1e-4
    )
    # what either half shows is the feature of the subset alone: the encoder says the same of a sample that has no more
    subsets = what.subsets(batch, torch.from_numpy(there()))  # type: ignore[operator]  # the method's own
    assert torch.equal(
        torch.cat([torch.stack(list(SPEC.present(x).values())) for x in found.shown.inputs[0].chunk(2)]), subsets.flatten(0, 1)
    )
    what.eval()
    whole = what.outputs(batch)
    torch.testing.assert_close(whole["backbone"], what.encoder(whole.shown.inputs[0]), rtol=1e-4, atol=1e-5)
    assert len(whole["backbone"]) == 2 * B


def test_hidden_modalities_are_drawn_by_step_and_sample() -> None:
    what = method("masked_vicreg", hide=0.5)
    has = torch.from_numpy(there())

    def drawn(samples: torch.Tensor, step: int) -> torch.Tensor:
        return what.subsets(batch_of(what, [], samples, step=step), has)  # type: ignore[operator, no-any-return]

    assert torch.equal(drawn(SHOWN, 3), drawn(SHOWN, 3))
    assert not torch.equal(drawn(SHOWN, 3), drawn(SHOWN, 4))
    assert not torch.equal(*drawn(SHOWN, 3))
    # each sample by itself, whatever stands beside it
    one = what.subsets(batch_of(what, [], SHOWN[5:6], step=3), has[:, 5:6])  # type: ignore[operator]
    assert torch.equal(drawn(SHOWN, 3)[..., 5:6], one)


def test_modalities_are_hidden_as_often_as_asked_and_never_all() -> None:
    draws = torch.rand(3, 20_000, generator=torch.Generator().manual_seed(0))
    has = torch.ones(3, 20_000, dtype=torch.bool)
    has[0, ::2] = False
    for hide in (0.0, 0.3, 0.9):
        found = kept(draws, has, hide)
        assert bool(found.any(0).all())
        assert not bool((found & ~has).any())
        # of three, hidden each by itself, unless all were: then one of them is kept
        share = found[:, 1::2].float().mean(1)
        torch.testing.assert_close(share, torch.full((3,), 1 - hide + hide**3 / 3), atol=0.02, rtol=0)


@every_method
def test_what_a_sample_lacks_has_no_gradient_and_all_else_has_a_finite_one(name: str, settings: dict[str, Any]) -> None:
    what = method(name, **settings)
    views = [rows(view, ABSENT).requires_grad_() for view in range(what.view_count)]
    losses(what, batch_of(what, views, samples(what)))[1]["loss"].backward()
    for x in views:
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()
        for modality, part in SPEC.split(x.grad).items():
            assert not part[ABSENT[modality]].any()
            assert part.any()


@every_method
@pytest.mark.parametrize(
    "absent", [{"air": list(range(B))}, {"acc": list(range(0, B, 2)), "gyro": list(range(1, B, 2))}, {"acc": list(range(1, B))}]
)
def test_any_subset_of_modalities_will_do(name: str, settings: dict[str, Any], absent: dict[str, list[int]]) -> None:
    what = method(name, **settings)
    loss = losses(what, shown(what, absent))[1]["loss"]
    assert torch.isfinite(loss)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in what.parameters() if p.grad is not None)


@pytest.mark.parametrize(("name", "settings"), [(name, more) for name, more in METHOD_SETTINGS if name != "focal" and "intra" not in more])
def test_samples_of_one_modality_alone_have_nothing_to_learn_across(name: str, settings: dict[str, Any]) -> None:
    what = method(name, **settings)
    alone = {"acc": [0, 1, 2, 3, 4], "gyro": [0, 1, 5, 6, 7], "air": [2, 3, 4, 5, 6, 7]}
    loss = losses(what, shown(what, alone))[1]["loss"]
    loss.backward()
    assert loss == 0
    assert not any(p.grad.any() for p in what.parameters() if p.grad is not None)


@by_modality
def test_an_absent_modality_changes_nothing_but_itself(name: str, settings: dict[str, Any]) -> None:
    what, less = method(name, **settings), {**ABSENT, "air": [0, 3, 5]}
    before, after = (losses(what, shown(what, absent))[0] for absent in (ABSENT, less))
    for modality in ("acc", "gyro"):
        torch.testing.assert_close(after[modality], before[modality])
    assert not torch.allclose(before["air"], after["air"])


@every_method
def test_the_order_of_samples_does_not_matter(name: str, settings: dict[str, Any]) -> None:
    what = method(name, **settings)
    batch = shown(what)
    order = torch.tensor([3, 1, 7, 5, 0, 2, 6, 4] if what.order is None else [4, 5, 6, 7, 2, 3, 0, 1])
    moved = batch_of(what, [x[order] for x in batch.views], batch.indices[order], step=3)
    assert losses(what, moved)[1]["loss"].item() == pytest.approx(losses(what, batch)[1]["loss"].item(), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("cocoa", {"form": "ratio", "lam": 2.0}, "weigh the terms of form=sum"),
        ("cocoa", {"temperature": 0.02}, "at least 0.025 for form=sum"),
        ("cocoa", {"form": "product"}, "form"),
        ("vicreg_x", {"covariance": -1.0}, "covariance"),
        ("vicreg_x", {"core": "heart"}, "core is a modality of acc, gyro, air, got 'heart'"),
        ("barlow_x", {"intra": -0.5}, "intra"),
        ("focal", {"temperature": 0.0}, "temperature"),
        ("focal", {"temporal": -1.0}, "temporal"),
        ("focal", {"length": 8}, "sequences of 8 windows from others, got batches of 8"),
        ("focal", {"length": 3}, "sequences of 3 windows do not fill a batch of 8"),
        ("masked_vicreg", {"hide": 1.0}, "hide is a probability"),
        ("masked_vicreg", {"variance": -1.0}, "variance"),
    ],
)
def test_settings_out_of_range_are_named(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        method(name, **settings)


def test_masked_vicreg_wants_one_projector_and_the_fused_encoder() -> None:
    network = method("cmc").model
    with pytest.raises(ConfigError, match=r"got a projector for each: set projector\.modalities=false"):
        METHODS.build("masked_vicreg", network, RunContext(24, B, 3, 30, 0), settings={})
    with pytest.raises(ConfigError, match=r"compares modalities, got images"):
        METHODS.build(
            "masked_vicreg",
            Model(build_encoder("conv4", {}, PixelSpec.square(3, 8, (0.0,) * 3, (1.0,) * 3))),
            RunContext(24, B, 3, 30, 0),
            settings={},
        )


def test_focal_wants_a_clock_and_halves() -> None:
    with pytest.raises(ConfigError, match="focal learns from sequences of windows, and the data has no clock"):
        METHODS.build("focal", method("cmc").model, RunContext(24, B, 3, 30, 0), settings={})
    encoder = method("cmc").encoder
    odd = Model(encoder, modality_projector(encoder, 16, 7, 2, last_norm=False))
    with pytest.raises(ConfigError, match=r"halved, got 7 numbers: set projector\.dim to an even number"):
        METHODS.build("focal", odd, RunContext(24, B, 3, 30, 0, clock=CLOCK), settings={})


def test_outputs_of_different_widths_are_refused() -> None:
    encoder = build_encoder(
        "fused", {"each": "series_cnn:widths=[8, 12]:kernels=[4, 4]:strides=[2, 2]", "other": ["air=tcn:hidden=4:depth=1:features=5"]}, SPEC
    )
    network = Model(encoder, modality_projector(encoder, 16, 8, 0, last_norm=False))
    with pytest.raises(ConfigError, match=r"not equally wide, got acc 12, gyro 12, air 5: set projector\.layers=1"):
        METHODS.build("cocoa", network, RunContext(24, B, 3, 30, 0), settings={})
