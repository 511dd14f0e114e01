"""Names that are loaded when they are first used: `kinshot.heads.tim` imports that head's file, and `import kinshot` no other.

A module becomes a face with one line, `face(__name__, offer)`. What it offers are the parts of a registry, so that a new part needs
no line anywhere, or what its own `if TYPE_CHECKING:` block imports (`Declared`), which type checkers read too.

A part has the name of its file, and the import system binds a file that was imported to its package under that very name:
`kinshot.objectives.info_nce` would be the function or the file, as somebody imported it before or not. A face is therefore a module of
a class of its own, as Python's data model provides for ("Customizing module attribute access"), and such a binding gives the part. The
file is what `from kinshot.objectives.info_nce import ...` looks into, as ever; `import kinshot.objectives.info_nce as x` gives the part.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol


class Offer(Protocol):
    """What a face shows: names, known without importing anything, and what each stands for."""

    def names(self) -> Iterable[str]:
        """Every name."""

    def get(self, name: str) -> Any:
        """What a name of `names` stands for; imports its module."""

    def loaded(self, name: str) -> Any:
        """The same if its module was imported already, else None; reads nothing."""


class Face(ModuleType):
    """A module whose offered names are loaded on first use. Made by `face`."""

    __offer__: Offer

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what tools ask every module; none of them is a part
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        names = list(self.__offer__.names())
        if name not in names:
            from kinshot.core.errors import suggest

            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}: {suggest(name, names)}")
        found = self.__offer__.get(name)
        super().__setattr__(name, found)
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        own_file = isinstance(value, ModuleType) and value.__name__ == f"{self.__name__}.{name}"
        part = self.__offer__.loaded(name) if own_file else None
        super().__setattr__(name, value if part is None else part)

    def __dir__(self) -> list[str]:
        return sorted({*(name for name, value in vars(self).items() if self._own(name, value)), *self.__offer__.names()})

    def _own(self, name: str, value: Any) -> bool:
        """Whether it is more than a helper that the module imported: its registry, a module in it, something written there."""
        special = name.startswith("__") or isinstance(value, ModuleType) or value is self.__offer__
        return special or getattr(value, "__module__", "") == self.__name__


def face(module: str, offer: Offer) -> None:
    """Let the module of this name, which is being imported, show what is offered."""
    shown = sys.modules[module]
    vars(shown)["__offer__"] = offer
    shown.__class__ = Face


class Declared:
    """What the `if TYPE_CHECKING:` block of a file imports by name; the file is read when the first name is asked for.

    Args:
        module: dotted name of the package that shows the names.
        file: its source file.
    """

    def __init__(self, module: str, file: str) -> None:
        self.module, self.file = module, file

    def names(self) -> list[str]:
        """Every name of the block."""
        return list(self.places)

    def get(self, name: str) -> Any:
        """What stands at the name's place: an attribute of another module, or a module of this package."""
        module, attribute = self.places[name]
        if module == self.module:
            return importlib.import_module(f"{module}.{attribute}")
        return getattr(importlib.import_module(module), attribute)

    def loaded(self, name: str) -> None:
        """None: no name of such a block is that of a file with something else of this name in it."""

    @cached_property
    def places(self) -> dict[str, tuple[str, str]]:
        """Module and attribute of every name."""
        import ast

        found: dict[str, tuple[str, str]] = {}
        for block in ast.parse(Path(self.file).read_text(encoding="utf-8")).body:
            if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
                for line in block.body:
                    if isinstance(line, ast.ImportFrom) and line.module:
                        found |= {one.asname or one.name: (line.module, one.name) for one in line.names if one.name != "*"}
        return found
