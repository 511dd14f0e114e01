"""Outputs of named modules, recorded while something else runs them, so that no sample is encoded twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError, suggest


class Taps:
    """Inside its `with` block, records what modules take and give. Calls without gradient are passed over where `grad_only`.

    Args:
        modules: by the name under which their outputs are kept.
        grad_only: record only calls that a gradient can come through, which leaves out key networks' and banks' passes.
    """

    def __init__(self, modules: Mapping[str, nn.Module], *, grad_only: bool = False) -> None:
        self._modules, self._grad_only = modules, grad_only
        self._handles: list[Any] = []
        self._outputs: dict[str, list[Tensor]] = {name: [] for name in modules}
        self._inputs: dict[str, list[Tensor]] = {name: [] for name in modules}

    def __enter__(self) -> Taps:
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_hook(lambda _, given, found, name=name: self._record(name, given, found)))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _record(self, name: str, given: tuple[Any, ...], found: Any) -> None:
        if torch.is_grad_enabled() or not self._grad_only:
            self._inputs[name].append(given[0])
            self._outputs[name].append(found[0] if isinstance(found, tuple) else found)

    def count(self, name: str) -> int:
        """Rows that passed a module."""
        return sum(len(part) for part in self._outputs[name])

    def outputs(self, name: str, rows: int | None = None) -> Tensor:
        """A module's outputs in the order of its calls, the first `rows` of them, (rows, ...).

        Raises RuntimeError where the module was not called, which is an error of ours.
        """
        found = self._outputs[name]
        if not found:
            raise RuntimeError(f"{name} was not called while its outputs were to be recorded")
        return (found[0] if len(found) == 1 else torch.cat(found))[:rows]

    def inputs(self, name: str, rows: int) -> list[Tensor]:
        """The first `rows` samples that a module was given, a tensor for each of its calls."""
        parts = []
        for part in self._inputs[name]:
            if rows > 0:
                parts.append(part[:rows])
            rows -= len(part)
        return parts


def submodule(network: nn.Module, name: str, what: str, others: tuple[str, ...] = ()) -> nn.Module:
    """The part of a network that a dotted name such as `blocks.2` stands for.

    Raises ConfigError with the closest valid name, `others` among them.
    """
    known = dict(network.named_modules())
    if name not in known or not name:
        raise ConfigError(f"{what} has no output {name!r}: {suggest(name, [*others, *(key for key in known if key)])}")
    return known[name]
