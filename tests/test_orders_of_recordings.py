"""Orders that need a clock, named by a recipe: batches of a run over recordings, and what the run says of them."""

from __future__ import annotations

import numpy as np
import pytest

from kinshot.core.errors import ConfigError
from kinshot.datasets.motion import motion
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.job import Job, build
from tests.study_runs import source
from tests.tiny import TINY

RECIPE = ["encoder=fused", "views=clean", "views.views=2", "train.batch_size=12", "monitor.tensorboard=false"]


@pytest.fixture(scope="module")
def recordings():
    return motion(subjects=4, stretch=6.0, missing=0.3)


def job_of(recordings, *more: str) -> Job:
    given = ["data=motion", "data.subjects=4", "data.stretch=6", "data.missing=0.3", *RECIPE, *more]
    return build(load_recipe(str(TINY), given), recordings)


def batches(job: Job) -> np.ndarray:
    return np.stack([indices.numpy() for _, indices in job.batches(0, 0)])


def test_a_run_goes_through_sequences_of_one_recording(recordings):
    job = job_of(recordings, "order=consecutive", "order.length=4", "order.gap=1.3")
    time, recording = recordings.clock
    rows = batches(job).reshape(-1, 4)
    assert len(rows) == len(recordings) // 12 * 3
    assert (recording[rows] == recording[rows[:, :1]]).all()
    np.testing.assert_allclose(np.diff(time[rows]), 1.28)
    assert any("windows lie in no sequence of 4" in note for note in job.notes)


def test_a_run_spreads_the_windows_of_a_recording(recordings):
    job = job_of(recordings, "order=one_per_recording")
    counts = np.array([np.bincount(recordings.clock.recording[row], minlength=2) for row in batches(job)])
    assert counts.max() == 6
    assert any("up to 6 windows of a recording, which are 2" in note for note in job.notes)


@pytest.mark.parametrize("order", ["consecutive", "one_per_recording"])
def test_data_without_a_clock_are_refused_before_the_first_step(order):
    with pytest.raises(ConfigError, match=f"order {order} needs to know .* the data does not say: choose data with a clock"):
        build(load_recipe(str(TINY), ["data=digits", "data.size=16", f"order={order}"]), source("digits", split="train", size=16))
