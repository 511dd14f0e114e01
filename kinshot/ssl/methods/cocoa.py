"""COCOA."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.kin.recordings import across_modalities
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.cocoa import check_cocoa, cocoa
from kinshot.samples.batch import Batch
from kinshot.ssl.modalities import Windows, compared, present


@METHODS.register("cocoa")
class Cocoa(Method):
    """Modalities of one instant attract, instants of one modality repel.

    Paper: Deldari, Xue, Saeed, Smith, Salim 2022, arXiv 2208.00467

    One view of each sample passes every modality's encoder and projector. Negatives are of the same modality alone; windows of one
    recording that overlap are none. A modality that a sample lacks plays no part, and a sample of one modality alone has nothing to be
    attracted to and costs nothing. What the released code does otherwise, and what `form` is, says the objective
    (`objectives.cocoa`).

    Args:
        form: `sum`, the paper's two sums of exponentials, or `ratio`, a logarithm of their quotient, as the released code's `cocoa`.
        temperature: divides every cosine similarity; of `sum` the costs grow as exp(2 / temperature).
        alpha: weight of what attracts, of `sum`.
        lam: weight of what repels, of `sum`; the paper's lambda.
    """

    accepts = ("bundle",)
    view_count = 1

    def __init__(
        self,
        model: Model,
        context: RunContext,
        *,
        form: Literal["sum", "ratio"] = "sum",
        temperature: float = 0.5,
        alpha: float = 1.0,
        lam: float = 1.0,
    ) -> None:
        super().__init__(model)
        self.uses = compared(model, "cocoa")
        check_cocoa(form, temperature, alpha, lam)
        if form == "ratio" and (alpha, lam) != (1, 1):
            raise ConfigError(f"cocoa: alpha and lam weigh the terms of form=sum, got {alpha} and {lam}: leave them out, or set form=sum")
        self.form, self.temperature, self.alpha, self.lam = form, temperature, alpha, lam
        self.windows = Windows(context, model.input)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """The mean over rows that have kin, of `sum` also what attracts and what repels, and the share of modalities there."""
        there = present(self.model, batch.views[0])
        kin = across_modalities(self.windows.of(batch.indices), there, negatives="own")
        z = torch.cat([outputs[name] for name in self.uses])
        cost = partial(cocoa, z, kin, form=self.form, temperature=self.temperature, reduction="valid")
        share = {"present": there.float().mean()}
        if self.form == "ratio":
            return {"loss": cost(), **share}
        attract, repel = cost(alpha=1.0, lam=0.0), cost(alpha=0.0, lam=1.0)
        return {"loss": self.alpha * attract + self.lam * repel, "attract": attract, "repel": repel, **share}
