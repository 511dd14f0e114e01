"""The files inside a checkpoint, each as bytes: encoding them, and decoding them without trusting them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinshot.core.errors import CheckpointError, suggest
from kinshot.core.small_files import read_file

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
PARTS = ("encoder", "projector", "rows", "network", "training")
"""What a checkpoint can hold, each in a file of its own; which ones it does hold, its manifest says."""
ALWAYS = ("encoder", "training")
SMALL = ("state.json", "config.yaml")


def file_of(part: str) -> str:
    """The file that holds a part."""
    return f"{part}.safetensors"


ADVICE = "use another checkpoint or copy it again"

_LARGEST = 2**53
"""Whole numbers beyond are not the same in every reader of JSON; no run takes that many steps."""
_WHOLE, _NUMBER = (int,), (int, float)
_STATE: dict[str, tuple[str, tuple[type, ...]]] = {
    "step": ("a whole number", _WHOLE),
    "epoch": ("a whole number", _WHOLE),
    "total_steps": ("a whole number", _WHOLE),
    "steps_per_epoch": ("a whole number", _WHOLE),
    "seed": ("a whole number", _WHOLE),
    "samples": ("a whole number", _WHOLE),
    "threads": ("a whole number", _WHOLE),
    "cpu_seconds": ("a number", _NUMBER),
    "input": ("an object", (dict,)),
    "optimizer": ("an object", (dict,)),
    "source": ("text", (str,)),
}
"""What kinshot itself reads of a state; `step` and `epoch` must be there."""


def encode_tensors(tensors: dict[str, Tensor], name: str, metadata: dict[str, str] | None = None) -> bytes:
    """A safetensors file, perhaps with metadata. Tensors that share memory or have another layout are written out on their own, contiguous.

    Raises CheckpointError naming the tensor that cannot be stored.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save

    ready, seen = {}, set()
    for key, value in tensors.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise CheckpointError(f"{name}: {key!r} is a {type(value).__name__}: only tensors under text names can be saved")
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            raise CheckpointError(f"{name}: tensor {key!r} has no plain dense data ({value.layout}, {value.device}): save it dense")
        tensor = value.detach().cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.numel() * tensor.element_size():
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        ready[key] = tensor
    try:
        return save(ready, metadata)
    except (SafetensorError, RuntimeError, ValueError, KeyError) as problem:
        raise CheckpointError(f"{name}: cannot be stored as safetensors: {problem}") from problem


def decode_tensors(path: Path, data: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU. Raises CheckpointError naming `path`."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError, AssertionError, RuntimeError) as problem:
        raise CheckpointError(f"{path} is not a valid safetensors file ({len(data)} bytes): {problem}; {ADVICE}") from problem


def encode_json(value: Any, where: str) -> bytes:
    """Indented JSON; not-a-number and infinities as Python writes them. Raises CheckpointError naming what is not plain data."""
    _check_plain(value, where)
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def decode_state(path: Path, data: bytes) -> dict[str, Any]:
    """`state.json`. Raises CheckpointError when it is not one of ours or from a newer version."""
    state = _json_object(path, data)
    _check_version(path, state.get("schema_version"))
    for key, (what, kinds) in _STATE.items():
        value = state.get(key)
        if key not in state and key not in ("step", "epoch"):
            continue
        if type(value) not in kinds or (isinstance(value, int | float) and not 0 <= value < _LARGEST):
            raise CheckpointError(f"{path}: expected {what} as {key}, got {_short(value)}; {ADVICE}")
    return state


def encode_config(config: dict[str, Any]) -> bytes:
    """`config.yaml` in the recipe's own order. Raises CheckpointError naming what is not plain data."""
    import yaml

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    if not isinstance(config, dict):
        raise CheckpointError(f"a checkpoint's config is a dict, got {type(config).__name__}")
    _check_plain(config, "config")
    return yaml.dump(config, Dumper=Plain, sort_keys=False, allow_unicode=True, width=120).encode()


def decode_config(path: Path, data: bytes) -> dict[str, Any]:
    """`config.yaml`: plain values only. Raises CheckpointError for tags, aliases, duplicate keys or anything but a mapping."""
    import yaml

    class Strict(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                event = self.peek_event()
                raise yaml.constructor.ConstructorError(None, None, "aliases are not allowed", event.start_mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            mapping = super().construct_mapping(node, deep)
            if len(mapping) != len(node.value):
                raise yaml.constructor.ConstructorError(None, None, "a key occurs twice", node.start_mark)
            return mapping

    try:
        config = yaml.load(data.decode("utf-8"), Loader=Strict)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as problem:
        raise CheckpointError(f"{path} is not a plain YAML file: {_one_line(problem)}; {ADVICE}") from problem
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: expected a mapping, got {type(config).__name__}; {ADVICE}")
    _check_plain(config, str(path))
    return config


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file, by name, from `folder/manifest.json`. Files that it does not list are never opened.

    Raises CheckpointError when it is missing, damaged, newer, or lists anything but the files of a checkpoint.
    """
    path = folder / MANIFEST
    manifest = _json_object(path, read_file(path, error=CheckpointError, remedy="the checkpoint is incomplete, use another one"))
    _check_version(path, manifest.get("schema_version"))
    files = manifest.get("files")
    needed, known = {*SMALL, *map(file_of, ALWAYS)}, {*SMALL, *map(file_of, PARTS)}
    if set(manifest) != {"schema_version", "files"} or not isinstance(files, dict) or not needed <= set(files) <= known:
        got = ", ".join(map(str, files if isinstance(files, dict) else manifest)) or "nothing"
        beside = ", ".join(sorted(known - needed))
        raise CheckpointError(f"{path}: expected the files {', '.join(sorted(needed))}, and some of {beside}, got {got}; {ADVICE}")
    for name, entry in files.items():
        valid = isinstance(entry, dict) and set(entry) == {"sha256", "bytes"} and type(entry["bytes"]) is int
        if not valid or not re.fullmatch("[0-9a-f]{64}", str(entry["sha256"])):
            raise CheckpointError(f"{path}: the entry of {name} is damaged; {ADVICE}")
    return files


def foreign(path: Path) -> CheckpointError:
    """The error for a path that is not a checkpoint: says what it is instead and what to do."""
    remedy = f"name the folder that holds {MANIFEST}, or a run folder"
    if path.is_file():
        return CheckpointError(f"{path} is {_file_kind(path)}, not a kinshot checkpoint: {remedy}")
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir() if p.is_dir() and not p.name.startswith(".")] if path.parent.is_dir() else []
        return CheckpointError(f"there is no checkpoint {path}" + (f": {suggest(path.name, siblings)}" if siblings else ": check the path"))
    names = sorted(p.name for p in path.iterdir())
    if {"config.json", "pytorch_model.bin", "model.safetensors", "adapter_config.json"} & set(names):
        return CheckpointError(f"{path} looks like a Hugging Face model folder, not a kinshot checkpoint: {remedy}")
    listing = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "") if names else "nothing"
    return CheckpointError(f"{path} is not a complete kinshot checkpoint: expected {MANIFEST}, found {listing}; {remedy}")


def _file_kind(path: Path) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as problem:
        return f"an unreadable file ({problem.strerror})"
    if path.name == MANIFEST or path.suffix == ".safetensors":
        return f"a single {path.suffix} file"
    if head[:2] == b"PK":
        return "a zip archive (PyTorch .pt, .pth and .ckpt files are), which can hold pickle and is never opened"
    if head[:1] == b"\x80":
        return "a pickle file, which can run code and is never opened"
    return "a file"


def _json_object(path: Path, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as problem:
        raise CheckpointError(f"{path} is not valid JSON ({len(data)} bytes): {_one_line(problem)}; {ADVICE}") from problem
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: expected an object, got {type(value).__name__}; {ADVICE}")
    return value


def _check_version(path: Path, version: Any) -> None:
    if type(version) is not int or version < 1:
        raise CheckpointError(f"{path}: expected a schema_version of 1 to {SCHEMA_VERSION}, got {version!r}; {ADVICE}")
    if version > SCHEMA_VERSION:
        raise CheckpointError(f"{path}: schema_version {version} is newer than this kinshot reads ({SCHEMA_VERSION}): upgrade kinshot")


def _check_plain(value: Any, where: str) -> None:
    """Only what JSON gives back as it was, tuples aside (they come back as lists)."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise CheckpointError(f"{where}: key {key!r} is a {type(key).__name__}: plain data has text keys")
            _check_plain(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check_plain(item, f"{where}[{i}]")
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise CheckpointError(f"{where} is a {type(value).__name__}: plain data is numbers, text, true, false, null, lists and dicts")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _one_line(problem: Exception) -> str:
    return " ".join(str(problem).split())
