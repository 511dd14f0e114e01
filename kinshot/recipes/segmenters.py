"""Segmenters named in one word of text: `cosine:shots=weighted`, or any few-shot head, `ridge:penalty=1:cells=50`. Imports no torch."""

from __future__ import annotations

from typing import Any, NamedTuple

from kinshot.core.errors import ConfigError, suggest
from kinshot.core.part_text import example_of, read_settings, split_text
from kinshot.fewshot import HEADS
from kinshot.segmentation import SEGMENTERS

_EXAMPLE = "cosine,ridge:penalty=1"
ROWS = "rows"
"""The segmenter through which few-shot heads segment."""


class SegmenterChoice(NamedTuple):
    """A segmenter as it was asked for: its text, its name, and its settings, those of a segmenter complete with defaults."""

    text: str
    name: str
    settings: dict[str, Any]


def parse_segmenters(text: str) -> list[SegmenterChoice]:
    """Every segmenter of a comma-separated list; commas inside [...] belong to a value, and one given twice counts once.

    Raises:
        ConfigError: unknown name or setting (with the closest valid one), a bad value, or text of another form.
    """
    return [parse_segmenter(part) for part in dict.fromkeys(split_text(text, ",", "heads", _EXAMPLE))]


def parse_segmenter(text: str) -> SegmenterChoice:
    """A segmenter's name and settings from `name` or `name:setting=value:setting=value`. Raises what `parse_segmenters` does."""
    name, *assignments = split_text(text, ":", "heads", _EXAMPLE)
    if name in SEGMENTERS.entries and name != ROWS:
        settings = read_settings(text, assignments, "segmenter", example_of(name, SEGMENTERS.entry(name).parameters))
        checked, problems = SEGMENTERS.check(name, settings)
    elif name in HEADS.entries:
        settings = read_settings(text, assignments, "head", example_of(name, HEADS.entry(name).parameters))
        ours, own = SEGMENTERS.entry(ROWS).parameters, HEADS.entry(name).parameters
        checked, problems = settings, SEGMENTERS.check(ROWS, {key: value for key, value in settings.items() if key in ours})[1]
        if unknown := [key for key in settings if key not in ours and key not in own]:
            problems.append(f"head {name} has no setting {unknown[0]!r}: {suggest(unknown[0], [*own, *ours])}")
        problems += HEADS.check(name, {key: value for key, value in settings.items() if key in own and key not in ours})[1]
    elif name == ROWS:
        raise ConfigError(f"{ROWS!r} is how few-shot heads segment: name the head with its settings, such as prototype:cells=100")
    else:
        known = [one for one in SEGMENTERS.names() if one != ROWS] + HEADS.names()
        raise ConfigError(f"nothing that segments is called {name!r}: {suggest(name, known)}")
    if problems:
        raise ConfigError("; ".join(problems))
    return SegmenterChoice(text, name, checked)
