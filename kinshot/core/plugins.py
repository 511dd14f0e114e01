"""Parts in other people's packages: which files the entry-point groups `kinshot.<kind>` name, found without importing them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

from kinshot.core.errors import ConfigError

PREFIX = "kinshot."


class Plugin(NamedTuple):
    """One entry point: its name, the package that brings it, and the module that it names."""

    name: str
    package: str
    module: str

    def __str__(self) -> str:
        return f"plug-in {self.name!r} of package {self.package}"

    def file(self) -> Path:
        """The module's source file. Raises ConfigError where there is none."""
        try:  # looking for a.b.c imports a.b, which is other people's code and may fail in any way
            spec = importlib.util.find_spec(self.module)
        except Exception as error:
            where = f"{self} names the module {self.module}, which cannot be looked for ({type(error).__name__}: {error})"
            raise ConfigError(f"{where}: uninstall or mend the package") from error
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            raise ConfigError(f"{self} names the missing module {self.module}: uninstall or mend the package")
        return Path(spec.origin)


def group_of(kind: str) -> str:
    """The entry-point group of a kind of part: `kinshot.data_source` for "data source"."""
    return PREFIX + kind.replace(" ", "_")


def plugins(kind: str) -> list[Plugin]:
    """The plug-ins of a kind, each module once."""
    return _by_group(tuple(sys.path)).get(group_of(kind), [])


def groups() -> dict[str, list[Plugin]]:
    """Every entry-point group that begins with `kinshot.`, also those of no kind of part."""
    return _by_group(tuple(sys.path))


@cache
def _by_group(path: tuple[str, ...]) -> dict[str, list[Plugin]]:
    """Plug-ins by group: what all installed packages say is read once, as that takes longer than to read all parts."""
    found: dict[str, list[Plugin]] = {}
    packages: set[str] = set()
    for distribution in importlib.metadata.distributions(path=list(path)):
        text = distribution.read_text("entry_points.txt")
        if not text or f"[{PREFIX}" not in text or (package := distribution.metadata["Name"]) in packages:
            continue
        packages.add(package)  # a package that is on the path twice is imported from where it is first
        for point in distribution.entry_points:
            if point.group.startswith(PREFIX):
                known = found.setdefault(point.group, [])
                known += [Plugin(point.name, package, point.module)] if all(point.module != one.module for one in known) else []
    return found
