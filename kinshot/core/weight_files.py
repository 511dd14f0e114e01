"""Weights from anywhere, read without running anything: safetensors, or PyTorch's files with nothing in them but tensors.

This is the one place that calls `torch.load`, with `weights_only` (tests/test_house.py keeps it so).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinshot.core.errors import CheckpointError
from kinshot.core.small_files import check_regular

SUFFIXES = (".safetensors", ".pth", ".pt")
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "teacher", "student", "encoder", "backbone")
"""Keys under which training programs keep a state dict beside other things, the most telling first."""
PREFIXES = ("module.", "_orig_mod.", "state_dict.", "model.", "net.", "network.", "backbone.", "base_encoder.", "encoder_q.", "encoder.")
"""What wrappers of models put before their names."""
COUNTER = "num_batches_tracked"
_DEPTH = 3
_SHOWN = 8
"""Names that are told one by one."""


@dataclass(frozen=True)
class WeightFile:
    """Tensors by name as a file holds them, on the CPU, and what is to be said of how they were found."""

    path: Path
    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Matched:
    """A file's weights under a model's names.

    Args:
        own: every tensor of the model.
        head: tensors of the classifier that the model does without, by their names in the library's model.
        notes: what was dropped, left over or filled in.
    """

    own: dict[str, Tensor]
    head: dict[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_weights(path: Path) -> WeightFile:
    """The tensors of a `.safetensors`, `.pth` or `.pt` file; a state dict that lies under a known key is found there.

    Raises CheckpointError: missing, damaged, of another kind, holding more than tensors where its names should be, or a pickle that
    would run code, which is refused.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise CheckpointError(f"{path}: expected weights in a file with the ending {' or '.join(SUFFIXES)}; save a state dict as one")
    check_regular(path, error=CheckpointError, remedy="check the path; weights are never downloaded")
    if path.suffix.lower() == ".safetensors":
        return WeightFile(path, _safetensors(path))
    found, notes = _unwrapped(_unpickled(path), path)
    return WeightFile(path, found, notes)


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read the weights {path}: {error}; give a complete safetensors file") from error


def _unpickled(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file from anywhere makes the unpickler raise nearly anything
        raise CheckpointError(
            f"{path} holds more than tensors by name, or is damaged: what else a pickle names would be run and is refused; where it comes "
            "from, save the state dict alone, with safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        ) from error


def _unwrapped(found: Any, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The state dict in what a file held, and the keys that led there."""
    notes: list[str] = []
    for _ in range(_DEPTH):
        if not isinstance(found, Mapping):
            break
        if found and all(isinstance(value, Tensor) for value in found.values()):
            return {str(name): value.detach() for name, value in found.items()}, tuple(notes)
        key = next((key for key in WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if key is None:
            break
        beside = [str(other) for other in found if other != key]
        notes.append(f"{path.name}: the state dict is under {key!r}" + (f"; left aside beside it: {some(beside)}" if beside else ""))
        found = found[key]
    what = f"the keys {some(list(map(str, found)))}" if isinstance(found, Mapping) else f"a {type(found).__name__}"
    raise CheckpointError(f"{path} holds {what}, expected tensors by name, or such a state dict under one of {', '.join(WRAPPERS)}")


def matched(own: Mapping[str, Tensor], file: WeightFile, heads: Sequence[str] = ()) -> Matched:
    """A file's weights under the names of a model's state dict.

    Args:
        own: the model's state dict.
        file: what was read.
        heads: names of the library's modules that the model does without, its classifier; a file may have them.

    Raises:
        CheckpointError: weights that are missing, that the model has no place for, or of another shape; all of them are counted, and
            the first of each kind named. Other parts of what was trained (outside of the model's prefix) are left aside and said.
    """
    tensors, notes = _without_prefix(own, file)
    head = {name: value for name, value in tensors.items() if name not in own and _below(name, heads)}
    rest = {name: value for name, value in tensors.items() if name not in head}
    counters = [name for name in own if name.endswith(COUNTER) and name not in rest]
    rest |= {name: torch.zeros_like(own[name]) for name in counters}
    problems = {
        "missing": [name for name in own if name not in rest],
        "left over": [name for name in rest if name not in own],
        "of another shape": [
            f"{name} {tuple(rest[name].shape)} in place of {tuple(value.shape)}"
            for name, value in own.items()
            if name in rest and rest[name].shape != value.shape
        ],
    }
    told = "; ".join(f"{len(names)} {what}: {some(names)}" for what, names in problems.items() if names)
    if told:
        raise CheckpointError(f"the weights in {file.path} do not fit the model: {told}; name the model that they belong to")
    if head:
        modules = ", ".join(dict.fromkeys(_under(name, heads) for name in head))
        notes.append(f"{file.path.name}: the classifier {modules} is no part of features")
    if counters:
        notes.append(f"{file.path.name}: {len(counters)} counters {COUNTER} are not in it and start from 0")
    return Matched({name: rest[name] for name in own}, head, (*file.notes, *notes))


def some(names: Sequence[str]) -> str:
    """All the names; of many, how many there are below each module: `layer4.0.* (12)`."""
    if len(names) <= _SHOWN:
        return ", ".join(names)
    depth = next((depth for depth in (3, 2) if len({_module(name, depth) for name in names}) <= _SHOWN), 1)
    counts = Counter(_module(name, depth) for name in names)
    return ", ".join(f"{module}.* ({count})" if module else f"{count} tensors" for module, count in counts.items())


def _module(name: str, depth: int) -> str:
    """The first words of a name, without its last one."""
    return ".".join(name.split(".")[:-1][:depth])


def _without_prefix(own: Mapping[str, Tensor], file: WeightFile) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors under the prefix below which most of the model's names are found, without it; and what was left aside."""
    tensors, notes = file.tensors, []
    for _ in range(_DEPTH):
        below = {prefix: {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)} for prefix in PREFIXES}
        best = max(PREFIXES, key=lambda prefix: _share(own, below[prefix]))
        if not below[best] or _share(own, below[best]) <= _share(own, tensors):
            break
        aside = [name for name in tensors if not name.startswith(best)]
        left = f"; left aside without it: {some(aside)}" if aside else ""
        notes.append(f"{file.path.name}: names begin with {best!r}, which is dropped{left}")
        tensors = below[best]
    return tensors, notes


def _share(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> int:
    """How many of the model's names are there, or would be below a further prefix."""
    inner = [sum(prefix + name in tensors for name in own) for prefix in PREFIXES]
    return max(sum(name in tensors for name in own), *(count - 1 for count in inner))


def _under(name: str, heads: Sequence[str]) -> str:
    return next((head for head in heads if name == head or name.startswith(f"{head}.")), "")


def _below(name: str, heads: Sequence[str]) -> bool:
    return bool(_under(name, heads))
