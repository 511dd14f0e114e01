"""`ssl list` and `ssl show` say of every method which paper it is from, and what it measured where that is published."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kinshot.cli import method_facts, ssl
from kinshot.cli.method_facts import papers
from kinshot.core.errors import DataError
from kinshot.learn import METHODS
from kinshot.recipes.recipe import load_recipe
from kinshot.studies.measured import FIGURES, measured_of

REPOSITORY = Path(__file__).resolve().parents[1]


def rows(label: str, *means: float) -> list[dict[str, Any]]:
    return [{"label": label, "metric": metric, "mean": mean, "ci95": 0.0, "n": 1} for metric, mean in zip(FIGURES, means, strict=False)]


@pytest.fixture
def result_file(tmp_path: Path) -> Path:
    """As `benchmarks.ssl_family` writes it, some labels being names of methods."""
    budget = {"label": "Barlow Twins", "metric": "CPU minutes", "mean": 2.96, "ci95": 0.0, "n": 1}
    more = [*rows("raw pixels", 80.0, 79.0, 81.0), {"label": "vicreg", "metric": "CPU minutes", "mean": 3.0, "ci95": 0.0, "n": 1}]
    known = [*rows("Barlow Twins", 85.26, 83.1, 86.04), budget, *rows("simclr", 84.0), *rows("MoCo v2", 82.0), *rows("DCLW", 81.0), *more]
    path = tmp_path / "ssl_family.json"
    path.write_text(json.dumps({"name": "ssl_family", "data": {"name": "Fashion-MNIST"}, "rows": known}))
    return path


def test_figures_are_those_of_registered_methods(result_file: Path, tmp_path: Path) -> None:
    found = measured_of(result_file, METHODS.names())
    assert found["on"] == "Fashion-MNIST"
    assert found["methods"].keys() == {"barlow_twins", "simclr", "moco"}  # vicreg has a budget and no figure
    assert found["methods"]["barlow_twins"] == {**dict(zip(FIGURES, (85.26, 83.1, 86.04), strict=True)), "CPU minutes": 2.96}
    assert measured_of(tmp_path / "nowhere.json", METHODS.names()) == {"on": "", "methods": {}}


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON", '{"rows": [{}], "data": {"name": ""}}', '{"rows": [], "data": 3}'])
def test_what_is_no_result_file_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "ssl_family.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"ssl_family\.json is no result file"):
        measured_of(path, METHODS.names())


def test_a_line_has_paper_and_figures(result_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    packaged = tmp_path / "measured.json"
    packaged.write_text(json.dumps(measured_of(result_file, METHODS.names())))
    monkeypatch.setattr(method_facts, "MEASURED", packaged)
    assert ssl.main(["list", "method"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[1:]}
    assert lines.keys() == METHODS.entries.keys()  # one line a method
    figures = "Fashion-MNIST after 3.0 CPU minutes: kNN (k=20) 85.3 %, kNN (k=200) 83.1 %, linear 86.0 %"
    assert lines["barlow_twins"].endswith(f". [Zbontar et al. 2021, arXiv 2103.03230; {figures}]")
    assert lines["simclr"].endswith("[Chen et al. 2020, arXiv 2002.05709; Fashion-MNIST: kNN (k=20) 84.0 %]")
    assert lines["byol"].endswith("[Grill et al. 2020, arXiv 2006.07733]")  # nothing is said where nothing was measured
    assert "[" not in lines["student"]
    assert ssl.main(["list", "barlow_twins", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "Zbontar" not in found["parts"]["method"]["barlow_twins"]
    assert found["methods"]["barlow_twins"]["measured"]["linear accuracy, %"] == 86.04
    assert ssl.main(["show", "barlow_twins"]) == 0
    assert f"\nmeasured: {figures}\n" in capsys.readouterr().out
    assert ssl.main(["show", "byol"]) == 0
    assert "measured" not in capsys.readouterr().out
    assert ssl.main(["show", "byol", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["paper"], shown["measured"]) == (["Grill et al. 2020, arXiv 2006.07733"], {})


@pytest.mark.parametrize("name", METHODS.names())
def test_every_paper_is_found(name: str) -> None:
    """All numbers of arXiv in the lines of papers, each with a name and a year before it; a line without a number is a title's."""
    docstring = METHODS.entry(name).docstring
    lines = [line for line in re.findall(r"^\s*Paper: (.+)$", docstring, re.MULTILINE) if not line.startswith("none")]
    found = papers(docstring)
    assert [line for line in lines if papers(f"Paper: {line}") == []] == []
    assert set(re.findall(r"\d{4}\.\d{5}", " ".join(lines))) == {one.partition("arXiv ")[2] for one in found if "arXiv" in one}
    assert all(re.fullmatch(r"(van (den )?)?[A-Z][\w-]+( et al\.| and [A-Z][\w-]+)? (19|20)\d\d(, arXiv [\d.]+)?", one) for one in found), (
        found
    )


def test_what_is_packaged_is_what_was_measured() -> None:
    published = measured_of(REPOSITORY / "docs" / "results" / "ssl_family.json", METHODS.names())
    assert json.loads(method_facts.MEASURED.read_text(encoding="utf-8")) == published, "run make results"
    # a row of another label than the method's name, as MAE's is, must find its way too
    family = {load_recipe(path.stem).method.name for path in (REPOSITORY / "kinshot/recipes/configs").glob("fashion_*.yaml")}
    assert family == published["methods"].keys()
