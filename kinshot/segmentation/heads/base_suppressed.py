"""Base-class suppression over another head: what a base learner claims is background."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.segmentation import SEGMENTERS
from kinshot.segmentation.base_classes import BaseClasses, base_probability, stage_of, suppress
from kinshot.segmentation.dense import Dense, check_dense
from kinshot.segmentation.segmenter import check_inner


@SEGMENTERS.register("base_suppressed", scores="logits")
def base_suppressed(
    episodes: Dense, *, head: str = "cosine", base_weight: float = 1.0, network: Mapping[str, Tensor] | nn.Module | None = None
) -> Tensor:
    """Scores of another head whose background gains what a classifier of the base classes claims (BAM); inductive.

    p'_background = p_background + base_weight * (sum of the probabilities of all base classes), see `segmentation.base_classes.suppress`.
    The classifier is what method `base_classes` trains; a decoder of method `pfenet` has its own.

    Paper: Lang, Cheng, Tu, Han, 2022, arXiv 2203.07615 (BAM)
    Departures: no adjustment by low-level features (Gram difference); the weight is fixed, where BAM learns both.
    Defaults: chunbolang/BAM has learned weights that start at (1, 0); this one's is that of equal say.

    Args:
        episodes: E episodes of W ways with maps of the stage that the classifier stands on.
        head: a segmenter that needs no trained network, with its defaults; no few-shot head.
        base_weight: weight of the base classes' probability in the background's; 0 gives the head's scores as they are.
        network: a `BaseClasses`, or its weights.

    Returns:
        Scores (E, Q, 1 + W, h, w) of the head's size.

    Raises:
        ConfigError: no network, a stage without maps, a negative weight, or a head that is no such segmenter.
        DataError: weights of another network, or a way that no pixel of its support belongs to.

    >>> from kinshot.segmentation.base_classes import BaseClasses
    >>> maps = torch.eye(2)[:, None, :].expand(2, 2, 2).view(1, 1, 1, 2, 2, 2)  # two channels, one for each column
    >>> episodes = kinshot.Dense({"map": maps}, torch.tensor([[0, 1], [0, 1]]).view(1, 1, 1, 2, 2), {"map": maps[:, 0]})
    >>> learner = BaseClasses("map", dim=2, classes=3)
    >>> plain, less = (kinshot.segmenters.base_suppressed(episodes, base_weight=w, network=learner).softmax(2) for w in (0.0, 1.0))
    >>> bool((less[:, :, 1] <= plain[:, :, 1]).all())  # foreground loses what is claimed for base classes
    True
    """
    check_dense("base_suppressed", episodes)
    if base_weight < 0:
        raise ConfigError(f"head base_suppressed: base_weight must be at least 0, got {base_weight}")
    if network is None:
        raise ConfigError(
            "head base_suppressed needs a trained classifier of base classes and none was given: train one with method base_classes "
            f"(network= in Python), or use the head {head} alone"
        )
    check_inner("base_suppressed", head)
    scores: Tensor = SEGMENTERS.build(head, episodes)
    if base_weight == 0:
        return scores
    learner = BaseClasses.of(network, episodes.query[episodes.stage])
    claimed = base_probability(learner(stage_of(episodes.query, learner.stage)))
    return suppress(scores, claimed, claimed.new_tensor([1.0, base_weight]))
