"""Neighbours vote for their class."""

from __future__ import annotations

import numpy as np


def votes(labels: np.ndarray, weights: np.ndarray, classes: int) -> np.ndarray:
    """Sum of the weights of each class's neighbours, float64 (q, classes).

    Args:
        labels: class of each neighbour, int64 (q, k), from 0.
        weights: weight of each vote (q, k).
        classes: how many there are.
    """
    place = np.arange(len(labels))[:, None] * classes + labels
    return np.bincount(place.ravel(), weights.ravel(), len(labels) * classes).reshape(len(labels), classes)


def softened(closeness: np.ndarray, temperature: float) -> np.ndarray:
    """Weights exp(closeness / temperature) (q, k) up to a factor of each row, whose nearest has 1: they neither overflow nor all vanish.

    Paper: Wu, Xiong, Yu and Lin, 2018, arXiv 1805.01978 (section 3.4).
    """
    found: np.ndarray = np.exp((closeness - closeness.max(axis=1, keepdims=True)).astype(np.float64) / temperature)
    return found


def by_distance(distance: np.ndarray) -> np.ndarray:
    """Weights 1 / distance (q, k), each row's with sum 1; where some are at distance 0, only those vote."""
    exact = distance == 0
    weight = np.where(exact.any(1, keepdims=True), exact, 1 / np.where(exact, 1, distance))
    found: np.ndarray = weight / weight.sum(1, keepdims=True)
    return found


def most_voted(labels: np.ndarray, weights: np.ndarray, top: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The classes with the most votes, most first, of equal ones the lowest: int64 (q, top), and their share of the votes, float64.

    Classes without a vote come as -1 with share 0.
    """
    classes, place = np.unique(labels, return_inverse=True)
    found = votes(place.reshape(labels.shape), weights, len(classes))
    order = np.argsort(-found, axis=1, kind="stable")[:, :top]
    share = np.take_along_axis(found, order, axis=1) / found.sum(axis=1, keepdims=True)
    best = np.where(share > 0, classes[order], -1)
    missing = ((0, 0), (0, max(0, top - len(classes))))
    return np.pad(best, missing, constant_values=-1), np.pad(share, missing)
