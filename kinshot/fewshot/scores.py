"""What the scores of a head are, and how sure an answer is where they say so.

A head declares it where it is registered, `@HEADS.register("tim", scores="logits")`; where a setting decides, as a table of that
setting's values: `scores={"distance": {"squared": "logits", "cosine": "similarities"}}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.fewshot import HEADS

KINDS = {
    "logits": "their softmax over the ways is the head's own probability",
    "log_probabilities": "logarithms of probabilities, up to a constant of each query",
    "probabilities": "probabilities already: at least 0, and 1 in sum over the ways",
    "similarities": "only their order counts: cosines, negative distances, margins, regressed labels; nothing says how sure an answer is",
}
"""Each kind of scores and what it means."""


@dataclass(frozen=True)
class BoundHead:
    """A head with its settings bound, and the kind of its scores, one of `KINDS`."""

    call: Callable[[Tensor, Tensor, Tensor, int], Tensor]
    scores: str

    def __call__(self, support: Tensor, labels: Tensor, query: Tensor, ways: int) -> Tensor:
        """Scores (E, Q, ways) of support (E, S, D), labels (E, S) and query (E, Q, D)."""
        return self.call(support, labels, query, ways)


def scores_of(name: str, settings: Mapping[str, Any]) -> str:
    """The kind of scores that a head gives with these settings, complete with defaults; `similarities` where a plug-in says nothing.

    Raises ConfigError for a declaration that is no kind.
    """
    said = HEADS.entry(name).facts.get("scores", "similarities")
    if isinstance(said, dict):
        ((setting, table),) = said.items()
        said = table.get(settings.get(setting))
    if said not in KINDS:
        raise ConfigError(f"head {name} declares scores={said!r}: its register() must say one of {', '.join(KINDS)}")
    return str(said)


def confidence(scores: Tensor, kind: str) -> Tensor | None:
    """Probability of the best way, float64 (E, Q), of scores (E, Q, W); None where the scores stand for no probability."""
    if kind == "similarities":
        return None
    top = scores.amax(-1)
    if kind == "probabilities":
        return top.double().clamp(0, 1)  # a sum over support rows may round past 1
    # the softmax at its own maximum: the largest term is exp(0); a constant added to logarithms drops out
    return (scores - top.unsqueeze(-1)).double().exp_().sum(-1).reciprocal_()
