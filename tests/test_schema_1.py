"""Checkpoints of schema 1, kept in `tests/schema_1` as version 0.1.0 wrote them: they load, and their runs go on.

Each was taken two steps or more before its run's end; `next.jsonl` holds what those steps recorded then.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.errors import CheckpointError
from kinshot.learn.model import EXPORTED
from kinshot.recipes.recipe import parse, with_overrides
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe

KEPT = Path(__file__).parent / "schema_1"
NAMES = ("structure", "classifier", "feat", "student")


def point(name: str) -> Path:
    return next((KEPT / name).glob("step-*"))


@pytest.mark.parametrize("name", NAMES)
def test_a_run_goes_on_as_it_did_then(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    shutil.copytree(point(name), folder / point(name).name)
    kept = load_checkpoint(point(name))
    assert kept.versions["schema_version"] == 1
    changed = [f"teacher={point('classifier')}"] if name == "student" else []
    recipe = parse(with_overrides(kept.config, changed), name)
    train_recipe(recipe, Options(tmp_path / "run", "auto", quiet=True), lambda text: None)
    then = {line["step"]: line for line in map(json.loads, (KEPT / name / "next.jsonl").read_text().splitlines())}
    now = {line["step"]: line for line in map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())}
    assert len(then) == 2
    for step, record in then.items():
        for tag in (tag for tag in record if tag.startswith("train/")):
            assert now[step][tag] == pytest.approx(record[tag], rel=1e-3, abs=1e-6), (step, tag)
    assert load_checkpoint(tmp_path / "run").versions["schema_version"] == 2


@pytest.mark.parametrize("name", NAMES)
def test_parts_stand_by_themselves(name: str) -> None:
    parts = load_checkpoint(point(name), parts=EXPORTED).tensors
    own = {"classifier": {"rows"}, "feat": {"network"}}.get(name, set())
    assert set(parts) == {"encoder", "projector"} | own
    assert "training" in load_checkpoint(point(name)).tensors


def test_rows_are_those_that_belong_to_the_exported_encoder() -> None:
    """With averaged weights, the averaged rows: the run's own are others."""
    whole = load_checkpoint(point("classifier"))
    rows = whole.optional("rows")
    assert rows is not None
    assert torch.equal(rows["weight"], whole.training["average/rows.weight"])
    assert not torch.equal(rows["weight"], whole.training["method/model.rows.weight"])


def test_a_student_still_knows_its_teacher(tmp_path: Path) -> None:
    shutil.copytree(point("student"), tmp_path / "run" / "checkpoints" / point("student").name)
    recipe = parse(with_overrides(load_checkpoint(point("student")).config, [f"teacher={point('structure')}"]), "student")
    with pytest.raises(CheckpointError, match="teachers have other weights"):
        train_recipe(recipe, Options(tmp_path / "run", "auto", quiet=True), lambda text: None)
