"""Kins of windows of recordings that a recipe names, against loops over pairs of rows; what never is a negative."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.datasets.motion import motion
from kinshot.kin import KINS
from kinshot.kin.kin import Known
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.job import build
from kinshot.samples.batch import Batch, Shown
from tests.tiny import TINY

N, SECONDS = 60, 2.56
seeds = st.integers(0, 10_000)
few = settings(max_examples=15, deadline=None)


def drawn(seed):
    """Recording and start of windows that overlap by half or a quarter, some of them unknown."""
    random = np.random.default_rng(seed)
    recording, start = random.integers(-1, 3, N), random.integers(0, 20, N) * 0.64
    start[random.random(N) < 0.1] = math.nan
    return recording, start


def compared(name, recording, start, rows, copies, **more):
    """Positive and negative weights, float (R, R), of a batch of samples that shows so many views of each."""
    known = Known(RunContext(N, len(rows), 1, 1, 0), None, {"recording": recording, "start": start})
    kin = KINS.build(name, known, settings=more)
    samples = torch.from_numpy(rows)
    z = torch.zeros(len(rows) * copies, 2)
    shown = Shown(samples.repeat(copies), tuple(range(copies)), (z,))
    return [part.numpy() for part in kin.pairs(z, None, shown, Batch(samples, []), 0).relation.validate().dense()]


def pairs_of(rows, copies):
    """Every pair of rows, and which samples they show."""
    shown = np.tile(np.arange(len(rows)), copies)
    return [(i, j, shown[i], shown[j]) for i in range(len(shown)) for j in range(len(shown))]


@few
@given(seeds, st.sampled_from([1, 2, 3]))
def test_windows_equal_loops_and_windows_that_overlap_are_never_negatives(seed, copies):
    recording, start = drawn(seed)
    rows = np.random.default_rng(seed + 1).permutation(N)[:12]
    positive, negative = compared("windows", recording, start, rows, copies, length=SECONDS)
    for i, j, a, b in pairs_of(rows, copies):
        known = not (np.isnan(start[rows[[a, b]]]).any() or (recording[rows[[a, b]]] < 0).any())
        together = known and recording[rows[a]] == recording[rows[b]]
        lag = round(100 * abs(start[rows[a]] - start[rows[b]])) if together else 0
        assert positive[i, j] == (i != j and (a == b or (together and lag == 0)))
        assert negative[i, j] == (a != b and known and not (together and lag < 256))


@few
@given(seeds, st.sampled_from([1, 2]), st.booleans())
def test_neighborhood_equals_loops_and_no_kin_is_of_another_recording(seed, copies, others):
    recording, start = drawn(seed)
    rows = np.random.default_rng(seed + 1).permutation(N)[:12]
    positive, negative = compared("neighborhood", recording, start, rows, copies, spread=1.0, reach=2.5, others=others)
    for i, j, a, b in pairs_of(rows, copies):
        known = not (np.isnan(start[rows[[a, b]]]).any() or (recording[rows[[a, b]]] < 0).any())
        together = known and recording[rows[a]] == recording[rows[b]]
        lag = abs(start[rows[a]] - start[rows[b]]) if together else math.inf
        weight = 1.0 if a == b else math.exp(-(lag**2) / 2) if lag <= 2.5 else 0.0
        assert positive[i, j] == pytest.approx(weight if i != j else 0.0)
        assert negative[i, j] == (a != b and known and lag > 2.5 and bool(together or others))


@pytest.mark.parametrize("order", ["shuffled", "consecutive"])
def test_a_recipe_names_them_beside_any_method(order):
    kins = {"same": "{name: windows, length: 2.56}", "near": "{name: neighborhood, spread: 2}"}
    terms = f"[{', '.join(f'{{objective: info_nce, kin: {kin}, label: {label}}}' for label, kin in kins.items())}]"
    given = ["data=motion", "data.subjects=4", "data.stretch=5", "encoder=fused", "views=clean", "views.views=2", f"order={order}"]
    source = motion(subjects=4, stretch=5.0)
    recipe = load_recipe(str(TINY), [*given, "train.batch_size=8", "monitor.tensorboard=false", f"terms={terms}"])
    job = build(recipe, source)
    samples, indices = next(iter(job.batches(0, 0)))
    learner = job.run.learner
    batch = job.make_batch(samples, indices, seed=0, epoch=0, step=0)
    found = learner.loss(batch, 0)
    assert all(math.isfinite(float(found[name].detach())) for name in ("loss", *kins))
    # what the first term compares: no negative is a window that overlaps, nor a view of the same one
    z = torch.zeros(16, 2)
    pairs = learner.terms[0].kin.pairs(z, None, Shown(indices.repeat(2), (0, 1), (z,)), batch, 0)
    time, recording = (values[indices.numpy()] for values in source.clock)
    overlap = (recording[:, None] == recording) & (np.abs(time[:, None] - time) < 2.5)
    assert not pairs.relation.dense()[1].numpy()[np.tile(overlap, (2, 2))].any()


def test_what_does_not_fit_is_refused_with_what_there_is():
    known = Known(RunContext(4, 2, 2, 2, 0), None, {"recording": np.zeros(4, np.int64), "begin": np.arange(4.0)})
    with pytest.raises(ConfigError, match=r"kin windows needs the attribute 'start' of the data.*begin"):
        KINS.build("windows", known, settings={"length": 1.0})
    assert KINS.build("windows", known, settings={"length": 1.0, "start": "begin"}).start.tolist() == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match=r"kin windows: length: expected a length above 0, got 0.0"):
        KINS.build("windows", known, settings={"length": 0.0, "start": "begin"})
    with pytest.raises(ConfigError, match="kin neighborhood: expected spread and reach above 0"):
        KINS.build("neighborhood", known, settings={"spread": 1.0, "reach": 0.0, "start": "begin"})
