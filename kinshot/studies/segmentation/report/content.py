"""What a report on segmentation says, as plain data: everything that a picture or a table of the page shows, and nothing else."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from kinshot.studies.report.folder import KIND

SCHEMA_VERSION = 1
MEAN = "mean"
Kind = Literal["model", "untrained", "rule"]


@dataclass(frozen=True)
class Line:
    """One figure of one learner or rule on one task, in percent, with its interval.

    Args:
        who: the model and the segmenter, or what a rule does.
        kind: `model`, an `untrained` encoder (or one as it was before training), or a class-blind `rule` that looks at no support.
        fold: a fold's number, `mean` over several, or empty where there are none.
        ways: of an episode.
        shots: of each way.
        figure: the rule of measuring, such as miou or fb_iou.
        mean: the figure.
        low: lower end of its interval.
        high: upper end.
        excluded: classes without a figure, which the mean leaves out.
        part_of: the mean over seeds that a single run is part of.
    """

    who: str
    kind: Kind
    fold: str
    ways: int
    shots: int
    figure: str
    mean: float
    low: float
    high: float
    excluded: int = 0
    part_of: str = ""


@dataclass(frozen=True)
class Versus:
    """How far one is above another on the same episodes, in points, with interval and p-values of a single comparison and of all."""

    who: str
    against: str
    fold: str
    ways: int
    shots: int
    figure: str
    mean: float
    low: float
    high: float
    p: float
    p_holm: float


@dataclass(frozen=True)
class Focus:
    """What the details are about: one checkpoint, segmenter, fold and task, the first of each that was asked for."""

    model: str
    head: str
    fold: str
    ways: int
    shots: int


@dataclass(frozen=True)
class ClassLine:
    """One class: how often it was asked for, and its figures in percent, None where nothing can be said.

    Args:
        name: of the class.
        episodes: in which it is a way.
        images: queries that show it.
        iou: intersection by union over all episodes.
        dice: 2 I / (predicted + true).
        precision: share of what was said to be it that is.
        recall: share of it that was found.
        rules: the IoU of it that each class-blind rule gets.
    """

    name: str
    episodes: int
    images: int
    iou: float | None
    dice: float | None
    precision: float | None
    recall: float | None
    rules: dict[str, float | None]


@dataclass(frozen=True)
class Said:
    """Where the pixels lie that were said to be of a class, in percent of them: on it, on another object, on plain background."""

    name: str
    pixels: int
    right: float
    objects: float
    ground: float


@dataclass(frozen=True)
class Taken:
    """Pixels of one kind of object that were said to be of another class: how many, and in percent of all that were said to be of it."""

    true: str
    said: str
    pixels: int
    percent: float


@dataclass(frozen=True)
class Mistakes:
    """What is wrongly found.

    Args:
        said: a row for each class, the least right first.
        objects: share of the pixels of objects that nobody asked for that were said to be of a class, in percent; None without any.
        ground: the same share of plain background.
        taken: the most frequent confusions of objects, most pixels first.
    """

    said: list[Said]
    objects: float | None
    ground: float | None
    taken: list[Taken]


@dataclass(frozen=True)
class EpisodeLine:
    """One episode: its number, its IoU in percent, its classes."""

    number: int
    iou: float
    classes: list[str]


@dataclass(frozen=True)
class Spread:
    """How IoU differs between episodes: the mean, a histogram, the extremes, and how many episodes have none."""

    mean: float
    edges: list[float]
    counts: list[int]
    best: list[EpisodeLine]
    worst: list[EpisodeLine]
    without: int


@dataclass(frozen=True)
class ShownQuery:
    """A query of a shown episode: the sample's number, the way that it was drawn for, and by way the IoU in percent (None for none)."""

    sample: int
    target: int
    iou: list[float | None]


@dataclass(frozen=True)
class ShownEpisode:
    """An episode of the gallery: why it is there, its classes, and numbers of its samples, of support (ways, shots)."""

    number: int
    why: str
    iou: float
    classes: list[str]
    support: list[list[int]]
    queries: list[ShownQuery]
    queries_in_all: int


@dataclass(frozen=True)
class Content:
    """A whole report.

    Args:
        title: names the run and the data.
        command: the command line that makes this report again.
        about: what was measured, label to text or to several texts.
        focus: what the details are about.
        lines: every figure.
        paired: differences on the same episodes.
        classes: by class, the worst first.
        mistakes: what is wrongly found.
        spread: how IoU differs between episodes.
        gallery: some episodes.
        hashes: of the episodes of each task: equal hashes are equal episodes.
        versions: of the libraries that measured.
        warning: what must stand beside every figure; empty for nothing.
    """

    title: str
    command: str
    about: dict[str, str | list[str]]
    focus: Focus
    lines: list[Line]
    paired: list[Versus]
    classes: list[ClassLine]
    mistakes: Mistakes
    spread: Spread
    gallery: list[ShownEpisode]
    hashes: dict[str, str]
    versions: dict[str, str]
    warning: str = ""

    @property
    def tasks(self) -> list[tuple[int, int]]:
        """Every (ways, shots) that was measured, ascending."""
        return sorted({(line.ways, line.shots) for line in self.lines})

    @property
    def figures(self) -> list[str]:
        """The rules of measuring, in their order."""
        return list(dict.fromkeys(line.figure for line in self.lines))

    @property
    def fold(self) -> str:
        """The fold that stands for all: the mean over them where there are several."""
        folds = [line.fold for line in self.lines]
        return MEAN if MEAN in folds else folds[0]

    def of(self, figure: str, ways: int, shots: int) -> list[Line]:
        """What everybody gets on one task: the mean over folds where there are several, and of runs that have a mean over seeds that."""
        wanted = (figure, ways, shots, self.fold)
        return [line for line in self.lines if (line.figure, line.ways, line.shots, line.fold) == wanted and not line.part_of]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return {"kind": KIND, "schema_version": SCHEMA_VERSION, **asdict(self)}
