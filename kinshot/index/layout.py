"""INDEX/: `index.json`, which is replaced whole, and files of tensors that are written once, named by their content, and never changed.

Whoever reads sees the state that `index.json` names: files of another state, older or not finished yet, are not looked at.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from kinshot.core.atomic import write_bytes, write_text
from kinshot.core.errors import CheckpointError, DataError
from kinshot.core.small_files import check_regular, parse_json, read_file
from kinshot.runs.encoder_identity import EncoderIdentity

MANIFEST, KIND, SCHEMA_VERSION = "index.json", "kinshot index", 1
ADVICE = "copy it again, or make it anew with `ssl index`"
VERIFIED = 1 << 30
"""Indexes of up to so many bytes are read and compared with their checksums when they are opened; larger ones on demand."""
_NAME = re.compile(r"(rows|files|part)-[0-9a-f]{16}\.safetensors")
_OURS = re.compile(rf"{re.escape(MANIFEST)}|{_NAME.pattern}|\.{_NAME.pattern}\.tmp-\d+")
_LARGEST, _BLOCK = 2**30, 1 << 22


@dataclass(frozen=True)
class Piece:
    """A file of tensors: its name, which holds the beginning of its hash, its size and hash, and how many rows it has."""

    name: str
    bytes: int
    sha256: str
    rows: int


@dataclass(frozen=True)
class Unread:
    """A file that could not be read: path, size and time when it was looked at, hash of its content where it has one, and why."""

    path: str
    size: int
    mtime_ns: int
    digest: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """What `index.json` says.

    Attributes:
        encoder: what features were made with.
        dim: numbers in a feature.
        thumbnails: side of the thumbnails, 0 for none.
        folder: where the images were.
        begun_ns: when looking at them began: a file that was written later may have changed since without a new time.
        files: the table of files.
        shards: features, in the order of their rows.
        unreadable: files that could not be read.
    """

    encoder: EncoderIdentity
    dim: int
    thumbnails: int
    folder: str
    begun_ns: int
    files: Piece
    shards: tuple[Piece, ...]
    unreadable: tuple[Unread, ...] = ()

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Every file that belongs to this state."""
        return (self.files, *self.shards)


def write_manifest(place: Path, manifest: Manifest) -> None:
    """Make a state the one that readers see. Raises DataError where it cannot be written."""
    body = {"kind": KIND, "schema_version": SCHEMA_VERSION, **asdict(manifest), "encoder": manifest.encoder.as_dict()}
    body = json.loads(json.dumps(body))
    write_text(place / MANIFEST, json.dumps({**body, "checksum": _checksum(body)}, indent=1) + "\n")


def read_manifest(place: Path) -> Manifest:
    """What a folder's `index.json` says, verified. Raises CheckpointError: missing, foreign, damaged, or of a newer version."""
    path = place / MANIFEST
    if not place.is_dir():
        raise CheckpointError(f"{place} is no index: expected a folder that `ssl index` made")
    data = read_file(path, most=_LARGEST, error=CheckpointError, remedy="check the path; `ssl index` makes such a folder")
    found = parse_json(data, str(path), error=CheckpointError, remedy=ADVICE, once=True)
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise CheckpointError(f"{path} is not of an index: expected a folder that `ssl index` made")
    version = found.get("schema_version")
    if type(version) is int and version > SCHEMA_VERSION:
        raise CheckpointError(f"{path}: schema_version {version} is newer than this kinshot reads ({SCHEMA_VERSION}): upgrade kinshot")
    recorded = found.pop("checksum", None)
    if type(version) is not int or version < 1 or recorded != _checksum(found):
        raise CheckpointError(f"{path} is damaged: its checksum or version ({version!r}) is not that of its content; {ADVICE}")
    try:
        return _manifest({key: value for key, value in found.items() if key not in ("kind", "schema_version")})
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise CheckpointError(f"{path} does not describe an index ({type(problem).__name__}: {problem}); {ADVICE}") from problem


def write_piece(place: Path, kind: str, tensors: Mapping[str, Tensor], rows: int, told: Mapping[str, str] | None = None) -> Piece:
    """A new file of tensors, with `told` in its metadata. Raises DataError where it cannot be written."""
    from safetensors.torch import save

    data = save({name: value.contiguous() for name, value in tensors.items()}, dict(told) if told else None)
    found = hashlib.sha256(data).hexdigest()
    piece = Piece(f"{kind}-{found[:16]}.safetensors", len(data), found, rows)
    write_bytes(place / piece.name, data)
    return piece


def open_piece(place: Path, piece: Piece, verify: bool) -> dict[str, Tensor]:
    """The tensors of a file, mapped into memory: what is not looked at is not read. Raises CheckpointError."""
    from safetensors import SafetensorError, safe_open

    path = place / piece.name
    size = check_regular(path, error=CheckpointError, remedy=ADVICE).st_size
    if size != piece.bytes:
        raise CheckpointError(f"{path} is damaged: it has {size} bytes, {MANIFEST} says {piece.bytes}; {ADVICE}")
    if verify and (found := _hash(path)) != piece.sha256:
        raise CheckpointError(f"{path} is damaged: its SHA-256 is {found[:12]}, {MANIFEST} says {piece.sha256[:12]}; {ADVICE}")
    try:
        with safe_open(path, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError, RuntimeError, ValueError) as problem:
        raise CheckpointError(f"cannot read {path}: {problem}; {ADVICE}") from problem


def clear(place: Path, keep: Manifest | None) -> None:
    """Remove files of tensors that do not belong to a state. Names of others are not touched."""
    kept = {piece.name for piece in keep.pieces} if keep else set()
    for entry in place.iterdir():
        if _NAME.fullmatch(entry.name) and entry.name not in kept:
            entry.unlink(missing_ok=True)


def is_ours(name: str) -> bool:
    """Whether a file of an index has such a name, or one that is being written."""
    return name.startswith(f".{MANIFEST}.") or _OURS.fullmatch(name) is not None


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as problem:
        raise DataError(f"cannot read {path}: {problem.strerror}; {ADVICE}") from problem
    return digest.hexdigest()


def _checksum(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _manifest(found: dict[str, Any]) -> Manifest:
    encoder = EncoderIdentity.from_dict(found.pop("encoder"))
    files, shards = _piece(found.pop("files"), "files"), tuple(_piece(one, "rows") for one in found.pop("shards"))
    unreadable = tuple(Unread(**one) for one in found.pop("unreadable"))
    manifest = Manifest(encoder=encoder, files=files, shards=shards, unreadable=unreadable, **found)
    numbers = (manifest.dim, manifest.thumbnails, manifest.begun_ns)
    if any(type(number) is not int or number < 0 for number in numbers) or not isinstance(manifest.folder, str):
        raise ValueError(f"dim, thumbnails and begun_ns are {numbers}")
    return manifest


def _piece(found: Mapping[str, Any], kind: str) -> Piece:
    piece = Piece(**found)
    # nothing but a plain name of ours: a path would lead out of the folder
    if not _NAME.fullmatch(piece.name) or not piece.name.startswith(f"{kind}-") or piece.sha256[:16] != piece.name.split("-")[1][:16]:
        raise ValueError(f"{piece.name!r} is no name of a file of {kind}")
    if type(piece.rows) is not int or type(piece.bytes) is not int or piece.rows < 1:
        raise ValueError(f"{piece.name} has {piece.rows!r} rows in {piece.bytes!r} bytes")
    return piece
