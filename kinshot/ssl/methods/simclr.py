"""SimCLR."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.kin import constructors as kin
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.objectives.nt_xent import nt_xent


@METHODS.register("simclr")
class SimCLR(Method):
    """The two views of an image attract, all other views of the batch repel.

    Paper: Chen, Kornblith, Norouzi, Hinton 2020, arXiv 2002.05709.

    Views of one size pass the networks as one batch of 2B, so that batch normalisation sees both, as in the paper's code.

    Args:
        temperature: divides every cosine similarity.
    """

    def __init__(self, encoder: nn.Module, projector: nn.Module, context: RunContext, *, temperature: float = 0.5) -> None:
        super().__init__()
        if not temperature > 0:
            raise ConfigError(f"temperature: expected a number above 0, got {temperature}")
        if context.batch_size < 2:
            raise ConfigError(f"simclr: expected a batch of at least 2, got {context.batch_size}: negatives come from the batch")
        self.encoder, self.projector = encoder, projector
        self.temperature = temperature

    def loss(self, views: list[Tensor], indices: Tensor, step: int) -> dict[str, Tensor]:
        """NT-Xent over both views of the batch; rows of one sample are kin."""
        first, second = embed_pair(lambda x: self.projector(self.encoder(x)), views)
        return {"loss": nt_xent(torch.cat([first, second]), kin.views(indices), temperature=self.temperature)}


def embed_pair(network: Callable[[Tensor], Tensor], views: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Embeddings of the first two views: one joint pass when their sizes agree, else one pass each."""
    first, second = views[0], views[1]
    if first.shape == second.shape:
        joint = network(torch.cat([first, second]))
        return joint[: len(first)], joint[len(first) :]
    return network(first), network(second)
