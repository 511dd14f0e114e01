"""Commands that are written down of a run make that run again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from kinshot.core.checkpoint import load_checkpoint
from kinshot.recipes.provenance import commands_behind, training_command
from kinshot.recipes.recipe import load_recipe
from tests.study_runs import DIGITS, write_run


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("glyphs_demo", []),
        ("glyphs_demo", ["method=moco", "train.lr=0.003", "train.ema=0.99", "seed=4"]),
        ("omniglot_protonet", ["data.rotations=false", "method.distance=cosine", "init=runs/a b"]),
        ("grocery_student", ["teacher=runs/t/seed=0", "distill.losses=[rkd_distance:weight=1:unit=both, rkd_angle]", "encoder.width=16"]),
        ("grocery_structure", ["graph.by=[fine, coarse]", "structure.weight=0.5"]),
        ("grocery_structure", ["graph=knn", "graph.k=7", "views=clean", "method=moco"]),
        ("grocery_structure", ["graph=null", "data=folder", "data.root=my photos"]),
    ],
)
def test_a_training_command_gives_the_recipe_back(name: str, overrides: list[str]) -> None:
    recipe = load_recipe(name, overrides)
    words = shlex.split(training_command(recipe, Path("runs/x y")))
    assert words[2] == name
    assert words[-4:] == ["--seed", str(recipe.seed), "--out", "runs/x y"]
    assert load_recipe(name, [*words[3:-4], f"seed={recipe.seed}"]) == recipe


def test_teachers_and_sweeps_come_first_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    teacher = write_run(Path("t"), DIGITS)
    taught = {"teachers": ("t", "gone"), "losses": ("rkd_distance",)}
    students = [write_run(Path(f"s/seed={seed}"), DIGITS, seed=seed, distill=taught) for seed in (0, 1)]
    Path("s/sweep.json").write_text(json.dumps({"command": "ssl sweep s"}))
    runs = [(path, load_checkpoint(path)) for path in (*students, teacher)]
    found = commands_behind(runs)  # of the two teachers one lies there
    assert len(found) == 2
    assert found[0].startswith("fewshot train")
    assert found[0].endswith("--out t")
    assert found[1] == "ssl sweep s"
    Path("s/sweep.json").write_text("damaged")
    assert [line.split()[-1] for line in commands_behind(runs)] == ["t", "s/seed=0", "s/seed=1"]


def test_a_run_that_took_the_place_of_its_starting_point_is_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = write_run(Path("r"), DIGITS, init="r")
    assert len(commands_behind([(run, load_checkpoint(run))])) == 1
