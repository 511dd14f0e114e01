"""An encoder of the nodes of one graph: what meta-paths say of them, roughly and in detail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kinshot.core.errors import ConfigError
from kinshot.encoders import ENCODERS
from kinshot.encoders.graph_products import SparseMatrix, neighbors_by
from kinshot.encoders.maps import Maps
from kinshot.objectives.common import full_precision
from kinshot.samples.meta_paths import MetaPaths
from kinshot.samples.nodes import NodeSpec


@dataclass
class Masks:
    """What a view leaves out: entries of the target nodes' features, and edges of every path."""

    features: Tensor
    edges: list[Any]


@dataclass
class Noise:
    """What training draws.

    Args:
        dropout: share of the numbers behind each linear map that are zero.
        generator: of the dropout.
        masks: of the second half of the detailed view; None leaves that half out.
    """

    dropout: float = 0.0
    generator: torch.Generator = field(default_factory=torch.Generator)
    masks: Masks | None = None

    def dropped(self, x: Tensor) -> Tensor:
        """x with a share of zeros, and the rest grown by as much."""
        if self.dropout == 0:
            return x
        kept = torch.rand(x.shape, generator=self.generator) >= self.dropout
        return x * (kept / (1 - self.dropout)).to(x)


QUIET = Noise()


class Graph(nn.Module):
    """The matrices of a graph."""

    def __init__(self, graph: MetaPaths) -> None:
        super().__init__()
        self.features = SparseMatrix(graph.features)
        given = {kind: found for kind, found in graph.others.items() if not isinstance(found, int)}
        self.others = nn.ModuleDict({kind: SparseMatrix(found) for kind, found in given.items()})
        self.paths = nn.ModuleList(neighbors_by(path) for path in graph.paths)
        self.hops = nn.ModuleList(nn.ModuleList(SparseMatrix(hop.mean) for hop in path.hops) for path in graph.paths)


class Convolutions(nn.Module):
    """Two graph convolutions with a PReLU between them, and one mean and spread of all numbers behind them.

    Paper: Kipf, Welling 2017, arXiv 1609.02907; the last normalisation is that of MEOW's public code.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Parameter(torch.empty(dim, dim).uniform_(-(dim**-0.5), dim**-0.5)) for _ in range(2))
        self.act = nn.PReLU()

    def forward(self, x: Tensor, neighbors: Any, noise: Noise) -> Tensor:
        """Nodes (N, dim) after two rounds; `neighbors` multiplies them with a normalised adjacency."""
        x = self.act(neighbors(noise.dropped(x @ self.first)))
        x = neighbors(noise.dropped(x @ self.second))
        return F.layer_norm(x, x.shape)


class Attention(nn.Module):
    """One row for each node from several: weights are of the views as a whole, a softmax over mean tanh(linear) in a learned direction.

    Paper: Wang, Ji, Shi, Wang, Ye, Cui, Yu 2019, arXiv 1903.07293 (HAN).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        self.direction = nn.Parameter(torch.empty(1, dim))
        nn.init.xavier_normal_(self.linear.weight, gain=1.414)
        nn.init.xavier_normal_(self.direction, gain=1.414)

    def forward(self, views: Sequence[Tensor], noise: Noise, nodes: Tensor | None = None) -> Tensor:
        """(N, dim) of views (N, dim) each, or rows of it."""
        direction = noise.dropped(self.direction)
        scores = torch.stack([(direction * torch.tanh(self.linear(view)).mean(0)).sum() for view in views])
        mixed = sum(weight * view for weight, view in zip(scores.softmax(0), views, strict=True))
        found: Tensor = mixed if nodes is None else mixed[nodes]  # type: ignore[index]  # there is a view, so that it is no 0
        return found


@ENCODERS.register("meta_path")
class MetaPathEncoder(nn.Module):
    """Nodes of one graph, by two graph convolutions over every meta-path and who is met on the way, put together by attention.

    Paper: Yu, Ge, Li, Zhou 2023, arXiv 2212.13847 (MEOW): its detailed view, and for method `meow` the rough one.

    Features of all kinds of nodes pass a linear map each and an ELU. Detailed view: to a target node those of its neighbours on a path are
    added, their mean at each place of the path behind a linear map of its own; then the convolutions over that path; unit rows of
    all paths are put together by attention. Rough view: the same convolutions of the target nodes' own features over the mean of the paths'
    normalised adjacencies. Every pass is of the whole graph, whatever the batch; in evaluation it is made once and kept.
    Departures: convolutions count the ways between two nodes also where edges are masked, where the public code counts each pair once;
    what evaluation sees is without dropout and masks, where that code keeps what its last step of training saw.

    Args:
        dim: numbers of a feature.

    >>> graph = kinshot.sources.hetero_graph(root="acm_graph.npz", averaged=("a",))
    >>> encoder = kinshot.encoders.meta_path(graph.spec, dim=8).eval()
    >>> encoder(graph.spec.prepare(graph.load([0, 1, 2]))).shape
    torch.Size([3, 8])
    """

    accepts = ("node",)
    given = ("graph.",)

    def __init__(self, input: NodeSpec, *, dim: int = 64) -> None:
        super().__init__()
        if dim < 1:
            raise ConfigError(f"encoder meta_path: dim must be at least 1, got {dim}")
        graph = input.graph
        self.input, self.dim = input, dim
        self.stages, self.dims, self.strides = ("attention",), {"attention": dim}, {"attention": 1}
        self.met = [[hop.kind for hop in path.hops] for path in graph.paths]
        self.derived, self.target_kind = set(graph.derived), graph.target
        self.graph = Graph(graph)
        widths = {kind: found if isinstance(found, int) else found.columns for kind, found in graph.others.items()}
        widths |= dict.fromkeys(graph.derived, graph.features.columns)
        self.target = nn.Linear(graph.features.columns, dim)
        self.kinds = nn.ModuleDict({kind: nn.Linear(width, dim) for kind, width in widths.items()})
        self.met_on = nn.ModuleList(nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in kinds) for kinds in self.met)
        self.convolutions = Convolutions(dim)
        self.attention = Attention(dim)
        self._kept: tuple[Any, list[Tensor]] | None = None

    def shares(self, edges: Sequence[float]) -> list[float]:
        """A share for each path, from as many or one for all. Raises ConfigError for another number."""
        paths = self.input.graph.paths
        if len(edges) not in (1, len(paths)):
            names = ", ".join(path.name for path in paths)
            raise ConfigError(f"edges: expected one share, or one for each of the paths {names}, got {list(edges)}")
        return list(edges) * (len(paths) // len(edges))

    def masks(self, features: float, edges: Sequence[float], generator: torch.Generator) -> Masks:
        """A draw of what the masked half of the detailed view leaves out.

        Args:
            features: share of the entries of the target nodes' features.
            edges: share of the edges of each path, or one for all.
            generator: on the CPU.

        Raises:
            ConfigError: not a share for each path.
        """
        paths = zip(self.graph.paths, self.shares(edges), strict=True)
        values = self.graph.features.values
        kept = torch.rand(len(values), generator=generator) >= features
        return Masks(values * kept.to(values), [path.masked(share, generator) for path, share in paths])  # type: ignore[operator]

    def views(self, noise: Noise) -> tuple[Tensor, Tensor]:
        """The rough view (N, dim) and the detailed one (N, dim) of all nodes."""
        with full_precision(self.target.weight):
            own = self._own(noise)
            rough = self.convolutions(own, lambda x: torch.stack([path(x) for path in self.graph.paths]).mean(0), noise)
            return rough, self.attention(self._detailed(own, noise), noise)

    def maps(self, x: Tensor, stages: Sequence[str]) -> list[Maps]:
        """The detailed view of nodes (B, 1): (B, dim), a grid of no axis."""
        with full_precision(self.target.weight):
            found = self.attention(self._seen(), QUIET, x[:, 0])
        return [Maps(found, 1) for _ in stages]

    def pool(self, maps: Maps) -> Tensor:
        """Features (B, dim): there are no places to pool over."""
        return maps.values

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of nodes (B, 1)."""
        return self.pool(self.maps(x, self.stages)[0])

    def _seen(self) -> list[Tensor]:
        """The detailed view without noise; in evaluation it is kept until a weight changes."""
        if torch.is_grad_enabled() or self.training:
            return self._detailed(self._own(QUIET), QUIET)
        key = [(part.data_ptr(), part._version, part.device) for part in (*self.parameters(), *self.buffers())]
        if self._kept is None or self._kept[0] != key:
            self._kept = key, self._detailed(self._own(QUIET), QUIET)
        return self._kept[1]

    def _own(self, noise: Noise, values: Tensor | None = None) -> Tensor:
        """Target nodes by their own features, perhaps others than the graph's."""
        return F.elu(noise.dropped(self.graph.features(self.target.weight.T.contiguous(), values) + self.target.bias))

    def _detailed(self, own: Tensor, noise: Noise) -> list[Tensor]:
        """Unit rows (N, dim) of every path, and where there are masks of every path with these."""
        kinds = {kind: self._kind(kind, noise) for kind in self.kinds} | {self.target_kind: own}
        hidden = None if noise.masks is None else self._own(noise, noise.masks.features)
        found = []
        for number, path in enumerate(self.graph.paths):
            maps, means = self.met_on[number], self.graph.hops[number]
            met = [noise.dropped(one(mean(kinds[kind]))) for one, mean, kind in zip(maps, means, self.met[number], strict=True)]  # type: ignore[call-overload]
            around = torch.stack(met).sum(0)
            found.append(F.normalize(self.convolutions(F.elu(own + around), path, noise), dim=1))
            if hidden is not None and noise.masks is not None:
                drawn = noise.masks.edges[number]
                found.append(F.normalize(self.convolutions(F.elu(hidden + around), lambda x, p=path, d=drawn: p(x, d), noise), dim=1))
        return found

    def _kind(self, kind: str, noise: Noise) -> Tensor:
        """Nodes of another kind by their features."""
        linear = cast(nn.Linear, self.kinds[kind])
        weight = linear.weight.T.contiguous()
        if kind in self.graph.others:
            matrix = self.graph.others[kind]
            weight = matrix(self.graph.features(weight)) if kind in self.derived else matrix(weight)
        return F.elu(noise.dropped(weight + linear.bias))
