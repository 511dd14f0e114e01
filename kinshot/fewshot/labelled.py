"""Support rows without a label: no head sees them, whatever it computes, because they are taken away before it is called."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from kinshot.core.errors import DataError
from kinshot.core.registry import Part, Registry

if TYPE_CHECKING:
    from torch import Tensor

UNLABELLED = -1
"""The label of a support row that is to be ignored, for example one that only fills up an episode with fewer images than others."""


class Heads(Registry):
    """The registry of heads, which sees to it that a head is called with labelled rows alone."""

    def register(self, name: str, **facts: Any) -> Callable[[Part], Part]:
        """As `Registry.register`; what is registered, and what the name stands for in its file, ignores rows without a label."""
        return lambda head: super(Heads, self).register(name, **facts)(_labelled_alone(head))


def _labelled_alone(head: Any) -> Any:
    @wraps(head)
    def scores(support: Tensor, labels: Tensor, query: Tensor, ways: int, **given: Any) -> Tensor:
        if not labels.numel():
            return head(support, labels, query, ways, **given)
        least, most = (int(one) for one in labels.aminmax())
        if least < UNLABELLED or most >= ways:
            wrong = least if least < UNLABELLED else most
            raise DataError(f"a support row has the label {wrong}: expected 0..{ways - 1}, or {UNLABELLED} for a row that is to be ignored")
        if least > UNLABELLED:
            return head(support, labels, query, ways, **given)
        return _by_count(head, support, labels, query, ways, given)

    return scores


def _by_count(head: Any, support: Tensor, labels: Tensor, query: Tensor, ways: int, given: dict[str, Any]) -> Tensor:
    """Scores of episodes (E, Q, ways) from their labelled rows, those with equally many at a time; rows keep their order."""
    counts, order = (labels != UNLABELLED).sum(1), (labels == UNLABELLED).int().argsort(dim=1, stable=True)
    found: Tensor | None = None
    for count in counts.unique().tolist():
        episodes = (counts == count).nonzero().flatten()
        rows = order[episodes, :count]
        kept = support[episodes].gather(1, rows.unsqueeze(-1).expand(-1, -1, support.shape[-1]))
        part = head(kept, labels[episodes].gather(1, rows), query[episodes], ways, **given)
        found = part.new_empty(len(labels), *part.shape[1:]) if found is None else found
        found[episodes] = part
    if found is None:
        raise DataError("no episode to score: give at least one")
    return found
