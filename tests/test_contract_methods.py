"""What every registered pretraining method must keep to, on images, features and tokens, with tiny encoders of our own."""

from __future__ import annotations

import copy
import math
import re
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.dense_cnn import DenseCNN
from kinshot.encoders.fused_bundle import FusedBundle
from kinshot.encoders.meta_path import MetaPathEncoder
from kinshot.encoders.mlp import MLP
from kinshot.encoders.modality_projector import ModalityProjector
from kinshot.encoders.paths import PathProjector
from kinshot.encoders.series_cnn import SeriesCNN
from kinshot.encoders.tcn import TCN
from kinshot.encoders.text_transformer import TextTransformer
from kinshot.encoders.timm_adapter import TimmEncoder
from kinshot.learn import METHODS
from kinshot.samples.bundle import BundleSpec
from kinshot.samples.characters import MASK
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.rows import RowSpec
from kinshot.samples.series import SeriesSpec
from kinshot.samples.spec import accepted_kinds
from kinshot.samples.tokens import TokenSpec
from tests.graph_trees import graph_spec
from tests.method_variants import VARIANTS
from tests.steps import NEEDS_TIMM, hides_patches, loss_of, model_of

N, B = 48, 8
JOINED: tuple[str, ...] = ("masked_vicreg",)
"""Methods of bundles that learn on the fused feature, with one projector for all modalities."""
# a method that only teachers give a loss has none to look at: tests/test_distill.py
ALONE = [name for name in METHODS.names() if not METHODS.entry(name).flags.get("by_terms")]
SERIES = SeriesSpec(3, 24, 50.0, (0.0,) * 3, (1.0,) * 3)
BUNDLE = BundleSpec(("acc", "gyro", "air"), (SERIES, SERIES, SeriesSpec(1, 8, 50 / 3, (0.0,), (1.0,))))


class Case(NamedTuple):
    name: str
    kind: str
    settings: dict[str, Any]


EPISODE = {"ways": 2, "shots": 1, "queries": 3}
DENSE_EPISODE = {"ways": 2, "shots": 1, "queries": 2, "tasks": 2}
CLASSES = 6


def dense(name):
    """Whether a method learns from class maps."""
    return "mask" in METHODS.entry(name).flags.get("fields", ())


def settings_of(name):
    """Variants of a method's settings; those that learn from episodes get some that fill a batch."""
    episodes = {} if "ways" not in METHODS.entry(name).parameters else DENSE_EPISODE if dense(name) else EPISODE
    return [{**episodes, **settings} for settings in [{}, *VARIANTS.get(name, [])]]


def kinds_of(name):
    """Kinds of samples that a method is tried on, the one that all its variants are tried on first."""
    known = ("image",) if dense(name) else ("image", "features", "tokens", "series", "bundle", "node")
    return [kind for kind in known if kind in accepted_kinds(METHODS.get(name))]


def cases():
    found = [Case(name, kinds_of(name)[0], settings) for name in ALONE for settings in settings_of(name)]
    found += [Case(name, kind, settings_of(name)[0]) for name in ALONE for kind in kinds_of(name)[1:]]
    return [pytest.param(case, id=title(case), marks=NEEDS_TIMM if hides_patches(case.name) else ()) for case in found]


def title(case):
    return f"{case.name}-{case.kind}" + "".join(f"-{k}={v}" for k, v in case.settings.items())


every_method = pytest.mark.parametrize("case", cases())


class TinyEncoder(nn.Module):
    dim = 12
    input = PixelSpec.square(3, 8, (0.0,) * 3, (1.0,) * 3)

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(54, 12))

    def forward(self, x):
        return self.layers(x)


def encoder_for(kind, name="simclr"):
    if hides_patches(name):
        return TimmEncoder(TinyEncoder.input, model="test_vit", patch=2)
    if dense(name):
        return DenseCNN(TinyEncoder.input, width=8, depth=2)
    if kind == "features":
        return MLP(RowSpec(10, (0.0,) * 10, (1.0,) * 10), widths=(16, 12))
    if kind == "tokens":
        return TextTransformer(TokenSpec(9, "abcd"), width=12, layers=1, heads=2)
    if name == "ts2vec":  # which hides steps
        small = {"hidden": 6, "depth": 1, "features": 8}
        return TCN(SERIES, **small) if kind == "series" else FusedBundle(BUNDLE, each="tcn:hidden=6:depth=1:features=8")
    if kind == "series":
        return SeriesCNN(SERIES, widths=(8, 12), kernels=(4, 4), strides=(2, 2))
    if kind == "node":
        return MetaPathEncoder(graph_spec(N, averaged=("a",)), dim=12)
    if kind == "bundle":
        return FusedBundle(BUNDLE, each="series_cnn:widths=[8, 12]:kernels=[4, 4]:strides=[2, 2]")
    return TinyEncoder()


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def samples(kind):
    """All N clean samples."""
    if kind == "node":
        return torch.arange(N).unsqueeze(1)
    if kind == "tokens":
        letters = torch.randint(3, 7, (N, 9), generator=torch.Generator().manual_seed(5))
        return letters.masked_fill(torch.arange(9) >= 2 + torch.arange(N)[:, None] % 8, 0)
    if kind in ("series", "bundle"):  # bursts, and, of bundles, modalities that are absent: every sixth sample lacks the second one
        x = {name: noise(5 + place, N, *part.shape) for place, (name, part) in enumerate(BUNDLE.modalities.items())}
        x["acc"][1::6, :, 4:7], x["gyro"][2::6] = float("nan"), float("nan")
        return BUNDLE.join(x) if kind == "bundle" else x["acc"]
    return noise(5, N, 10) if kind == "features" else noise(5, N, 3, 8, 8)


def class_maps():
    """A class map of each of the N images: a rectangle of one class, some pixels of another class and some of which nothing is said."""
    draws = torch.randint(0, 4, (N, 2), generator=torch.Generator().manual_seed(6))
    maps = torch.zeros(N, 8, 8, dtype=torch.int64)
    for i, (y, x) in enumerate(draws.tolist()):
        maps[i, y : y + 4, x : x + 4] = i % CLASSES + 1
    maps[:, 7, 6:] = CLASSES + 1
    maps[:, 0, 7] = 255
    return maps


def of_maps(maps):
    """What the run says of class maps, for a method that learns from them."""
    contains = torch.stack([(maps == c + 1).any(2).any(1) for c in range(CLASSES)], dim=1)
    return {"contains": contains.numpy(), "photos": torch.arange(len(maps)).numpy()}


def beside(method, indices):
    """The class maps of every view, whose noise moves no pixel."""
    return {"mask": [class_maps()[indices]] * method.view_count} if "mask" in method.fields else {}


def first_batch(method):
    """The samples of step 0: any, but for a method that asks which classes its order drew, or that takes sequences."""
    return method.order(0)[0] if method.order and ("mask" in method.fields or not method.supervised) else torch.arange(B)


def step_of(method, indices, step):
    """Loss and terms of a step."""
    return loss_of(method, inputs(method, indices, step), indices, step, beside=beside(method, indices))


def inputs(method, indices, step):
    """What the loop passes to `loss`: as many views as the method takes, and the clean batch where it needs it."""
    kind = method.encoder.input.kind
    clean = samples(kind)[indices]
    if "mask" in method.fields:
        clean = clean + noise(7, 256, 3)[class_maps()[indices]].movedim(-1, 1)
    views = []
    for view in range(method.view_count):
        if kind == "node":
            views.append(clean)
            continue
        draws = noise(100 + 2 * step + view, *clean.shape)
        if kind == "tokens":  # the first character is always hidden: a text has one
            views.append(clean.masked_fill((draws > 1) | (torch.arange(9) == 0), MASK))
        elif method.needs_clean and kind in ("series", "bundle"):  # what they rebuild is what was not measured
            views.append(clean.masked_fill(draws > 1, float("nan")))
        else:
            views.append(clean + 0.3 * draws)
    return [*views, clean] if method.needs_clean else views


def supervised(name):
    return METHODS.entry(name).flags.get("supervised", False)


def projector_for(name, encoder):
    if kinds_of(name) == ["bundle"] and name not in JOINED:
        return ModalityProjector(encoder.dims, 16, 8, 2, last_norm=False)
    dim = encoder.dim
    if name == "dual_path":
        return PathProjector(dim, 16, 8, 2, ("structural", "contrastive"), last_norm=False)
    # recipes of methods that learn from labels, or on the encoder's own features, have no projector
    if supervised(name) or dense(name) or METHODS.entry(name).flags.get("uses") == ():
        return nn.Identity()
    return nn.Sequential(nn.Linear(dim, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8))


def build(case, batch=B, count=N, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = encoder_for(case.kind, case.name)
        projector = projector_for(case.name, encoder)
    labels = torch.arange(count) % 6 if supervised(case.name) else None
    maps = of_maps(class_maps()[:count]) if dense(case.name) else {}
    context = RunContext(
        count, batch, steps_per_epoch=count // batch, total_steps=100, seed=seed, labels=labels, **maps, clock=clock_of(count)
    )
    return METHODS.build(case.name, model_of(encoder, projector), context, settings=case.settings)


def clock_of(count):
    """Recordings of sixteen windows that overlap by half."""
    return (torch.arange(count) % 16 * SERIES.length / SERIES.rate / 2).double().numpy(), (torch.arange(count) // 16).numpy()


def extractor(method):
    def extract(head=None, rows=None, quarters=0):
        with torch.no_grad():
            training = method.training
            method.eval()
            shown = samples(method.encoder.input.kind)
            found = (head or method.projector)(method.encoder(torch.rot90(shown, quarters, (-2, -1)) if quarters else shown)).float()
            method.train(training)
        return found

    return extract


def batch_of(method, step, batch=B):
    if method.order is not None:
        return method.order(step // 6)[step % 6]
    order = torch.randperm(N, generator=torch.Generator().manual_seed(step // 6))
    return order[(step % 6) * batch :][:batch]


def optimizer_of(method, lr=0.02):
    return torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=lr, momentum=0.9)


def train(method, optimizer, first, last):
    losses = []
    for step in range(first, last):
        if step % 6 == 0:
            method.start_epoch(step // 6, extractor(method))
        indices = batch_of(method, step)
        terms = step_of(method, indices, step)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        method.after_step(step)
        losses.append(terms["loss"].item())
    return losses


def started(case, **more):
    method = build(case, **more)
    method.train()
    method.prepare(extractor(method))
    method.start_epoch(0, extractor(method))
    return method


@every_method
def test_loss_is_a_finite_scalar_that_reaches_every_parameter(case):
    method = started(case)
    terms = step_of(method, first_batch(method), 0)
    assert terms["loss"].dim() == 0
    assert terms["loss"].dtype == torch.float32
    assert all(bool(torch.isfinite(v)) for v in terms.values())
    terms["loss"].backward()
    trained = [*method.encoder.named_parameters(), *method.projector.named_parameters()]
    assert trained
    # PFENet takes no gradient of its prior mask, which alone looks at the last stage where there is no base learner
    last = f"{method.encoder.stages[-1]}." if case.name == "pfenet" and not case.settings.get("base") else None
    trained = [(n, p) for n, p in trained if not (last and n.startswith(last))]
    assert [n for n, p in trained if p.grad is None] == []
    assert sum(p.grad.abs().sum() for _, p in trained) > 0
    gauges = method.after_step(0)
    assert all(math.isfinite(float(v)) for v in gauges.values())


@every_method
def test_every_parameter_of_its_own_gets_a_gradient_in_the_first_steps_or_later(case):
    """Decoders, predictors, prototypes: some stand still in the first epochs, none for ever."""
    if supervised(case.name):
        pytest.skip("what learns from labels has rows for classes that no batch may hold")
    method = started(case)
    for step in (0, 60):
        step_of(method, first_batch(method), step)["loss"].backward()
    own = [(n, p) for n, p in method.named_parameters() if p.requires_grad and not n.startswith("model.")]
    assert [n for n, p in own if p.grad is None] == []


@every_method
def test_loss_falls_on_a_fixed_batch(case):
    method = started(case)
    optimizer = optimizer_of(method, lr=0.005)  # losses are of any size: what one divides by 0.1 another multiplies by 25
    losses = []
    for _ in range(15):
        # the state that follows a step stands still: a queue would fill with the very batch it repels
        terms = step_of(method, first_batch(method), 0)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["loss"].item())
    assert losses[-1] < losses[0] - 1e-3


@every_method
def test_restored_state_continues_bit_for_bit(case):
    method = started(case)
    optimizer = optimizer_of(method)
    train(method, optimizer, 0, 3)
    state, momenta = copy.deepcopy(method.state_dict()), copy.deepcopy(optimizer.state_dict())
    expected = train(method, optimizer, 3, 8)
    again = build(case)
    again.train()
    again.load_state_dict(state)
    optimizer = optimizer_of(again)
    optimizer.load_state_dict(momenta)
    torch.manual_seed(999)
    assert train(again, optimizer, 3, 8) == expected
    final = again.state_dict()
    assert [k for k, v in method.state_dict().items() if not torch.equal(v, final[k])] == []


@every_method
def test_runs_with_one_seed_agree_whatever_the_global_generator_says(case):
    runs = []
    for noise in (1, 2):
        method = started(case)
        torch.manual_seed(noise)
        state = torch.random.get_rng_state()
        runs.append(train(method, optimizer_of(method), 0, 4))
        assert torch.equal(state, torch.random.get_rng_state())
    assert runs[0] == runs[1]


@every_method
def test_a_step_without_after_step_leaves_only_running_statistics(case):
    method = started(case)
    before = copy.deepcopy(method.state_dict())
    step_of(method, first_batch(method), 0)
    changed = [k for k, v in method.state_dict().items() if not torch.equal(v, before[k])]
    assert [k for k in changed if not k.endswith(("running_mean", "running_var", "num_batches_tracked"))] == []


@every_method
def test_batch_of_two_works_or_is_refused(case):
    try:
        method, refused = started(case, batch=2), ""
    except ConfigError as error:
        method, refused = None, str(error)
    if method is None:
        assert re.search("batch|queries|ways|at least|fill", refused), refused
        return
    loss = step_of(method, torch.arange(2), 0)["loss"]
    assert torch.isfinite(loss)
    loss.backward()
    method.after_step(0)


@every_method
def test_loss_is_float32_under_autocast(case):
    method, twin = started(case), started(case)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = step_of(method, first_batch(method), 0)["loss"]
    assert loss.dtype == torch.float32
    loss.backward()
    method.after_step(0)
    plain = step_of(twin, first_batch(twin), 0)["loss"]
    assert loss.item() == pytest.approx(plain.item(), rel=0.1, abs=0.1)


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_says_where_it_comes_from_and_explains_its_settings(name):
    entry = METHODS.entry(name)
    assert "Paper:" in entry.docstring
    assert entry.summary.endswith(".")
    assert [p.name for p in entry.parameters.values() if not p.help] == []
