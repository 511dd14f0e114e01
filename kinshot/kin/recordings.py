"""Relations of windows of recordings: by when they begin and end, in which recording, and which modalities show them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, suggest
from kinshot.kin.parts import Mask
from kinshot.kin.relation import Relation

# Times are sums of floats: windows that share less than this part of their length only touch.
_TOUCH = 1e-4

_Negatives = Literal["other", "own", "all"]


def windows(recording: Tensor, start: Tensor, length: Tensor | float) -> Relation:
    """Windows of one instant are kin, windows of one recording that overlap otherwise are neither, all others are told apart.

    An anchor is neither to itself. Windows of unknown recording or start are neither to any.

    Args:
        recording: int64 (B,), in which recording each window is; -1 = unknown.
        start: (B,), when it begins; NaN = unknown. Seconds of long recordings want float64.
        length: how long it is, in the units of `start`, above 0: (B,), or one number for all.

    >>> recording, start = torch.tensor([0, 0, 0, 1]), torch.tensor([0.0, 1.0, 2.0, 1.0])
    >>> kinshot.kin.windows(recording, start, length=2.0).dense()[1]  # windows of 2 s, a second apart
    tensor([[0., 0., 1., 1.],
            [0., 0., 0., 1.],
            [1., 0., 0., 1.],
            [1., 1., 1., 0.]])
    """
    for name, values in (("recording", recording), ("start", start)):
        if values.dim() != 1 or len(values) != len(recording):
            raise ConfigError(f"windows: expected a {name} for each of {len(recording)} windows, (B,), got {tuple(values.shape)}")
    long = torch.as_tensor(length, dtype=start.dtype, device=start.device).expand(start.shape)
    if long.device.type == "cpu" and not bool((long > 0).all()):  # to ask a GPU would stall it
        raise ConfigError(f"length: expected lengths above 0, got {float(long.min())}")
    known, together = _together(recording, start)
    one, other = long.unsqueeze(1), long.unsqueeze(0)
    lag, touch = start.unsqueeze(1) - start, _TOUCH * torch.minimum(one, other)
    instant = together & (lag.abs() <= touch) & ((one - other).abs() <= touch)
    # the earlier one has not ended when the later one begins
    overlap = together & (lag.abs() < torch.where(lag > 0, other, one) - touch)
    return _of_themselves(instant, known & ~overlap)


def neighborhood(time: Tensor, recording: Tensor, spread: float, *, reach: float = 3.0, others: bool = False) -> Relation:
    """Windows near in time are kin, by a normal weight exp(-(lag / spread)^2 / 2); those of the recording beyond reach are told apart.

    Never kin across recordings. With `objectives.temporal.tnc` it is temporal neighborhood coding over the windows of a batch.

    Paper: Tonekaboni, Eytan, Goldenberg 2021, arXiv 2106.00750, whose neighborhood of a window at t is Normal(t, eta delta).
    Departure: there eta grows until an augmented Dickey-Fuller test finds the signal no longer stationary; here `spread`, which is eta
        delta, is fixed. Neighbors are the batch's own windows, weighted, where there they are drawn.

    Args:
        time: (A,), the middle or start of each window; NaN = unknown, which is neither.
        recording: int64 (A,); -1 = unknown, which is neither.
        spread: standard deviation of the neighborhood, in the units of `time`, above 0.
        reach: up to how many spreads windows are kin, above 0.
        others: whether windows of other recordings are told apart, too; they are neither otherwise.

    >>> seconds, film = torch.tensor([0.0, 1.0, 9.0]), torch.tensor([0, 0, 0])
    >>> kinshot.kin.neighborhood(seconds, film, spread=1.0).dense()[0]
    tensor([[0.0000, 0.6065, 0.0000],
            [0.6065, 0.0000, 0.0000],
            [0.0000, 0.0000, 0.0000]])
    """
    if time.dim() != 1 or time.shape != recording.shape:
        got = f"{tuple(time.shape)} and {tuple(recording.shape)}"
        raise ConfigError(f"neighborhood: expected a time and a recording for each window, (A,), got {got}")
    if not (spread > 0 and reach > 0):
        raise ConfigError(f"spread, reach: expected numbers above 0, got {spread} and {reach}")
    known, together = _together(recording, time)
    lag = torch.where(together, (time.unsqueeze(1) - time).abs(), 0) / spread
    near = together & (lag <= reach)
    weight = torch.where(near, (lag.square() / -2).exp(), 0).to(torch.promote_types(time.dtype, torch.float32))
    return _of_themselves(weight, (known if others else together) & ~near)


def across_modalities(relation: Relation, present: Tensor, *, negatives: _Negatives = "all") -> Relation:
    """A relation of B windows carried over to M modalities of each: a window's other modalities are its kin, as are those of its kin.

    Rows are [modality 1 of all; modality 2 of all; ...]. Kin are in other modalities alone, and a window is kin to itself there with
    weight 1. Rows of modalities that a window lacks are neither to any.

    Args:
        relation: of the windows to themselves, (B, B), as `windows` makes it.
        present: bool (M, B), which modalities each window has.
        negatives: what a window is told apart from is, of the windows that the relation names, the "other" modalities (cross-modal
            InfoNCE of two), its "own" modality (COCOA), or "all" (NT-Xent over both).

    >>> two = kinshot.kin.windows(torch.tensor([0, 1]), torch.zeros(2), length=1.0)
    >>> relation = kinshot.kin.across_modalities(two, torch.tensor([[True, True], [True, False]]), negatives="own")
    >>> relation.dense()[0]  # the second window has the first modality alone
    tensor([[0., 0., 1., 0.],
            [0., 0., 0., 0.],
            [1., 0., 0., 0.],
            [0., 0., 0., 0.]])
    >>> relation.dense()[1]
    tensor([[0., 1., 0., 0.],
            [1., 0., 0., 0.],
            [0., 0., 0., 0.],
            [0., 0., 0., 0.]])
    """
    rows, columns = relation.shape
    if rows != columns or present.dim() != 2 or present.shape[1] != rows or present.dtype != torch.bool:
        got = f"a relation {relation.shape} and {present.dtype} {tuple(present.shape)}"
        raise ConfigError(f"across_modalities: expected a relation of windows to themselves, (B, B), and bool (M, B), got {got}")
    if negatives not in (choices := ("other", "own", "all")):
        raise ConfigError(f"negatives: got {negatives!r}: {suggest(negatives, choices)}")
    count, device = len(present), present.device
    modality = torch.arange(count, device=device).repeat_interleave(rows)
    own, there = modality.unsqueeze(1) == modality, present.reshape(-1)
    both = there.unsqueeze(1) & there
    positive, negative = (part.to(device) for part in relation.dense())
    positive, negative = (part.repeat(count, count) for part in (positive.clone().fill_diagonal_(1), negative.clone().fill_diagonal_(0)))
    among = both if negatives == "all" else both & (own if negatives == "own" else ~own)
    return Relation(Mask(positive * (both & ~own)), Mask(negative * among), (count * rows, count * rows))


def _together(recording: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of which both are known, and those of one recording, bool (A, A)."""
    sound = ~torch.isnan(time) & (recording >= 0)
    known = sound.unsqueeze(1) & sound
    return known, known & (recording.unsqueeze(1) == recording)


def _of_themselves(positive: Tensor, negative: Tensor) -> Relation:
    """Of rows to themselves, none to itself."""
    return Relation(Mask(positive.fill_diagonal_(0)), Mask(negative.fill_diagonal_(0)), (len(positive), len(positive)))
