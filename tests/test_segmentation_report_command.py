"""`segmentation report` end to end: its numbers are those of `segmentation eval`, its pictures those of the scenes."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kinshot.cli.segmentation import main
from kinshot.datasets import SOURCES
from kinshot.segmentation.strips import GAP
from kinshot.studies.report.folder import NUMBERS, PAGE
from tests.pages import check_page
from tests.segmentation_runs import DATA, write_run
from tests.tiny import result, run

HEADS = "cosine,prototype:cells=20"
QUICK = [*map(str, DATA), "--episodes", "12", "--shots", "1,2", "--queries", "2", "--outlines", "0", "--heads", HEADS, "-q"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and a report on it by the real command."""
    made = tmp_path_factory.mktemp("segmentation_report")
    write_run(made / "run", seed=0)
    shown = result(run("segmentation", "report", "run", *QUICK, "--json", cwd=made))
    assert shown["page"] == f"report/{PAGE}"
    return made


@pytest.fixture(scope="module")
def numbers(place: Path) -> dict[str, Any]:
    return dict(json.loads((place / "report" / NUMBERS).read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def page(place: Path) -> str:
    return (place / "report" / PAGE).read_text(encoding="utf-8")


def evaluated(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["eval", *args, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_its_numbers_are_those_of_an_evaluation(place: Path, numbers: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    measured = evaluated(capsys, str(place / "run"), *QUICK)
    assert [line["mean"] for line in numbers["lines"]] == [row["mean"] for row in measured["rows"]]
    assert [(v["mean"], v["p_holm"]) for v in numbers["paired"]] == [(d["mean"], d["p_holm"]) for d in measured["differences"]]
    assert {line["who"] for line in numbers["lines"]} >= {"cosine", "untrained, cosine", "all foreground", "perfect saliency"}
    focus = [row for row in measured["classes"] if (row["model"], row["head"], row["shots"]) == ("pretrained", "cosine", 1)]
    blind = [row for row in measured["classes"] if (row["model"], row["shots"]) == ("perfect_saliency", 1)]
    shown = {row["name"]: row for row in numbers["classes"]}
    assert len(shown) == len(focus)
    for row, other in zip(focus, blind, strict=True):
        ours = shown[row["name"]]
        for figure in ("iou", "dice", "precision", "recall"):
            assert ours[figure] == (None if row[figure] is None else pytest.approx(row[figure], abs=1e-3))
        assert ours["rules"]["perfect saliency"] == pytest.approx(other["iou"], abs=1e-3)
        assert (ours["episodes"], ours["images"]) == (row["episodes"], row["images"])


def test_the_page_says_where_it_comes_from(place: Path, numbers: dict[str, Any], page: str) -> None:
    words = " ".join(" ".join(check_page(page).words).split())
    title, command = numbers["title"], f"segmentation report run {' '.join(QUICK)} --json"
    for said in (title, command, *numbers["hashes"].values(), "size native", "of different photographs", "bootstrap over episodes"):
        assert said in words
    assert len(numbers["hashes"]) == 2
    assert "queries 2" in words
    assert title.startswith("run on glyph_scenes")
    assert numbers["command"] == command
    assert set(numbers["files"]) == {path.name for path in (place / "report").iterdir()}
    assert numbers["focus"] == {"model": "pretrained", "head": "cosine", "fold": "", "ways": 1, "shots": 1}


def test_pictures_are_of_the_scenes_that_they_name(numbers: dict[str, Any], page: str) -> None:
    scenes = SOURCES.build("glyph_scenes", settings={"classes": 8, "per_class": 6, "size": 32, "split": "test"})
    shown = {alt: uri for uri, alt in re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="([^"]*)"', page)}
    queries = [query["sample"] for episode in numbers["gallery"] for query in episode["queries"]]
    assert queries
    for n in queries:
        picture = Image.open(io.BytesIO(base64.b64decode(shown[f"query image {n}"]))).convert("RGB")
        assert picture.size == (160, 160), "small images in whole blocks of pixels"
        expected = scenes.native_image(n).numpy().astype(float).mean(0)
        found = np.asarray(picture, dtype=float).reshape(32, 5, 32, 5, 3).mean((1, 3, 4))
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.97


def test_mistakes_cost_nothing_and_say_what_to_do(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "cat.txt").write_text("mine")
    for more, code, expected in (
        (["--out", "full"], 2, "cat.txt"),
        (["--heads", "cosin"], 2, "did you mean 'cosine'"),
        (["--shots", "9", "--out", "new"], 3, "photographs"),
    ):
        assert main(["report", str(place / "run"), *QUICK, *more]) == code
        printed = capsys.readouterr()
        assert expected in printed.err
        assert "Traceback" not in printed.err
    assert (tmp_path / "full" / "cat.txt").read_text() == "mine"
    assert not (tmp_path / "new").exists()


def test_without_references_there_are_none_and_a_sheet_shows_episodes(place: Path, tmp_path: Path) -> None:
    quick = [*map(str, DATA), "--episodes", "4", "--shots", "1", "--no-reference", "--size", "48", "--ways", "2", "-q"]
    assert main(["report", str(place / "run"), *quick, "--out", str(tmp_path / "report"), "--sheet", str(tmp_path / "sheet.png")]) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == GAP + 5 * (160 + GAP), "support, query, truth, prediction, score"
        assert sheet.height % (160 + GAP) > 0
    numbers = json.loads((tmp_path / "report" / NUMBERS).read_text(encoding="utf-8"))
    assert {line["kind"] for line in numbers["lines"]} == {"model"}
    assert all(row["rules"] == {} for row in numbers["classes"])
    assert "perfect saliency on the same episodes" not in (tmp_path / "report" / PAGE).read_text(encoding="utf-8")
