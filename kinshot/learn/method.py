"""The contract of a training method: what the training loop calls, and in which order."""

from __future__ import annotations

from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from kinshot.datasets.loader import Companions, Order
from kinshot.encoders.freezing import keep_still
from kinshot.learn.features import named_features

WRAPPED = "base."
"""What stands before a method's names in `state_dict` when another one wraps it."""
EXPORTED = ("encoder", "projector", "rows", "network")
"""Submodules that readers of a checkpoint take: what is averaged where a run averages its weights. A queue or a bank is none of them."""


class Extract(Protocol):
    """Embeds every training sample: eval mode, no augmentation, no gradient, float32 (N, D) on the CPU.

    `head` is applied to the encoder's output; None stands for the method's projector.
    """

    def __call__(self, head: nn.Module | None = None) -> Tensor: ...  # noqa: D102 - the class says it


class Method(nn.Module):
    """Base of every training method.

    A method owns `encoder`, `projector` and, as buffers or submodules, every piece of state that a resumed run needs
    (queues, banks, labels, centroids): what is in `state_dict` is what continues. It is not a trainer.

    One run: `prepare` once, `start_epoch` before each epoch, then for each step `loss`, the optimizer's step,
    `after_step`. A resumed run loads `state_dict` and skips `prepare`.
    """

    encoder: nn.Module
    projector: nn.Module
    supervised: ClassVar[bool] = False
    """Whether it learns from class labels: it is then given `context.labels`, and `fewshot train` runs it."""
    taught_only: ClassVar[bool] = False
    """Whether it has no loss of its own, so that there must be a teacher."""
    view_count: ClassVar[int] = 2
    """Views of each sample that `loss` takes."""
    needs_clean: ClassVar[bool] = False
    """Whether the clean batch, normalised as evaluation sees it, follows the views in `views`."""
    companions: Companions | None = None
    """What to load beside each batch: (indices (B,), step) -> further indices (P,); they come last in `views` and `indices`."""
    partner_input: Literal["clean", "view"] = "clean"
    """How the companions' samples come: as evaluation sees them, or as a view."""
    order: Order | None = None
    """Which samples make up each batch; None shuffles all samples anew every epoch."""
    trains_head: ClassVar[str] = ""
    """The few-shot head that takes the weights of the method's submodule `network` at test time; empty for none."""
    prefix: ClassVar[str] = ""
    """What stands before `encoder.` and `projector.` in `state_dict`, for a method that wraps another."""

    def train(self, mode: bool = True) -> Method:
        """Training mode but for frozen parts of the encoder, which stay in evaluation mode (`kinshot.encoders.freezing`)."""
        super().train(mode)
        keep_still(self)
        return self

    def loss(self, views: list[Tensor], indices: Tensor, step: int) -> dict[str, Tensor]:
        """The scalar to minimize under "loss", and any further terms to log.

        Args:
            views: `view_count` augmented batches on the method's device, each float (B, C, H, W) or (B, F), or int64 (B, L); then, with
                `needs_clean`, the clean batch in the same form.
            indices: int64 (B,) sample indices into the training source.
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

    def exported(self) -> dict[str, Tensor]:
        """What of `state_dict` a checkpoint is read for; the tensors are the method's own."""
        starts = tuple(f"{self.prefix}{part}." for part in EXPORTED)
        return {name: value for name, value in self.state_dict().items() if name.startswith(starts)}

    @torch.no_grad()
    def embed(self, x: Tensor) -> dict[str, Tensor]:
        """Features of a normalised batch by name, as evaluation sees them: see `named_features`."""
        return named_features(self.encoder(x), self.projector)
