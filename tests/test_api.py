"""docs/api.md: written from names and docstrings, up to date, with every name that kinshot shows."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(scope="module")
def make_api() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_api", DOCS / "make_api.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_make_api_writes_is_up_to_date(make_api: ModuleType) -> None:
    old = [path.name for path, text in make_api.written().items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    assert old == [], "run make api"


def test_every_name_has_a_heading_and_a_link_to_it(make_api: ModuleType) -> None:
    page = make_api.page()
    sections = make_api.sections()
    assert {"kinshot", "kinshot.heads", "kinshot.kin", "kinshot.kin.graph"} <= {section.module for section in sections}
    for section in sections:
        assert section.names
        for name in section.names:
            heading = f"{section.module}.{name.name}"
            assert f"\n### {heading}\n" in page
            assert f"(#{heading.lower().replace('.', '')})" in page


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def f(a: int, /, b=1, *, c: float = 0.5, d) -> str: ...", "f(a: int, b=1, *, c: float = 0.5, d) -> str"),
        ("def f(*a, **k): ...", "f(*a, **k)"),
        ("class f:\n    def __init__(self, a, *, b: int = 2) -> None: ...", "f(a, *, b: int = 2)"),
        ("class f:\n    a: int\n    b: str = 'x'", "f(a: int, b: str = 'x')"),
    ],
)
def test_signatures(source: str, words: str, make_api: ModuleType) -> None:
    assert make_api.signature("f", make_api.ast.parse(source).body[0]) == words


def test_papers_and_examples(make_api: ModuleType) -> None:
    text = "Line.\n\nPaper: A 2001,\narXiv 1.\nDefaults: B.\n\n>>> f(1)\n2\n>>> f(2)\n3\n\nArgs:\n    a: b.\n"
    assert make_api.paper(text) == "A 2001, arXiv 1."
    assert make_api.example(text) == ">>> f(1)\n2\n>>> f(2)\n3"
    assert make_api.paper("Line.") == make_api.example("Line.") == ""
