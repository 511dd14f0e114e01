"""Work in progress: what was seen and embedded so far, a part at a time, so that a killed process loses no more than one part of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kinshot.core.errors import CheckpointError, KinshotError
from kinshot.core.small_files import parse_json
from kinshot.index.layout import Piece, open_piece, write_piece
from kinshot.index.looking import Looked
from kinshot.index.shards import Shard, checked, tensors_of
from kinshot.runs.encoder_identity import EncoderIdentity

FILES = 512
"""Files of a part."""
_ENTRY = "kinshot"


@dataclass
class Done:
    """What parts hold.

    Attributes:
        files: what was seen of each file, without pixels, by path.
        rows: where the feature of each new content is.
        begun_ns: when looking began, the earliest of all parts.
    """

    files: dict[str, Looked] = field(default_factory=dict)
    rows: dict[str, tuple[Shard, int]] = field(default_factory=dict)
    begun_ns: int = 0

    def add(self, files: Iterable[Looked], shard: Shard) -> None:
        """Count a part in."""
        self.files |= {one.path: one for one in files}
        self.rows |= {content: (shard, row) for row, content in enumerate(shard.contents()) if content not in self.rows}


def work_key(encoder: EncoderIdentity, thumbnails: int) -> str:
    """What parts must have in common with the work that goes on."""
    known = encoder.as_dict()
    text = json.dumps([known["weights"], known["input"], known["framing"], thumbnails], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_part(place: Path, key: str, begun_ns: int, files: Sequence[Looked], shard: Shard) -> Shard:
    """Keep a part; gives its rows as they lie on the disk. Raises DataError."""
    seen = [[one.path, one.size, one.mtime_ns, one.digest, one.reason] for one in files]
    told = json.dumps({"key": key, "begun_ns": begun_ns, "dim": shard.features.shape[1], "files": seen})
    piece = write_piece(place, "part", tensors_of(shard), len(shard), {_ENTRY: told})
    return checked(open_piece(place, piece, False), place / piece.name, shard.features.shape[1], len(shard))


def read_parts(place: Path, key: str, begun_ns: int) -> Done:
    """The parts of a work that was stopped. What is damaged, or of another work, is not looked at: it is done anew."""
    found = Done(begun_ns=begun_ns)
    for path in sorted(place.glob("part-*.safetensors")):
        try:
            files, shard, began, of = _read(path)
        except (KinshotError, KeyError, TypeError, ValueError, OSError):
            continue
        if of == key:
            found.add(files, shard)
            found.begun_ns = min(found.begun_ns, began)
    return found


def _read(path: Path) -> tuple[list[Looked], Shard, int, str]:
    from safetensors import SafetensorError, safe_open

    data = path.read_bytes()
    sha = hashlib.sha256(data).hexdigest()
    if path.name != f"part-{sha[:16]}.safetensors":
        raise CheckpointError(f"{path} is not what was written")
    try:
        with safe_open(path, framework="pt") as opened:
            told = parse_json((opened.metadata() or {}).get(_ENTRY, ""), str(path), error=CheckpointError)
    except SafetensorError as problem:
        raise CheckpointError(f"{path}: {problem}") from problem
    files = [Looked(str(p), int(size), int(mtime), str(content), str(reason)) for p, size, mtime, content, reason in told["files"]]
    tensors = open_piece(path.parent, Piece(path.name, len(data), sha, 0), False)
    return files, checked(tensors, path, int(told["dim"]), len(tensors["features"])), int(told["begun_ns"]), str(told["key"])
