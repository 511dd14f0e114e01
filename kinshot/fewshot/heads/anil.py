"""ANIL's head: a few steps of gradient descent from a trained start."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.fewshot import HEADS
from kinshot.fewshot.adaptation import Adaptation, head_start
from kinshot.fewshot.inner_loop import linear_scores
from kinshot.fewshot.transforms import one_hot


@HEADS.register("anil", scores="logits")
def anil(
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    ways: int,
    *,
    inner_steps: int = 5,
    inner_lr: float = 0.01,
    network: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """A few gradient steps on a linear head from its trained start (ANIL); inductive.

    The start is trained with the encoder, by the methods anil and maml; without one this head refuses. It belongs to one number of
    ways. After maml the whole network is to be adapted, which features cannot be: this head then shows what the head alone gains.

    Paper: Raghu, Raghu, Bengio, Vinyals, 2019, arXiv 1909.09157
    Defaults: the inner loop of cbfinn/maml on miniImageNet, for the head alone.

    Args:
        support: (E, S, D) support features, rows in any order.
        labels: int64 (E, S), ways 0..W-1; a row with -1 is ignored.
        query: (E, Q, D) query features.
        ways: W.
        inner_steps: steps of gradient descent; 0 scores with the start itself.
        inner_lr: their size.
        network: the trained start, `weight` (W, D) and `bias` (W,).

    Returns:
        Logits (E, Q, W).

    Raises:
        ConfigError: no network, one trained for another number of ways, or a setting out of range.
        DataError: a way without support, or a network of another width.

    >>> support = torch.tensor([[[1.0, 0.0], [0.8, 0.2], [0.1, 0.9]]])  # one episode of three images, two features each
    >>> labels, query = torch.tensor([[0, 0, 1]]), torch.tensor([[[0.9, 0.3], [0.2, 0.7]]])
    >>> start = {"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}  # a trained method brings its own
    >>> kinshot.heads.anil(support, labels, query, ways=2, network=start, inner_lr=1.0).argmax(-1)
    tensor([[0, 1]])
    """
    if network is None:
        raise ConfigError(
            "head anil needs the trained start of its linear head and none was given: train one with `fewshot train` method=anil "
            "(network= in Python), or use a head that starts from the support set, as logistic does"
        )
    how = Adaptation(inner_steps, inner_lr)
    weight, bias = (start.to(support) for start in head_start(network, ways))
    if weight.shape[1] != support.shape[-1]:
        raise DataError(
            f"the head's start is for features {weight.shape[1]} wide, these are {support.shape[-1]} wide: "
            "use the backbone it was trained with"
        )
    return linear_scores(support, one_hot(labels, ways, support), query, weight, bias, steps=how.steps, lr=how.lr)
