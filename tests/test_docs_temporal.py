"""docs/temporal.md: its table has every method of sensors, and its commands and Python run as written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kinshot.learn import METHODS
from kinshot.samples.spec import accepted_kinds
from tests.test_readme import commands, run, write_recordings

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "temporal.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`[^|]+`) \|", PAGE, re.MULTILINE)


def test_every_method_of_sensors_has_its_place() -> None:
    named = {name for row in ROWS for name in re.findall(r"`(\w+)`", row)}
    of_sensors = {name for name in METHODS.names() if {"series", "bundle"} & set(accepted_kinds(METHODS.get(name)))}
    supervised = {name for name in of_sensors if METHODS.entry(name).flags.get("supervised")}
    taught = {name for name in of_sensors if METHODS.entry(name).flags.get("by_terms")}
    dense = {name for name in of_sensors if METHODS.entry(name).flags.get("fields")}
    assert named == of_sensors - supervised - taught - dense


def test_what_a_row_says_that_a_method_wants_is_what_it_takes() -> None:
    each = {name for name in METHODS.names() if accepted_kinds(METHODS.get(name)) == ("bundle",)}
    said = re.search(r"^((?:`\w+`(?:, | and )?)+) want `projector.modalities=true`", PAGE, re.MULTILINE)
    assert said
    assert set(re.findall(r"`(\w+)`", said[1])) == each - {"masked_vicreg"}


def test_the_page_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_recordings(tmp_path)
    schema = json.loads((tmp_path / "RECORDINGS" / "recordings.json").read_text())
    monkeypatch.chdir(tmp_path)
    for kind, text in re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        if kind == "json":
            assert json.loads(text) == schema
        elif kind == "python":
            exec(compile(text, "docs/temporal.md", "exec"), {})
        else:
            for words in commands(text):
                run(words, capsys)
