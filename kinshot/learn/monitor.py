"""What a run records: the same scalars in `metrics.jsonl` and with its loggers, pictures of views, an embedding map.

`metrics.jsonl` holds one JSON object per record, `{"step": ..., "epoch": ..., tag: value, ...}`. A resumed run leaves the same
file as one that was never stopped, so what differs from run to run by nature, tags that begin with `time/`, goes to
`timing.jsonl`.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from kinshot.core.atomic import open_plain, write_json, write_text
from kinshot.core.errors import DataError, KinshotError
from kinshot.core.small_files import read_json
from kinshot.learn.board import guide, image_grid, thumbnails
from kinshot.learn.logger import TIMING, Chosen, LoggedRun, Logger, check_loggers, open_logger
from kinshot.learn.records import read_records

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

TENSORBOARD = "tensorboard"
MAX_POINTS = 2000
"""Most points of an embedding map: the browser draws them all."""
KNOWN = "loggers.json"
"""What loggers keep between the processes of a run, by name."""

_THUMBNAIL = 32
_log = logging.getLogger(__name__)


class Monitor:
    """The records of one run: `metrics.jsonl`, `timing.jsonl`, and whatever loggers make of them.

    A context manager. Tensors are read when they are given, so give them when they are to be logged.

    Args:
        folder: the run's folder, which must exist.
        resume_step: steps done in the checkpoint that this process continues, -1 for none; later records are dropped.
        tensorboard: write event files as well; short for the logger of this name.
        loggers: others, by name, each with its settings.
        name: of the recipe, for loggers.
        config: every setting of it, flat, for loggers.

    `latest` are the scalars kept from `metrics.jsonl`, by tag the last one; `tensorboard` says whether somebody shows pictures.

    Raises:
        DataError: from any method, when a record cannot be written; after that TensorBoard is left alone.
        ConfigError: a logger is asked for and cannot be had.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        resume_step: int = 0,
        tensorboard: bool = True,
        loggers: Sequence[Chosen] = (),
        name: str = "",
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = Path(folder)
        chosen = chosen_loggers(loggers, tensorboard=tensorboard)
        check_loggers(chosen)
        self.tensorboard = any(name == TENSORBOARD for name, _ in chosen)
        self._metrics = _Records(self.folder / "metrics.jsonl", resume_step)
        self._timing = _Records(self.folder / "timing.jsonl", resume_step)
        self.latest = self._metrics.latest
        run = LoggedRun(self.folder, name, config or {}, resume_step, self._metrics.kept)
        self._metrics.kept = []  # nobody needs them again
        self._loggers: dict[str, Logger] = {}
        self._open(chosen, run)

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def scalars(self, step: int, values: Mapping[str, float | Tensor], *, epoch: int | None = None) -> None:
        """Record scalars by tag (`train/loss`, `eval/knn/top1`); not finite ones are null in the JSON files."""
        numbers = {tag: _number(value) for tag, value in values.items()}
        for records, timing in ((self._metrics, False), (self._timing, True)):
            chosen = {tag: number for tag, number in numbers.items() if tag.startswith(TIMING) == timing}
            if chosen:
                records.add(step, epoch, chosen)
        self._tell(lambda logger: logger.scalars(step, epoch, numbers))

    def guide(self) -> None:
        """Say what good gauges are."""
        self._tell(lambda logger: logger.text("guide/what good gauges are", guide()))

    def view_grid(self, views: Sequence[Tensor], originals: Tensor | None = None, step: int = 0) -> None:
        """Show augmented views, each (N, C, H, W) in [0, 1], below their originals (N, C, H, W) as the picture `views/grid`."""
        if self._loggers:
            grid = image_grid(views, originals)
            self._tell(lambda logger: logger.picture("views/grid", grid, step))

    def picture(self, tag: str, picture: np.ndarray, step: int) -> None:
        """Show a picture, uint8 (H, W, 3), as the image `tag`; one of the same tag at other steps can be leafed through."""
        self._tell(lambda logger: logger.picture(tag, picture, step))

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
        if self._loggers and len(rows):
            pictures = None if images is None else thumbnails(images[rows], _THUMBNAIL)
            points = z[rows].detach().float().cpu()
            self._tell(lambda logger: logger.embedding(points, labels, pictures, step))

    def hparams(self, config: Mapping[str, Any], metrics: Mapping[str, float | Tensor]) -> None:
        """Tell settings (flat, by dotted name) and final metrics; call once, at the end."""
        numbers = {tag: _number(value) for tag, value in metrics.items()}
        self._tell(lambda logger: logger.result(config, numbers))

    def flush(self) -> None:
        """Wait until every record is on the disk."""
        self._metrics.flush()
        self._timing.flush()
        self._tell(lambda logger: logger.flush())

    def close(self) -> None:
        """Flush and close the files. May be called twice; after an error it stays silent about the same error."""
        self._metrics.close()
        self._timing.close()
        with ExitStack() as every:  # all of them, whatever one says
            for name in list(self._loggers):
                every.callback(self._told, name, self._loggers.pop(name), lambda one: one.close())

    def _open(self, chosen: Sequence[Chosen], run: LoggedRun) -> None:
        """Open every logger; what one keeps between processes is on the disk before it is told anything."""
        path = self.folder / KNOWN
        known: dict[str, Any] = _known(path) if run.resume_step >= 0 else {}
        if run.resume_step < 0:
            path.unlink(missing_ok=True)
        for name, settings in chosen:
            own = dict(known.get(name, {}))
            try:
                self._loggers[name] = open_logger(name, replace(run, known=own), settings)
                if own != known.get(name, {}):
                    known[name] = own
                    write_json(path, known)
            except (KinshotError, OSError) as problem:
                with suppress(KinshotError):  # the first one is what is being reported
                    self.close()
                if isinstance(problem, KinshotError):
                    raise
                raise DataError(_cannot_record(self.folder / name, problem)) from problem

    def _tell(self, call: Callable[[Logger], None]) -> None:
        for name, logger in list(self._loggers.items()):
            self._told(name, logger, call)

    def _told(self, name: str, logger: Logger, call: Callable[[Logger], None]) -> None:
        """Tell a logger something. After one failure it is left alone: no error is raised twice, and none goes unsaid."""
        try:
            call(logger)
        except Exception as problem:  # other people's libraries raise anything, when a server is gone
            if logger.part_of_run and not isinstance(problem, OSError):
                raise
            if self._loggers.pop(name, None) is not None:
                with suppress(Exception):  # stop its threads; that it cannot write is what is being reported
                    logger.close()
            if logger.part_of_run and isinstance(problem, OSError):
                raise DataError(_cannot_record(getattr(logger, "path", self.folder / name), problem)) from problem
            _log.warning("logger %s failed (%s: %s): the run goes on without it", name, type(problem).__name__, problem)


def chosen_loggers(loggers: Sequence[Chosen], *, tensorboard: bool) -> list[Chosen]:
    """Every logger once, TensorBoard first where it is on."""
    named = dict(loggers)
    return [*([(TENSORBOARD, {})] if tensorboard and TENSORBOARD not in named else []), *named.items()]


def _known(path: Path) -> dict[str, Any]:
    """What loggers kept. Raises DataError for a file that says something else."""
    if not path.exists():
        return {}
    found = read_json(path, remedy="remove it: loggers then begin anew")
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise DataError(f"{path} does not say what loggers keep: remove it, and loggers begin anew")
    return found


class _Records:
    """A JSON Lines file that only grows, cut back to `step` when a run resumes."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.kept = kept = read_records(path, step)
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
