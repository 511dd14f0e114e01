"""What a report says, as plain data: everything that a picture or a table of the page shows, and nothing else."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from kinshot.studies.summaries import Difference, Line

KIND = "kinshot report"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Focus:
    """What the details are about: one checkpoint, feature, head and task, the first of each that was asked for."""

    model: str
    feature: str
    head: str
    ways: int | str
    shots: int | str


@dataclass(frozen=True)
class ClassRow:
    """One class: its name, how many queries it had, and by head the percentage of them that were put into it."""

    label: int
    name: str
    queries: int
    accuracy: dict[str, float]


@dataclass(frozen=True)
class Pair:
    """Queries of one class that were put into another: how many, of how many that could have been, in percent."""

    true: str
    predicted: str
    count: int
    met: int
    percent: float


@dataclass(frozen=True)
class Confusion:
    """Who is taken for whom.

    Args:
        names: the classes shown, C of them.
        classes: classes that played in any episode.
        counts: queries of the row's class put into the column's, (C, C).
        met: queries of the row's class in episodes where the column's class played, (C, C).
        percent: counts / met in percent; None where the two never met, (C, C).
        pairs: the most frequent confusions of all classes, most frequent first.
    """

    names: list[str]
    classes: int
    counts: list[list[int]]
    met: list[list[int]]
    percent: list[list[float | None]]
    pairs: list[Pair]


@dataclass(frozen=True)
class Reliability:
    """Calibration of one head: the expected calibration error, and its bins (None where a bin is empty)."""

    head: str
    error: float
    edges: list[float]
    counts: list[int]
    confidence: list[float | None]
    accuracy: list[float | None]
    rule: str


@dataclass(frozen=True)
class EpisodeRow:
    """One episode: its number, its accuracy in percent, its classes."""

    number: int
    accuracy: float
    classes: list[str]


@dataclass(frozen=True)
class EpisodeSpread:
    """How accuracy differs between episodes: mean and 95 % half-width, a histogram, and the extremes, most extreme first."""

    mean: float
    ci95: float
    edges: list[float]
    counts: list[int]
    best: list[EpisodeRow]
    worst: list[EpisodeRow]


@dataclass(frozen=True)
class Answer:
    """One query: the sample's number, the way and the class that it was put into, whether that is its class."""

    index: int
    way: int
    predicted: str
    right: bool


@dataclass(frozen=True)
class ShownWay:
    """One class of a shown episode: numbers of its support images, answers to its queries, and how many of each there are."""

    name: str
    support: list[int]
    queries: list[Answer]
    supports_in_all: int
    queries_in_all: int
    right_in_all: int


@dataclass(frozen=True)
class ShownEpisode:
    """An episode of the gallery, why it is there, and how many ways it has in all."""

    number: int
    why: str
    accuracy: float
    ways: list[ShownWay]
    ways_in_all: int


@dataclass(frozen=True)
class Content:
    """A whole report.

    Args:
        title: names the data and the task.
        command: the command line that makes this report again.
        about: what was measured, label to text or to several texts.
        focus: what the details are about.
        main: the model whose lines the figures of accuracy show: the checkpoint, or the mean over several.
        rows: accuracy of every model, feature, head and task, in percent.
        beats_references: whether the best line lies above both references on every task with disjoint intervals; None without them.
        paired: every head against the first one on the same episodes.
        classes: accuracy by class, worst first.
        confusion: who is taken for whom.
        reliability: calibration of each head whose scores say how sure it is.
        spread: how accuracy differs between episodes.
        gallery: some episodes.
        versions: of the libraries that measured.
        weights: SHA-256 of each encoder.
        hashes: of the episodes of each task: equal hashes are equal episodes.
        warning: what must stand beside every figure, such as that training was given the labels of these classes; empty for nothing.
    """

    title: str
    command: str
    about: dict[str, str | list[str]]
    focus: Focus
    main: str
    rows: list[Line]
    beats_references: bool | None
    paired: list[Difference]
    classes: list[ClassRow]
    confusion: Confusion
    reliability: list[Reliability]
    spread: EpisodeSpread
    gallery: list[ShownEpisode]
    versions: dict[str, str]
    weights: list[str]
    hashes: dict[str, str]
    warning: str = ""

    @property
    def heads(self) -> list[str]:
        """The heads as they were written, in their order."""
        return list(dict.fromkeys(row.head for row in self.rows))

    @property
    def features(self) -> list[str]:
        """The features of the checkpoints, in their order."""
        return list(dict.fromkeys(row.feature for row in self.rows if row.model == self.main))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return {"kind": KIND, "schema_version": SCHEMA_VERSION, **asdict(self)}
