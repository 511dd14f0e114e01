"""NPID, instance discrimination with a memory of every sample."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.queue import embedding_dim
from kinshot.learn import METHODS
from kinshot.learn.method import Extract, Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs, outputs_of
from kinshot.objectives.common import check_above, unit
from kinshot.samples.batch import Batch
from kinshot.ssl.instances import drawn_rows, told_from_rows
from kinshot.ssl.interclr.bank import last_occurrence


@METHODS.register("npid")
class NPID(Method):
    """Every sample is a class of its own: a view is told which row of a memory of all samples is its own, among others drawn from it.

    Paper: Wu, Xiong, Yu, Lin 2018, arXiv 1805.01978.

    One view of each sample is enough. Departures: the cross-entropy over the own row and those drawn, as in later public code, in the place
    of noise-contrastive estimation, and a memory that is filled with embeddings before the first step instead of random rows.

    Args:
        negatives: rows drawn for a step, shared by its batch, its own left out of each; 0 is 4096, or all where there are fewer.
        temperature: divides every cosine similarity.
        bank_momentum: weight of the new embedding in its row; 0.5 in the paper.
    """

    view_count = 1
    bank: Tensor

    def __init__(
        self, model: Model, context: RunContext, *, negatives: int = 0, temperature: float = 0.07, bank_momentum: float = 0.5
    ) -> None:
        super().__init__(model)
        check_above("temperature", temperature)
        if negatives < 0 or not 0 < bank_momentum <= 1:
            problem = f"negatives is at least 0 and bank_momentum above 0 and at most 1, got {negatives} and {bank_momentum}"
            raise ConfigError(f"npid: {problem}")
        if context.num_samples < 2:
            raise ConfigError(f"npid: expected at least 2 samples, got {context.num_samples}: the others are what one is told from")
        self.register_buffer("bank", torch.zeros(context.num_samples, embedding_dim(self.encoder, self.projector)))
        self.negatives = negatives
        self.temperature, self.bank_momentum, self.seed = temperature, bank_momentum, context.seed
        self._seen: tuple[Tensor, Tensor] | None = None

    def prepare(self, extract: Extract) -> None:
        """Fill the memory with embeddings of all samples."""
        self.bank.copy_(unit(extract()))

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """The one view."""
        return outputs_of(self.model, batch, (0,), [*self.uses, *names])

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """Cross-entropy of the own row over itself and the rows drawn, none of which is the sample's own."""
        z, rows = outputs["projector"], batch.indices.to(self.bank.device)
        self._seen = (rows, z.detach())
        drawn = drawn_rows(len(self.bank), self.negatives, self.seed, step)
        return {"loss": told_from_rows(z, rows, self.bank, drawn, self.temperature)}

    @torch.no_grad()
    def after_step(self, step: int) -> dict[str, float | Tensor]:
        """Blend the step's embeddings into their rows; of a sample that occurs twice the last one counts."""
        if self._seen is not None:
            (rows, z), self._seen = self._seen, None
            new = unit((1 - self.bank_momentum) * self.bank[rows] + self.bank_momentum * unit(z.float()))
            self.bank[rows] = new[last_occurrence(rows)]
        return {}
