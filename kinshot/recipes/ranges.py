"""What numbers the sections of a recipe take: nothing that trains nothing, and nothing that no machine can do."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kinshot.core.runtime import MOST_THREADS

_LOWEST = {
    "train.epochs": 0, "train.weight_decay": 0, "train.warmup": 0, "train.final_lr": 0,
    "train.ema": 0, "train.wrong_labels": 0, "train.workers": 0, "train.threads": 0, "train.momentum": 0,
    "monitor.log_every": 1, "monitor.checkpoint_every": 0.001, "monitor.keep": 1, "monitor.knn_every": 0, "monitor.knn_samples": 10,
    "validation.ways": 1, "validation.shots": 1, "validation.queries": 1, "validation.episodes": 2, "validation.every": 1,
    "monitor.knn_k": 1, "monitor.projector_points": 0, "projector.layers": 0, "projector.hidden": 1, "projector.dim": 1,
}  # fmt: skip
_ABOVE_0 = {
    "train.lr": "nothing would be learned",
    "monitor.knn_temperature": "0.1 is what papers take",
    "train.encoder_lr": "train.freeze=[all] keeps the encoder as it is",
    "train.layer_decay": "train.freeze keeps stages as they are",
    "train.clip": "every gradient would be 0; null leaves gradients as they are",
}
_HIGHEST = {
    "train.layer_decay": 1.0,
    "train.warmup": 1.0, "train.final_lr": 1.0, "train.ema": 0.99999, "train.momentum": 0.99999, "train.lr": 1e6, "train.weight_decay": 1e6,
    "train.wrong_labels": 0.99999, "train.threads": MOST_THREADS,
    "train.workers": 256, "train.epochs": 10_000_000, "train.batch_size": 10_000_000,
    "monitor.checkpoint_every": 1e6, "projector.layers": 64, "projector.hidden": 1_000_000, "projector.dim": 1_000_000,
}  # fmt: skip
_LARGEST = 10**9
"""Of any other whole number: counts beyond are slips of the finger."""


def out_of_range(section: str, settings: Any) -> list[str]:
    """Every setting of a section that is out of range, as messages that begin with its name."""
    problems = []
    for key, value in asdict(settings).items():
        name = f"{section}.{key}"
        if name in _LOWEST and value is not None and value < _LOWEST[name]:
            problems.append(f"{name}: expected at least {_LOWEST[name]}, got {value}")
        if name in _ABOVE_0 and value is not None and not value > 0:
            problems.append(f"{name}: expected a number above 0, got {value}: {_ABOVE_0[name]}")
        highest = _HIGHEST.get(name, _LARGEST if type(value) is int else None)
        if highest is not None and value is not None and value > highest:
            problems.append(f"{name}: expected at most {highest}, got {value}")
        if name == "train.extend" and any(not 1 <= epochs <= _HIGHEST["train.epochs"] for epochs in value):
            problems.append(f"{name}: expected 1 to {_HIGHEST['train.epochs']} epochs each, got {list(value)}")
        if name == "train.batch_size" and value != 0 and value < 2:
            problems.append(f"{name}: expected at least 2, or 0 to choose by the samples, got {value}")
    return problems


def is_folder_name(name: str) -> bool:
    """Whether a text can be the name of one folder."""
    return 0 < len(name.encode("utf-8", "surrogateescape")) <= 200 and not {"/", "\\", "\0"} & set(name) and name not in (".", "..")
