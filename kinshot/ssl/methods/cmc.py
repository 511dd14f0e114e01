"""CMC."""

from __future__ import annotations

from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.temporal.cmc import cmc
from kinshot.samples.batch import Batch
from kinshot.ssl.modalities import Windows, compared, core_of, present


@METHODS.register("cmc")
class CMC(Method):
    """The same instant is found again in every other modality, among the other instants of the batch.

    Paper: Tian, Krishnan, Isola 2019, arXiv 1906.05849

    One view of each sample passes every modality's encoder and projector. Windows of one recording that overlap are no negatives of each
    other. A modality that a sample lacks is compared with nothing. Departures in the objective's docstring (`objectives.temporal.cmc`).
    Modalities that are computed from each other (UCI-HAR's body and total acceleration) make its task easy.

    Args:
        temperature: divides every cosine similarity; 0.1 to 0.2 is usual for sensors.
        core: a modality that every pair holds; empty for all pairs.
    """

    accepts = ("bundle",)
    view_count = 1

    def __init__(self, model: Model, context: RunContext, *, temperature: float = 0.1, core: str = "") -> None:
        super().__init__(model)
        self.uses = compared(model, "cmc")
        if not temperature > 0:
            raise ConfigError(f"temperature: expected a number above 0, got {temperature}")
        self.temperature, self.core = temperature, core_of(core, self.uses, "cmc")
        self.windows = Windows(context, model.input)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """The mean over pairs of modalities, and the share of modalities that the samples have."""
        z, there = [outputs[name] for name in self.uses], present(self.model, batch.views[0])
        return {
            "loss": cmc(z, there, self.windows.of(batch.indices), temperature=self.temperature, core=self.core),
            "present": there.float().mean(),
        }
