"""Every registered objective as one function of tensors, whatever it takes: what the contract tests of objectives run over."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.registry import Entry
from kinshot.core.schema import Parameter
from kinshot.encoders.build import keyed_initialisation
from kinshot.kin.constructors import labels
from kinshot.objectives import OBJECTIVES, taking

BATCH, SAMPLES, CLASSES = 6, 40, 6
Y = torch.tensor([0, 0, 1, 1, 1, -1])
Shape = tuple[int, ...]
Loss = Callable[..., Tensor]

# What an objective may be given for a sample. One that is not named here must take embeddings, of different widths on two sides.
DIFFERENT: tuple[Shape, ...] = ((4,), (5,))
EQUAL: tuple[Shape, ...] = ((4,), (4,))
MAPS: tuple[Shape, ...] = ((2, 4, 4), (3, 3, 5))
SHAPES = {
    "vicreg": [EQUAL],
    "barlow_twins": [EQUAL],
    "kd": [EQUAL],
    "seed": [EQUAL],
    "coss": [EQUAL],
    "attention_transfer": [MAPS],
    "compress:variant=1q": [EQUAL],
}
ALSO = {"fitnet": [EQUAL, MAPS], "similarity_preserving": [EQUAL, MAPS]}
# Settings for a batch of a few rows, where the defaults are those of hundreds.
FEW: dict[str, dict[str, Any]] = {"hier": {"proxies": 8, "neighbors": 3, "draws": 6}}
# Settings that one choice of another asks for.
BESIDE: dict[str, dict[str, Any]] = {
    "margin_contrastive:normalize=True": {"negative_margin": 1.5},
    "margin_contrastive:measure=similarity": {"positive_margin": 0.8, "negative_margin": 0.5, "normalize": True},
}


class Case(NamedTuple):
    """An objective, settings, and the shape of a sample of each of its tensors."""

    name: str
    settings: dict[str, Any]
    shapes: tuple[Shape, ...]

    @property
    def entry(self) -> Entry:
        return OBJECTIVES.entry(self.name)

    @property
    def takes(self) -> str:
        return str(self.entry.facts["takes"])

    def has(self, setting: str) -> bool:
        """Whether a recipe may set it."""
        return setting in self.entry.parameters

    def build(self) -> nn.Module | None:
        """The objective, where it is a class."""
        if not isinstance(OBJECTIVES.get(self.name), type):
            return None
        context = RunContext(num_samples=SAMPLES, batch_size=BATCH, steps_per_epoch=5, total_steps=10, seed=3)
        wired = self.shapes if self.takes == "teacher" else (self.shapes[0][0], CLASSES)
        with keyed_initialisation(1, self.name):
            return OBJECTIVES.build(self.name, *wired, context, settings=self.settings)

    def part(self) -> Loss:
        """(z, relation, refs=None) -> loss, of an objective that takes a relation."""
        module = self.build()
        return partial(OBJECTIVES.get(self.name), **self.settings) if module is None else module

    def loss(self, module: nn.Module | None = None, **further: Any) -> Loss:
        """(tensors..., y=Y, step=0) -> loss; `y` are the classes of the rows. The samples of step k are k * BATCH and those after it."""
        if module is not None and self.takes == "relation":
            return lambda *x, y=Y, step=0: module(*x, labels(y), None, y, step)
        if module is not None and self.takes == "proxies":
            return lambda *x, y=Y, step=0: module(*x, y, step)
        if module is not None:
            return lambda *x, y=Y, step=0: module(*x, torch.arange(len(x[0])) + BATCH * step, step)
        settings = {**self.settings, **further}

        def found(*x: Tensor, y: Tensor = Y, step: int = 0) -> Tensor:
            wired = {"relation": [labels(y)], "classes": [y]}.get(self.takes, [])
            return OBJECTIVES.build(self.name, *x, *wired, settings=settings)

        return found

    def outputs(self, seed: int = 0, batch: int = BATCH) -> tuple[Tensor, ...]:
        """A batch of each tensor."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(torch.randn(batch, *shape, generator=generator) for shape in self.shapes)


def warm(case: Case) -> tuple[Loss, Any]:
    """The objective after two steps, so that a queue holds something and what the first negatives fix is fixed; the module, or None."""
    module: Any = case.build()
    loss = case.loss(module)
    for step in range(2 if module is not None else 0):
        loss(*case.outputs(seed=100 + step), step=step)
        module.after_step()
    return loss, module


def cases(*kinds: str) -> list[Any]:
    """Each objective that takes one of these with its defaults, then with every other choice of every setting that lists its choices."""
    found = []
    for name in [name for kind in kinds for name in taking(kind)]:
        alone: list[tuple[Shape, ...]] = [DIFFERENT] if OBJECTIVES.entry(name).facts["takes"] in ("teacher", "views") else [((4,),)]
        for label, chosen in _settings(name):
            for shapes in [*SHAPES.get(label, SHAPES.get(name, alone)), *ALSO.get(name, [])]:
                found.append(pytest.param(Case(name, chosen, shapes), id=f"{label}-{'x'.join(map(str, shapes[0]))}"))
    return found


def _settings(name: str) -> list[tuple[str, dict[str, Any]]]:
    always = FEW.get(name, {})
    found: list[tuple[str, dict[str, Any]]] = [(name, always)]
    for key, parameter in OBJECTIVES.entry(name).parameters.items():
        # what `reduction` of an objective over anchors gives is tested by itself
        for choice in [] if key == "reduction" and parameter.default in ("mean", "valid") else _choices(parameter):
            label = f"{name}:{key}={choice}"
            found.append((label, {**always, key: choice, **BESIDE.get(label, {})}))
    return found


def _choices(parameter: Parameter) -> list[Any]:
    """The other choices that a setting lists."""
    found: list[Any] = []
    for option in parameter.annotation.split(" | "):
        if option == "bool":
            found += [False, True]
        elif option == "None":
            found.append(None)
        elif option.startswith("Literal["):
            found += ast.literal_eval("(" + option[8:-1] + ",)")
    return [choice for choice in found if type(choice) is not type(parameter.default) or choice != parameter.default]
