"""Slow references of segmentation's rules: loops over pixels, in the words of the definitions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

IGNORE = 255


def cases(
    prediction: np.ndarray, truth: np.ndarray, classes: np.ndarray
) -> Iterator[tuple[int, int, int, int, int, int, bool]]:  # fmt: skip
    """(episode, query, label, tp, fp, fn, whether the truth shows the label) of every label of every image, pixel by pixel."""
    for e in range(len(truth)):
        for q in range(truth.shape[1]):
            for label in range(classes.shape[1] + 1):
                tp = fp = fn = 0
                for said, is_ in zip(prediction[e, q].ravel().tolist(), truth[e, q].ravel().tolist(), strict=True):
                    if is_ == IGNORE:
                        continue
                    tp += said == label and is_ == label
                    fp += said == label and is_ != label
                    fn += said != label and is_ == label
                yield e, q, label, tp, fp, fn, tp + fn > 0


def rule(name: str, prediction: np.ndarray, truth: np.ndarray, classes: np.ndarray) -> float:
    """A figure of labels (E, Q, H, W) against way maps, with the classes of the ways (E, W); NaN where nothing can be said."""
    above: dict[object, float] = defaultdict(float)
    below: dict[object, float] = defaultdict(float)
    for e, _, label, tp, fp, fn, shown in cases(prediction, truth, classes):
        if name.startswith("panet") and not shown:
            continue
        if name.endswith("fb_iou"):
            group: object = "background" if label == 0 else "foreground"
        elif label == 0:
            continue
        else:
            group = "images" if name == "image_iou" else int(classes[e, label - 1])
        if name == "image_iou":
            if tp + fp + fn:
                above[group] += tp / (tp + fp + fn)
                below[group] += 1
        elif name == "dice":
            above[group] += 2 * tp
            below[group] += 2 * tp + fp + fn
        else:
            above[group] += tp
            below[group] += tp + fp + fn
    each = [above[group] / below[group] for group in below if below[group]]
    return sum(each) / len(each) if each else float("nan")
