"""Files of segmented images: names, what stands in them, and a folder in which nothing of others is replaced."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kinshot.core.atomic import make_folder, write_bytes, write_json
from kinshot.core.errors import ConfigError, DataError
from kinshot.core.outputs import check_output_file, check_output_folder
from kinshot.core.small_files import read_json
from kinshot.segmentation.pictures import index_png, overlay, picture_png, pixels_of
from kinshot.studies.segmentation.predict import Segmented

LIST, KIND = "predictions.json", "kinshot predictions 1"
SCORES = ("npz", "png", "none")
_TOP = 65535


def planned(queries: Sequence[Path], ways: int, scores: str) -> dict[Path, dict[str, str]]:
    """Names of the files of each query by what they hold: those of equally called queries are numbered."""
    taken: set[str] = set()
    found = {}
    for query in dict.fromkeys(queries):
        name, number = query.stem, 2
        while name.casefold() in taken:
            name, number = f"{query.stem}_{number}", number + 1
        taken.add(name.casefold())
        kinds = {"npz": {"scores": "scores.npz"}, "png": {f"scores {way}": f"scores_{way}.png" for way in range(ways + 1)}, "none": {}}
        found[query] = {kind: f"{name}_{end}" for kind, end in {"mask": "mask.png", "overlay": "overlay.png", **kinds[scores]}.items()}
    return found


def check_folder(out: Path, names: Sequence[str]) -> None:
    """Raise ConfigError unless files of these names may be written to a folder: new ones, or those of earlier predictions."""
    check_output_folder(out, f"-o {out}")
    ours = _ours(out)
    for name in (LIST, *names):
        check_output_file(out / name, "-o")
        if (out / name).exists() and name not in ours:
            raise ConfigError(f"-o {out} holds {name}, which is none of earlier predictions: choose another folder, or move it away")


def begin(out: Path, names: Sequence[str], about: Mapping[str, Any]) -> None:
    """Note down the files that will be written before the first is, so that those of an interrupted call are known as ours."""
    make_folder(out)
    _note(out, [*_ours(out), *names], about)


def finish(out: Path, about: Mapping[str, Any]) -> None:
    """Note down the files that are there."""
    _note(out, [name for name in _ours(out) if (out / name).is_file()], about)


def _note(out: Path, names: Sequence[str], about: Mapping[str, Any]) -> None:
    write_json(out / LIST, {"kind": KIND, "files": sorted({*names, LIST}), **about})


def write_prediction(out: Path, names: Mapping[str, str], found: Segmented, kind: str) -> None:
    """Write the files of one query: a mask with a palette, the image with the mask drawn over it, scores.

    Args:
        out: the folder.
        names: by what they hold.
        found: what was found.
        kind: what scores are, see `kinshot.fewshot.scores`; of logits pictures hold the softmax.
    """
    files = {"mask": index_png(found.labels), "overlay": picture_png(overlay(pixels_of(found.image), found.labels))}
    if "scores" in names:
        file = io.BytesIO()
        np.savez_compressed(file, scores=found.scores, kind=np.array(kind))
        files["scores"] = file.getvalue()
    for name in names:
        if name.startswith("scores "):
            files[name] = _gray(shares(found.scores, kind)[int(name.split()[1])])
    for name, data in files.items():
        write_bytes(out / names[name], data)


def shares(scores: np.ndarray, kind: str) -> np.ndarray:
    """Scores (1 + W, H, W) from 0 to 1: probabilities where they say some, else between the lowest and the highest of the image."""
    if kind in ("logits", "log_probabilities"):
        powers = np.exp(scores - scores.max(axis=0))
        return powers / powers.sum(axis=0)
    low, high = (0.0, 1.0) if kind == "probabilities" else (float(scores.min()), float(scores.max()))
    return np.clip((scores - low) / ((high - low) or 1.0), 0, 1)


def _gray(share: np.ndarray) -> bytes:
    """A picture of 16 bits."""
    file = io.BytesIO()
    Image.fromarray(np.round(_TOP * share.astype(np.float64)).astype(np.uint16)).save(file, format="PNG")
    return file.getvalue()


def _ours(out: Path) -> list[str]:
    """Names of the files of earlier predictions in a folder."""
    try:
        found = read_json(out / LIST)
        return [str(name) for name in found["files"]] if found["kind"] == KIND else []
    except (DataError, KeyError, TypeError):
        return []
