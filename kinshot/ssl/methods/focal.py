"""FOCAL."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.datasets.orders.consecutive import Consecutive
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.common import check_above, check_at_least, unit
from kinshot.objectives.temporal.focal import focal_terms
from kinshot.samples.batch import Batch
from kinshot.ssl.modalities import Windows, compared, seen


@METHODS.register("focal")
class Focal(Method):
    """Half of an embedding agrees across modalities, half within one across views, the halves differ, and windows near in time are near.

    Paper: Liu, Kimura, Liu, Wang, Li, Diggavi, Srivastava, Abdelzaher 2023, arXiv 2310.20071

    Two augmented views of each sample pass every modality's encoder and projector, whose output is halved: the first half is what
    modalities share, the second what each keeps to itself. The method makes its own batches, of sequences of consecutive windows of one
    recording (`datasets.orders.consecutive`), and needs data with a clock. A modality that a sample lacks, in either view, enters none of
    the four terms (`objectives.temporal.focal`). Evaluation reads the backbone's feature of the modalities that are there, as of every
    method.

    Departures: sequences of one recording that overlap in time are neither told apart nor ranked, where the released code takes all
        others of the batch. There encoders see spectra, and views are augmented in time and frequency; here both are the recipe's.

    Args:
        temperature: of both contrasts; the released code has 0.07 for a transformer and 0.5 for a recurrent network.
        length: windows of a sequence; it divides train.batch_size.
        spacing: a sequence takes every so many-th window of its recording: 2 where windows overlap by half.
        margin: by how much sequences are wider apart than their windows, in units of `distance`.
        distance: of embeddings as they are, `raw`, as in the released code, whose scale is free, or scaled to length 1, `unit`.
        shared: weight of what modalities share.
        private: weight of what each keeps to itself.
        orthogonality: weight of the halves' cosines.
        temporal: weight of the ranking.
    """

    accepts = ("bundle",)
    view_count = 2

    def __init__(
        self,
        model: Model,
        context: RunContext,
        *,
        temperature: float = 0.5,
        length: int = 4,
        spacing: int = 1,
        margin: float = 1.0,
        distance: Literal["raw", "unit"] = "raw",
        shared: float = 1.0,
        private: float = 1.0,
        orthogonality: float = 3.0,
        temporal: float = 5.0,
    ) -> None:
        super().__init__(model)
        self.uses = compared(model, "focal")
        self.weights = {"shared": shared, "private": private, "orthogonality": orthogonality, "temporal": temporal}
        check_above("temperature", temperature)
        check_at_least(0, margin=margin, **self.weights)
        width = model.projector.outs[self.uses[0]]  # type: ignore[union-attr, index]  # `compared` asked what it is
        if width % 2:
            raise ConfigError(f"focal: outputs of projectors are halved, got {width} numbers: set projector.dim to an even number")
        if context.clock is None:
            raise ConfigError("focal learns from sequences of windows, and the data has no clock: take data with one, such as motion")
        if context.batch_size < 2 * length:
            got = f"batches of {context.batch_size}"
            raise ConfigError(f"focal tells sequences of {length} windows from others, got {got}: raise train.batch_size or lower length")
        start, recording = context.clock
        self.order = Consecutive(recording, start, context.batch_size, context.steps_per_epoch, context.seed, length, spacing)
        self.temperature, self.length, self.margin, self.distance = temperature, length, margin, distance
        self.windows = Windows(context, model.input)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """The sum, its four terms unweighted, and the share of modalities that are there in both views."""
        views = seen(self.model, outputs, batch, self.uses)
        z = torch.stack([torch.stack(one.z) for one in views]).unflatten(2, (-1, self.length))
        there = (views[0].present & views[1].present).unflatten(1, (-1, self.length))
        relation = self.windows.of_sequences(batch.indices.view(-1, self.length))
        rows = unit(z) if self.distance == "unit" else z
        terms = focal_terms(rows, there, relation, temperature=self.temperature, margin=self.margin)
        loss = torch.stack([weight * terms[name] for name, weight in self.weights.items()]).sum()
        return {"loss": loss, **terms, "present": there.float().mean()}
