"""Checkpoints: folders that are complete or not there, and that are read back only if every byte is what was written.

A checkpoint holds `encoder.safetensors` (native key names), `projector.safetensors`, what else its model has (`rows.safetensors` of a
classifier, `network.safetensors` of a few-shot head), `training.safetensors` (flat tensors of method, terms, optimizer and EMA),
`state.json`, `config.yaml` and, written last, `manifest.json` with size and SHA-256 of each.
Neither safetensors nor torch.save would notice a flipped bit. Nothing here reads pickle.
"""

from __future__ import annotations

import hashlib
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kinshot
from kinshot.core.atomic import aside, cannot_write, replace_folder, set_aside, sync_folder, write_file
from kinshot.core.checkpoint_files import (
    ADVICE,
    ALWAYS,
    MANIFEST,
    PARTS,
    SCHEMA_VERSION,
    SMALL,
    decode_config,
    decode_state,
    decode_tensors,
    encode_config,
    encode_json,
    encode_tensors,
    file_of,
    foreign,
    read_manifest,
)
from kinshot.core.checkpoint_schema import from_schema_1, part_of
from kinshot.core.errors import CheckpointError, ConfigError
from kinshot.core.optimizer_state import pack_optimizer, unpack_optimizer
from kinshot.core.run_folder import checkpoint_path, chosen, is_complete, latest, prune, step_of, sweep
from kinshot.core.runlock import RunLock
from kinshot.core.small_files import check_regular

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Checkpoint",
    "RunLock",
    "checkpoint_path",
    "chosen",
    "is_complete",
    "latest",
    "load_checkpoint",
    "pack_optimizer",
    "prune",
    "save_checkpoint",
    "sweep",
    "unpack_optimizer",
]

_VERSIONS = ("schema_version", "kinshot_version", "torch_version")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds. `state` is what was saved, `versions` what it was saved with.

    A backbone that was trained elsewhere comes in the same form (`recipes.backbones`): `origin` then says how it came to be, `path` is
    the name that it was given by, and `notes` are what is to be said of it.
    """

    path: Path
    state: dict[str, Any]
    config: dict[str, Any]
    versions: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]] = field(repr=False)
    origin: str = ""
    notes: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.state["step"])

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return int(self.state["epoch"])

    @property
    def encoder(self) -> dict[str, Tensor]:
        """The encoder's tensors, on the CPU. Raises CheckpointError if they were not among the `parts` loaded."""
        return self._part("encoder")

    @property
    def projector(self) -> dict[str, Tensor]:
        """The projector's tensors, on the CPU. Raises CheckpointError if they were not among the `parts` loaded."""
        return self._part("projector")

    @property
    def training(self) -> dict[str, Tensor]:
        """Method, optimizer and EMA tensors, on the CPU. Raises CheckpointError if they were not among the `parts` loaded."""
        return self._part("training")

    def optional(self, name: str) -> dict[str, Tensor] | None:
        """The tensors of a part that not every checkpoint has, `rows` or `network`; None where this one has none, or it was not loaded."""
        return self.tensors.get(name)

    def _part(self, name: str) -> dict[str, Tensor]:
        if name not in self.tensors:
            raise CheckpointError(f"{self.path}: {name} was not loaded (loaded: {', '.join(self.tensors) or 'none'}): add it to parts")
        return self.tensors[name]


def save_checkpoint(
    folder: str | Path,
    *,
    parts: Mapping[str, dict[str, Tensor]],
    state: dict[str, Any],
    config: dict[str, Any],
    fsync: bool = True,
) -> Path:
    """Write a checkpoint; a crash or a full disk at any point leaves what `folder` held before.

    Args:
        folder: where; missing parents are made, an older checkpoint of that name is replaced.
        parts: tensors by part: `encoder` and `training` always, `projector`, `rows`, `network` where there are such; a network's under
            its own key names.
        state: plain data (JSON types, text keys) with `step` and `epoch`.
        config: the resolved recipe, plain data.
        fsync: wait for the disk, so that a power cut cannot undo the checkpoint.

    Raises:
        CheckpointError: the disk refuses, or something in the arguments cannot be stored; names which.
    """
    import torch

    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"cannot write the checkpoint {folder}: a file of that name is in the way; remove it or choose another name")
    versions = {"schema_version": SCHEMA_VERSION, "kinshot_version": kinshot.__version__, "torch_version": str(torch.__version__)}
    _check_state(state)
    small = {"state.json": encode_json({**state, **versions}, "state"), "config.yaml": encode_config(config)}
    if not set(ALWAYS) <= set(parts) <= set(PARTS):
        raise CheckpointError(f"a checkpoint has the parts {', '.join(PARTS)}, got {', '.join(parts)}")
    temporary = aside(folder, "tmp")
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        _write_files(temporary, parts, small, fsync=fsync)
        replace_folder(temporary, folder, fsync=fsync)
    except OSError as problem:
        shutil.rmtree(temporary, ignore_errors=True)
        size = sum(t.numel() * t.element_size() for part in parts.values() for t in part.values())
        raise CheckpointError(cannot_write(folder, size, problem)) from problem
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return folder


def load_checkpoint(folder: str | Path, *, verify: bool = True, parts: Sequence[str] = PARTS) -> Checkpoint:
    """Read a checkpoint, or the one that a run folder is known by, into CPU tensors.

    Args:
        folder: a checkpoint, or a run folder with `checkpoints/` in it.
        verify: compare size and SHA-256 of every file, also of parts that are not loaded; False warns and trusts the disk.
        parts: which tensors to load, of "encoder", "projector", "rows", "network" and "training"; what the checkpoint has not is left out.

    Raises:
        CheckpointError: missing, incomplete, damaged, foreign, of another step than its name says, or written by a newer kinshot;
            names the file, what was expected, what was found and what to do.
    """
    unknown = [p for p in parts if p not in PARTS]
    if unknown:
        raise ConfigError(f"unknown checkpoint parts {', '.join(map(repr, unknown))}: choose from {', '.join(PARTS)}")
    try:
        path = _resolve(Path(folder))
    except OSError as problem:  # a name of 300 characters, a folder that may not be looked into
        raise CheckpointError(f"cannot read {folder}: {problem.strerror}; check the path and that you may read it") from problem
    listed = read_manifest(path)
    if not verify:
        warnings.warn(f"{path}: loaded without checking its SHA-256 sums; damage goes unnoticed", stacklevel=2)
    read = [part for part in parts if file_of(part) in listed]
    derived = [part for part in parts if part in ("rows", "network") and part not in read]
    wanted = {*map(file_of, read), *SMALL}
    contents = {}
    for name in listed:
        if verify or name in wanted:
            data = _read(path / name, listed[name] if verify else None)
            if name in wanted:
                contents[name] = data
    state = decode_state(path / "state.json", contents["state.json"])
    versions = {key: state.pop(key, None) for key in _VERSIONS}
    config = decode_config(path / "config.yaml", contents["config.yaml"])
    named = step_of(path)
    if named is not None and named != state["step"]:
        raise CheckpointError(f"{path} is named after step {named} but holds step {state['step']}; {ADVICE}")
    tensors = {part: decode_tensors(path / file_of(part), contents.pop(file_of(part))) for part in read}
    if versions["schema_version"] == 1:
        tensors = _upgraded(path, tensors, derived)
    return Checkpoint(path, state, config, versions, tensors)


def _check_state(state: dict[str, Any]) -> None:
    for key in ("step", "epoch"):
        value = state.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise CheckpointError(f"a checkpoint's state needs a whole number {key} >= 0, got {value!r}")
    reserved = [key for key in _VERSIONS if key in state]
    if reserved:
        raise CheckpointError(f"a checkpoint's state may not hold {', '.join(reserved)}: these keys are written by kinshot")


def _write_files(folder: Path, parts: Mapping[str, dict[str, Tensor]], small: dict[str, bytes], *, fsync: bool) -> None:
    listed = {}
    for name in (*(file_of(part) for part in PARTS if part in parts), *small):
        # tensors are serialised one part at a time: memory for one file, not for all
        data = small[name] if name in small else encode_tensors(parts[name.removesuffix(".safetensors")], name)
        listed[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        write_file(folder / name, data, fsync=fsync)
    manifest = encode_json({"schema_version": SCHEMA_VERSION, "files": listed}, MANIFEST)
    write_file(folder / MANIFEST, manifest, fsync=fsync)
    if fsync:
        sync_folder(folder)


def _upgraded(path: Path, tensors: dict[str, dict[str, Tensor]], derived: Sequence[str]) -> dict[str, dict[str, Tensor]]:
    """What was read of a checkpoint of schema 1, as this version has it; `derived` parts stood in its training state."""
    training = tensors.get("training")
    if training is None and derived:
        training = decode_tensors(path / file_of("training"), _read(path / file_of("training"), None))
    if training is None:
        return tensors
    training = from_schema_1(training)
    found = {part: own for part in derived if (own := part_of(training, part))}
    return {**tensors, **found, **({"training": training} if "training" in tensors else {})}


def _resolve(path: Path) -> Path:
    """The checkpoint that `path` means. Raises CheckpointError saying what `path` is instead."""
    if (path / MANIFEST).is_file():
        return path
    for candidate in set_aside(path):
        if is_complete(candidate):
            return candidate
    for run_folder in (path, path.parent if path.name == "checkpoints" else path):
        if (run_folder / "checkpoints").is_dir():
            known_by = chosen(run_folder)
            if known_by is None:
                raise CheckpointError(f"{run_folder}: no complete checkpoint in its folder checkpoints; start the run again")
            return known_by
    raise foreign(path)


def _read(path: Path, expected: dict[str, Any] | None) -> bytes:
    remedy = "the checkpoint is incomplete, use another one"
    found = check_regular(path, error=CheckpointError, remedy=remedy)  # reading a pipe would wait
    if expected is not None and found.st_size != expected["bytes"]:
        raise CheckpointError(f"{path} is damaged: expected {expected['bytes']} bytes, got {found.st_size}; {ADVICE}")
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise CheckpointError(f"cannot read {path}: {problem.strerror}; {remedy}") from problem
    if expected is None:
        return data
    if len(data) != expected["bytes"]:
        raise CheckpointError(f"{path} is damaged: expected {expected['bytes']} bytes, got {len(data)}; {ADVICE}")
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected["sha256"]:
        raise CheckpointError(f"{path} is damaged: expected SHA-256 {expected['sha256']}, got {digest}; {ADVICE}")
    return data
