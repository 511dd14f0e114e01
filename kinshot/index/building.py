"""Making an index and keeping it up to date: only new and changed files are embedded, and what was done is not done again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kinshot.core.atomic import make_folder, sweep_orphans
from kinshot.core.errors import ConfigError, DataError
from kinshot.core.filelock import FileLock
from kinshot.core.outputs import check_output_folder
from kinshot.core.runtime import resolve_device
from kinshot.datasets.images import told
from kinshot.datasets.survey import left_out, shown, survey
from kinshot.index.layout import MANIFEST, Manifest, Unread, clear, is_ours, write_manifest
from kinshot.index.looking import Looked, ahead, look
from kinshot.index.parts import FILES, Done, read_parts, work_key, write_part
from kinshot.index.shards import Shard, made, replanned, write_shard
from kinshot.index.state import State, empty_state, open_state
from kinshot.index.table import File, write_table
from kinshot.learn.model import BACKBONE, Model
from kinshot.runs.classifier import open_encoder, same_encoder
from kinshot.runs.encoder_identity import EncoderIdentity
from kinshot.runs.teaching import DEFAULT_ENCODER
from kinshot.samples.pixels import PixelSpec

THUMBNAILS = 96
BATCH, LARGE_BATCH, AHEAD = 16, 128, 8
"""Images that are embedded at once on a CPU, and elsewhere; batches that are decoded ahead."""
_WAIT = 2.0
_SETTLED_NS = 2_000_000_000
Told = Callable[[int, int], None]


@dataclass(frozen=True)
class Indexed:
    """What `build_index` did.

    Attributes:
        files: how many files the index has.
        contents: how many different contents they have: each is embedded once.
        counts: of files that are unchanged, added, changed, moved and removed, of contents that were embedded now, and of those that an
            earlier call that was stopped had embedded.
        unreadable: files that cannot be read, and why.
        note: what else lies in the folder and was left out.
    """

    files: int
    contents: int
    counts: dict[str, int]
    unreadable: dict[str, str] = field(default_factory=dict)
    note: str = ""


def build_index(
    folder: str | Path,
    out: str | Path,
    encoder: str = "",
    *,
    thumbnails: int | None = None,
    unreadable: Literal["refuse", "leave_out"] = "refuse",
    device: str = "cpu",
    opened: tuple[Model, EncoderIdentity] | None = None,
    progress: Told | None = None,
) -> Indexed:
    """Make an index of the images below a folder, or bring one up to date.

    Files are known by path, size and time, contents by their hash: a file that was moved, or touched, is not embedded again. The index is
    replaced as a whole; a process that is killed leaves the last one, and what it did, from which the next call goes on.

    Args:
        folder: images; those of linked folders are left out.
        out: folder of the index, made where it is not there.
        encoder: a run, a checkpoint or a backbone; empty for that of the index, or for a new one efficientnet_lite0.
        thumbnails: side of the pictures that pages show, 0 for none; None for that of the index, or 96.
        unreadable: refuse stops at files that cannot be read, when all others are done; leave_out does without them.
        device: where features are made.
        opened: the encoder where it is loaded already, as `kinshot.runs.classifier.open_encoder` gives it; in place of `encoder`.
        progress: told how many files are done, and of how many.

    Raises:
        ConfigError: a bad option, another encoder than that of the index, or an index that another process writes to.
        DataError: a folder without images, files that cannot be read, or a disk that cannot be written to.
        CheckpointError: a damaged index, or an encoder that is missing or another one.

    >>> from pathlib import Path
    >>> from PIL import Image
    >>> for colour in ("red", "lime", "blue"):
    ...     Path("colours").mkdir(exist_ok=True)
    ...     Image.new("RGB", (48, 48), colour).save(f"colours/{colour}.png")
    >>> kinshot.build_index("colours", "colours.index", "runs/demo").counts["added"]
    3
    >>> kinshot.build_index("colours", "colours.index").counts["unchanged"]
    3
    """
    folder, out = Path(folder), Path(out)
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: give one with images in it")
    there = survey(folder)
    found = sorted((path.relative_to(folder).as_posix() for path in there.images), key=os.fsencode)
    if not found:
        raise DataError(f"no image in {folder}: give a folder that holds some")
    _check_out(out)
    make_folder(out)
    with FileLock(out / MANIFEST, wait=_WAIT):
        sweep_orphans(out)
        state = open_state(out) if (out / MANIFEST).exists() else None
        side = _side(state, thumbnails)
        model, identity = opened or _encoder(state, out, encoder)
        if state is not None and (state.manifest.encoder.weights, state.manifest.encoder.input) != (identity.weights, identity.input):
            made = state.manifest.encoder
            raise ConfigError(
                f"{out} was made with {made.name} (weights {made.weights[:12]}), given is {identity.name} (weights "
                f"{identity.weights[:12]}): leave MODEL out, or choose another folder for the index"
            )
        before = state or empty_state(identity, model.dim, side)
        _check_same_folder(before, folder, found, out)
        work = _Work(folder.absolute(), out, before, model.to(resolve_device(device)), side, time.time_ns())
        done = work.go_on(found, progress or (lambda at, of: None))
        return replace(work.finish(found, done, unreadable), note=left_out(there, 0, folder))


class _Work:
    """One call: what there was, and what is to become of it."""

    def __init__(self, folder: Path, out: Path, before: State, model: Model, side: int, begun_ns: int) -> None:
        self.folder, self.out, self.before, self.model, self.side = folder, out, before, model, side
        self.key, self.begun_ns = work_key(before.manifest.encoder, side), begun_ns
        self.files = {file.path: file for file in before.table}
        self.unread = {one.path: one for one in before.manifest.unreadable}
        self.contents = {content: row for row, content in enumerate(before.contents())}
        self.of_row = list(self.contents)
        self.resumed = self.embedded = 0

    def go_on(self, found: Sequence[str], progress: Told) -> Done:
        """Look at every file that is not known, and keep what is found in parts."""
        done = read_parts(self.out, self.key, self.begun_ns)
        self.resumed = len(done.rows.keys() - self.contents.keys())
        new = [path for path in found if not self._is_known(path, done)]
        at = len(found) - len(new)
        parts = [new[first : first + FILES] for first in range(0, len(new), FILES)]
        spec = self.model.input
        if not isinstance(spec, PixelSpec):
            raise ConfigError(f"the encoder was made for {spec.describe()} and takes no image files")
        known = self.contents.keys() | done.rows.keys()
        batch = BATCH if next(self.model.parameters()).device.type == "cpu" else LARGE_BATCH
        seen = ahead(lambda path: look(self.folder, path, spec, self.side, known.__contains__), new, AHEAD * batch)
        for part in parts:
            looked, shard = self._embedded(islice(seen, len(part)), batch, done)
            done.add(looked, write_part(self.out, self.key, done.begun_ns, looked, shard))
            self.embedded += len(shard)
            at += len(part)
            progress(at, len(found))
        return done

    def _embedded(self, seen: Iterable[Looked], batch: int, done: Done) -> tuple[list[Looked], Shard]:
        """What was seen of a part's files, without pixels, and the rows of contents that are new."""
        looked, waiting, features = [], list[np.ndarray](), list[Tensor]()
        digests, pictures = dict[str, None](), list[bytes]()
        for one in seen:
            looked.append(Looked(one.path, one.size, one.mtime_ns, one.digest, one.reason))
            if one.pixels is None or one.digest in done.rows or one.digest in digests:
                continue
            digests[one.digest] = None
            pictures.append(one.thumbnail)
            waiting.append(one.pixels)
            if len(waiting) == batch:
                features.append(self._features(waiting, batch))
                waiting = []
        if waiting:
            features.append(self._features(waiting, batch))
        joined = torch.cat(features) if features else torch.empty(0, self.model.dim)
        hashes = np.frombuffer(bytes.fromhex("".join(digests)), dtype=np.uint8).reshape(-1, 16).copy()
        return looked, made(joined, torch.from_numpy(hashes), pictures)

    def _features(self, pixels: list[np.ndarray], batch: int) -> Tensor:
        """Features of some images. A batch always has the same size, as how products round depends on it: what an image gives does not."""
        filled = np.stack([*pixels, *[pixels[0]] * (batch - len(pixels))])
        device = next(self.model.parameters()).device
        found: Tensor = self.model.embed(torch.from_numpy(filled).to(device), batch=batch)[BACKBONE].float().cpu()[: len(pixels)]
        if not bool(torch.isfinite(found).all()):
            raise DataError("the encoder gives features that are not finite: check its weights")
        return found

    def _is_known(self, path: str, done: Done) -> bool:
        """Whether a file is as it was when it was last looked at."""
        known = done.files.get(path) or self.files.get(path) or self.unread.get(path)
        if known is None or getattr(known, "digest", "-") == "":  # what could not be read at all is looked at again
            return False
        begun = done.begun_ns if path in done.files else self.before.manifest.begun_ns
        try:
            status = os.stat(self.folder / path)
        except OSError:
            return False
        settled = status.st_mtime_ns < begun - _SETTLED_NS
        return settled and (status.st_size, status.st_mtime_ns) == (known.size, known.mtime_ns)

    def finish(self, found: Sequence[str], done: Done, unreadable: str) -> Indexed:
        """Make what was found the new state. Raises DataError where files cannot be read."""
        now = {path: self._now(path, done) for path in found}
        failed = {path: one for path, one in now.items() if one.reason}
        if failed and (unreadable == "refuse" or len(failed) == len(now)):
            reasons = {row: one.reason for row, one in enumerate(failed.values())}
            raise DataError(
                f"{told(reasons, len(now))}\nthe index is as it was, and what was embedded is kept; to do without such files, add "
                "--unreadable leave_out"
            )
        good = {path: one for path, one in now.items() if not one.reason}
        used = dict.fromkeys(one.digest for one in good.values())
        old = [content for content in self.of_row if content in used]
        new = [content for content in used if content not in self.contents]
        row = {content: number for number, content in enumerate([*old, *new])}
        files = [File(path, one.size, one.mtime_ns, row[one.digest]) for path, one in good.items()]
        self._write(files, [done.rows[content] for content in new], used.keys(), list(failed.values()), done.begun_ns)
        counts = {**self._counts(good), "embedded": self.embedded, "embedded before": self.resumed}
        return Indexed(len(files), len(row), counts, {path: one.reason for path, one in failed.items()})

    def _now(self, path: str, done: Done) -> Looked:
        if path in done.files:
            return done.files[path]
        if path in self.unread and path not in self.files:
            one = self.unread[path]
            return Looked(path, one.size, one.mtime_ns, one.digest, one.reason)
        file = self.files[path]
        return Looked(path, file.size, file.mtime_ns, self.of_row[file.row])

    def _write(self, files: list[File], new: list[tuple[Shard, int]], used: object, failed: list[Looked], begun_ns: int) -> None:
        kept, first = [], 0
        for shard in self.before.shards:
            kept.append([row for row in range(len(shard)) if self.of_row[first + row] in used])  # type: ignore[operator]
            first += len(shard)
        pieces = [shard.piece or write_shard(self.out, shard) for shard in replanned(self.before.shards, kept, new)]
        table = write_table(self.out, files, sum(piece.rows for piece in pieces))
        unread = tuple(Unread(one.path, one.size, one.mtime_ns, one.digest, one.reason) for one in failed)
        known = self.before.manifest
        manifest = Manifest(known.encoder, known.dim, self.side, str(self.folder), begun_ns, table, tuple(pieces), unread)
        write_manifest(self.out, manifest)
        clear(self.out, manifest)

    def _counts(self, good: dict[str, Looked]) -> dict[str, int]:
        """How many files are unchanged, added, changed, moved and removed."""
        was = {path: self.of_row[file.row] for path, file in self.files.items()}
        gone = [content for path, content in was.items() if path not in good]
        counts = {"unchanged": 0, "added": 0, "changed": 0, "moved": 0}
        for path, one in good.items():
            if path in was:
                counts["unchanged" if was[path] == one.digest else "changed"] += 1
            elif one.digest in gone:
                gone.remove(one.digest)
                counts["moved"] += 1
            else:
                counts["added"] += 1
        return {**counts, "removed": len(gone)}


def _side(state: State | None, thumbnails: int | None) -> int:
    """Side of the thumbnails. Raises ConfigError for one that is none, or not that of the index."""
    if thumbnails and not 8 <= thumbnails <= 512:
        raise ConfigError(f"thumbnails have a side of 8 to 512 pixels, or 0 for none, got {thumbnails}")
    if state is None:
        return THUMBNAILS if thumbnails is None else thumbnails
    if thumbnails not in (None, state.manifest.thumbnails):
        raise ConfigError(f"the index has thumbnails of {state.manifest.thumbnails} pixels (0: none), got {thumbnails}: leave it out")
    return state.manifest.thumbnails


def _encoder(state: State | None, out: Path, encoder: str) -> tuple[Model, EncoderIdentity]:
    if state is None:
        return open_encoder(encoder or DEFAULT_ENCODER)
    if encoder:
        return open_encoder(encoder)
    return same_encoder(state.manifest.encoder, out, "", "make the index anew in another folder"), state.manifest.encoder


def _check_out(out: Path) -> None:
    """Raise ConfigError for a folder that holds something else, and for one that cannot be written to."""
    check_output_folder(out, f"--out {out}")
    others = sorted(entry.name for entry in out.iterdir() if not is_ours(entry.name)) if out.is_dir() else []
    if others and not (out / MANIFEST).exists():
        raise ConfigError(f"--out {out} holds something that is no index ({others[0]}): choose another folder")


def _check_same_folder(before: State, folder: Path, found: Sequence[str], out: Path) -> None:
    """Raise ConfigError where an index would lose all its files to those of another folder."""
    known = {file.path for file in before.table}
    if known and known.isdisjoint(found) and before.manifest.folder != str(folder.absolute()):
        raise ConfigError(
            f"{out} is an index of {shown(before.manifest.folder)}, of whose {len(known)} files none is below {shown(folder)}: "
            "choose another folder for the index"
        )
