"""Cells as rows of few-shot episodes, so that any few-shot head segments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.segmentation import SEGMENTERS
from kinshot.segmentation.cells import cell_labels, support_rows
from kinshot.segmentation.dense import Dense, check_dense


@SEGMENTERS.register("rows", scores="similarities")
def rows(
    episodes: Dense,
    *,
    cells: int = 100,
    way_cover: float = 0.5,
    background_cover: float = 0.9,
    other_ways: Literal["drop", "background"] = "drop",
    head: Callable[..., Tensor] | None = None,
) -> Tensor:
    """Cells as rows of a few-shot episode of 1 + W classes, for any few-shot head; named by that head's name.

    A support cell has the label of its image's way where enough of its pixels are of it, the background's where enough of them are, and
    none otherwise. Of an image in which no cell is covered enough by its way, the cell that is covered most stands for it. Every cell of
    the queries is a query: a transductive head sees them together.

    Paper: none
    Defaults: kinshot's own; there is no public code of it.

    Args:
        episodes: maps and way maps; the first stage is compared.
        cells: most support cells of the background, and of the way, from one image; they are spread evenly over those that there are.
        way_cover: least share of a cell's pixels that makes it one of the way, above 0.
        background_cover: least share that makes it background, above 0.
        other_ways: whether in an image of one way the pixels of another are background to it, or nothing.
        head: `(support (E, S, D), labels (E, S), query (E, Q, D), ways) -> scores (E, Q, ways)` with its settings bound; label 0 is
            background, w + 1 way w, and -1 a row to be ignored.

    Returns:
        Scores (E, Q, 1 + W, h, w) as the head gives them, background first.

    Raises:
        ConfigError: no head, no cells, or a share outside of (0, 1].
        DataError: a way that no pixel of its support belongs to.

    >>> maps, half = torch.eye(2)[:, None, :].expand(2, 2, 2), torch.tensor([[0, 1], [0, 1]])  # two channels, one for each column
    >>> episodes = kinshot.Dense({"map": maps.view(1, 1, 1, 2, 2, 2)}, half.view(1, 1, 1, 2, 2), {"map": maps.view(1, 1, 2, 2, 2)})
    >>> kinshot.segmenters.rows(episodes, head=kinshot.heads.prototype).argmax(2)[0, 0]
    tensor([[0, 1],
            [0, 1]])
    """
    check_dense("rows", episodes)
    if head is None:
        raise ConfigError(
            "segmenter rows needs a few-shot head and none was given: name the head itself, for example prototype (head= in Python)"
        )
    if cells < 1 or not 0 < way_cover <= 1 or not 0 < background_cover <= 1:
        got = f"{cells=}, {way_cover=} and {background_cover=}"
        raise ConfigError(f"segmenter rows: cells must be at least 1 and the covers above 0 and at most 1, got {got}")
    episodes.check()
    support, query = episodes.support[episodes.stage], episodes.query[episodes.stage]
    height, width = support.shape[-2:]
    labels = cell_labels(episodes.masks, (height, width), way_cover, background_cover, other_ways)
    known, named = support_rows(support, labels, cells)
    asked = query.flatten(-2).transpose(-2, -1).flatten(1, 2)
    scores = head(known, named, asked, 1 + episodes.ways)
    return scores.unflatten(1, (query.shape[1], -1)).transpose(-2, -1).unflatten(-1, query.shape[-2:])
