"""MAML at test time: the whole network adapted to every episode's support set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.fewshot import HEADS
from kinshot.fewshot.adaptation import Adaptation, maml_scores


@HEADS.register("maml", scores="logits")
def maml(
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    ways: int,
    *,
    inner_steps: int = 5,
    inner_lr: float = 0.01,
    statistics: Literal["batch", "running"] = "batch",
    encoder: nn.Module | None = None,
    network: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Gradient steps of encoder and linear head on the support set, from a start that MAML trained; transductive.

    The features of this head are the samples themselves, normalised and flattened. It is transductive because queries are normalised
    by their own batch statistics, as in the paper's code; with statistics=running it is inductive.

    Paper: Finn, Abbeel, Levine, 2017, arXiv 1703.03400
    Defaults: the authors' command for miniImageNet (cbfinn/maml).

    Args:
        support: (E, S, D) support samples as `encoder` takes them, rows in any order.
        labels: int64 (E, S), ways 0..W-1; a row with -1 is ignored.
        query: (E, Q, D) query samples.
        ways: W, the number that the head's start was trained for.
        inner_steps: steps of gradient descent; 0 is the start itself.
        inner_lr: their size.
        statistics: what batch normalisation normalises by: the set that is passed, or the running statistics.
        encoder: samples (B, D) to features; not changed.
        network: start of the linear head, `weight` (W, features) and `bias` (W,).

    Returns:
        Logits (E, Q, W).

    Raises:
        ConfigError: no encoder or network, a number out of range, or another number of ways than was trained.

    >>> support = torch.tensor([[[1.0, 0.0], [0.8, 0.2], [0.1, 0.9]]])  # one episode of three images, two features each
    >>> labels, query = torch.tensor([[0, 0, 1]]), torch.tensor([[[0.9, 0.3], [0.2, 0.7]]])
    >>> start = {"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}  # a trained method brings its own
    >>> kinshot.heads.maml(support, labels, query, ways=2, encoder=torch.nn.Identity(), network=start, inner_lr=1.0).argmax(-1)
    tensor([[0, 1]])
    """
    if encoder is None or network is None:
        raise ConfigError("head maml adapts the network that method maml trained, and none was given: evaluate a run of `fewshot train`")
    start = {name: value.to(support) for name, value in network.items()}
    return maml_scores(encoder, start, support, labels, query, ways, Adaptation(inner_steps, inner_lr, statistics=statistics))
