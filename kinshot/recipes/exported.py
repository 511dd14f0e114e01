"""A folder of `ssl export --format huggingface`, read as if it were a checkpoint.

`config.json` says under `kinshot` what the folder holds, with size and SHA-256 of each file; `model.safetensors` has the encoder's weights
under native names, `projector.safetensors` and `rows.safetensors` what stands on it, `config.yaml` the recipe. There is no training state:
such a run is used, or training starts from it (`init=`), and does not go on.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinshot.core.atomic import set_aside
from kinshot.core.checkpoint import Checkpoint
from kinshot.core.checkpoint_files import ADVICE, MANIFEST, decode_config, decode_tensors
from kinshot.core.errors import CheckpointError, KinshotError
from kinshot.core.small_files import parse_json, read_file, read_json
from kinshot.recipes.backbones import not_trained_here
from kinshot.recipes.recipe import Choice, Recipe, parse

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA_VERSION = 1
CONFIG, WEIGHTS, RECIPE, CARD, ENTRY = "config.json", "model.safetensors", "config.yaml", "README.md", "kinshot"
FILES = {"encoder": WEIGHTS, "projector": "projector.safetensors", "rows": "rows.safetensors"}
"""Parts of a model that an exported folder holds, and the file of each."""
NAMES = (CONFIG, CARD, RECIPE, *FILES.values())
"""Every file of such a folder."""
_MOST = 2**36


def is_exported(path: Path) -> bool:
    """Whether a path is a folder that `ssl export` wrote, damaged or not, and nothing else lies there."""
    if not os.path.isfile(path / CONFIG) or os.path.lexists(path / MANIFEST):  # which take any text for a path, however long
        return False
    try:
        whole = read_json(path / CONFIG)
    except KinshotError:
        return (path / RECIPE).is_file() and (path / WEIGHTS).is_file()
    return isinstance(whole, dict) and isinstance(whole.get(ENTRY), dict) and isinstance(whole[ENTRY].get("files"), dict)


def only_exported(path: Path) -> bool:
    """Whether such a folder holds the files of an export and no other."""
    return is_exported(path) and {one.name for one in path.iterdir()} <= set(NAMES)


def standing(path: Path) -> Path:
    """The folder that a path means: itself, or what it held when a crash interrupted its replacement."""
    try:
        return next((found for found in set_aside(path) if is_exported(found)), path)
    except (OSError, ValueError):  # no name that a folder could have
        return path


def read_exported(path: Path) -> tuple[Checkpoint, Recipe]:
    """The model in an exported folder as a checkpoint, verified, and its recipe.

    Raises:
        CheckpointError: a file is missing, damaged or not what was exported, or a newer version wrote it.
        ConfigError: a recipe that this version does not take.
    """
    about = _about(path)
    config = decode_config(path / RECIPE, _verified(path, RECIPE, about))
    tensors: dict[str, dict[str, Tensor]] = {"projector": {}}
    for part, name in FILES.items():
        if name in about["files"]:
            tensors[part] = decode_tensors(path / name, _verified(path, name, about))
    origin, notes = str(about.get("origin", "")), tuple(map(str, about.get("notes", ())))
    checkpoint = Checkpoint(path, about["state"], config, about["versions"], tensors, origin=origin, notes=notes)
    if not origin:
        return checkpoint, parse(config, path.name)
    settings = dict(config["encoder"])
    return checkpoint, not_trained_here(str(config["name"]), Choice(settings.pop("name"), settings))


def _about(path: Path) -> dict[str, Any]:
    """What `config.json` says to kinshot, its form checked."""
    place = path / CONFIG
    data = read_file(place, error=CheckpointError, remedy="export the encoder again")
    whole = parse_json(data, str(place), error=CheckpointError, remedy=ADVICE)
    about = whole.get(ENTRY) if isinstance(whole, dict) else None
    version = about.get("schema_version") if isinstance(about, dict) else None
    if type(version) is int and version > SCHEMA_VERSION:
        raise CheckpointError(f"{place}: schema_version {version} is newer than this kinshot reads ({SCHEMA_VERSION}): upgrade kinshot")
    if not isinstance(about, dict) or version != SCHEMA_VERSION:
        raise CheckpointError(f"{place} does not say what was exported: expected {ENTRY} with schema_version {SCHEMA_VERSION}; {ADVICE}")
    files, state, versions = (about.get(key) for key in ("files", "state", "versions"))
    numbers = isinstance(state, dict) and all(type(state.get(key)) is int for key in ("step", "epoch"))
    if not isinstance(files, dict) or not {WEIGHTS, RECIPE} <= set(files) <= set(NAMES) or not numbers or not isinstance(versions, dict):
        raise CheckpointError(f"{place}: what it says under {ENTRY} is incomplete; {ADVICE}")
    return about


def _verified(path: Path, name: str, about: dict[str, Any]) -> bytes:
    """A file's content, which is what was exported."""
    data = read_file(path / name, most=_MOST, error=CheckpointError, remedy="the folder is incomplete: copy all of it, or export again")
    entry = about["files"][name]
    expected = entry.get("sha256") if isinstance(entry, dict) else None
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected:
        raise CheckpointError(f"{path / name} is damaged or was changed: expected SHA-256 {expected}, got {digest}; {ADVICE}")
    return data
