"""Parts of an encoder that training leaves as they are: no gradient, and always in evaluation mode."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from kinshot.core.errors import ConfigError, suggest

ALL = "all"
"""Stands for the whole encoder."""
_MARK = "_kept_as_it_is"


def freeze(encoder: nn.Module, names: Sequence[str]) -> None:
    """Take parts of an encoder out of training: their weights get no gradient, their running statistics do not move.

    Copies of the encoder that are made afterwards keep the mark, so that key networks normalise as the network that they follow.

    Args:
        encoder: a freshly built encoder.
        names: modules or single parameters under the names that its state has (`conv1`, `layer1.0`, `blocks.2`, `pos_embed`), or `all`.

    Raises:
        ConfigError: a name that the encoder does not have, with the closest one.
    """
    known = _names(encoder)
    for name in names:
        if name != ALL and name not in known:
            raise ConfigError(f"train.freeze: the encoder has no part {name!r}: {suggest(name, [ALL, *known])}")
        part = encoder if name == ALL else _part(encoder, name)
        part.requires_grad_(False)
        for module in part.modules() if isinstance(part, nn.Module) else ():
            setattr(module, _MARK, True)
    keep_still(encoder)


def keep_still(module: nn.Module) -> None:
    """Put the frozen parts below a module back into evaluation mode; call it after `train()`."""
    for part in module.modules():
        if getattr(part, _MARK, False):
            part.training = False


def check_learns(loss: Tensor) -> None:
    """Raise ConfigError for a loss that no weight in training has a part in, as frozen parts leave nothing to learn."""
    if not loss.requires_grad:
        raise ConfigError(
            "the loss depends on nothing that is trained: train.freeze keeps all that it stands on; take parts out, or choose a method "
            "with a head of its own, such as classifier"
        )


def _names(encoder: nn.Module) -> list[str]:
    """Every module with a state, and every parameter, from the outermost on, under the names of the state."""
    words = [name.split(".") for name in encoder.state_dict()]
    found = {".".join(parts[:count]): count for parts in words for count in range(1, len(parts) + 1)}
    return sorted(found, key=lambda name: found[name])


def _part(encoder: nn.Module, name: str) -> nn.Module | nn.Parameter:
    parameters = dict(encoder.named_parameters())
    found = parameters.get(name, parameters.get(f"model.{name}"))  # an adapter has the model's own names below that prefix
    if found is not None:
        return found
    try:
        return encoder.get_submodule(name)
    except AttributeError as error:
        raise ConfigError(f"train.freeze: {name} is a statistic and no part of its own: name the module that it belongs to") from error
