"""Building a part with weights that depend on the run's seed alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kinshot.core.part_text import example_of, read_settings, split_text
from kinshot.core.rng import keyed_seed
from kinshot.encoders import ENCODERS
from kinshot.encoders.maps import Maps
from kinshot.samples.spec import Spec, check_kind


@contextmanager
def keyed_initialisation(seed: int, purpose: str) -> Iterator[None]:
    """Inside, weights are drawn from (seed, purpose); outside, torch's random state is what it was before.

    Weights are drawn on the CPU and moved later, so they are the same on every device.

    >>> with kinshot.keyed_initialisation(0, "my projector"):
    ...     first = torch.nn.Linear(3, 2)
    >>> with kinshot.keyed_initialisation(0, "my projector"):
    ...     second = torch.nn.Linear(3, 2)
    >>> torch.equal(first.weight, second.weight)  # whatever was drawn elsewhere
    True
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(keyed_seed(seed, purpose))
        yield


class Encoder(nn.Module):
    """What type checkers know of an encoder; registered parts keep this contract without inheriting it.

    `forward(x)` is `pool(maps(x, stages[-1:])[0])`, value and gradient. An encoder that gives no maps has no `stages`.

    Attributes:
        dim: features of a sample.
        input: the samples that it was made for.
        stages: names of its stages in order, which are dotted names of its modules.
        dims: channels of each stage's maps.
        strides: distance of neighbouring places of each stage's maps, in units of the input.
    """

    dim: int
    input: Spec
    stages: tuple[str, ...]
    dims: dict[str, int]
    strides: dict[str, int]

    if TYPE_CHECKING:

        def maps(self, x: Tensor, stages: Sequence[str], **more: Tensor) -> list[Maps]:
            """What the named stages give of normalised samples, from one pass; some take `more`, a row for each sample."""

        def pool(self, maps: Maps) -> Tensor:
            """Features (B, dim) of the last stage's maps."""


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

    >>> from kinshot.samples.rows import RowSpec
    >>> rows = RowSpec(4, mean=(0.0,) * 4, std=(1.0,) * 4)
    >>> encoder = kinshot.build_encoder("mlp", {"widths": [16, 8]}, rows, seed=0)
    >>> encoder(torch.zeros(3, 4)).shape
    torch.Size([3, 8])
    """
    check_kind(ENCODERS, name, input)
    with keyed_initialisation(seed, "init"):
        return ENCODERS.build(name, input, settings=dict(settings))


def named_encoder(text: str, input: Spec, example: str) -> Encoder:
    """The encoder that a text names, perhaps with settings, as `conv4:width=32`; its weights are drawn from torch's state.

    Args:
        text: the name, and settings behind colons.
        input: samples that the encoder is made for.
        example: of such a text, for messages.

    Raises:
        ConfigError: an unknown name or setting, or samples of a kind that the encoder does not take.
    """
    name, *assignments = split_text(text, ":", "encoder", example)
    entry = ENCODERS.entry(name)
    check_kind(ENCODERS, name, input)
    settings = read_settings(text, assignments, "encoder", example_of(name, entry.parameters))
    encoder: Encoder = ENCODERS.build(name, input, settings=settings)
    return encoder
