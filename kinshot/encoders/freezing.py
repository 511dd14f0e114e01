"""Parts of an encoder that training leaves as they are: no gradient, and always in evaluation mode; or its normalisations' statistics."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from kinshot.core.errors import ConfigError, suggest

ALL = "all"
"""Stands for the whole encoder."""
BUT_NORMS = "all_but_norms"
"""Stands for everything but the normalisation layers, whose scales and shifts are then all that is trained."""
_NORMS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
    nn.LayerNorm, nn.GroupNorm, nn.RMSNorm,
)  # fmt: skip
_MARK = "_kept_as_it_is"


def freeze(encoder: nn.Module, names: Sequence[str]) -> None:
    """Take parts of an encoder out of training: their weights get no gradient, their running statistics do not move.

    Copies of the encoder that are made afterwards keep the mark, so that key networks normalise as the network that they follow.

    Args:
        encoder: a freshly built encoder.
        names: modules or single parameters under the names that its state has (`conv1`, `layer1.0`, `blocks.2`, `pos_embed`), `all`, or
            `all_but_norms`.

    Raises:
        ConfigError: a name that the encoder does not have, with the closest one; or no normalisation layer to leave.
    """
    known = _names(encoder)
    for name in names:
        if name == BUT_NORMS:
            _freeze_but_norms(encoder)
            continue
        if name != ALL and name not in known:
            raise ConfigError(f"train.freeze: the encoder has no part {name!r}: {suggest(name, [ALL, BUT_NORMS, *known])}")
        part = encoder if name == ALL else _part(encoder, name)
        part.requires_grad_(False)
        for module in part.modules() if isinstance(part, nn.Module) else ():
            setattr(module, _MARK, True)
    keep_still(encoder)


def keep_statistics(encoder: nn.Module) -> None:
    """Leave the running statistics of an encoder's normalisations as they are, and normalise by them; scales and shifts are trained.

    Raises ConfigError for an encoder without running statistics.
    """
    found = [module for module in _norms(encoder) if getattr(module, "running_mean", None) is not None]
    if not found:
        raise ConfigError(
            f"train.norm_statistics: the encoder {type(encoder).__name__} keeps no running statistics (its normalisations look at one "
            "sample at a time, or it has none): leave it out"
        )
    for module in found:
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


def _norms(encoder: nn.Module) -> list[nn.Module]:
    return [module for module in encoder.modules() if isinstance(module, _NORMS)]


def _freeze_but_norms(encoder: nn.Module) -> None:
    """Freeze every weight outside of normalisation layers, and every module that holds none (dropout, ways that are left out at random)."""
    norms = _norms(encoder)
    learned = {id(weight) for module in norms for weight in module.parameters()}
    if not learned:
        raise ConfigError(
            f"train.freeze: {BUT_NORMS} leaves nothing, as the encoder {type(encoder).__name__} has no normalisation layer with a scale: "
            f"name parts, or {ALL}"
        )
    for weight in encoder.parameters():
        if id(weight) not in learned:
            weight.requires_grad_(False)
    for module in encoder.modules():
        if not any(isinstance(part, _NORMS) for part in module.modules()):
            setattr(module, _MARK, True)


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
