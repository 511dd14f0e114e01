"""A command parses each recipe once, however many of its parts ask for it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kinshot.cli import fewshot, ssl
from kinshot.recipes import recipe
from tests.study_runs import DIGITS, NOVEL, write_run
from tests.tiny import TINY

SHORT = ["train.epochs=1", "train.batch_size=160", "monitor.tensorboard=false", "monitor.knn_samples=40", "-q"]
DRAWN = ["--ways", "3", "--shots", "1", "--queries", "3", "--episodes", "20", "--device", "cpu", "-q"]
STUDY = ["--device", "cpu", "--novel", NOVEL, "--draws", "2", "--shots", "1", "-q"]
COMMANDS: dict[str, list[str]] = {
    "eval": ["fewshot", "eval", "a", *DRAWN, "--heads", "prototype,bd_cspn,matching"],
    "eval, two seeds": ["fewshot", "eval", "a", "b", *DRAWN],
    "eval, shipped": ["fewshot", "eval", "shipped/seed=0", "shipped/seed=1", *DRAWN],
    "eval, a student and its teacher": ["fewshot", "eval", "student", "a", *DRAWN, "--no-reference"],
    "eval, chosen": ["fewshot", "eval", "a", *DRAWN, "--heads", "nearest:neighbors=1|2", "--choose", "val", "--validation", NOVEL],
    "report": ["fewshot", "report", "a", "b", *DRAWN, "--out", "page"],
    "generalized": ["fewshot", "generalized", "a", *STUDY],
    "lowshot": ["fewshot", "lowshot", "a", "b", "--device", "cpu", "--shots", "1", "--draws", "2", "-q"],
    "crossdomain": ["fewshot", "crossdomain", "a", *DRAWN, "--data", "digits,split=test,size=16"],
    "imprint": ["fewshot", "imprint", "a", *STUDY, "--tunings", "none"],
    "probe": ["ssl", "probe", "a", "b", "--device", "cpu"],
    "measure": ["ssl", "measure", "a", *DRAWN, "--repeats", "1"],
    "inspect": ["ssl", "inspect", "a"],
    "pretrain": ["ssl", "pretrain", str(TINY), *SHORT, "--out", "new"],
    "pretrain, from another run": ["ssl", "pretrain", str(TINY), *SHORT, "encoder.width=4", "--init", "a", "--out", "from"],
    "distill": ["ssl", "distill", str(TINY), *SHORT, "teacher=a", "distill.losses=[rkd_distance]", "--out", "taught"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs: `a` and `b` that differ by their seed, `student` that learned from `a`, and two that call themselves a shipped recipe's."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate("ab"):
        write_run(folder / name, DIGITS, seed=seed)
        write_run(folder / f"shipped/seed={seed}", DIGITS, seed=seed, name="glyphs_demo")
    write_run(folder / "student", DIGITS, distill={"teachers": ("a",), "losses": ("rkd_distance",)}, init="b")
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_no_recipe_is_parsed_twice(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    parsed: list[str] = []
    read = recipe.read_values

    def counted(data: dict[str, Any], called: str) -> Any:
        parsed.append(json.dumps({"name": called, **data}, sort_keys=True, default=str))
        return read(data, called)

    monkeypatch.setattr(recipe, "read_values", counted)
    command, *arguments = COMMANDS[name]
    assert {"ssl": ssl.main, "fewshot": fewshot.main}[command](arguments) == 0
    assert parsed
    assert [text[:200] for text, count in Counter(parsed).items() if count > 1] == []
