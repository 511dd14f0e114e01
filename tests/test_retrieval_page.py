"""The page of `fewshot retrieve --report`: its numbers are those of the command, and what it shows is what was found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinshot.studies.report.samples import Sample
from kinshot.studies.retrieval.page import points, queries_html
from kinshot.studies.retrieval.shown import NEAREST, QUERIES, Found, Shown
from tests.pages import Outline, check_page
from tests.study_runs import DIGITS, call, features, source, write_run

ASKED = ["--metrics", "recall_at_1,recall_at_2,recall_at_4,map_at_r"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "seed0", DIGITS)


def written(folder: Path) -> tuple[str, dict[str, Any]]:
    return (folder / "report.html").read_text(encoding="utf-8"), json.loads((folder / "report.json").read_text(encoding="utf-8"))


def test_what_it_shows_is_what_was_found(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    got = call(capsys, "retrieve", run, *ASKED, "--report", tmp_path / "page")
    text, numbers = written(tmp_path / "page")
    assert numbers["rows"] == got["rows"]
    assert sorted(numbers["files"]) == sorted(path.name for path in (tmp_path / "page").iterdir())
    z, labels = features(run, "digits", split="test", size=16), source("digits", split="test", size=16).labels
    unit = torch.nn.functional.normalize(z.double(), dim=1)
    assert len(numbers["shown"]) == QUERIES
    shares = [one["percent"] for one in numbers["shown"]]
    assert shares == sorted(shares, reverse=True)
    for one in numbers["shown"]:
        near = unit @ unit[one["index"]]
        near[one["index"]] = -2
        found = [place["index"] for place in one["nearest"]]
        assert near[found].numpy() == pytest.approx(near.sort(descending=True).values[:NEAREST].numpy(), abs=1e-6)
        assert [place["kin"] for place in one["nearest"]] == (labels[found] == labels[one["index"]]).tolist()
        assert one["kin"] == (labels == labels[one["index"]]).sum() - 1
        assert one["name"] == str(labels[one["index"]])
    outline = check_page(text)
    words = " ".join(" ".join(outline.words).split())
    assert "Recall against k" in words
    assert "Share of the 355 queries" in words
    assert len(outline.named("img")) == 1 + QUERIES * (1 + NEAREST)
    wrong = sum(not place["kin"] for one in numbers["shown"] for place in one["nearest"])
    assert words.count("\u2717") == wrong > 0
    assert any(f"{got['rows'][0]['mean']:.2f} ±" in cell for row in outline.cells for cell in row)


def test_pairs_that_must_not_meet_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    kinds, makers = np.arange(24) % 3, np.arange(24) % 4
    rows = [f"{a:.3f},{b:.3f},k{kind},m{maker}" for (a, b), kind, maker in zip(rng.normal(size=(24, 2)), kinds, makers, strict=True)]
    Path("t.csv").write_text("\n".join(["a,b,kind,maker", *rows]) + "\n")
    data = {"name": "table", "root": "t.csv", "label": "kind", "attributes": ["maker"]}
    write_run(Path("run"), data, method="simclr", views={"name": "feature_noise"}, encoder={"name": "mlp", "widths": [6]})
    call(capsys, "retrieve", "run", "--camera", "maker", "--metrics", "recall_at_1", "--no-reference", "--report", "page")
    text, numbers = written(Path("page"))
    for one in numbers["shown"]:
        assert one["kin"] == ((kinds == kinds[one["index"]]) & (makers != makers[one["index"]])).sum()
        for found in one["nearest"]:
            same = kinds[found["index"]] == kinds[one["index"]]
            assert found["kin"] == same
            assert not same or makers[found["index"]] != makers[one["index"]]
        assert len({found["index"] for found in one["nearest"]}) == NEAREST
    assert "Recall against k" not in text  # one k makes no curve
    assert numbers["files"] == ["report.html", "report.json"]


def test_a_folder_of_something_else_is_left_alone(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert "holds something that is no report (mine.txt)" in call(capsys, "retrieve", run, *ASKED, "--report", tmp_path, code=2)
    call(capsys, "retrieve", run, *ASKED, "--report", tmp_path, "--overwrite")
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (tmp_path / "report.html").is_file()


def test_names_are_text_and_single_runs_of_a_mean_make_no_line() -> None:
    one = Shown(3, "<b>pear</b>", 50.0, 2, [Found(4, "<i>fig</i>", False), Found(5, "<b>pear</b>", True)])
    text = queries_html([one], {3: Sample(text="<a>")}, {4: Sample(text="x"), 5: Sample(text="y")})
    assert not {"b", "i", "a"} & {tag for tag, attributes in Outline(text).tags if not attributes}
    assert "&lt;i&gt;fig&lt;/i&gt;" in text
    rows = [{"label": "mean", "metric": f"recall_at_{k}, %", "mean": k, "low": 0, "high": 9} for k in (4, 1)]
    lines = points({"rows": [*rows, {**rows[0], "label": "part", "part_of": "mean"}, {**rows[0], "metric": "map_at_r, %"}]})
    assert {label: [point.shots for point in of] for label, of in lines.items()} == {"mean": [1, 4]}
