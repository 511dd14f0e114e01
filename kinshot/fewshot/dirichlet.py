"""Episodes whose queries are unevenly spread over the classes, so that a head that counts on balance pays for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.rng import keyed_uniform
from kinshot.fewshot.draws import Pool, check_classes, check_images, check_numbers, draw_classes, draw_images, pool_of
from kinshot.fewshot.episodes import Episodes, chunks_of, unbalanced


def dirichlet_episodes(
    labels: np.ndarray,
    *,
    ways: int,
    shots: int,
    total: int,
    episodes: int,
    seed: int,
    alpha: float = 2.0,
    limit: Literal["error", "redistribute"] = "error",
    class_names: Sequence[str] | None = None,
) -> Episodes:
    """Draw episodes of `total` queries each, whose shares of the classes follow a symmetric Dirichlet distribution.

    A class may have no query. Classes and support sets are those of `sample_episodes` with the same seed: the accuracies
    of both are paired by episode. Shares become numbers by the largest remainder; the paper's released code rounds each
    number and then corrects their sum, which differs from this by a query now and then.

    Paper: Veilleux, Boudiaf, Piantanida, Ben Ayed, 2021, arXiv 2204.11181 (alpha-TIM)

    Args:
        labels: class of every image, int (N,).
        ways: W, at least 2.
        shots: K support images per way.
        total: query images of one episode in all; the paper's 75 are 15 times 5 ways.
        episodes: E.
        seed: key of every draw.
        alpha: concentration of every class, positive; 2 in the paper, and the larger the more even.
        limit: what happens where a class has fewer images than its share may ask for: `error` refuses data in which a class
            has fewer than `shots` + `total` images; `redistribute` takes all it has and gives the rest to the others in
            proportion to their shares, which is less uneven than the Dirichlet distribution says.
        class_names: name of class 0, 1, ..., for messages only.

    Raises:
        ConfigError: a number below its minimum.
        DataError: fewer classes than `ways`, or too few images.
    """
    check_numbers(("ways", ways, 2), ("shots", shots, 1), ("total", total, 1), ("episodes", episodes, 1))
    if not (np.isfinite(alpha) and alpha > 0):
        raise ConfigError(f"alpha must be a positive number, got {alpha}")
    pool = pool_of(labels)
    check_classes(pool, ways)
    _check_supply(pool, ways, shots, total, limit, class_names)
    drawn = []
    for index in chunks_of(episodes, ways * (shots + total)):
        slots = draw_classes(index, pool, ways, seed)
        queries = apportion(dirichlet_shares(index, ways, alpha, seed), total, pool.counts[slots] - shots)
        drawn.append((slots, draw_images(index, pool, slots, shots + queries, seed), queries))
    parts = [unbalanced(pool.classes[slots], images, np.full(queries.shape, shots), queries) for slots, images, queries in drawn]
    return parts[0] if len(parts) == 1 else _joined(parts)


def dirichlet_shares(index: np.ndarray, ways: int, alpha: float, seed: int) -> np.ndarray:
    """Shares of the classes in the episodes numbered `index`, each row Dirichlet(alpha, ..., alpha): float64 (e, W), sums 1."""
    from scipy.special import gammaincinv

    uniform = keyed_uniform(seed, "query shares", 0, index, 2 * ways).astype(np.float64) + 2.0**-25  # never 0
    # a Gamma(alpha) variable is Gamma(alpha + 1) times U^(1/alpha); in logarithms a tiny alpha does not underflow
    log = np.log(gammaincinv(alpha + 1, uniform[:, :ways])) + np.log(uniform[:, ways:]) / alpha
    gamma = np.exp(log - log.max(axis=1, keepdims=True))
    return gamma / gamma.sum(axis=1, keepdims=True)


def apportion(shares: np.ndarray, total: int, caps: np.ndarray) -> np.ndarray:
    """Whole numbers of sum `total` in proportion to `shares`, by the largest remainder, none above its cap: int64 (n, W).

    What a cap cuts off goes to the others in proportion, again by the largest remainder; W rounds are always enough.

    Args:
        shares: (n, W), not negative.
        total: sum of each row.
        caps: (n, W), whose rows sum to at least `total`.
    """
    counts = np.zeros(shares.shape, dtype=np.int64)
    for _ in range(shares.shape[1]):
        left = total - counts.sum(axis=1, keepdims=True)
        if not left.any():
            break
        free = counts < caps
        weights = (shares + 1e-12) * free  # the constant matters only where every share that is left is 0
        quota = left * weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)  # rows that are done may have no way free
        whole = np.floor(quota)
        remainder = np.where(free, quota - whole, -1.0)
        rank = np.argsort(np.argsort(-remainder, axis=1, kind="stable"), axis=1)
        counts = np.minimum(counts + whole.astype(np.int64) + (rank < left - whole.sum(axis=1, keepdims=True)), caps)
    return counts


def exhausted(episodes: Episodes, labels: np.ndarray) -> float:
    """Share of the classes, over all episodes, whose images are all in use: there the images said how many queries, not the draw."""
    classes, counts = np.unique(labels, return_counts=True)
    ways = np.arange(episodes.ways)[:, None, None]
    used = [(ways == part.numpy()[None]).sum(-1).T for part in (episodes.support_labels, episodes.query_labels)]
    has = counts[np.searchsorted(classes, episodes.classes.numpy())]
    return float((used[0] + used[1] == has).mean())


def _check_supply(pool: Pool, ways: int, shots: int, total: int, limit: str, class_names: Sequence[str] | None) -> None:
    if limit == "error":
        try:
            check_images(pool, shots, total, class_names)
        except DataError as error:
            raise DataError(f"{error}; limit='redistribute' gives what a class lacks to the others") from error
        return
    check_images(pool, shots, 0, class_names)
    least = int(np.sort(pool.counts - shots)[:ways].sum())
    if least < total:
        raise DataError(
            f"the {ways} smallest classes have {least} images beside {shots} shots, an episode needs {total} queries: lower total"
        )


def _joined(parts: list[Episodes]) -> Episodes:
    names = ("support", "support_labels", "query", "query_labels", "classes")
    return Episodes(*(torch.cat([getattr(part, name) for part in parts]) for name in names))
