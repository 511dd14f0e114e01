"""Commands that are written down of a run make that run again."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kinshot.cli import fewshot, ssl
from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.config import to_yaml
from kinshot.datasets import SOURCES
from kinshot.learn.features import weights_hash
from kinshot.recipes.loaded import read
from kinshot.recipes.recipe import load_recipe, parse
from kinshot.runs.job import build
from kinshot.runs.train import restore
from kinshot.samples.spec import spec_from_dict
from kinshot.studies import provenance
from kinshot.studies.lineage import Lineage
from kinshot.studies.provenance import commands_behind, training_command
from tests.study_runs import DIGITS, write_run
from tests.tiny import TINY


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
        ("omniglot_protonet", ["data.root=/elsewhere/data"]),
    ],
)
def test_a_training_command_gives_the_recipe_back(name: str, overrides: list[str]) -> None:
    recipe = load_recipe(name, overrides)
    words = shlex.split(training_command(recipe, Path("runs/x y"), Lineage()))
    assert words[2] == name
    assert words[-4:] == ["--seed", str(recipe.seed), "--out", "runs/x y"]
    assert load_recipe(name, [*words[3:-4], f"seed={recipe.seed}"]) == recipe


def test_recipes_of_ones_own_are_named_by_what_the_run_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(TINY.read_text())
    line = ["pretrain", "mine.yaml", "train.epochs=1", "projector.dim=5", "monitor.tensorboard=false", "--seed", "3", "--out", "runs/a b"]
    assert ssl.main([*line, "-q"]) == 0
    Path("mine.yaml").unlink()
    run = read(Path("runs/a b"))
    checkpoint = run.checkpoint
    for given in (Path("runs/a b"), checkpoint.path):
        (command,) = commands_behind([(given, run)], Lineage())
        assert command == "ssl pretrain 'runs/a b/config.yaml' --out 'runs/a b-again'"
    assert ssl.main([*shlex.split(command)[1:], "-q"]) == 0
    assert weights_hash(load_checkpoint(Path("runs/a b-again")).encoder) == weights_hash(checkpoint.encoder)
    Path("runs/a b/config.yaml").write_text(TINY.read_text())  # another recipe by now: the checkpoint has its own
    assert commands_behind([(Path("runs/a b"), run)], Lineage()) == [f"ssl pretrain '{checkpoint.path}/config.yaml' --out 'runs/a b-again'"]


def test_a_file_that_is_called_like_a_shipped_recipe_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("glyphs_demo", ["data=folder", "data.root='null'"])  # a folder whose name reads as no value
    Path("r").mkdir()
    Path("r/config.yaml").write_text(to_yaml(recipe.to_dict()))
    words = shlex.split(training_command(recipe, Path("r"), Lineage()))
    assert words[2] == "r/config.yaml"
    assert load_recipe(words[2], words[3:-2]) == recipe


def test_a_sweep_is_named_while_its_command_makes_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(TINY.read_text())
    line = ["sweep", "mine.yaml", "train.epochs=1", "projector.dim=4,5", "monitor.tensorboard=false", "--out", "s"]
    monkeypatch.setattr("sys.argv", ["ssl", *line])
    assert ssl.main(line) == 0
    runs = [(path, read(path)) for path in sorted(Path("s").glob("dim=*"))]
    assert len(runs) == 2
    assert commands_behind(runs, Lineage()) == [shlex.join(["ssl", *line])]
    Path("mine.yaml").write_text(TINY.read_text().replace("batch_size: 32", "batch_size: 16"))
    again = commands_behind(runs, Lineage())
    assert [command.split()[2] for command in again] == [f"{path}/config.yaml" for path, _ in runs]


def test_teachers_and_sweeps_come_first_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    teacher = write_run(Path("t"), DIGITS)
    taught = {"teachers": ("t", "gone"), "losses": ("rkd_distance",)}
    students = [write_run(Path(f"s/seed={seed}"), DIGITS, seed=seed, distill=taught) for seed in (0, 1)]
    Path("own.yaml").write_text(to_yaml(parse(load_checkpoint(students[0]).config, "").to_dict()))
    Path("s/sweep.json").write_text(json.dumps({"command": "ssl sweep own.yaml --seeds 0,1 --out s"}))
    runs = [(path, read(path)) for path in (*students, teacher)]
    found = commands_behind(runs, Lineage())  # of the two teachers one lies there
    assert len(found) == 2
    assert found[0].startswith("fewshot train")
    assert found[0].endswith("--out t-again")
    assert found[1] == "ssl sweep own.yaml --seeds 0,1 --out s"
    for note in ("damaged", json.dumps({"command": "ssl sweep 'own.yaml"}), json.dumps({"command": "ssl sweep gone.yaml --out s"})):
        Path("s/sweep.json").write_text(note)
        assert [line.split()[-1] for line in commands_behind(runs, Lineage())] == ["t-again", "s/seed=0-again", "s/seed=1-again"]


def test_a_run_that_took_the_place_of_its_starting_point_is_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = write_run(Path("r"), DIGITS, init="r")
    assert len(commands_behind([(run, read(run))], Lineage())) == 1


def test_results_say_what_training_and_evaluation_were_computed_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    line = ["pretrain", str(TINY), "train.epochs=1", "train.precision=bf16", "monitor.tensorboard=false", "--out", "r", "-q"]
    assert ssl.main(line) == 0
    checkpoint = load_checkpoint(Path("r"))
    features = torch.backends.cpu.get_cpu_capability()
    assert checkpoint.state["computed"] == [f"bf16, 1 thread, {features}"]
    capsys.readouterr()
    task = ["--data", "digits", "--ways", "3", "--shots", "1", "--queries", "3", "--episodes", "5", "--device", "cpu"]
    asked = ["eval", "r", *task, "--json", "-q", "--results", "a b.json"]
    monkeypatch.setattr("sys.argv", ["fewshot", *asked])
    assert fewshot.main(asked) == 0
    found = json.loads(capsys.readouterr().out)
    assert shlex.split(found["command"]) == ["fewshot", *asked]
    assert json.loads(Path("a b.json").read_text())["command"] == f"{found['pretrained_by'][0]}\n{found['command']}"
    versions = found["versions"]
    assert versions["training"] == f"bf16, 1 thread, {features}, torch {torch.__version__}"
    assert versions["evaluation"] == f"fp32, 1 thread, {features}"
    recipe = parse(checkpoint.config, "")
    elsewhere = ["bf16, 8 threads, another processor"]
    for before, first in ((elsewhere, elsewhere[0]), (None, "not recorded")):  # a run that goes on here, and an old one
        job = build(recipe, SOURCES.build("digits", settings=recipe.data.settings), spec_from_dict(checkpoint.state["input"]))
        restore(job, replace(checkpoint, state={**checkpoint.state, "computed": before}))
        assert job.computed == [first, f"bf16, 1 thread, {features}"]
    old = replace(checkpoint, state={key: value for key, value in checkpoint.state.items() if key != "computed"})
    assert "not recorded, threads 1" in provenance.versions([old], torch.device("cpu"))["training"]
