"""The door to pytorch-metric-learning: any of its losses, with any of its miners, as an objective over classes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError, suggest
from kinshot.core.part_text import read_settings, split_text
from kinshot.core.rng import keyed_numpy, keyed_seed
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import at_least_float32, check_above, full_precision
from kinshot.objectives.module import ObjectiveModule
from kinshot.objectives.proxies.rows import share

EXAMPLE = "alpha=2,base=0.5"
OTHER = ("GenericPairLoss", "ManifoldLoss", "SelfSupervisedLoss", "ThresholdConsistentMarginLoss", "VICRegLoss")
"""Losses that take no classes, or another loss or a function as an argument."""


@OBJECTIVES.register("pml", takes="proxies")
class PML(ObjectiveModule):
    """Any loss of the package pytorch-metric-learning by its name there, with any of its miners (pip install kinshot[pml]).

    `objective: pml:ProxyAnchorLoss` is short for `objective: pml` and `loss: ProxyAnchorLoss`. Values and meanings are that package's:
    margins of ArcFaceLoss in degrees, means over what is not zero. Class weights that a loss learns take `proxy_lr`.

    Paper: Musgrave, Belongie, Lim 2020, arXiv 2008.09164 (PyTorch Metric Learning)

    Args:
        loss: name of the loss, such as MultiSimilarityLoss, TripletMarginLoss, ProxyAnchorLoss.
        arguments: of the loss, as in `alpha=2,base=0.5`; the numbers of classes and of features are filled in.
        mined_by: name of a miner, such as MultiSimilarityMiner; empty for none.
        mining: arguments of the miner, in the same form.
        proxy_lr: share of the learning rate that weights of the loss take, above 0.

    Raises:
        ConfigError: the package is missing, a name or an argument that it does not know, or a share out of range.

    >>> context = kinshot.RunContext(num_samples=4, batch_size=4, steps_per_epoch=1, total_steps=1, seed=0)
    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> round(kinshot.objectives.pml(2, 2, context, loss="ContrastiveLoss", arguments="neg_margin=1")(z, y).item(), 3)
    0.738
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        context: RunContext,
        *,
        loss: str = "MultiSimilarityLoss",
        arguments: str = "",
        mined_by: str = "",
        mining: str = "",
        proxy_lr: float = 1.0,
    ) -> None:
        super().__init__()
        check_above("dim", dim)
        if classes < 1:
            raise ConfigError(f"classes: expected at least 1, got {classes}: take kin that know them, `kin: labels`")
        self.lr_scale, self.seed, self.dim, self.classes = share(proxy_lr), context.seed, dim, classes
        wired = {"num_classes": classes, "embedding_size": dim, "descriptors_dim": dim}
        self.function = _made("loss", "Loss", loss, arguments, wired)
        self.miner = _made("miner", "Miner", mined_by, mining, {}) if mined_by else None

    def forward(self, z: Tensor, y: Tensor, step: int = 0) -> Tensor:
        """The loss of the rows whose class is known, float32.

        Args:
            z: (B, D).
            y: int64 (B,), -1 = unknown: left out.
            step: 0-based, which keys what the package draws.
        """
        self._check(z, y)
        known = y >= 0
        with full_precision(z):
            rows, own = at_least_float32(z)[known], y[known]
            if not len(rows):
                return at_least_float32(z).sum() * 0.0
            with _keyed(self.seed, step):
                pairs = None if self.miner is None else self.miner(rows, own)
                found: Tensor = self.function(rows, own, pairs)
        return found + 0.0 * rows.sum()  # without a pair that costs something the package gives a constant

    def _check(self, z: Tensor, y: Tensor) -> None:
        """Raise ConfigError for what the loss was not made for."""
        if z.dim() != 2 or z.shape[1] != self.dim:
            raise ConfigError(f"pml: expected embeddings (B, {self.dim}), got {tuple(z.shape)}: build it for this output's width")
        if y.shape != z.shape[:1] or y.is_floating_point():
            raise ConfigError(f"pml: expected an int64 class for each of {len(z)} embeddings, got {y.dtype} {tuple(y.shape)}")
        if len(y) and (highest := int(y.max())) >= self.classes:
            raise ConfigError(f"pml: it knows classes 0..{self.classes - 1}, got class {highest}: build it for all, or call it -1")


def _made(what: str, ending: str, name: str, arguments: str, wired: dict[str, Any]) -> nn.Module:
    """A loss or miner of the package by its name."""
    parts = _package("losses" if what == "loss" else "miners")
    known = [key for key in dir(parts) if key.endswith(ending) and not key.startswith("Base") and key not in OTHER]
    if name in OTHER:
        raise ConfigError(f"pml: {name} is no loss of embeddings and classes alone: choose another, or call it in your own loop")
    if name not in known:
        raise ConfigError(f"pml: {what} {name!r} is not one of pytorch-metric-learning: {suggest(name, known)}")
    part = getattr(parts, name)
    given = read_settings(arguments, split_text(arguments, ",", f"pml: arguments of {name}", EXAMPLE), "pml:", EXAMPLE) if arguments else {}
    taken = _parameters(part)
    if unknown := [key for key in given if key not in taken]:
        raise ConfigError(f"pml: {name} has no argument {unknown[0]!r}: {suggest(unknown[0], taken)}")
    try:
        made: nn.Module = part(**{key: value for key, value in wired.items() if key in taken}, **given)
    except (TypeError, ValueError, AssertionError) as problem:
        raise ConfigError(f"pml: {name}({arguments}) cannot be made: {' '.join(str(problem).split())}; change its arguments") from problem
    return made


def _package(name: str) -> ModuleType:
    try:
        from pytorch_metric_learning import losses, miners
    except ImportError as problem:
        raise ConfigError(f"pml needs the package pytorch-metric-learning ({problem}): pip install 'kinshot[pml]'") from problem
    found: ModuleType = losses if name == "losses" else miners
    return found


def _parameters(part: type) -> list[str]:
    """Names that the constructors of a class and of those above it take."""
    found: dict[str, None] = {}
    for one in part.__mro__:
        if "__init__" in vars(one) and one.__module__.startswith("pytorch_metric_learning"):
            kinds = inspect.signature(one.__init__).parameters.values()  # type: ignore[misc]
            found |= {p.name: None for p in kinds if p.name != "self" and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return list(found)


@contextmanager
def _keyed(seed: int, step: int) -> Iterator[None]:
    """Inside, what the package draws from torch's and numpy's generators depends on seed and step; outside nothing has been drawn."""
    from pytorch_metric_learning.utils import common_functions

    before = common_functions.NUMPY_RANDOM
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(keyed_seed(seed, "pml", step))
        common_functions.NUMPY_RANDOM = keyed_numpy(seed, "pml", step)
        try:
            yield
        finally:
            common_functions.NUMPY_RANDOM = before
