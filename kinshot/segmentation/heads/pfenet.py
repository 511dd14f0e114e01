"""PFENet-style decoder: maps of a trained network, class by class."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.segmentation import SEGMENTERS
from kinshot.segmentation.dense import Dense, check_dense
from kinshot.segmentation.pfenet import PFENet


@SEGMENTERS.register("pfenet", scores="logits", pooling="downsample", align_corners=True)
def pfenet(episodes: Dense, *, base_weight: float | None = None, network: Mapping[str, Tensor] | nn.Module | None = None) -> Tensor:
    """Log odds by a light PFENet-style decoder, which was trained on episodes of base classes; inductive.

    Each way is segmented against all else, by a support vector, a prior mask and features of several scales
    (`kinshot.segmentation.pfenet.PFENet`, which says what departs from the paper); the ways' log odds stand beside a background of 0.
    Where a base learner was trained with the decoder, background gains what it claims for base classes (BAM).

    Paper: Tian, Zhao, Shu, Yang, Li, Jia, 2020, arXiv 2008.01449 (PFENet); Lang, Cheng, Tu, Han, 2022, arXiv 2203.07615 (BAM)
    Departures: those of `PFENet`; one network for any number of ways and shots.
    Defaults: dvlab-research/PFENet; the base learner's weights are those that were trained.

    Args:
        episodes: E episodes of W ways with maps of the stages that the network names.
        base_weight: weight of the base classes' probability in the background's; 0 leaves the base learner out, None takes the weights
            that were trained.
        network: a `PFENet`, or its weights.

    Returns:
        Scores (E, Q, 1 + W, h, w) of the largest middle stage's size.

    Raises:
        ConfigError: no network, a stage without maps, a negative weight, or a weight where no base learner was trained.
        DataError: weights of another network, maps of other widths, or a way that no pixel of its support belongs to.

    >>> from kinshot.segmentation.pfenet import PFENet
    >>> maps = {"middle": torch.ones(1, 1, 1, 4, 8, 8), "high": torch.ones(1, 1, 1, 2, 8, 8)}  # one episode of one way and shot
    >>> masks, query = torch.arange(8).expand(1, 1, 1, 8, 8) // 4, {name: one[:, 0] for name, one in maps.items()}
    >>> network = PFENet({"middle": 4}, "high", width=8)
    >>> kinshot.segmenters.pfenet(kinshot.Dense(maps, masks, query), network=network).shape
    torch.Size([1, 1, 2, 8, 8])
    """
    check_dense("pfenet", episodes)
    if network is None:
        raise ConfigError(
            "head pfenet needs its trained decoder and none was given: train one with method pfenet (network= in Python), or use the head "
            "cosine, which needs none"
        )
    if base_weight is not None and base_weight < 0:
        raise ConfigError(f"head pfenet: base_weight must be at least 0, got {base_weight}")
    episodes.check()
    decoder = PFENet.of(network, episodes.query[episodes.stage])
    return decoder.final(decoder(episodes)[0], episodes.query, weight=base_weight)
