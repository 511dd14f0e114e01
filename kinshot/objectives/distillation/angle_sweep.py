"""All angles of a batch in one sweep over tiles: the sum of their costs, and its gradient with it, without N x N x N of memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kinshot.objectives.distillation.relations import pair_distances, square_form

COINCIDE = 1e-12  # at most this far apart, two samples have no direction from one to the other
CACHED = 2**17  # angles in a tile on a CPU: fewer, and calls cost more than what they do; more, and buffers leave the cache
WIDE = 2**24  # elsewhere: enough to keep the device busy


class Side(NamedTuple):
    """The triangles of one side's batch, by their edges; all symmetric (N, N), and 0 for samples that coincide.

    The cosine at a of the legs to b and c is that of the law of cosines, (D_ab^2 + D_ac^2 - D_bc^2) / (2 D_ab D_ac): N^2 distances say
    it all, without the embeddings. As distances come from differences, it is good in a tight cluster far off, too.

    Args:
        half: D / 2.
        inverse: 1 / D.
        square: D^2 / 2.
    """

    half: Tensor
    inverse: Tensor
    square: Tensor

    @classmethod
    def of(cls, z: Tensor) -> Side:
        """The edges among embeddings (N, D)."""
        distance = square_form(pair_distances(z), len(z))
        coincide = distance <= COINCIDE
        distance = distance.masked_fill(coincide, 0)
        return cls(distance / 2, distance.reciprocal().masked_fill(coincide, 0), distance.square() / 2)


class Legs(NamedTuple):
    """The edges from some vertices to some samples, as tiles take them; all (L, V).

    Args:
        ends: the samples.
        half: D / 2 on either side, the student's first.
        inverse: 1 / D on either side.
        itself: what the cosines of a leg with itself differ by.
        adjacent: where the gradient's sums for these edges are kept (2, L, V), see `Sweep`; None without a gradient.
    """

    ends: slice
    half: tuple[Tensor, Tensor]
    inverse: tuple[Tensor, Tensor]
    itself: Tensor
    adjacent: Tensor | None


def pieces(count: int, most: int) -> Iterator[slice]:
    """0 to `count` in equal pieces of at most `most`, up to rounding."""
    size = math.ceil(count / math.ceil(count / most))
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def tiles(legs: list[Legs]) -> Iterator[tuple[Legs, Legs]]:
    """Rows and columns of tiles that hold every pair of legs once, or else twice as many pairs by their mirror image."""
    return ((rows, columns) for place, rows in enumerate(legs) for columns in legs[place:])


class Sweep:
    """The costs of all angles, tile by tile: some vertices, some legs (rows) with some (columns).

    A tile whose rows and columns are other samples stands for its mirror image, too. What the gradient needs is summed up beside the
    costs. With C their slopes and P_abc = C_abc / (D_ab D_ac) it is: the sums over c of P and of C times the cosine, by vertex and leg,
    `adjacent`; and the sum over vertices of P, `opposite`.

    Args:
        student: (N, D).
        teacher: (N, D2), of the same type.
        valid: leave out angles between a leg and itself; they cost only where samples coincide on one side alone.
        gradient: whether it is wanted.
    """

    def __init__(self, student: Tensor, teacher: Tensor, valid: bool, gradient: bool) -> None:
        self.student = student
        self.sides = (Side.of(student), Side.of(teacher))
        # a leg's cosine with itself is 1, or 0 where it has no length: exactly, so that rounding does not make two sides differ
        ours, theirs = ((side.inverse > 0).to(student.dtype) for side in self.sides)
        self.itself = torch.zeros_like(ours) if valid else ours - theirs
        self.adjacent = student.new_zeros(2, *ours.shape) if gradient else None
        self.opposite = torch.zeros_like(ours)

    def run(self, chunk: int | None) -> Tensor:
        """The sum of all costs, 0-dim; `chunk` vertices at a time, None = all."""
        count = len(self.student)
        vertices = min(chunk or count, count)
        angles = CACHED if self.student.device.type == "cpu" else WIDE
        ends = list(pieces(count, max(1, math.isqrt(angles // vertices))))
        memory = self.student.new_empty(3 * vertices * ends[0].stop ** 2)  # the first piece is as large as any
        costs: list[Tensor] = []
        weights = []
        for some in pieces(count, vertices):
            for rows, columns in tiles([self.legs(some, leg) for leg in ends]):
                costs.append(self.tile(memory, rows, columns))
                weights.append(1.0 if rows is columns else 2.0)
        return (torch.stack(costs) * self.student.new_tensor(weights)).sum()

    def legs(self, vertices: slice, ends: slice) -> Legs:
        """What tiles take of the edges from `vertices` to `ends`."""
        # edges are symmetric: what lies side by side in memory is the longer of the two, so that no operation walks in short steps
        tall = vertices.stop - vertices.start < ends.stop - ends.start

        def cut(edges: Tensor) -> Tensor:
            return edges[..., vertices, ends].mT if tall else edges[..., ends, vertices]

        ours, theirs = self.sides
        adjacent = None if self.adjacent is None else cut(self.adjacent)
        return Legs(ends, (cut(ours.half), cut(theirs.half)), (cut(ours.inverse), cut(theirs.inverse)), cut(self.itself), adjacent)

    def tile(self, memory: Tensor, rows: Legs, columns: Legs) -> Tensor:
        """The sum of a tile's costs, 0-dim; the gradient takes the tile in."""
        (first, vertices), second = rows.itself.shape, len(columns.itself)
        flat = memory[: 3 * first * second * vertices].view(3, -1)
        tall = vertices < second
        found = flat.view(3, vertices, first, second).permute(0, 2, 3, 1) if tall else flat.view(3, first, second, vertices)
        slopes, cosines, difference = found.unbind()
        self.cosines(0, rows, columns, cosines)
        torch.sub(cosines, self.cosines(1, rows, columns, difference), out=difference)
        if rows is columns:
            difference.diagonal().copy_(rows.itself.T)
        torch.clamp(difference, -1, 1, out=slopes)
        # h(x) = clip(x) (x - clip(x) / 2), summed pairwise: a dot product of as many terms loses five digits on some processors
        cost = flat[2].sub_(flat[0], alpha=0.5).mul_(flat[0]).sum()
        if self.adjacent is not None:
            self.add(rows, columns, found[:2])
        return cost

    def cosines(self, side: int, rows: Legs, columns: Legs, out: Tensor) -> Tensor:
        """<u_ab, u_ac> of a tile's legs b, c and vertices a on one side, into `out`."""
        half, inverse, square = columns.half[side], columns.inverse[side], self.sides[side].square[rows.ends, columns.ends]
        # half_ac / D_ab + half_ab / D_ac - square_bc / (D_ab D_ac), in three passes
        torch.addcmul(half, square.unsqueeze(2), inverse, value=-1, out=out)
        return out.mul_(rows.inverse[side].unsqueeze(1)).addcmul_(rows.half[side].unsqueeze(1), inverse)

    def add(self, rows: Legs, columns: Legs, found: Tensor) -> None:
        """Sum up what the gradient needs of a tile: `found` (2, R, C, V) has slopes and cosines, and is used up."""
        slopes, cosines = found.unbind()
        cosines.mul_(slopes)
        slopes.mul_(rows.inverse[0].unsqueeze(1)).mul_(columns.inverse[0])
        mirrored = rows is not columns
        if rows.adjacent is not None and columns.adjacent is not None:
            rows.adjacent.add_(found.sum(2))
            if mirrored:
                columns.adjacent.add_(found.sum(1))
        self.opposite[rows.ends, columns.ends].add_(slopes.sum(2), alpha=1 + mirrored)

    def gradient(self) -> Tensor | None:
        """That of the embeddings (N, D): of all D_ab^2 first, and through these."""
        if self.adjacent is None:
            return None
        edges = self.adjacent[0] - self.adjacent[1] * self.sides[0].inverse.square()
        edges = edges + edges.T - (self.opposite + self.opposite.T) / 2
        z = self.student - self.student.mean(0)
        return 2 * (edges.sum(1, keepdim=True) * z - edges @ z)


class AngleSweep(torch.autograd.Function):
    """A sweep as a step of a graph: its gradient is worked out beside its value, and only scaled on the way back."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, chunk: int | None, valid: bool, gradient: bool) -> Tensor:
        """The sum of all costs, 0-dim."""
        sweep = Sweep(student, teacher, valid, gradient)
        total = sweep.run(chunk)
        if gradient:
            ctx.save_for_backward(sweep.gradient())
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, ...]:
        """The student's gradient; the teacher is fixed."""
        return ctx.saved_tensors[0] * incoming, None, None, None, None
