"""The labels of other people's data sets, where these say them without loading a sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from kinshot.datasets.base import Source


def known_labels(data: Any) -> np.ndarray | None:
    """One integer for each sample, int64 (N,), or None where the data does not say.

    Looked for are, in this order, what `kinshot` knows of a source; `get_labels()`, as easyfsl asks for it; `targets` and `labels`, as
    torchvision has them; the last tensor of a `TensorDataset`; and the same of what a `Subset` or a `ConcatDataset` is made of.
    """
    if isinstance(data, Source):
        return data.labels
    if isinstance(data, Subset):
        whole = known_labels(data.dataset)
        return None if whole is None else whole[np.asarray(data.indices, dtype=np.int64)]
    if isinstance(data, ConcatDataset):
        parts = [known_labels(part) for part in data.datasets]
        return None if any(part is None for part in parts) else np.concatenate(parts)  # type: ignore[arg-type]
    asked = [data.get_labels] if callable(getattr(data, "get_labels", None)) else []
    said = [*(ask() for ask in asked), *(getattr(data, name, None) for name in ("targets", "labels"))]
    said += list(data.tensors[-1:]) if isinstance(data, TensorDataset) else []
    return next((labels for labels in map(whole_numbers, said) if labels is not None and len(labels) == len(data)), None)


def whole_numbers(values: Any) -> np.ndarray | None:
    """A tensor, array or list of whole numbers as int64 (N,); None for anything else."""
    if not isinstance(values, torch.Tensor | np.ndarray | list | tuple):
        return None
    try:
        found = np.asarray(values.cpu() if isinstance(values, torch.Tensor) else values)
    except (TypeError, ValueError):  # lists of different lengths
        return None
    return found.astype(np.int64) if found.ndim == 1 and found.dtype.kind in "iu" and len(found) else None
