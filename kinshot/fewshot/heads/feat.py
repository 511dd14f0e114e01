"""FEAT: prototypes adapted to their task by self-attention among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from kinshot.core.errors import ConfigError, DataError
from kinshot.fewshot import HEADS
from kinshot.fewshot.set_attention import set_attention
from kinshot.fewshot.transforms import class_means, similarity
from kinshot.fewshot.transforms import transform as transformed


@HEADS.register("feat", scores="logits")
def feat(
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    ways: int,
    *,
    temperature: float = 64.0,
    distance: Literal["squared", "euclidean"] = "squared",
    transform: Literal["none", "l2n", "cl2n"] = "none",
    base_mean: Tensor | None = None,
    network: Mapping[str, Tensor] | nn.Module | None = None,
) -> Tensor:
    """Prototypes adapted by a trained set-to-set self-attention over the ways (FEAT); inductive.

    score = -||q - p'_c||^2 / temperature, with p' = network(p) of the class means p. The network is trained with the
    encoder, on base episodes; without one this head refuses.

    Paper: Ye, Hu, Zhan, Sha, 2020, arXiv 1812.03664
    Departures: one attention head and no other set function, the variant that the paper reports first.
    Defaults: the authors' command for miniImageNet, one shot (Sha-Lab/FEAT).

    Args:
        support: (E, S, D) support features, rows in any order.
        labels: int64 (E, S), ways 0..W-1; a row with -1 is ignored.
        query: (E, Q, D) query features.
        ways: W.
        temperature: divides the distances, positive; changes no prediction.
        distance: squared as in the paper, or plain (euclidean) as in some libraries.
        transform: what is done to every feature first; cl2n needs the base classes.
        base_mean: mean base feature (D,), for `cl2n`.
        network: trained weights as `set_attention` names them, or a module (E, W, D) -> (E, W, D).

    Returns:
        Scores (E, Q, W).

    Raises:
        ConfigError: no network, temperature not positive, or `cl2n` without `base_mean`.
        DataError: a way without support, or a network of another width.

    >>> support = torch.tensor([[[1.0, 0.0], [0.8, 0.2], [0.1, 0.9]]])  # one episode of three images, two features each
    >>> labels, query = torch.tensor([[0, 0, 1]]), torch.tensor([[[0.9, 0.3], [0.2, 0.7]]])
    >>> kinshot.heads.feat(support, labels, query, ways=2, network=torch.nn.Identity()).argmax(-1)  # identity: as ProtoNet
    tensor([[0, 1]])
    """
    if network is None:
        raise ConfigError(
            "head feat needs its trained set-to-set network and none was given: train one with `fewshot train` "
            "(network= in Python), or use the head prototype, which FEAT starts from"
        )
    if temperature <= 0:
        raise ConfigError(f"head feat: temperature must be positive, got {temperature}")
    prototypes = class_means(transformed(support, transform, base_mean), labels, ways)
    adapted = network(prototypes) if isinstance(network, nn.Module) else set_attention(prototypes, network)
    if adapted.shape != prototypes.shape:
        raise DataError(
            f"head feat: the network made {tuple(adapted.shape)} of prototypes {tuple(prototypes.shape)}: it must keep the shape"
        )
    return similarity(transformed(query, transform, base_mean), adapted, distance) / temperature
