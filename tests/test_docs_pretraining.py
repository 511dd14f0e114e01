"""docs/pretraining.md: its table has every method that learns from images without labels, and its commands run as written."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinshot.learn import METHODS
from kinshot.recipes.recipe import settings_called
from kinshot.samples.spec import accepted_kinds
from tests.test_readme import commands, run

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "pretraining.md").read_text(encoding="utf-8")
OF_OTHERS = {"student", "reconstruction", "meow"}  # learn from teachers, what views hide, and graphs: other pages


def test_every_method_of_images_has_its_row() -> None:
    table = PAGE.partition("## The methods for images")[2].partition("## Switches")[0]
    named = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    entries = {name: METHODS.entry(name) for name in METHODS.names() if "image" in accepted_kinds(METHODS.get(name))}
    taught = {"supervised", "by_terms", "fields"}
    label_free = {name for name, entry in entries.items() if not taught & {flag for flag, value in entry.flags.items() if value}}
    assert named == label_free - OF_OTHERS


def test_settings_that_it_names_are_there() -> None:
    for section, name in re.findall(r"\b(views|method|data|projector|train|monitor)\.(\w+)=", PAGE):
        assert any(found.startswith(f"{section}.") for found in settings_called(name)), f"{section}.{name}"


def test_the_page_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "FOLDER").mkdir()
    for number in range(40):
        pixels = np.random.default_rng(number).integers(256, size=(32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "FOLDER" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    for text in re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        for words in commands(text):
            run(words, capsys)
