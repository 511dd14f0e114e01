"""How a run looks in TensorBoard: what comes first, what good gauges are, pictures of views beside their originals.

TensorBoard sorts groups by name, so that a number in front is what puts the important ones first. `metrics.jsonl` keeps the plain tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ORDER = ("eval", "train", "collapse", "", "optimizer", "graph", "time")
"""Groups of scalars, the most telling first; "" stands for those of the method."""
_OPTIMIZER = ("train/lr", "train/grad_norm")
_SIDE = 56
"""Pixels that a picture of a grid has at least on a side: smaller ones are shown in whole blocks of pixels."""
_GAP = 6

GAUGES = (
    (
        "eval/knn",
        "share of samples whose nearest neighbors have their label (chance: 1 / classes)",
        "rises, most in the first epochs",
        "at chance, or falls",
    ),
    (
        "eval/validation/accuracy",
        "episodes of validation classes, percent",
        "rises, then levels off; the best step is kept",
        "falls for long",
    ),
    ("eval/views", "without labels: do two views of a sample find each other", "far above its first record", "at chance"),
    ("eval/graph", "how well distances give the graph back", "rises", "stays"),
    ("train/loss", "what is minimised", "falls, then slowly", "flat from the start; or jumps: lower train.lr, set train.clip"),
    ("collapse/feature_std", "spread of directions, 0 to about 1", "0.7 to 1", "below 0.3: embeddings point one way"),
    ("collapse/effective_rank", "directions in use", "grows to a tenth of the dimension or more", "falls towards 1: collapse"),
    ("collapse/uniformity", "evenness on the sphere, from 0 (collapsed) to about -4", "-2 to -4", "rises towards 0"),
    (
        "collapse/alignment",
        "squared distance of two views; 2 is chance",
        "0.1 to 1; rises while uniformity falls",
        "near 0 with uniformity near 0; near 2",
    ),
    ("train/grad_norm", "length of the gradient", "steady, within a factor of ten", "grows from step to step"),
    (
        "eval/validation/miou",
        "episodes of validation classes of scenes, IoU by class, percent",
        "rises above perfect class-blind saliency, which `segmentation eval` prints",
        "stays below it: things are found, not what is asked for",
    ),
    ("train/miou", "IoU of the classes in the batch, base classes", "rises", "rises while eval/validation/miou falls: base classes alone"),
    ("train/class_specific", "prototypes against the dictionary's", "falls below its first record", "0: no prototype of another class"),
    ("train/class_agnostic", "support's foreground against the query's background", "falls", "flat: background looks like foreground"),
    ("dual_prototype/dictionary_fill", "share of the dictionary's places that are taken", "reaches 1 and stays", "stays near 0"),
    ("dual_prototype/intra_class", "cosine distance of prototypes of one class", "falls", "near inter_class: classes are not told apart"),
    ("dual_prototype/inter_class", "the same of two classes", "stays far above intra_class", "falls to 0: all prototypes are alike"),
    ("time/data_share", "share of a step spent waiting for data", "below 0.2", "above 0.5: more data.workers, or smaller images"),
)
"""Tag, what it means, what is good, and what is a reason to stop and look."""
_ABOUT = """Groups are in the order in which to look at them. Most figures depend on the data: compare with the first records of the run."""
_PICTURES = """Images, `views/grid`: originals in the first row, a row for each view below; from the first step and the middle of the run.
A person must still see what it is: views that nobody can tell are too strong, views that are all alike too weak.
`segmentation/queries`: queries of validation episodes of scenes with truth, prediction and score, at every validation.
Projector: the embedding at the end, coloured by class."""


def guide() -> str:
    """What good gauges are, as Markdown."""
    rows = [f"| {' | '.join((shown_tag(tag), *said))} |" for tag, *said in GAUGES]
    return "\n".join([_ABOUT, "", "| gauge | means | good | stop and look |", "|---|---|---|---|", *rows, "", _PICTURES])


def shown_tag(tag: str) -> str:
    """The name in TensorBoard of a scalar's tag: `train/loss` is shown as `2_train/loss`."""
    group, _, rest = tag.partition("/")
    if not rest:
        return tag
    if tag in _OPTIMIZER:
        group = "optimizer"
    rank = ORDER.index(group if group in ORDER else "") + 1
    return f"{rank}_{group}/{rest}"


def image_grid(views: Sequence[Tensor], originals: Tensor | None = None, most: int = 8) -> Tensor:
    """One image (3, H', W') in [0, 1] of views (N, C, H, W): a row per view, a column per sample, `most` samples at most.

    `originals` (N, C, H, W), uint8 or in [0, 1] and of any size, make a row of their own above the others, set apart by a white line.
    """
    import torch

    sizes = [image.shape[-1] for image in (*views, *([] if originals is None else [originals]))]
    size = max(sizes) * max(1, -(-_SIDE // max(sizes)))
    rows = [_row(view[:most], size) for view in views]
    if originals is None:
        return torch.cat(rows, dim=1).clamp(0, 1)
    first = _row(unit_pixels(originals[:most]), size)
    return torch.cat([first, first.new_ones(3, _GAP, first.shape[-1]), *rows], dim=1).clamp(0, 1)


def thumbnails(images: Tensor, largest: int) -> Tensor:
    """Images (N, C, H, W), uint8 or in [0, 1], with three channels and no side above `largest`."""
    from torch.nn.functional import interpolate

    size = min(largest, max(images.shape[-2:]))
    return interpolate(_three_channels(unit_pixels(images)), size=(size, size), mode="area").clamp(0, 1)


def unit_pixels(images: Tensor) -> Tensor:
    """Images as float32 in [0, 1] on the CPU: uint8 ones are divided by 255."""
    return images.detach().cpu().float() / (1.0 if images.is_floating_point() else 255.0)


def _row(images: Tensor, size: int) -> Tensor:
    import torch
    from torch.nn.functional import interpolate, pad

    pixels = _three_channels(images.detach().float().cpu())
    enlarged = size >= max(pixels.shape[-2:])
    resized = interpolate(pixels, size=(size, size), mode="nearest" if enlarged else "area")
    return torch.cat(list(pad(resized, (1, 1, 1, 1))), dim=2)


def _three_channels(images: Tensor) -> Tensor:
    return images[:, :3] if images.shape[1] >= 3 else images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
