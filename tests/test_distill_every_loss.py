"""Every registered distillation loss trains through the real wiring: a new loss is tested without an edit here."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import nn

from kinshot.core.checkpoint import checkpoint_path, load_checkpoint
from kinshot.learn.features import weights_hash
from kinshot.learn.teacher import Taught
from kinshot.objectives import taking
from kinshot.recipes.recipe import load_recipe
from tests.test_distill import SPEC, STUDENT, frozen, quiet, student, wrap
from tests.tiny import TINY


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run with a classifier: a teacher of embeddings, maps and logits."""
    out = tmp_path_factory.mktemp("classifier") / "run"
    overrides = ["method=classifier", "views.views=1", "train.epochs=1", "monitor.tensorboard=false", "monitor.knn_every=0"]
    quiet(load_recipe(str(TINY), overrides), out)
    return out


TAPS = {"attention_transfer": "blocks.1", "kd": "logits"}  # the others take what is the default: embeddings


@pytest.mark.parametrize("name", taking("teacher"))
def test_every_loss_trains_two_steps(name: str, classifier: Path, tmp_path: Path) -> None:
    tap = TAPS.get(name, "projector")
    method = "classifier" if tap == "logits" else "student"
    losses = f"distill.losses=[{name}:student={tap}:teacher={tap}]"
    small = ["train.epochs=1", "train.batch_size=160", "monitor.keep=9"]
    small += ["monitor.tensorboard=false", "monitor.knn_every=0", "monitor.log_every=1"]
    recipe = load_recipe(str(STUDENT), [f"method={method}", f"teacher={classifier}", losses, "distill.task=0", *small])
    assert quiet(recipe, tmp_path / "run")["steps"] == 2
    begun, ended = (load_checkpoint(checkpoint_path(tmp_path / "run", step)).encoder for step in (0, 2))
    assert weights_hash(begun) != weights_hash(ended)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row[f"train/{name}"] is not None for row in rows] == [True, True]


@pytest.mark.parametrize("loss", ["simreg", "seed:size=48", "fitnet", "crd:size=48"])
def test_the_trial_of_a_loss_leaves_no_trace_in_it(loss: str) -> None:
    text = f"{loss}:student=projector:teacher=projector"
    wrapped = wrap(student(projector=nn.Linear(4, 3)), (text,), [Taught(frozen(), SPEC)])
    state = wrapped.terms[0].state_dict()
    with patch("kinshot.runs.terms.try_objective"):
        untried = wrap(student(projector=nn.Linear(4, 3)), (text,), [Taught(frozen(), SPEC)]).terms[0].state_dict()
    assert state.keys() == untried.keys()
    assert all(torch.equal(state[key], untried[key]) for key in state)
