"""An optimizer's state as flat tensors and plain data, and back, bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kinshot.core.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

_REMEDY = "resume with the recipe it was made with"


def pack_optimizer(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Flat tensors `state.<parameter>.<key>` or `group.<i>.<key>`, and JSON-able data that says what they are.

    Works for any optimizer whose `state_dict` holds, per parameter and per group, tensors and plain values (SGD, Adam, AdamW,
    RMSprop, LARS). Raises CheckpointError naming a value of another kind.
    """
    packed = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    strides: dict[str, list[int]] = {}
    state = {str(i): _split(values, f"state.{i}", tensors, strides) for i, values in packed["state"].items()}
    groups = [_split(group, f"group.{i}", tensors, strides) for i, group in enumerate(packed["param_groups"])]
    return tensors, {"class": type(optimizer).__name__, "state": state, "groups": groups, "strides": strides}


def unpack_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Put what `pack_optimizer` took back into an optimizer built over the same parameters in the same groups.

    `tensors` may hold further names, which are ignored. Memory layout is restored too: the same numbers in another order take
    other vector instructions, and a resumed run would drift in the last bit.

    Raises:
        CheckpointError: another class of optimizer, other groups, other shapes, or a missing tensor; nothing is changed then.
    """
    wanted, got = type(optimizer).__name__, meta.get("class")
    if got != wanted:
        raise CheckpointError(f"the checkpoint holds the state of {got}, this run uses {wanted}: {_REMEDY}")
    try:
        state = {int(i): _join(values, f"state.{i}", tensors, meta) for i, values in meta["state"].items()}
        groups = [_join(group, f"group.{i}", tensors, meta) for i, group in enumerate(meta["groups"])]
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise CheckpointError(f"the optimizer state is incomplete: {problem}; resume from another checkpoint") from problem
    _check_fits(optimizer, state, groups)
    for group, current in zip(groups, optimizer.param_groups, strict=True):
        for key, value in group.items():
            if isinstance(current.get(key), tuple) and isinstance(value, list):
                group[key] = tuple(value)
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    _undo_casts(optimizer, state)


def _split(values: dict[str, Any], prefix: str, tensors: dict[str, Tensor], strides: dict[str, list[int]]) -> dict[str, Any]:
    """Plain values of one parameter or group; its tensors go to `tensors`, marked here by their place under "tensors"."""
    import torch

    plain: dict[str, Any] = {}
    names = []
    for key, value in values.items():
        if isinstance(value, torch.Tensor):
            name = f"{prefix}.{key}"
            tensors[name] = value.detach()
            names.append(key)
            if not value.is_contiguous():
                strides[name] = list(value.stride())
        elif _is_plain(value):
            plain[key] = list(value) if isinstance(value, tuple) else value
        else:
            raise CheckpointError(f"optimizer value {prefix}.{key} is a {type(value).__name__}: only tensors and plain values can be saved")
    return {"values": plain, "tensors": names}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, bool | int | float | str)


def _join(packed: dict[str, Any], prefix: str, tensors: dict[str, Tensor], meta: dict[str, Any]) -> dict[str, Any]:
    import torch

    values = dict(packed["values"])
    for key in packed["tensors"]:
        name = f"{prefix}.{key}"
        if name not in tensors:
            raise KeyError(f"tensor {name} is missing")
        tensor = tensors[name]
        stride = meta["strides"].get(name)
        # a copy in every case: the optimizer updates its state in place
        layout = torch.empty_like(tensor) if stride is None else torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype)
        values[key] = layout.copy_(tensor)
    return values


def _check_fits(optimizer: Optimizer, state: dict[int, dict[str, Any]], groups: list[dict[str, Any]]) -> None:
    got = [len(group.get("params", [])) for group in groups]
    expected = [len(group["params"]) for group in optimizer.param_groups]
    if got != expected:
        raise CheckpointError(f"the checkpoint's optimizer has {got} parameters per group, this one {expected}: {_REMEDY}")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for i, values in state.items():
        if not 0 <= i < len(parameters):
            raise CheckpointError(f"the checkpoint's optimizer has state for parameter {i}, this one has {len(parameters)} parameters")
        for key, value in values.items():
            # scalars such as `step` aside, what an optimizer keeps for a parameter has the parameter's shape
            if hasattr(value, "shape") and value.dim() and value.shape != parameters[i].shape and value.dim() == parameters[i].dim():
                shapes = f"shape {tuple(value.shape)}, the parameter {tuple(parameters[i].shape)}"
                raise CheckpointError(f"optimizer state {key} of parameter {i} has {shapes}: {_REMEDY}")


def _undo_casts(optimizer: Optimizer, state: dict[int, dict[str, Any]]) -> None:
    """`Optimizer.load_state_dict` casts state to the parameter's type, which loses bits of float32 state of bfloat16 weights."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for i, values in state.items():
        held = optimizer.state[parameters[i]]
        for key, value in values.items():
            if hasattr(value, "dtype") and held[key].dtype != value.dtype:
                held[key] = value.to(held[key].device)
