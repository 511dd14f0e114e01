"""The contract of a training method: what the training loop calls, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np
from torch import Tensor, nn

from kinshot.datasets.loader import Order
from kinshot.encoders.freezing import keep_still
from kinshot.learn.model import PROJECTOR, Model
from kinshot.learn.outputs import Outputs, outputs_of
from kinshot.samples.batch import Batch


class Extract(Protocol):
    """Embeds every training sample, or some `rows`: eval mode, no augmentation, no gradient, float32 (N, D) on the CPU.

    `head` is applied to the encoder's output; None stands for the model's projector. Images are shown turned by `quarters` of a turn
    counterclockwise.
    """

    def __call__(self, head: nn.Module | None = None, rows: np.ndarray | None = None, quarters: int = 0) -> Tensor: ...  # noqa: D102 - the class says it


class Method(nn.Module):
    """Base of every training method.

    A method has a model and owns, as buffers or submodules, every piece of state that a resumed run needs (queues, banks, labels,
    centroids): what is in `state_dict` is what continues. It is not a trainer.

    One run: `prepare` once, `start_epoch` before each epoch, then for each step `outputs`, `loss`, the optimizer's step,
    `after_step`. A resumed run loads `state_dict` and skips `prepare`. Between `outputs` and `loss` nothing changes, and terms of the
    recipe look at the same outputs, so that no sample is encoded twice.

    Args:
        model: encoder and projector; a method that learns rows of classes or the network of a head puts them there.
    """

    accepts: ClassVar[tuple[str, ...] | None] = None
    """Kinds of samples that it learns from; None for all that can be looked at one by one, see `accepted_kinds`."""
    supervised: ClassVar[bool] = False
    """Whether it learns from class labels: it is then given `context.labels`, and `fewshot train` runs it."""
    by_terms: ClassVar[bool] = False
    """Whether it has no loss of its own, so that there must be a term beside it."""
    view_count: int = 2
    """Views of each sample in a batch; settings may say how many."""
    needs_clean: ClassVar[bool] = False
    """Whether it looks at the clean samples, `batch.clean`."""
    uses: tuple[str, ...] = (PROJECTOR,)
    """Outputs of the model that `loss` looks at, see `Model.outputs`; settings may name them."""
    patches: ClassVar[bool] = False
    """Whether it hides patches of images, so that its encoder must have some, as a vision transformer of timm has."""
    stages: tuple[str, ...] = ()
    """Stages of the encoder whose maps it learns on, the compared one first, where it learns on maps; segmenters are given the same."""
    order: Order | None = None
    """Which samples make up each batch; None leaves it to the recipe."""
    trains_head: ClassVar[str] = ""
    """The few-shot head that takes the weights of the model's part `network` at test time; empty for none."""
    fields: ClassVar[tuple[str, ...]] = ()
    """Fields of samples beside the one that the encoder takes, which it learns from: `batch.beside` holds them. One that learns from
    class maps (`mask`) is given `context.contains` and `context.photos`, and `segmentation train` runs it."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    @property
    def encoder(self) -> nn.Module:
        """The model's encoder."""
        return self.model.encoder

    @property
    def projector(self) -> nn.Module:
        """The model's projector; where it has none, what leaves a feature as it is."""
        return nn.Identity() if self.model.projector is None else self.model.projector

    def train(self, mode: bool = True) -> Method:
        """Training mode but for frozen parts of the encoder, which stay in evaluation mode (`kinshot.encoders.freezing`)."""
        super().train(mode)
        keep_still(self)
        return self

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """What the networks say of the batch: the outputs that `loss` looks at, and those of `names`, which terms look at.

        Here all views, in one pass where their sizes agree. A method that shows its networks something else says so in the
        outputs' `samples` and `views`; gradients reach the encoder through every output.
        """
        return outputs_of(self.model, batch, range(self.view_count), [*self.uses, *names])

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """The scalar to minimize under "loss", and any further terms to log.

        Args:
            outputs: what `outputs` gave for this batch.
            batch: the samples.
            step: 0-based step of the whole run.
        """
        raise NotImplementedError(f"{type(self).__name__} must define loss()")  # a contract, not a gap

    def after_step(self, step: int) -> dict[str, float | Tensor]:
        """Update state that follows the optimizer's step; returns gauges to log (0-dim tensors are read only when logged)."""
        return {}

    def prepare(self, extract: Extract) -> None:
        """Fill state that needs features of the whole training set, before the first step of a fresh run."""

    def start_epoch(self, epoch: int, extract: Extract) -> None:
        """Called before each epoch, also of a resumed run that starts an epoch."""

    def shows_clean(self, epoch: int) -> bool:
        """Whether a batch of this epoch has one view of each sample, the sample as evaluation sees it, whatever the recipe's views are.

        Not for a method that learns from further `fields`, whose views come with the sample's.
        """
        return False
