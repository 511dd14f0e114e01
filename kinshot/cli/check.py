"""`ssl check`: read every sample of a data set before anything is trained on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kinshot.cli.common import show
from kinshot.cli.options import JSON
from kinshot.core.errors import DataError
from kinshot.recipes.specs import parse_data

if TYPE_CHECKING:
    from kinshot.datasets.check import Checked

_GROUPS = 5


@click.command(name="check")
@click.argument("data", metavar="NAME[:ROOT]")
@click.option("--split", help="Split of the source.")
@click.option("--set", "options", multiple=True, metavar="KEY=VALUE", help="Further settings of the source; may be repeated.")
@JSON
def check_command(data: str, split: str | None, options: tuple[str, ...], as_json: bool) -> None:
    """Read every sample of a source, such as folder:photos, and list all files that cannot be read, with the reasons.

    Also says what is left out (other endings, foreign folders), which files are copies of others, and the smallest class. Exit code 3
    where anything cannot be read.
    """
    choice = parse_data(data, split, options)
    from kinshot.datasets import SOURCES
    from kinshot.datasets.check import check_data

    found = check_data(choice.name, choice.settings)
    show(_plain(found), as_json, lambda: check_text(found))
    if found.unreadable:
        count = f"{len(found.unreadable)} of {found.samples} samples" if found.samples else "the data"
        able = "unreadable" in SOURCES.entry(choice.name).parameters
        raise DataError(
            f"{count} cannot be read, as listed: repair {'them, take them away, or train with data.unreadable=leave_out' if able else 'it'}"
        )


def check_text(found: Checked) -> str:
    """The findings for people, what is wrong last; what a source said of what it leaves out when it was built stands on stderr already."""
    readable = found.samples - len(found.unreadable)
    rows = [f"{found.name}: {readable} of {found.samples} samples can be read{f', {found.classes} classes' if found.classes else ''}"]
    if found.samples == 0:
        rows = [f"{found.name}: cannot be read"]
    if found.smallest:
        rows.append(f"smallest class: {found.smallest[0]}, {found.smallest[1]} samples")
    rows += found.said
    if found.copies:
        rows.append(f"{sum(len(group) - 1 for group in found.copies)} files are copies of others:")
        rows += [f"  {' = '.join(group[:3])}{' = ...' if len(group) > 3 else ''}" for group in found.copies[:_GROUPS]]
        rows += [f"  and {len(found.copies) - _GROUPS} more groups"] if len(found.copies) > _GROUPS else []
    if found.unreadable:
        rows += [f"{len(found.unreadable)} cannot be read:" if found.samples else "", *(f"  {why}" for _, why in found.unreadable)]
    return "\n".join(filter(None, rows))


def _plain(found: Checked) -> dict[str, Any]:
    return {
        "name": found.name,
        "samples": found.samples,
        "classes": found.classes,
        "unreadable": [{"file": file, "reason": why} for file, why in found.unreadable],
        "notes": found.notes,
        "copies": found.copies,
        "smallest_class": None if found.smallest is None else {"name": found.smallest[0], "samples": found.smallest[1]},
    }
