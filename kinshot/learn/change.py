"""What becomes of a term's pairs before they are compared: an augmenter adds rows, then a miner leaves pairs out."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_generator
from kinshot.kin.kin import Pairs
from kinshot.objectives.common import products, unit
from kinshot.objectives.module import ObjectiveModule

WIRED = ("generator", "dim")
"""Keywords that a part has beside its settings: what it draws from, keyed by seed, place and step, and the numbers in an embedding."""


class Change(nn.Module):
    """Rows added by an augmenter, then pairs left out by a miner, which goes by the rows' cosines.

    Args:
        augmenter: a function `(z, relation) -> (z, relation)`, or a module `(z, relation, y, step) -> (z, relation, y)`; None for none.
        miner: a function `(similarity, relation) -> relation`; None for none.
        seed: the run's.
        key: where the recipe says it, the purpose of what is drawn.
    """

    def __init__(
        self, augmenter: Callable[..., Any] | None = None, miner: Callable[..., Any] | None = None, *, seed: int = 0, key: str = "terms"
    ) -> None:
        super().__init__()
        self.augmenter, self.miner, self.seed, self.key = augmenter, miner, seed, key

    def forward(self, pairs: Pairs, step: int) -> Pairs:
        """The pairs that are compared."""
        if self.augmenter is not None:
            pairs = self._more(self.augmenter, pairs, step)
        return pairs if self.miner is None else self._fewer(self.miner, pairs, step)

    def after_step(self) -> None:
        """Move what the augmenter remembers."""
        if isinstance(self.augmenter, ObjectiveModule):
            self.augmenter.after_step()

    def _more(self, add: Callable[..., Any], pairs: Pairs, step: int) -> Pairs:
        z, relation, refs, y = pairs
        if refs is not None:
            raise ConfigError(
                f"{self.key}.augmenter: it makes rows between or beside anchors, and kin of this term are other rows: leave it out, or "
                "choose kin whose rows are compared with each other"
            )
        if isinstance(add, ObjectiveModule):
            rows, among, classes = add(z, relation, y, step, **self._wired(add.forward, "augmenter", z, step))
            return Pairs(rows, among, y=classes)
        rows, among = add(z, relation, **self._wired(add, "augmenter", z, step))
        return Pairs(rows, among, y=None if y is None else torch.cat([y, y.new_full((len(rows) - len(y),), -1)]))

    def _fewer(self, pick: Callable[..., Any], pairs: Pairs, step: int) -> Pairs:
        with torch.no_grad():
            rows = unit(pairs.z)
            similarity = products(rows, rows if pairs.refs is None else unit(pairs.refs))
            return pairs._replace(relation=pick(similarity, pairs.relation, **self._wired(pick, "miner", pairs.z, step)))

    def _wired(self, part: Callable[..., Any], what: str, z: Tensor, step: int) -> dict[str, Any]:
        """What of `WIRED` a part asks for."""
        asked = inspect.signature(part).parameters
        found: dict[str, Any] = {}
        if "generator" in asked:
            found["generator"] = keyed_generator(self.seed, f"{self.key} {what}", step)
        if "dim" in asked:
            found["dim"] = z.shape[1]
        return found
