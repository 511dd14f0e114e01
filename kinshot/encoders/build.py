"""Building a part with weights that depend on the run's seed alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from kinshot.core.rng import keyed_seed
from kinshot.encoders import ENCODERS
from kinshot.samples.spec import Spec, check_kind


@contextmanager
def keyed_initialisation(seed: int, purpose: str) -> Iterator[None]:
    """Inside, weights are drawn from (seed, purpose); outside, torch's random state is what it was before.

    Weights are drawn on the CPU and moved later, so they are the same on every device.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(keyed_seed(seed, purpose))
        yield


class Encoder(nn.Module):
    """What type checkers know of an encoder; registered parts keep this contract without inheriting it."""

    dim: int
    input: Spec


def build_encoder(name: str, settings: Mapping[str, Any], input: Spec, *, seed: int = 0) -> Encoder:
    """The encoder called `name` for `input`, with weights drawn from `seed`.

    Args:
        name: a name in `ENCODERS`.
        settings: what the recipe sets, by name; what it leaves out has the default.
        input: samples that the encoder is made for.
        seed: the run's seed.

    Raises:
        ConfigError: an unknown name, samples of a kind that the encoder does not take, or settings that are unknown, missing or
            out of range.
    """
    check_kind(ENCODERS, name, input)
    with keyed_initialisation(seed, "init"):
        return ENCODERS.build(name, input, settings=dict(settings))
