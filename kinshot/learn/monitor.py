"""What a run records: the same scalars in TensorBoard and in `metrics.jsonl`, images of views, an embedding map.

`metrics.jsonl` holds one JSON object per record, `{"step": ..., "epoch": ..., tag: value, ...}`. A resumed run leaves the same
file as one that was never stopped, so what differs from run to run by nature, tags that begin with `time/`, goes to
`timing.jsonl`.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from kinshot.core.atomic import open_plain, write_text
from kinshot.core.errors import ConfigError, DataError
from kinshot.learn.board import guide, image_grid, shown_tag, thumbnails
from kinshot.learn.records import read_records

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from torch.utils.tensorboard import SummaryWriter

MAX_POINTS = 2000
"""Most points of an embedding map: the browser draws them all."""

_THUMBNAIL = 32
_TIMING = "time/"


class Monitor:
    """The records of one run: `metrics.jsonl`, `timing.jsonl`, and event files in `tensorboard/`.

    A context manager. Tensors are read when they are given, so give them when they are to be logged.

    Args:
        folder: the run's folder, which must exist.
        resume_step: steps done in the checkpoint that this process continues, -1 for none; later records are dropped.
        tensorboard: write event files as well.

    `latest` are the scalars kept from `metrics.jsonl`, by tag the last one.

    Raises:
        DataError: from any method, when a record cannot be written; after that TensorBoard is left alone.
        ConfigError: TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: str | Path, *, resume_step: int = 0, tensorboard: bool = True) -> None:
        self.folder = Path(folder)
        self.tensorboard = tensorboard
        self._last_step = resume_step
        self._metrics = _Records(self.folder / "metrics.jsonl", resume_step)
        self._timing = _Records(self.folder / "timing.jsonl", resume_step)
        self.latest = self._metrics.latest
        self._tags = set(self.latest)
        self._log_dir = self.folder / "tensorboard"
        self._writer = self._open(resume_step) if tensorboard else None

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def scalars(self, step: int, values: Mapping[str, float | Tensor], *, epoch: int | None = None) -> None:
        """Record scalars by tag (`train/loss`, `eval/knn/top1`); not finite ones are null in the JSON files."""
        numbers = {tag: _number(value) for tag, value in values.items()}
        for records, timing in ((self._metrics, False), (self._timing, True)):
            chosen = {tag: number for tag, number in numbers.items() if tag.startswith(_TIMING) == timing}
            if chosen:
                records.add(step, epoch, chosen)
        self._last_step = max(self._last_step, step)
        self._tags |= set(numbers)
        with self._events() as writer:
            for tag, number in numbers.items() if writer else ():
                writer.add_scalar(shown_tag(tag), number, step)

    def guide(self) -> None:
        """Say what good gauges are, in TensorBoard's TEXT tab."""
        with self._events() as writer:
            if writer:
                writer.add_text("guide/what good gauges are", guide(), 0)

    def view_grid(self, views: Sequence[Tensor], originals: Tensor | None = None, step: int = 0) -> None:
        """Show augmented views, each (N, C, H, W) in [0, 1], below their originals (N, C, H, W) as the image `views/grid`."""
        with self._events() as writer:
            if writer:
                writer.add_image("views/grid", image_grid(views, originals), step)

    def picture(self, tag: str, picture: np.ndarray, step: int) -> None:
        """Show a picture, uint8 (H, W, 3), as the image `tag`; one of the same tag at other steps can be leafed through."""
        with self._events() as writer:
            if writer:
                writer.add_image(tag, picture, step, dataformats="HWC")

    def embedding(self, z: Tensor, images: Tensor | None, names: Sequence[str] | None, step: int) -> None:
        """Put embeddings z (N, D) into TensorBoard's projector; at most MAX_POINTS rows, evenly spaced, are kept.

        Args:
            z: embeddings; rows that are not finite are left out.
            images: thumbnails (N, C, H, W), uint8 or in [0, 1].
            names: class names, one per row.
            step: steps done.
        """
        import torch

        rows = torch.isfinite(z).all(1).nonzero().flatten().cpu()
        if len(rows) > MAX_POINTS:
            rows = rows[torch.linspace(0, len(rows) - 1, MAX_POINTS).long()]
        labels = None if names is None else [" ".join(str(names[i]).split()) or "?" for i in rows.tolist()]
        with self._events() as writer:
            if writer and len(rows):
                shutil.rmtree(self._log_dir / f"{step:05d}", ignore_errors=True)  # an older map of this step
                pictures = None if images is None else thumbnails(images[rows], _THUMBNAIL)
                writer.add_embedding(z[rows].detach().float().cpu(), labels, pictures, step, "embedding")

    def hparams(self, config: Mapping[str, Any], metrics: Mapping[str, float | Tensor]) -> None:
        """Write settings (flat, by dotted name) and final metrics for TensorBoard's HPARAMS tab; call once, at the end.

        They go into this run's own event file; `SummaryWriter.add_hparams` would start a second run in a subfolder.
        """
        with self._events() as writer:
            if writer is None:
                return
            from torch.utils.tensorboard.summary import hparams

            settings = {k: v if type(v) in (int, float, str) else json.dumps(v, default=str) for k, v in config.items() if v is not None}
            numbers = {tag: _number(value) for tag, value in metrics.items()}
            for tag, number in numbers.items():
                if tag not in self._tags:
                    writer.add_scalar(shown_tag(tag), number, self._last_step)
            for summary in hparams(settings, {shown_tag(tag): number for tag, number in numbers.items()}):
                writer._get_file_writer().add_summary(summary)

    def flush(self) -> None:
        """Wait until every record is on the disk."""
        self._metrics.flush()
        self._timing.flush()
        with self._events() as writer:
            if writer:
                writer.flush()

    def close(self) -> None:
        """Flush and close the files. May be called twice; after an error it stays silent about the same error."""
        self._metrics.close()
        self._timing.close()
        with self._events() as writer:
            if writer:
                self._writer = None
                writer.close()

    def _open(self, resume_step: int) -> SummaryWriter:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as problem:
            remedy = "pip install tensorboard, or set monitor.tensorboard=false"
            raise ConfigError(f"TensorBoard cannot be used ({problem}): {remedy}") from problem
        earlier = self._log_dir.is_dir() and any(self._log_dir.glob("events.out.tfevents.*"))
        try:
            # TensorBoard hides what earlier files hold from purge_step on
            return SummaryWriter(str(self._log_dir), purge_step=resume_step + 1 if earlier else None, flush_secs=30)
        except OSError as problem:
            raise DataError(_cannot_record(self._log_dir, problem)) from problem

    @contextmanager
    def _events(self) -> Iterator[Any]:
        """The event writer, or None when there is none. After one failure there is none: no error is raised twice."""
        writer = self._writer
        try:
            yield writer
        except OSError as problem:
            self._writer = None
            with suppress(OSError):  # stop its thread; that it cannot write is what is being reported
                if writer is not None:
                    writer.close()
            raise DataError(_cannot_record(self._log_dir, problem)) from problem


class _Records:
    """A JSON Lines file that only grows, cut back to `step` when a run resumes."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        kept = read_records(path, step)
        self.latest: dict[str, float] = {tag: _value(v) for record in kept for tag, v in record.items() if tag not in ("step", "epoch")}
        try:
            if path.exists():
                write_text(path, "".join(map(_line, kept)))
            self._descriptor: int | None = open_plain(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        except OSError as problem:
            raise DataError(_cannot_record(path, problem)) from problem

    def add(self, step: int, epoch: int | None, values: Mapping[str, float]) -> None:
        """Append one record. Raises DataError."""
        record: dict[str, Any] = {"step": step} if epoch is None else {"step": step, "epoch": epoch}
        record |= {tag: value if math.isfinite(value) else None for tag, value in values.items()}
        data = _line(record).encode()
        if self._descriptor is None:
            raise DataError(f"cannot record to {self.path}: the monitor is closed")
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as problem:
            raise DataError(_cannot_record(self.path, problem)) from problem

    def flush(self) -> None:
        """Wait for the disk."""
        if self._descriptor is not None:
            with suppress(OSError):  # a pipe or a device cannot be synced
                os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file. May be called twice."""
        self.flush()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _number(value: float | Tensor) -> float:
    if isinstance(value, int | float):
        return value
    return float(value.detach())


def _value(recorded: Any) -> float:
    return recorded if isinstance(recorded, int | float) else math.nan  # what is not finite is recorded as null


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def _cannot_record(path: Path, problem: OSError) -> str:
    remedy = "free some space or choose another folder, then continue with --resume auto"
    return f"cannot record to {path}: {problem.strerror or problem}; {remedy}"
