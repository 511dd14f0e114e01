"""Nodes of one graph, by their number: what a node is, its graph says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from kinshot.core.errors import DataError
from kinshot.samples import SPECS
from kinshot.samples.meta_paths import MetaPaths
from kinshot.samples.spec import Described, Spec, given_as

_DIGEST = 64


@SPECS.register("node")
@dataclass(frozen=True)
class NodeSpec(Spec):
    """The target nodes of a graph that a network was made for: int64 (B, 1), their numbers from 0.

    A network that looks at a whole graph keeps it among its weights, so that a checkpoint says what it says without the data; read back
    from a checkpoint's description, the graph is all zeros until the weights are loaded.

    Args:
        digest: of the graph: a network knows the nodes of this one alone.
        nodes: N.
        features: of a node.
        graph: it, or one of its sizes.
    """

    kind: ClassVar[str] = "node"
    whole = True
    raw_label: ClassVar[str] = "features of the nodes"
    raw_feature: ClassVar[str] = "node features"
    digest: str
    nodes: int
    features: int
    graph: MetaPaths = field(compare=False, repr=False)

    @classmethod
    def of(cls, graph: MetaPaths) -> NodeSpec:
        """The target nodes of a graph."""
        return cls(graph.digest, graph.nodes, graph.features.columns, graph)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> NodeSpec:
        """What `to_dict` described."""
        digest = given["digest"]
        if not isinstance(digest, str) or len(digest) != _DIGEST:
            raise ValueError(f"expected the digest of a graph, got {digest!r}")
        graph = MetaPaths.blank(given["graph"])
        return cls(digest, graph.nodes, graph.features.columns, graph)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the graph by its sizes."""
        return {"kind": self.kind, "digest": self.digest, "graph": self.graph.described()}

    @property
    def shape(self) -> tuple[int, ...]:
        """(1,)."""
        return (1,)

    @property
    def vocabulary(self) -> int:
        """How many nodes there are."""
        return self.nodes

    @property
    def meets(self) -> tuple[Any, ...]:
        """The graph."""
        return self.kind, self.digest

    def same_form(self, other: Spec) -> bool:
        """Whether both are nodes of one graph."""
        return self == other

    def values(self, batch: Tensor) -> Tensor:
        """The numbers as int64."""
        return batch.long()

    def fit(self, batch: Tensor) -> Tensor:
        """The numbers as they are: a node of another graph cannot become one of this."""
        return batch

    def blank(self, n: int) -> Tensor:
        """The nodes from 0 on, and from 0 again where there are fewer."""
        return (torch.arange(n) % self.nodes).unsqueeze(1)

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Nodes drawn evenly."""
        return torch.randint(self.nodes, (n, 1), generator=generator)

    def prepare(self, samples: Tensor | Sequence[str]) -> Tensor:
        """Numbers of nodes, (B, 1), int64."""
        what = f"numbers of nodes (B, 1) from 0 to {self.nodes - 1}, of whole numbers"
        if not isinstance(samples, Tensor) or samples.ndim != 2 or samples.shape[1] != 1 or samples.is_floating_point():
            raise DataError(f"this encoder was made for {what}, got {given_as(samples)}")
        if samples.numel() and not 0 <= int(samples.min()) <= int(samples.max()) < self.nodes:
            raise DataError(
                f"this encoder was made for {what}, got {int(samples.min())} to {int(samples.max())}: it knows one graph's nodes"
            )
        return self.values(samples)

    def raw(self, batch: Tensor) -> Tensor:
        """The features of the nodes, (B, F)."""
        return torch.from_numpy(self.graph.features.dense(batch.flatten().cpu().numpy())).to(batch.device)

    def describe(self) -> str:
        """How many, of which graph."""
        paths = ", ".join(path.name for path in self.graph.paths)
        return f"{self.nodes} nodes {self.graph.target} of a graph with the meta-paths {paths}"

    def check_source(self, source: Described) -> None:
        """Raise DataError for another kind of samples or another graph."""
        super().check_source(source)
        if source.spec.meets != self.meets:
            raise DataError(f"{source.name} is another graph than the encoder was made for, which knows no other: train on this one")
