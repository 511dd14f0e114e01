"""Write docs/api.md and what type checkers know of the parts, kinshot/typed/*.pyi, from names and docstrings (`make api`).

Read from source text alone, as `ssl list` reads it: nothing is imported but the faces themselves.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import kinshot
from kinshot.core.lazy import Face
from kinshot.core.registry import Registry
from kinshot.core.schema import argument_help

DOCS = Path(__file__).resolve().parent
TYPED = DOCS.parent / "kinshot" / "typed"
Node = ast.FunctionDef | ast.ClassDef
OBJECTS = ("kinshot.kin.", "kinshot.fewshot.episodes", "kinshot.runs.", "kinshot.sklearn.", "kinshot.learn.model")
"""Where classes are that one holds in one's hands: their methods are listed. The others are called by a loop that knows them."""


class Name(NamedTuple):
    """One name of a face, and where it is written."""

    name: str
    module: str
    symbol: str


class Section(NamedTuple):
    """One module that shows names."""

    module: str
    about: str
    names: list[Name]


def sections() -> list[Section]:
    """`kinshot`, the faces and rooms that it shows, and the room of graphs."""
    found = [_section(kinshot)]
    for name in sorted(kinshot.__offer__.names()):  # type: ignore[attr-defined]
        if isinstance(shown := getattr(kinshot, name), Face):
            found.append(_section(shown))
    names = [n for n in _imported(Path(kinshot.kin.graph.__file__ or "")) if n.symbol[0].islower()]
    return [*found, Section("kinshot.kin.graph", _first_line(kinshot.kin.graph), names)]


def _section(face: ModuleType) -> Section:
    """The names of a face that kinshot itself brings, without the faces and rooms among them."""
    offer = vars(face)["__offer__"]
    if isinstance(offer, Registry):
        ours = [entry for entry in offer.entries.values() if entry.module.startswith("kinshot.")]
        names = [Name(entry.name, entry.module, entry.symbol) for entry in ours]
    else:
        names = [Name(name, *place) for name, place in offer.places.items() if place[0] != offer.module]
    return Section(face.__name__, _first_line(face), names)


def _first_line(module: ModuleType) -> str:
    return (module.__doc__ or "").split("\n", 1)[0]


def _imported(file: Path) -> list[Name]:
    """What a package's first lines import into it."""
    lines = [line for line in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(line, ast.ImportFrom)]
    return [Name(one.name, line.module or "", one.name) for line in lines if line.module != "__future__" for one in line.names]


def definition(name: Name) -> Node:
    """The class or function in its file."""
    spec = importlib.util.find_spec(name.module)
    if spec is None or spec.origin is None:
        raise LookupError(f"{name.module}: no such module")
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, Node) and node.name == name.symbol:
            return node
    raise LookupError(f"{name.module} defines no {name.symbol}")


def signature(name: str, node: Node) -> str:
    """How it is called, a line, or an argument a line where that is longer."""
    if isinstance(node, ast.ClassDef):
        inits = [line for line in node.body if isinstance(line, ast.FunctionDef) and line.name == "__init__"]
        if not inits:  # a dataclass
            fields = [ast.unparse(line) for line in node.body if isinstance(line, ast.AnnAssign)]
            return _call(name, fields, "")
        arguments, returns = inits[0].args, None
        arguments = ast.arguments(arguments.posonlyargs, arguments.args[1:], *(getattr(arguments, f) for f in arguments._fields[2:]))
    else:
        arguments, returns = node.args, node.returns
    return _call(name, _arguments(arguments), f" -> {ast.unparse(returns)}" if returns is not None else "")


def _arguments(given: ast.arguments) -> list[str]:
    """Each argument with its type and default, the star between them."""
    positional = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(positional) - len(given.defaults)) + list(given.defaults)
    found = [_argument(one, default) for one, default in zip(positional, defaults, strict=True)]
    if given.vararg or given.kwonlyargs:
        found.append(f"*{given.vararg.arg if given.vararg else ''}")
    found += [_argument(one, default) for one, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    return [*found, *([f"**{given.kwarg.arg}"] if given.kwarg else [])]


def _argument(one: ast.arg, default: ast.expr | None) -> str:
    typed = f"{one.arg}: {ast.unparse(one.annotation)}" if one.annotation else one.arg
    equals = " = " if one.annotation else "="
    return typed if default is None else f"{typed}{equals}{ast.unparse(default)}"


def _call(name: str, arguments: list[str], returns: str) -> str:
    line = f"{name}({', '.join(arguments)}){returns}"
    return line if len(line) <= 110 else "\n".join([f"{name}(", *(f"    {one}," for one in arguments), f"){returns}"])


def paper(docstring: str) -> str:
    """What follows `Paper:`, to the end of its paragraph or to the next line of that kind."""
    found = re.search(r"^Paper: (.*?)(?=\n\n|\n[A-Z][a-z]+: |\Z)", docstring, re.MULTILINE | re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def example(docstring: str) -> str:
    """The lines of the docstring's example."""
    lines = docstring.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith(">>> ")), None)
    if first is None:
        return ""
    last = next((i for i in range(first, len(lines)) if not lines[i].strip()), len(lines))
    return "\n".join(lines[first:last])


def described(shown: str, name: Name) -> Iterator[str]:
    """The page's lines about one name."""
    node = definition(name)
    docstring = ast.get_docstring(node) or ""
    yield f"### {shown}\n"
    yield f"{docstring.split(chr(10), 1)[0]}\n"
    yield f"```python\n{signature(name.name, node)}\n```\n"
    if source := paper(docstring):
        yield f"Paper: {source}\n"
    if helps := argument_help(inspect.cleandoc(docstring)):
        yield "\n".join(f"- `{argument}`: {text}" for argument, text in helps.items()) + "\n"
    if isinstance(node, ast.ClassDef) and name.module.startswith(OBJECTS):
        methods = [(line.name, ast.get_docstring(line) or "") for line in node.body if isinstance(line, ast.FunctionDef)]
        yield "\n".join(f"- `.{method}`: {text.split(chr(10), 1)[0]}" for method, text in methods if method[0] != "_") + "\n"
    if shows := example(docstring):
        yield f"```pycon\n{shows}\n```\n"


def page() -> str:
    """The whole of docs/api.md."""
    head = [
        "# kinshot in your own code\n",
        "Every name below is loaded when it is first used; `import kinshot` alone imports neither torch nor numpy. Examples run as tests,",
        "after `import kinshot, torch` and `import numpy as np`. Names, signatures and texts are those of the docstrings: this page is",
        "written by `make api`. How a part is added says [CONTRIBUTING.md](../CONTRIBUTING.md); what the words mean,",
        "[architecture.md](architecture.md).\n",
    ]
    body = []
    for section in sections():
        links = ", ".join(f"[{n.name}](#{_anchor(f'{section.module}.{n.name}')})" for n in section.names)
        head.append(f"- [`{section.module}`](#{_anchor(section.module)}): {links}")
        body += [f"\n## {section.module}\n", f"{section.about}\n"]
        body += [line for name in section.names for line in described(f"{section.module}.{name.name}", name)]
    return "\n".join([*head, *body]).rstrip() + "\n"


def _anchor(heading: str) -> str:
    """GitHub's anchor of a heading that is a dotted name."""
    return heading.lower().replace(".", "")


def stub(section: Section) -> str:
    """What a type checker reads of the parts of one face."""
    lines = [f'"""The parts of `{section.module}` for type checkers, written by `make api`."""', ""]
    lines += [f"from {n.module} import {n.symbol} as {n.name}" for n in sorted(section.names, key=lambda n: (n.module, n.name))]
    return "\n".join([*lines, "", "__all__ = [", *(f'    "{n.name}",' for n in section.names), "]"]) + "\n"


def written() -> dict[Path, str]:
    """Every file that `make api` writes, with its text."""
    faces = {section.module.removeprefix("kinshot."): section for section in sections()}
    of_parts = [name for name in faces if isinstance(getattr(getattr(kinshot, name, None), "__offer__", None), Registry)]
    return {DOCS / "api.md": page(), **{TYPED / f"{name}.pyi": stub(faces[name]) for name in of_parts}}


def main() -> None:
    """Write the page and the stubs; a stub of a face that is no more is removed."""
    files = written()
    for path in TYPED.glob("*.pyi"):
        if path not in files and path.stem != "__init__":
            path.unlink()
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
