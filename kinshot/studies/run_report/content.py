"""What the page of a run says, as plain data: everything that a picture or a table of it shows, but for the samples themselves."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

KIND = "kinshot run report"
SCHEMA_VERSION = 1
Verdict = Literal["normal", "look", "wrong", "unknown"]
Kind = Literal["pseudo-classes", "prototypes", "k-means"]


@dataclass(frozen=True)
class Curve:
    """One scalar of the records: its tag, steps, and values, None where one was not finite."""

    tag: str
    steps: list[int]
    values: list[float | None]

    @property
    def finite(self) -> list[float]:
        """The values that are numbers."""
        return [value for value in self.values if value is not None]


@dataclass(frozen=True)
class Gauge:
    """A gauge with what is normal.

    Args:
        name: its tag in the records, or how it is called there.
        means: what it measures.
        before: its value before training, or that of the first record; None where there is none.
        value: its value now; None where there is none.
        normal: what is normal, in words.
        verdict: normal, look (worth a look), wrong, or unknown.
        advice: what to do where it is not normal; empty otherwise.
    """

    name: str
    means: str
    before: float | None
    value: float | None
    normal: str
    verdict: Verdict
    advice: str = ""


@dataclass(frozen=True)
class MapPoint:
    """A sample on the maps, places in [0, 1] from the left and from the top; `tsne` is None where there is no such map."""

    index: int
    label: int
    pca: tuple[float, float]
    tsne: tuple[float, float] | None


@dataclass(frozen=True)
class EmbeddingMap:
    """Samples as points.

    Args:
        points: the samples.
        of: how many were embedded.
        explained: share of the variance that the two axes of PCA have.
        kept: by map, the share of each point's nearest `k` that are still among its nearest `k` on the map.
        k: neighbours that `kept` looks at.
        chance: what `kept` would be of points put anywhere.
        named: classes that have a colour and a shape of their own, in that order.
        classes: classes that the points have.
    """

    points: list[MapPoint]
    of: int
    explained: float
    kept: dict[str, float]
    k: int
    chance: float
    named: list[int]
    classes: int


@dataclass(frozen=True)
class Near:
    """A neighbour: its number, its cosine similarity, and whether it is of the query's class; None without labels."""

    index: int
    similarity: float
    kin: bool | None


@dataclass(frozen=True)
class Strip:
    """A query with its nearest neighbours, nearest first."""

    index: int
    nearest: list[Near]


@dataclass(frozen=True)
class Strips:
    """Some queries, how many samples were searched, and how many of these have a copy, which was not shown to it."""

    strips: list[Strip]
    searched: int
    copied: int


@dataclass(frozen=True)
class Cluster:
    """A cluster: its number, size, members nearest to its centroid, and with labels its most frequent class and the share of it."""

    number: int
    size: int
    nearest: list[int]
    label: int | None = None
    share: float | None = None


@dataclass(frozen=True)
class Clusters:
    """Clusters of samples.

    Args:
        kind: pseudo-classes that the method keeps of its samples, prototypes that it has learned, or k-means, made for the page.
        rows: samples in clusters.
        sizes: of all clusters, largest first.
        shown: some of them, by size.
        agreement: adjusted mutual information with the classes (0 is chance, 1 the same); None without labels.
    """

    kind: Kind
    rows: int
    sizes: list[int]
    shown: list[Cluster]
    agreement: float | None


@dataclass(frozen=True)
class At:
    """A mean in percent at k, with its 95 % interval over queries; `shots` is k, which is what axes of figures call it."""

    shots: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Retrieval:
    """Recall and precision at k.

    Args:
        queries: how many were asked; those without kin were not.
        left_out: queries without kin.
        among: samples that were searched.
        lines: by metric (`recall`, `precision`) and line (`this run`, `before training`), a point for each k.
        chance: by metric, in percent for each k.
    """

    queries: int
    left_out: int
    among: int
    lines: dict[str, dict[str, list[At]]]
    chance: dict[str, list[float]]


@dataclass(frozen=True)
class ViewsShown:
    """Samples of which views are shown, the epochs of these views, counted from 1, how many of each, and whether training sees them."""

    indices: list[int]
    epochs: list[int]
    views: int
    own: bool


@dataclass(frozen=True)
class Content:
    """A whole page.

    Args:
        title: names the run and the data.
        command: the command line that makes this page again.
        reached: how far training got.
        about: what was looked at, label to text or to several texts.
        warnings: what must stand beside every figure.
        curves: the records.
        checkpoint_step: steps behind the weights that were looked at.
        gauges: with what is normal.
        views, map, strips, clusters, retrieval: what there is of them.
        absent: by part, why it is not there.
        labels: class names; empty without labels.
        label_of: by number of a shown sample, its class.
    """

    title: str
    command: str
    reached: str
    about: dict[str, str | list[str]]
    warnings: list[str]
    curves: list[Curve]
    checkpoint_step: int
    gauges: list[Gauge]
    views: ViewsShown | None = None
    map: EmbeddingMap | None = None
    strips: Strips | None = None
    clusters: Clusters | None = None
    retrieval: Retrieval | None = None
    absent: dict[str, str] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    label_of: dict[int, int] = field(default_factory=dict)

    def named(self, index: int) -> str:
        """The class of a shown sample; empty without labels."""
        return self.labels[self.label_of[index]] if index in self.label_of else ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return {"kind": KIND, "schema_version": SCHEMA_VERSION, **asdict(self)}
