"""What an objective is that learns or remembers something: a module, whose state moves between two steps alone."""

from __future__ import annotations

from torch import nn


class ObjectiveModule(nn.Module):
    """An objective with parameters of its own (projections, class rows) or a memory (queues, statistics of classes).

    `forward` notes what a step wants remembered and changes no state; `after_step` makes it state, once the step has gone through. A
    step that diverges, or is tried and thrown away, leaves therefore no trace, and a resumed run goes on bit for bit. Everything
    that is remembered is a buffer.

    `lr_scale` is the share of the run's learning rate that its parameters take.
    """

    lr_scale: float = 1.0

    def after_step(self) -> None:
        """Make state of what the last step noted; a second call in a row does nothing."""
