"""Recipes: every shipped one is valid, resolves to itself, and says what differs; a checkpoint is usable from Python."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch

import kinshot
from kinshot.core.config import apply_override, flatten, parse_override, parse_yaml, to_yaml
from kinshot.core.errors import ConfigError
from kinshot.recipes.recipe import differences, load_recipe, parse, recipe_names
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from kinshot.studies.results import results_page, write_page
from tests.tiny import TINY

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_are_valid_and_resolve_to_themselves(name: str) -> None:
    path = REPOSITORY / "kinshot" / "recipes" / "configs" / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    recipe = load_recipe(name)
    assert recipe.description
    assert re.match(rf"# (ssl (pretrain|sweep|distill)|(fewshot|segmentation) train) {name} ", text)
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


BOMB = [f"a{i}: &a{i} [{','.join([f'*a{i - 1}' if i else 'x'] * 10)}]" for i in range(12)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: " + "[" * 100_000 + "]" * 100_000, "nested more than"),
        ("data: " + "{a: " * 100_000 + "}" * 100_000, "nested more than"),
        ("data:\n" + "".join(" " * i + "- \n" for i in range(300)), "nested more than"),
        ("\n".join([*BOMB, "data: *a11"]), "more than 100000 values"),
        ("a: &a [*a]", "inside what it names"),
        ("a: *b", "names nothing"),
        ("seed: " + "9" * 5000, "5000 digits"),
        ("a: " + "x" * 2**20, "characters"),
        ("a: \x00", "not valid YAML"),
    ],
)
def test_hostile_yaml(text: str, message: str) -> None:
    for attempt in (lambda: parse_yaml(text, "where"), lambda: parse_override("data={" + text.replace("\n", ", ") + "}")):
        with pytest.raises(ConfigError, match="is not valid YAML") as caught:
            attempt()
        assert len(str(caught.value)) < 1000
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text, "where")


def test_aliases_give_values_of_their_own() -> None:
    data = parse_yaml("train: &t {lr: 1}\nmonitor: *t", "where")
    apply_override(data, ["train", "lr"], 2)
    assert data == {"train": {"lr": 2}, "monitor": {"lr": 1}}


def test_a_recipe_that_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "r.yaml")
    (tmp_path / "d.yaml").symlink_to("/dev/zero")
    for name in ("r.yaml", "d.yaml"):
        with pytest.raises(ConfigError, match=r"no recipe file|regular file"):
            load_recipe(str(tmp_path / name))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("2024-05-01", "2024-05-01"), ("2024-13-01", "2024-13-01"), ("017", "017"), ("1_1", "1_1"), ("1:30", "1:30"),
        ("0x_", "0x_"), ("'2024'", "2024"), ("2024", 2024), ("-3", -3), ("0", 0), ("0.5", 0.5), ("1.5e-3", 0.0015), ("1e-3", "1e-3"),
        ("true", True), ("False", False), ("null", None), ("[no, 1]", ["no", 1]),
    ],
)  # fmt: skip
def test_words_are_taken_as_they_stand(text: str, value: object) -> None:
    assert parse_override(f"a={text}") == (["a"], value)
    assert parse_yaml(to_yaml({"a": value}), "written") == {"a": value}


def test_a_name_of_digits_is_a_name() -> None:
    recipe = load_recipe(str(TINY), ["data=table", "data.root=2024", "data.label=4", "data.ignore=[0, 1]", "name=2024-02-30"])
    assert recipe.data.settings["root"] == "2024"
    assert (recipe.data.settings["label"], recipe.data.settings["ignore"]) == ("4", ("0", "1"))
    assert recipe.name == "2024-02-30"
    with pytest.raises(ConfigError, match=r"root: expected text, got 1\.5; if the text is meant, put it in quotes"):
        load_recipe(str(TINY), ["data=table", "data.root=1.50"])
    with pytest.raises(ConfigError, match="seed: expected a whole number from 0, got '0x_'"):
        load_recipe(str(TINY), ["seed=0x_"])


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
