"""Files that a command writes beside what it prints: their names are checked first, and what was measured is printed in any case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from kinshot.core.outputs import check_output_file


class OutputFile(click.ParamType):
    """The path of a file to write. ConfigError, before any work, where that could never succeed."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The checked path."""
        path = Path(value)
        check_output_file(path, param.opts[0] if param else "the file")
        return path


OUTPUT_FILE = OutputFile()


@contextmanager
def printed_anyway(show: Callable[[], None]) -> Iterator[None]:
    """Inside, files are written; `show` comes afterwards, also when that failed: the disk may have run full in the meantime."""
    try:
        yield
    finally:
        show()
