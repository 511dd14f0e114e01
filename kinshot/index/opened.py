"""An index in use: images that look like an image, copies, and images that look like nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.runtime import resolve_device
from kinshot.datasets.images import told
from kinshot.index.copies import THRESHOLD, clusters, pairs_above
from kinshot.index.layout import Manifest
from kinshot.index.looking import Looked, ahead, look
from kinshot.index.nearest import Shelves
from kinshot.index.state import State, open_state
from kinshot.index.strangers import K, strangeness
from kinshot.kin.neighbors.proposals import Engine
from kinshot.learn.model import BACKBONE, Model
from kinshot.runs.classifier import same_encoder
from kinshot.samples.pixels import PixelSpec

_AHEAD, _BATCH = 64, 16


@dataclass(frozen=True)
class Hit:
    """An image that was found.

    Attributes:
        path: the file, below the folder of the images; the first one where several files have this content.
        copies: further files with this very content.
        cosine: to the query.
        row: number of the content in the index.
    """

    path: str
    copies: tuple[str, ...]
    cosine: float
    row: int


@dataclass(frozen=True)
class Cluster:
    """Files that are copies of one another, or near ones, linked directly or through others.

    Attributes:
        paths: the files, content by content.
        rows: the content of each.
        sizes: bytes of each.
        lowest: the lowest cosine of its pairs that reach the threshold; 1 where all files are one content.
    """

    paths: tuple[str, ...]
    rows: tuple[int, ...]
    sizes: tuple[int, ...]
    lowest: float

    @property
    def exact(self) -> bool:
        """Whether all files are one content."""
        return len(set(self.rows)) == 1


@dataclass(frozen=True)
class Duplicates:
    """What copies an index has.

    Attributes:
        clusters: the largest first, then by the first path.
        threshold: cosine from which two contents are near duplicates.
        pairs: how many pairs of contents reach it.
        copies: how many files have the content of another one before them.
        nearest: quantiles of the cosine of an image to its nearest other: median, nine tenths, all but one in a hundred.
    """

    clusters: tuple[Cluster, ...]
    threshold: float
    pairs: int
    copies: int
    nearest: tuple[float, ...]


@dataclass(frozen=True)
class Outlier:
    """An image and how far it is from others: 1 minus the cosine to its k-th nearest."""

    path: str
    copies: tuple[str, ...]
    score: float
    row: int


class Index:
    """A folder's images by what they look like. Made by `open_index`.

    Args:
        state: what is on the disk.
        place: where it is.
        folder: where the images are; None for where they were.
        encoder: where the encoder is; empty for where it was.
        device: where features of queries are made.
        engine: what proposes candidates: auto, products, or faiss where it is installed; changes nothing but speed.
    """

    def __init__(
        self, state: State, place: Path, folder: Path | None = None, encoder: str = "", device: str = "cpu", engine: Engine = "auto"
    ) -> None:
        self.state, self.place, self.encoder, self.device = state, place, encoder, device
        self.folder = folder if folder is not None else Path(state.manifest.folder)
        self.shelves = Shelves([shard.features for shard in state.shards], engine)

    def __len__(self) -> int:
        """How many different contents there are."""
        return len(self.state)

    @property
    def manifest(self) -> Manifest:
        """What the index says of itself."""
        return self.state.manifest

    @property
    def paths(self) -> list[str]:
        """Every file below the folder, sorted."""
        return [file.path for file in self.state.table]

    @cached_property
    def model(self) -> Model:
        """The encoder. Raises CheckpointError where it is missing, or is not the one that made the index."""
        model = same_encoder(self.manifest.encoder, self.place, self.encoder, "make the index anew")
        return model.to(resolve_device(self.device))

    def search(self, images: Tensor | str | Path | Sequence[str | Path], k: int = 10) -> list[list[Hit]]:
        """The k images that are most like each query, nearest first; equal ones in the order of the index.

        Args:
            images: a file or several, or uint8 or [0, 1] float (B, C, H, W).
            k: how many; all where there are fewer.

        Raises:
            ConfigError: a k below 1.
            DataError: an image that cannot be read.
            CheckpointError: another encoder than the one that made the index.
        """
        if k < 1:
            raise ConfigError(f"k is how many images are named for each query, at least 1, got {k}")
        asked = [images] if isinstance(images, str | Path) else images
        features, failed = self.features_of(asked)
        if failed:
            raise DataError(told(failed, len(asked)))
        return self.nearest(features, k)

    def nearest(self, features: Tensor, k: int) -> list[list[Hit]]:
        """The k images nearest to each feature (Q, D)."""
        if not len(features):
            return []
        ranked = self.shelves.nearest(features, k)
        return [
            [Hit(*self._named(row), round(cosine, 6), row) for row, cosine in zip(rows, cosines, strict=True)]
            for rows, cosines in zip(ranked.index.tolist(), ranked.value.tolist(), strict=True)
        ]

    def features_of(self, images: Tensor | Sequence[str | Path]) -> tuple[Tensor, dict[int, str]]:
        """Features (M, D) of the images that can be read, and what is wrong with each other one, by its number.

        Of a content that the index has it is the feature that the index has, and the encoder is not asked.
        """
        if isinstance(images, Tensor):
            return self.model.embed(images)[BACKBONE].cpu(), {}
        spec = self.manifest.encoder.input
        looked = list(ahead(lambda file: look(Path(), str(file), spec, 0, self._has), list(images), _AHEAD))
        failed = {row: one.reason for row, one in enumerate(looked) if one.reason}
        good = [one for one in looked if not one.reason]
        features = torch.empty(len(good), self.manifest.dim)
        there = [at for at, one in enumerate(good) if one.pixels is None]
        features[there] = self.shelves.take(torch.tensor([self.row_of(good[at].digest) for at in there], dtype=torch.int64))
        new = [at for at, one in enumerate(good) if one.pixels is not None]
        if new:
            features[new] = self._embedded([good[at] for at in new], spec)
        return features, failed

    def _embedded(self, looked: list[Looked], spec: PixelSpec) -> Tensor:
        pixels = np.stack([one.pixels for one in looked if one.pixels is not None])
        return self.model.embed(torch.from_numpy(pixels), batch=_BATCH)[BACKBONE].cpu()

    def row_of(self, digest: str) -> int | None:
        """The row of a content by its hash, or None."""
        wanted, first = np.frombuffer(bytes.fromhex(digest), dtype=np.int64), 0
        for shard in self.state.shards:
            halves = shard.digests.numpy().view(np.int64)
            at = np.flatnonzero((halves[:, 0] == wanted[0]) & (halves[:, 1] == wanted[1]))
            if len(at):
                return first + int(at[0])
            first += len(shard)
        return None

    def duplicates(self, threshold: float = THRESHOLD) -> Duplicates:
        """Copies by content, and near ones by cosine, in clusters. Every pair is looked at, and no matrix of all pairs is made.

        Args:
            threshold: cosine from which two contents are near duplicates; above 1 for copies by content alone.

        Raises:
            ConfigError: a threshold that is none, or one that so many pairs reach that it tells no copies.
        """
        if not 0 < threshold <= 2:
            raise ConfigError(f"a threshold is a cosine above 0 (above 1: copies by content alone), got {threshold:g}")
        table, pairs = self.state.table, pairs_above(self.shelves, threshold)
        several = np.flatnonzero(np.diff(table.first) > 1)
        groups = clusters(np.concatenate([pairs.rows, np.stack([several, several], 1)]))
        lowest = np.ones(len(self))
        for (first, second), cosine in zip(pairs.rows.tolist(), pairs.cosine.tolist(), strict=True):
            lowest[first], lowest[second] = min(lowest[first], cosine), min(lowest[second], cosine)
        found = [self._cluster(rows, float(lowest[rows].min())) for rows in groups]
        found.sort(key=lambda one: (-len(one.paths), one.paths))
        quantiles = tuple(round(float(q), 6) for q in np.quantile(pairs.nearest, [0.5, 0.9, 0.99])) if len(pairs.nearest) else ()
        return Duplicates(tuple(found), threshold, len(pairs.rows), len(table) - len(self), quantiles)

    def outliers(self, k: int = K) -> list[Outlier]:
        """All images, the strangest first: by 1 minus the cosine to the k-th nearest other content (Ramaswamy, Rastogi, Shim 2000).

        Raises ConfigError for a k below 1, or an index of one image.
        """
        score, _ = strangeness(self.shelves, k)
        order = np.argsort(-score, kind="stable")
        return [Outlier(*self._named(row), round(float(score[row]), 6), row) for row in order.tolist()]

    def thumbnail(self, row: int) -> bytes:
        """The thumbnail of a content as a JPEG file; nothing where the index keeps none."""
        shard, at = self.state.place(row)
        return shard.thumbnail(at)

    def _has(self, digest: str) -> bool:
        return self.row_of(digest) is not None

    def _named(self, row: int) -> tuple[str, tuple[str, ...]]:
        first, *more = (file.path for file in self.state.table.of(row))
        return first, tuple(more)

    def _cluster(self, rows: list[int], lowest: float) -> Cluster:
        files = [file for row in rows for file in self.state.table.of(row)]
        paths, of, sizes = (tuple(getattr(file, name) for file in files) for name in ("path", "row", "size"))
        return Cluster(paths, of, sizes, round(lowest, 6))


def open_index(
    path: str | Path,
    *,
    folder: str | Path | None = None,
    encoder: str = "",
    device: str = "cpu",
    engine: Engine = "auto",
    verify: bool | None = None,
) -> Index:
    """An index that `build_index` made. Features are mapped into memory: of a large one only what is looked at is read.

    Args:
        path: the index.
        folder: where the images are now; None for where they were. Searching needs none of them.
        encoder: where the encoder is now; empty for where it was. It is loaded when an image is asked for that the index does not have.
        device: where features of queries are made.
        engine: what proposes candidates: auto, products, or faiss where it is installed; changes nothing but speed.
        verify: whether every byte is compared with its checksum; None where they are less than a gigabyte.

    Raises:
        CheckpointError: missing, foreign, damaged, truncated, or of a newer version.

    >>> from pathlib import Path
    >>> from PIL import Image
    >>> for name, colour in (("rose", "red"), ("leaf", "lime"), ("sky", "blue")):
    ...     Path("hues").mkdir(exist_ok=True)
    ...     Image.new("RGB", (48, 48), colour).save(f"hues/{name}.png")
    >>> done = kinshot.build_index("hues", "hues.index", "runs/demo")
    >>> index = kinshot.open_index("hues.index")
    >>> [hit.path for hit in index.search(["hues/leaf.png"], k=1)[0]]
    ['leaf.png']
    """
    place = Path(path)
    return Index(open_state(place, verify), place, None if folder is None else Path(folder), encoder, device, engine)
