"""How well predicted classes agree with true ones, for many predictions of the same samples at once."""

from __future__ import annotations

import numpy as np


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share of right answers: (E,) of predictions (E, M) of labels (M,)."""
    found: np.ndarray = (predicted == labels).mean(axis=1)
    return found


def macro_f1(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Mean over classes of F1 = 2 TP / (2 TP + FP + FN), in [0, 1], over the classes that `labels` has: (E,).

    A class that is never predicted right has 0. One that `labels` lacks has no F1; to predict it costs the others.

    Args:
        predicted: (E, M), 0..classes-1.
        labels: (M,), 0..classes-1.
        classes: how many there are.
    """
    draws = np.arange(len(predicted))[:, None]
    hit = np.bincount((draws * classes + predicted)[predicted == labels], minlength=len(predicted) * classes)
    said = np.bincount((draws * classes + predicted).ravel(), minlength=len(predicted) * classes)
    there = np.bincount(labels, minlength=classes)
    f1 = 2 * hit.reshape(-1, classes) / np.maximum(said.reshape(-1, classes) + there, 1)
    found: np.ndarray = f1[:, there > 0].mean(axis=1)
    return found


def accuracy_by(predicted: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Share of right answers in every group of samples: (E, G) of predictions (E, M), labels (M,) and groups (M,) numbered from 0."""
    sizes = np.bincount(groups)
    member = np.zeros((len(groups), len(sizes)))
    member[np.arange(len(groups)), groups] = 1
    found: np.ndarray = (predicted == labels) @ member / np.maximum(sizes, 1)
    return found
