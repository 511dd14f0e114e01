"""Files of `kinshot.sklearn` with something in them changed on purpose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from kinshot.learn.sealed import checksum


def edited(path: Path, place: list[Any], value: Any, *, seal: bool = True, **tensors: torch.Tensor) -> Path:
    """The file with one entry of its steps changed, or with other tensors, and a checksum that fits."""
    data = path.read_bytes()
    head = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["kinshot"])
    found = {**load_file(path), **tensors}
    recorded, at = head.pop("checksum"), head["steps"]
    for key in place[:-1]:
        at = at[key]
    if place:
        at[place[-1]] = value
    save_file(found, path, {"kinshot": json.dumps({**head, "checksum": checksum(head, found) if seal else recorded})})
    return path
