"""One safetensors file that says what it is: tensors, and JSON in its metadata with a kind, a version and a checksum of it all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from kinshot.core.atomic import write_bytes
from kinshot.core.checkpoint_files import decode_tensors
from kinshot.core.errors import CheckpointError
from kinshot.core.small_files import parse_json, read_file
from kinshot.learn.features import weights_hash

_ENTRY, _MOST = "kinshot", 2**36


def write_sealed(path: Path, kind: str, version: int, head: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write or replace a file: it is complete or as it was. Raises DataError where it cannot be written."""
    from safetensors.torch import save

    found = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    whole = {"kind": kind, "schema_version": version, **head}
    text = json.dumps({**whole, "checksum": checksum(whole, found)}, ensure_ascii=True)
    write_bytes(path, save(found, {_ENTRY: text}))


def read_sealed(
    path: Path, kind: str, version: int, what: str, advice: str = "copy it again, or save it anew", instead: str = ""
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """JSON and tensors of a verified file of this kind, written by this version or an earlier one.

    Args:
        path: the file.
        kind: what the file must say of itself.
        version: the newest that is read.
        what: such a file in messages, and what makes it.
        advice: what to do with a damaged one.
        instead: what to do with a file of something else; empty for nothing more to say.

    Raises:
        CheckpointError: missing, foreign, damaged or truncated, or written by a newer version.
    """
    data = read_file(path, most=_MOST, error=CheckpointError, remedy=f"expected {what}")
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or data[8:9] != b"{" or length > len(data) - 8:
        found = "a truncated safetensors file" if data[8:9] == b"{" else "no safetensors file"
        raise CheckpointError(f"{path} is {found} ({len(data)} bytes), expected {what}; {advice}")
    header = parse_json(data[8 : 8 + length], f"the header of {path}", error=CheckpointError, remedy=advice)
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    entry = metadata.get(_ENTRY) if isinstance(metadata, dict) else None
    head = parse_json(entry, f"the metadata of {path}", error=CheckpointError, remedy=advice) if isinstance(entry, str) else None
    if not isinstance(head, dict) or head.get("kind") != kind:
        raise CheckpointError(f"{path} is a safetensors file of something else, expected {what}" + (f": {instead}" if instead else ""))
    given = head.get("schema_version")
    if type(given) is int and given > version:
        raise CheckpointError(f"{path}: schema_version {given} is newer than this kinshot reads ({version}): upgrade kinshot")
    if type(given) is not int or given < 1:
        raise CheckpointError(f"{path}: expected a schema_version of 1 to {version}, got {given!r}; {advice}")
    tensors = decode_tensors(path, data)
    recorded = head.pop("checksum", None)
    if recorded != (counted := checksum(head, tensors)):
        raise CheckpointError(f"{path} is damaged: its checksum is {str(recorded)[:12]}, its content has {counted[:12]}; {advice}")
    return head, tensors


def checksum(head: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the JSON and of all tensors."""
    text = json.dumps(head, ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(f"{text}\n{weights_hash(tensors)}".encode()).hexdigest()
