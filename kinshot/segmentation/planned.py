"""Networks of segmenters whose weights say how they are put together: a checkpoint's part `network` is all that a head needs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from kinshot.core.errors import DataError

PLAN = "plan"
"""The name, among a network's weights, of its plan: JSON as bytes."""

Weights: TypeAlias = Mapping[str, Tensor] | nn.Module
"""A trained network as a module, or as the weights that a checkpoint keeps of it."""

Network = TypeVar("Network", bound="Planned")


class Planned(nn.Module):
    """A network that is rebuilt from its weights alone.

    Args:
        stages: of the encoder, whose maps it looks at.
        arguments: what its class is made with, plain data.
    """

    def __init__(self, stages: Sequence[str], **arguments: Any) -> None:
        super().__init__()
        self.stages = tuple(stages)
        plan = {"network": type(self).__name__, "stages": list(stages), "arguments": arguments}
        self.register_buffer(PLAN, torch.tensor(list(json.dumps(plan).encode()), dtype=torch.uint8))

    @classmethod
    def of(cls: type[Network], network: Weights, like: Tensor) -> Network:
        """The network itself, or, in evaluation mode and without gradients, the one that has these weights.

        Args:
            network: a module of this class, or weights.
            like: maps whose device and numbers the weights take.

        Raises:
            DataError: weights of another network, or a plan that they do not fit.
        """
        if isinstance(network, cls):
            return network
        weights = network.state_dict() if isinstance(network, nn.Module) else network
        plan = plan_of(weights)
        if plan["network"] != cls.__name__:
            got = plan["network"]
            raise DataError(f"expected the weights of a {cls.__name__}, got those of a {got}: take the head that it was trained for")
        with torch.device("meta"):  # no memory and no random numbers for weights that are replaced
            made = cls(**plan["arguments"])
        try:
            made.load_state_dict(dict(weights), assign=True)
        except RuntimeError as error:
            problem = f"the weights of a {cls.__name__} do not fit their plan: {' '.join(str(error).split())}"
            raise DataError(f"{problem}; restore both from one run") from error
        return made.to(like.device, like.dtype).requires_grad_(False).eval()


def plan_of(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a network's weights say of how it is put together: `network`, `stages`, `arguments`. Raises DataError where they do not."""
    if PLAN not in weights:
        raise DataError(f"expected the weights of a segmenter's network with their {PLAN!r}, got {', '.join(list(weights)[:3]) or 'none'}")
    try:
        found: dict[str, Any] = json.loads(bytes(weights[PLAN].tolist()))
        return {key: found[key] for key in ("network", "stages", "arguments")}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"the plan of a segmenter's network cannot be read ({error}): restore the checkpoint") from error


def stages_of(network: Weights) -> tuple[str, ...]:
    """Stages of the encoder whose maps a trained segmenter looks at. Raises DataError for weights that do not say it."""
    return tuple(plan_of(network.state_dict() if isinstance(network, nn.Module) else network)["stages"])
