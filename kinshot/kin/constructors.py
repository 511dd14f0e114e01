"""Relations by where kinship comes from: one function each. Hybrids: `union`, `intersection`, `without` of `Relation`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from kinshot.core.errors import ConfigError
from kinshot.kin.parts import Block, Listed, Mask
from kinshot.kin.relation import Relation

_ROWS = 256


def views(ids: Tensor, copies: int = 2) -> Relation:
    """Views of one sample are kin, all others of the batch are told apart; an anchor itself is neither.

    Rows are [view 1 of all; view 2 of all; ...]. A sample that occurs twice in the batch is kin to itself.

    Args:
        ids: int64 (B,), which sample each row of a view shows.
        copies: views of each.

    >>> positive, negative = kinshot.kin.views(torch.tensor([7, 9]), copies=2).dense()  # rows: 7, 9, and again 7, 9
    >>> positive
    tensor([[0., 0., 1., 0.],
            [0., 0., 0., 1.],
            [1., 0., 0., 0.],
            [0., 1., 0., 0.]])
    """
    _flat("ids", ids)
    if copies < 1:
        raise ConfigError(f"copies: expected at least 1, got {copies}")
    count, device = len(ids), ids.device
    total = count * copies
    # asking a GPU whether an id repeats would stall it, and there a matrix costs nothing
    if device.type != "cpu" or len(torch.unique(ids)) < count:
        all_ids = ids.repeat(copies)
        same = all_ids.unsqueeze(1) == all_ids
        return Relation(Mask(same.clone().fill_diagonal_(False)), Mask(~same), (total, total))
    shift = torch.arange(copies, device=device) * count
    own = (torch.arange(total, device=device).unsqueeze(1) + shift) % total
    return Relation(Listed(own[:, 1:]), Block(total, total, own), (total, total))


def across_views(relation: Relation, copies: int) -> Relation:
    """A relation of B samples carried over to `copies` views of each; other views of a sample are its kin, with weight 1.

    Rows are [view 1 of all; view 2 of all; ...].

    >>> relation = kinshot.kin.across_views(kinshot.kin.labels(torch.tensor([0, 0, 1])), copies=2)
    >>> relation.shape
    (6, 6)
    """
    rows, columns = relation.shape
    if rows != columns:
        raise ConfigError(f"across_views: expected a relation of samples to themselves, got shape {relation.shape}")
    positive, negative = relation.dense()
    positive, negative = positive.clone().fill_diagonal_(1).repeat(copies, copies), negative.clone().fill_diagonal_(0)
    return Relation(Mask(positive.fill_diagonal_(0)), Mask(negative.repeat(copies, copies)), (rows * copies, rows * copies))


def labels(y: Tensor, y_refs: Tensor | None = None) -> Relation:
    """Members of a class are kin, members of other classes are told apart; unknown labels (-1) are neither.

    Args:
        y: int64 (A,).
        y_refs: int64 (R,); None = the anchors themselves, each then neither to itself.

    >>> positive, negative = kinshot.kin.labels(torch.tensor([0, 0, 1, -1])).dense()
    >>> positive
    tensor([[0., 1., 0., 0.],
            [1., 0., 0., 0.],
            [0., 0., 0., 0.],
            [0., 0., 0., 0.]])
    >>> negative
    tensor([[0., 0., 1., 0.],
            [0., 0., 1., 0.],
            [1., 1., 0., 0.],
            [0., 0., 0., 0.]])
    """
    _flat("y", y)
    columns = y if y_refs is None else y_refs
    known = (y >= 0).unsqueeze(1) & (columns >= 0)
    same = y.unsqueeze(1) == columns
    return _masks(same & known, ~same & known, diagonal=y_refs is not None)


def grouped(
    relation: Relation,
    groups: Tensor,
    *,
    positives: Literal["any", "same", "other"] = "any",
    negatives: Literal["any", "same", "other"] = "any",
) -> Relation:
    """Of a batch's kin, or of its others, those of the anchor's own group or those of other groups; the rest is neither.

    Groups are modalities, cameras, sessions: kin across modalities alone, or others that the same camera took.

    Args:
        relation: of the rows to one another, (A, A).
        groups: of the rows, int64 (A,), -1 unknown: such a row is of no group, its own included.
        positives: whose kin stay: of "any" group, the "same" or an "other".
        negatives: the same for others.

    >>> y, modality = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    >>> positive, negative = kinshot.kin.grouped(kinshot.kin.labels(y), modality, positives="other", negatives="same").dense()
    >>> positive[0], negative[0]
    (tensor([0., 1., 0., 0.]), tensor([0., 0., 1., 0.]))
    """
    _flat("groups", groups)
    if relation.shape != (len(groups), len(groups)):
        raise ConfigError(f"grouped: expected the relation of {len(groups)} rows to one another, got {relation.shape}")
    known = (groups >= 0).unsqueeze(1) & (groups >= 0)
    same = groups.unsqueeze(1) == groups
    stays = {"any": torch.ones_like(same), "same": same & known, "other": ~same & known}
    for name, choice in (("positives", positives), ("negatives", negatives)):
        if choice not in stays:
            raise ConfigError(f"{name}: expected any, same or other, got {choice!r}")
    kin, others = (part.to(groups.device) for part in relation.dense())
    return Relation(Mask(kin * stays[positives]), Mask(others * stays[negatives]), relation.shape)


def multilabels(marks: Tensor, min_shared: int = 1, marks_refs: Tensor | None = None, *, graded: bool = False) -> Relation:
    """Rows that share enough labels are kin; those that cannot, whatever is missing, are told apart; in between is neither.

    Args:
        marks: (A, L), 1 = has the label, 0 = has it not, -1 or NaN = missing.
        min_shared: labels that kin share.
        marks_refs: (R, L); None = the anchors themselves.
        graded: weighs kin by the share of labels that both have among those that either has (Jaccard), and others by one minus it; False
            weighs all pairs 1.

    >>> marks = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 0, 1]])
    >>> kinshot.kin.multilabels(marks).dense()[0]
    tensor([[0., 1., 0.],
            [1., 0., 1.],
            [0., 1., 0.]])
    """
    if min_shared < 1:
        raise ConfigError(f"min_shared: expected at least 1, got {min_shared}")
    columns = marks if marks_refs is None else marks_refs
    if marks.dim() != 2 or columns.dim() != 2 or marks.shape[1] != columns.shape[1]:
        raise ConfigError(f"multilabels: expected (A, L) and (R, L), got {tuple(marks.shape)} and {tuple(columns.shape)}")
    has = [(rows == 1).float() for rows in (marks, columns)]
    may = [((rows == 1) | (rows < 0) | rows.isnan()).float() for rows in (marks, columns)]
    shared = has[0] @ has[1].T
    kin, others = shared >= min_shared, may[0] @ may[1].T < min_shared
    if graded:
        either = has[0].sum(dim=1, keepdim=True) + has[1].sum(dim=1) - shared
        relevance = shared / either.clamp(min=1)
        kin, others = relevance * kin, (1 - relevance) * others
    return _masks(kin, others, diagonal=marks_refs is not None)


def weights(positive: Tensor, negative: Tensor | None = None, *, diagonal: bool = False) -> Relation:
    """A relation given as matrices.

    Args:
        positive: bool or float (A, R), may be asymmetric.
        negative: the same; None = every pair that is not positive.
        diagonal: False leaves out the diagonal of square matrices, where an anchor meets itself; True for other references.

    >>> kinshot.kin.weights(torch.tensor([[0.0, 0.5], [1.0, 0.0]])).dense()[0]
    tensor([[0.0000, 0.5000],
            [1.0000, 0.0000]])
    """
    if negative is None:
        negative = positive == 0
    if positive.shape != negative.shape:
        raise ConfigError(f"weights: expected two matrices of one shape, got {tuple(positive.shape)} and {tuple(negative.shape)}")
    return _masks(positive, negative, diagonal=diagonal or positive.shape[0] != positive.shape[1])


def pairs(count: int, device: torch.device | str = "cpu") -> Relation:
    """Anchor i and reference i are kin; nothing is told apart: keys, the other half of a two-sided batch.

    >>> kinshot.kin.pairs(3).dense()[0]
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    return Relation(Listed(torch.arange(count, device=device).unsqueeze(1)), None, (count, count))


def negatives(anchors: int, references: int) -> Relation:
    """Every reference is told apart from every anchor: a queue.

    >>> kinshot.kin.negatives(2, 4096).shape  # no matrix is made
    (2, 4096)
    """
    return Relation(None, Block(anchors, references), (anchors, references))


def listed(
    positive: Tensor | None,
    negative: Tensor | None = None,
    positive_weights: Tensor | None = None,
    negative_weights: Tensor | None = None,
    *,
    size: int,
) -> Relation:
    """Rows of a bank, chosen by somebody else.

    Args:
        positive: int64 (A, P) or (A,); a negative index = absent; None = no positives.
        negative: the same.
        positive_weights: float, one for each index.
        negative_weights: float, one for each index.
        size: rows of the bank.

    >>> kinshot.kin.listed(torch.tensor([[3], [0]]), torch.tensor([[1, 2], [2, -1]]), size=4).dense()[1]
    tensor([[0., 1., 1., 0.],
            [0., 0., 1., 0.]])
    """
    if positive is None and negative is None:
        raise ConfigError("listed: expected indices of positives, of negatives or of both, got neither")
    sides = [_listed(positive, positive_weights), _listed(negative, negative_weights)]
    anchors = next(side.anchors for side in sides if side is not None)
    return Relation(sides[0], sides[1], (anchors, size))


def graph(source: Any, ids: Any = None, columns: Any = None, *, mask_hops: int = 0, diagonal: bool = False) -> Relation:
    """Links of a graph are kin, weighted; what is masked is neither; the rest is told apart.

    Args:
        source: what `RelationGraph.induced` returns (`positive` float (A, R), `masked` bool (A, R)), or, with `ids`, the graph itself.
        ids: node of each anchor (A,); a node that occurs twice is kin to itself.
        columns: node of each reference; None = the anchors.
        mask_hops: nodes this near that are not linked are masked; for a graph.
        diagonal: False leaves out the diagonal of square matrices, where an anchor meets itself; set it True for other references.

    >>> from kinshot.kin.constructors import graph
    >>> links = kinshot.kin.graph.from_edges(np.array([[0, 1], [1, 2]]), n=4)
    >>> graph(links, torch.tensor([0, 1, 3])).dense()[0]
    tensor([[0., 1., 0.],
            [1., 0., 0.],
            [0., 0., 0.]])
    """
    if ids is not None:
        nodes = [None if one is None else one.cpu().numpy() if isinstance(one, Tensor) else one for one in (ids, columns)]
        source, diagonal = source.induced(*nodes, mask_hops=mask_hops), columns is not None
    elif not hasattr(source, "positive"):
        raise ConfigError("graph: expected the result of induced(), or a graph together with the ids of the batch")
    positive, masked = torch.as_tensor(source.positive), torch.as_tensor(source.masked, dtype=torch.bool)
    relation = weights(positive, (positive == 0) & ~masked, diagonal=diagonal)
    device = ids.device if isinstance(ids, Tensor) else None
    return relation if device is None else relation.to(device)


def time(t: Tensor, group: Tensor, max_lag: float, *, masked_lag: float | None = None) -> Relation:
    """Samples of one sequence within a time lag are kin; never across sequences. Unknown times or groups are neither.

    Args:
        t: (A,), time of each sample; NaN = unknown.
        group: int64 (A,), sequence of each sample; -1 = unknown.
        max_lag: largest distance in time between kin, in the units of `t`.
        masked_lag: samples of one sequence up to this distance that are not kin are neither; None = told apart.

    >>> seconds, film = torch.tensor([0.0, 1.0, 9.0]), torch.tensor([0, 0, 0])
    >>> kinshot.kin.time(seconds, film, max_lag=2.0).dense()[0]
    tensor([[0., 1., 0.],
            [1., 0., 0.],
            [0., 0., 0.]])
    """
    _flat("t", t)
    if not max_lag >= 0 or (masked_lag is not None and masked_lag < max_lag):
        raise ConfigError(f"max_lag, masked_lag: expected 0 <= max_lag <= masked_lag, got {max_lag} and {masked_lag}")
    if t.shape != group.shape:
        raise ConfigError(f"time: expected a group for each time, {tuple(t.shape)}, got {tuple(group.shape)}")
    sound = ~torch.isnan(t) & (group >= 0)
    known = sound.unsqueeze(1) & sound
    together = (group.unsqueeze(1) == group) & known
    lag = (t.unsqueeze(1) - t).abs()
    positive = together & (lag <= max_lag)
    near = positive if masked_lag is None else together & (lag <= masked_lag)
    return _masks(positive, known & ~near, diagonal=False)


def modalities(first: Tensor, second: Tensor, first_present: Tensor | None = None, second_present: Tensor | None = None) -> Relation:
    """From anchors in one modality to references in another: the same instant is kin, other instants are told apart.

    Args:
        first: int64 (A,), instant of each anchor.
        second: int64 (R,), instant of each reference.
        first_present: bool (A,); absent rows are neither.
        second_present: bool (R,).

    >>> kinshot.kin.modalities(torch.tensor([0, 1]), torch.tensor([1, 1, 0])).dense()[0]
    tensor([[0., 0., 1.],
            [1., 1., 0.]])
    """
    _flat("first", first)
    same = first.unsqueeze(1) == second
    known = torch.ones_like(same)
    if first_present is not None:
        known &= first_present.unsqueeze(1)
    if second_present is not None:
        known &= second_present
    return _masks(same & known, ~same & known, diagonal=True)


@torch.no_grad()
def teacher(z: Tensor, *, k: int | None = None, threshold: float | None = None, refs: Tensor | None = None) -> Relation:
    """What a teacher places close is kin, the rest is told apart.

    Args:
        z: (A, D) embeddings of a teacher, of any width.
        k: an anchor's kin are its k nearest by cosine, or
        threshold: those of at least this cosine. One of the two.
        refs: (R, D); None = the anchors themselves, each then neither to itself.

    >>> z = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> kinshot.kin.teacher(z, k=1).dense()[0]
    tensor([[0., 1., 0.],
            [1., 0., 0.],
            [0., 1., 0.]])
    """
    if (k is None) == (threshold is None):
        raise ConfigError(f"teacher: expected either k or threshold, got k={k} and threshold={threshold}")
    unit = [F.normalize(rows.double() if rows.dtype == torch.float64 else rows.float(), dim=1) for rows in (z, z if refs is None else refs)]
    cosine = unit[0] @ unit[1].T
    rows, columns = cosine.shape
    if threshold is not None:
        return _masks(cosine >= threshold, cosine < threshold, diagonal=refs is not None)
    available = columns - (refs is None)
    if k is None or not 1 <= k <= available:
        raise ConfigError(f"k: expected 1 to {available}, the number of candidates, got {k}")
    if refs is not None:
        nearest = cosine.topk(k, dim=1).indices
        return Relation(Listed(nearest), Block(rows, columns, nearest), (rows, columns))
    nearest = cosine.fill_diagonal_(-torch.inf).topk(k, dim=1).indices
    own = torch.arange(rows, device=z.device).unsqueeze(1)
    return Relation(Listed(nearest), Block(rows, columns, torch.cat([nearest, own], dim=1)), (rows, columns))


def clusterings(assignments: Sequence[Tensor] | Tensor) -> Relation:
    """Anchor i and reference i are kin; the others are told apart by the number of clusterings in which they differ.

    Paper: Yu, Ge, Li, Zhou 2023, arXiv 2212.13847 (MEOW). With `denominator="negatives"` it gives that paper's loss.

    Args:
        assignments: int64 (A,) of each clustering, or stacked (C, A).

    >>> kinshot.kin.clusterings([torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1])]).dense()[1]
    tensor([[0., 1., 2.],
            [1., 0., 1.],
            [2., 1., 0.]])
    """
    stacked = torch.stack(list(assignments))
    if stacked.dim() != 2:
        raise ConfigError(f"clusterings: expected (C, A), got {tuple(stacked.shape)}")
    differ = torch.zeros(stacked.shape[1], stacked.shape[1], device=stacked.device)
    for first in range(0, stacked.shape[1], _ROWS):  # so many rows stay in a processor's cache
        part = slice(first, first + _ROWS)
        for one in stacked:
            differ[part] += one[part].unsqueeze(1) != one
    return Relation(pairs(stacked.shape[1], stacked.device).positive, Mask(differ), tuple(differ.shape))  # type: ignore[arg-type]


def _masks(positive: Tensor, negative: Tensor, *, diagonal: bool) -> Relation:
    if not diagonal:
        positive, negative = positive.clone().fill_diagonal_(0), negative.clone().fill_diagonal_(0)
    return Relation(Mask(positive), Mask(negative), (positive.shape[0], positive.shape[1]))


def _listed(index: Tensor | None, factors: Tensor | None) -> Listed | None:
    if index is None:
        return None
    return Listed(index.unsqueeze(1), None if factors is None else factors.unsqueeze(1)) if index.dim() == 1 else Listed(index, factors)


def _flat(name: str, tensor: Tensor) -> None:
    if tensor.dim() != 1:
        raise ConfigError(f"{name}: expected one value for each row, (B,), got {tuple(tensor.shape)}")
