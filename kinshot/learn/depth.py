"""Shares of the learning rate by depth: what lies deeper below the last stage of an encoder takes less of it."""

from __future__ import annotations

from torch import nn

from kinshot.core.errors import ConfigError
from kinshot.learn.optim import SCALE


def share_by_depth(encoder: nn.Module, share: float = 1.0, decay: float = 1.0) -> None:
    """Say on an encoder's modules which share of the learning rate their own weights take: `share * decay ** steps`.

    A projector behind the encoder stands at step 0, the last stage at 1, the one before at 2, and so on; what comes before the first stage
    (a stem, tokens, positions) is a step beyond it. What lies between two stages belongs to the one that it leads to, by the order in
    which the encoder registered its weights; what comes behind the last stage belongs to the head, at step 0.

    Paper: Clark, Luong, Le, Manning, 2020, arXiv 2003.10555 (ELECTRA, of blocks); Bao, Dong, Piao, Wei, 2021, arXiv 2106.08254 (BEiT)

    Args:
        encoder: a freshly built encoder.
        share: of the whole encoder, above 0.
        decay: of each step, above 0; with 1 an encoder needs no stages.

    Raises:
        ConfigError: a decay below 1 for an encoder that does not say its stages.

    >>> from kinshot.samples.pixels import PixelSpec
    >>> encoder = kinshot.encoders.conv4(PixelSpec.square(1, 28, mean=(0.5,), std=(0.5,)), width=8)
    >>> share_by_depth(encoder, decay=0.5)
    >>> [block.conv.lr_scale for block in encoder.blocks]
    [0.0625, 0.125, 0.25, 0.5]
    """
    if share != 1:
        setattr(encoder, SCALE, share)
    if decay == 1:
        return
    for owner, steps in _steps(encoder).items():
        setattr(owner, SCALE, share * decay**steps)


def _steps(encoder: nn.Module) -> dict[nn.Module, int]:
    """Steps below the head of every module that has weights of its own."""
    stages = _stages(encoder)
    within = {module: number for number in reversed(range(len(stages))) for module in stages[number].modules()}  # the first one counts
    beyond = any(True for _ in stages[0].parameters())  # a first stage without weights stands for those that lead to it
    found, following = {}, len(stages)
    for module in reversed(list(encoder.modules())):  # in the order in which they were registered, from the last one back
        inside = module in within
        following = within.get(module, following)
        if any(True for _ in module.parameters(recurse=False)):
            found[module] = len(stages) - following + (not inside and following == 0 and beyond)
    return found


def _stages(encoder: nn.Module) -> list[nn.Module]:
    names = getattr(encoder, "stages", ())
    if not names:
        told = f"the encoder {type(encoder).__name__} does not say its stages"
        raise ConfigError(f"train.layer_decay: {told}: leave it at 1, lower train.encoder_lr, or choose an encoder with stages")
    return [encoder.get_submodule(name) for name in names]
