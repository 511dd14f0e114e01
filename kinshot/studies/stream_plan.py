"""How a stream is cut and what is kept of it, by the encoder and by what was asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from kinshot.core.errors import ConfigError
from kinshot.datasets.stream_lines import Modality
from kinshot.datasets.stream_windows import LineWindows, StreamCut, StreamWindows
from kinshot.learn.model import Model
from kinshot.samples.bundle import BundleSpec
from kinshot.samples.series import SeriesSpec
from kinshot.samples.spec import Spec
from kinshot.studies.stream_features import CarriedFeatures, Features, WindowFeatures


@dataclass(frozen=True)
class Wanted:
    """What was asked of a stream, in seconds; None is what suits the encoder.

    Args:
        window: length of a window.
        step: from the begin of a window to that of the next.
        every: instead of windows, how often the feature of all that came is asked for; None for windows.
        wait: how long a window waits for modalities that are late.
        gap: the longest pause that a stream goes on over.
        measured: least share of a window's steps that a modality must have measured.
        pad: whether a stream that is shorter than a window is filled up.
        each_line: whether every line is a window of its own.
    """

    window: float | None = None
    step: float | None = None
    every: float | None = None
    wait: float | None = None
    gap: float | None = None
    measured: float | None = None
    pad: bool = False
    each_line: bool = False


def series_of(input: Spec, whose: str) -> dict[str, SeriesSpec]:
    """What an encoder takes of each modality, by name; of one series by the name `series`. Raises ConfigError for another encoder."""
    found = input.modalities if isinstance(input, BundleSpec) else {"series": input}
    other = [name for name, part in found.items() if not isinstance(part, SeriesSpec)]
    if other:
        what = (
            f"its modality {other[0]} is {found[other[0]].kind}" if isinstance(input, BundleSpec) else f"it was made for {input.describe()}"
        )
        raise ConfigError(
            f"{whose} does not stream, {what}: lines say what sensors measure, so take an encoder of series or of bundles of them"
        )
    return cast(dict[str, SeriesSpec], found)


def windows_of(series: Mapping[str, SeriesSpec], wanted: Wanted) -> StreamWindows | LineWindows:
    """What makes windows of lines. Raises ConfigError as `cut_of` does."""
    modalities = {name: Modality(part.channels, part.rate) for name, part in series.items()}
    cut = cut_of(series, wanted)
    return LineWindows(modalities, cut.seconds) if wanted.each_line else StreamWindows(modalities, cut)


def trained_seconds(series: Mapping[str, SeriesSpec]) -> float:
    """The length of the windows that an encoder was trained on."""
    return max(part.seconds for part in series.values())


def cut_of(series: Mapping[str, SeriesSpec], wanted: Wanted) -> StreamCut:
    """How a stream is cut. Raises ConfigError for steps that no modality makes in that time."""
    trained, rates = trained_seconds(series), [part.rate for part in series.values()]
    seconds = trained if wanted.window is None else wanted.window
    step = seconds / 2 if wanted.step is None else wanted.step
    for name, value in (("--every", wanted.every), ("--step", step)):
        if value is not None and value < 1 / max(rates):
            least = f"{1 / max(rates):g} s"
            raise ConfigError(f"{name}: expected at least a step of the fastest modality, {least}, got {value:g}: give more")
    wait = wanted.wait if wanted.wait is not None else 1 / min(rates) if len(rates) > 1 else 0.0
    gap = trained if wanted.gap is None else wanted.gap
    if wanted.every is not None:
        return StreamCut(wanted.every, wanted.every, wait, gap, "rest")
    return StreamCut(seconds, step, wait, gap, "pad" if wanted.pad else "leave out")


def wanted_features(model: Model, series: Mapping[str, SeriesSpec], wanted: Wanted, name: str, say: Callable[[str], None]) -> Features:
    """Features of windows, or of all that came, of an encoder called `name`. Raises ConfigError as these do."""
    if wanted.every is not None:
        return CarriedFeatures(model, series, name, say)
    seconds = trained_seconds(series) if wanted.window is None else wanted.window
    return WindowFeatures(model, series, seconds, 0.5 if wanted.measured is None else wanted.measured)
