"""Products with the matrices of a graph, which are buffers: a checkpoint holds the graph that its encoder was trained on."""

from __future__ import annotations

import warnings
from itertools import pairwise

import torch
from torch import Tensor, nn

from kinshot.samples.meta_paths import Csr, MetaPath


def sparse(indptr: Tensor, indices: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A sparse matrix by rows, for products with dense ones."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(indptr, indices, values, shape, check_invariants=False)


class SparseMatrix(nn.Module):
    """A sparse matrix (R, C) that multiplies dense ones.

    Args:
        given: the matrix.
    """

    indptr: Tensor
    indices: Tensor
    values: Tensor

    def __init__(self, given: Csr) -> None:
        super().__init__()
        for name in ("indptr", "indices", "values"):
            self.register_buffer(name, torch.from_numpy(getattr(given, name).copy()))
        self.shape = given.rows, given.columns

    def forward(self, x: Tensor, values: Tensor | None = None) -> Tensor:
        """The product (R, D) with x (C, D); `values` (E,) stand in for the matrix's own."""
        product: Tensor = sparse(self.indptr, self.indices, self.values if values is None else values, self.shape) @ x
        return product

    def rows(self) -> Tensor:
        """Row of each entry, int64 (E,)."""
        counts = self.indptr.diff().long()
        return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)


class Neighbors(SparseMatrix):
    """Who reaches whom by how many ways, normalised: D^-1/2 A D^-1/2, with the sums of rows as D."""

    def normalized(self, kept: Tensor | None = None) -> Tensor:
        """Values of the normalised matrix (E,), of the entries that are kept."""
        rows, columns = self.rows(), self.indices.long()
        values = self.values if kept is None else self.values * (kept | (rows == columns))
        scale = values.new_zeros(self.shape[0]).index_add(0, rows, values).clamp(min=1e-12).rsqrt()
        return values * scale[rows] * scale[columns]

    def masked(self, share: float, generator: torch.Generator) -> Tensor:
        """The same without a share of the edges, drawn; a node stays its own neighbour."""
        return self.normalized((torch.rand(len(self.values), generator=generator) >= share).to(self.values.device))

    def forward(self, x: Tensor, values: Tensor | None = None) -> Tensor:
        """The product (N, D) with x (N, D)."""
        return super().forward(x, self.normalized() if values is None else values)


class Blocks(nn.Module):
    """The same of a path on which all nodes of a block reach one another once: without drawn masks, the mean over the block.

    Args:
        block: of each node.
    """

    block: Tensor

    def __init__(self, path: MetaPath) -> None:
        super().__init__()
        self.register_buffer("block", torch.as_tensor(path.block).clone())

    def masked(self, share: float, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
        """Members of each block and the normalised matrix of those edges among them that are kept."""
        block = self.block.cpu()
        order = block.argsort(stable=True)
        ends = [0, *torch.bincount(block).cumsum(0).tolist()]
        found = []
        for first, last in pairwise(ends):
            kept = torch.rand(last - first, last - first, generator=generator) >= share
            weights = kept.fill_diagonal_(True).float()
            scale = weights.sum(1).rsqrt()
            weights *= scale.unsqueeze(1)
            weights *= scale
            found.append((order[first:last].to(self.block.device), weights.to(self.block.device)))
        return found

    def forward(self, x: Tensor, drawn: list[tuple[Tensor, Tensor]] | None = None) -> Tensor:
        """The product (N, D) with x (N, D)."""
        if drawn is None:
            block = self.block.long()
            counts = torch.bincount(block)
            sums = x.new_zeros(len(counts), x.shape[1]).index_add(0, block, x)
            return (sums / counts.clamp(min=1).unsqueeze(1))[block]
        members = torch.cat([rows for rows, _ in drawn])
        return torch.empty_like(x).index_copy(0, members, torch.cat([weights.to(x.dtype) @ x[rows] for rows, weights in drawn]))


def neighbors_by(path: MetaPath) -> Neighbors | Blocks:
    """The product with a path's neighbours."""
    return Blocks(path) if path.ways is None else Neighbors(path.ways)
