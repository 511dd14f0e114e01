"""Paths of this machine, which say nothing to others and may say too much, taken out of what is given away."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_WITHIN = re.compile(r"(^|[\s:=,\[(])(?:[A-Za-z]:[\\/](?![\\/])|/(?!/))(?:[^\s:,\])]*[\\/])?(?=[^\s:,\])]|$)")
"""The folders of an absolute path in a text, behind its beginning, a space, or what stands before a value."""


def without_folders(text: str) -> str:
    """A text with the last name alone of each absolute path in it.

    >>> from kinshot.exports.places import without_folders
    >>> without_folders("/home/ada/photos"), without_folders("weights of /home/ada/w.pth"), without_folders("timm:resnet18:/w.pth")
    ('photos', 'weights of w.pth', 'timm:resnet18:w.pth')
    """
    return Path(text).name if Path(text).is_absolute() else _WITHIN.sub(r"\1", text)


def without_places(value: Mapping[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """Plain data with every text in it as `without_folders` gives it, and the keys of those that this changed.

    Args:
        value: the data.
        where: what the keys are told to be below of; empty for nothing.
    """
    moved: list[str] = []

    def walk(inner: Any, key: str) -> Any:
        if isinstance(inner, Mapping):
            return {name: walk(one, f"{key}.{name}".lstrip(".")) for name, one in inner.items()}
        if isinstance(inner, list | tuple):
            return [walk(one, key) for one in inner]
        if isinstance(inner, str) and (short := without_folders(inner)) != inner:
            moved.append(key)
            return short
        return inner

    return walk(value, where), list(dict.fromkeys(moved))
