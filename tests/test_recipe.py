"""Recipes: every shipped one is valid, resolves to itself, and says what differs; a checkpoint is usable from Python."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import kinshot
from kinshot.core.config import apply_override, flatten, parse_override, parse_yaml, to_yaml
from kinshot.core.errors import ConfigError
from kinshot.recipes.recipe import differences, load_recipe, parse, recipe_names
from kinshot.recipes.results import results_page, write_page
from kinshot.recipes.start import Options
from kinshot.recipes.train import train_recipe
from tests.tiny import TINY

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_are_valid_and_resolve_to_themselves(name: str) -> None:
    path = REPOSITORY / "kinshot" / "recipes" / "configs" / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    recipe = load_recipe(name)
    assert recipe.description
    assert re.match(rf"# (ssl (pretrain|sweep|distill)|fewshot train) {name} ", text)
    assert parse(parse_yaml(to_yaml(recipe.to_dict()), name), name) == recipe
    assert differences(recipe, recipe) == {}


def test_overrides_choose_parts_and_set_values() -> None:
    recipe = load_recipe("glyphs_demo", ["method=simclr", "method.temperature=1e-1", "train.clip=null", "views.scale=[0.9, 1.1]"])
    assert recipe.method.name == "simclr"
    assert recipe.method.settings["temperature"] == 0.1
    assert recipe.train.clip is None
    assert recipe.views.settings["scale"] == (0.9, 1.1)


def test_differences_name_what_decides_results() -> None:
    old, new = load_recipe("glyphs_demo"), load_recipe("glyphs_demo", ["train.lr=0.5", "train.workers=3", "seed=4"])
    assert list(differences(old, new)) == ["seed", "train.lr"]


@pytest.mark.parametrize("text", ["train.lr", "=3", "train..lr=3", "a=[1"])
def test_unreadable_overrides(text: str) -> None:
    with pytest.raises(ConfigError, match=r"override|value of"):
        parse_override(text)


@pytest.mark.parametrize("text", ["a: 1\na: 2", "- 1", "3: 4", "a: [", "!!python/object/apply:os.system ['true']"])
def test_unreadable_yaml(text: str) -> None:
    with pytest.raises(ConfigError, match="where"):
        parse_yaml(text, "where")


def test_nested_override_cannot_pass_through_a_value() -> None:
    with pytest.raises(ConfigError, match="seed is a value"):
        apply_override({"seed": 1}, ["seed", "deep"], 2)
    assert flatten({"a": {"b": 1}, "c": 2}) == {"a.b": 1, "c": 2}


def test_a_checkpoint_from_python(tmp_path: Path) -> None:
    recipe = load_recipe(str(TINY), ["monitor.tensorboard=false", "train.epochs=1"])
    train_recipe(recipe, Options(tmp_path / "run", quiet=True), lambda text: None)
    model = kinshot.load(tmp_path / "run")
    assert not model.training
    for images in (torch.randint(0, 255, (3, 1, 16, 16), dtype=torch.uint8), torch.rand(3, 3, 40, 30)):
        features = model.embed(images)
        assert features["backbone"].shape == (3, model.encoder.dim)
        assert features["projector"].shape == (3, 8)
    assert model(torch.rand(2, 1, 16, 16)).requires_grad


def test_the_results_page_is_generated_from_its_files(tmp_path: Path) -> None:
    write_page(REPOSITORY / "docs" / "results", tmp_path / "results.md")
    assert (tmp_path / "results.md").read_text() == (REPOSITORY / "docs" / "results.md").read_text(), "run make results"
    assert "# Results" in results_page(tmp_path)
