"""TensorBoard."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from kinshot.core.errors import ConfigError
from kinshot.learn.board import shown_tag
from kinshot.learn.logger import LoggedRun, Logger
from kinshot.learn.loggers import LOGGERS

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

FOLDER = "tensorboard"


@LOGGERS.register("tensorboard")
class TensorBoardLogger(Logger):
    """Event files in `tensorboard/`: scalars in the order in which to look at them, pictures of views, embeddings, the guide to gauges.

    It is on unless `monitor.tensorboard=false`; among `monitor.loggers` the name means the same.
    """

    part_of_run: ClassVar[bool] = True

    def __init__(self, run: LoggedRun) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as problem:
            remedy = "pip install tensorboard, or set monitor.tensorboard=false"
            raise ConfigError(f"TensorBoard cannot be used ({problem}): {remedy}") from problem
        self._log_dir = run.folder / FOLDER
        self._last_step = run.resume_step
        self._tags = {tag for record in run.records for tag in record}
        earlier = self._log_dir.is_dir() and any(self._log_dir.glob("events.out.tfevents.*"))
        # TensorBoard hides what earlier files hold from purge_step on
        self._writer = SummaryWriter(str(self._log_dir), purge_step=run.resume_step + 1 if earlier else None, flush_secs=30)

    def scalars(self, step: int, epoch: int | None, values: Mapping[str, float]) -> None:
        """A point of each tag's curve."""
        self._last_step = max(self._last_step, step)
        self._tags |= set(values)
        for tag, number in values.items():
            self._writer.add_scalar(shown_tag(tag), number, step)

    def text(self, tag: str, text: str) -> None:
        """In the TEXT tab."""
        self._writer.add_text(tag, text, 0)

    def picture(self, tag: str, picture: Tensor | np.ndarray, step: int) -> None:
        """In the IMAGES tab."""
        self._writer.add_image(tag, picture, step, dataformats="CHW" if picture.shape[0] == 3 else "HWC")

    def embedding(self, z: Tensor, names: Sequence[str] | None, pictures: Tensor | None, step: int) -> None:
        """In the projector."""
        shutil.rmtree(self._log_dir / f"{step:05d}", ignore_errors=True)  # an older map of this step
        self._writer.add_embedding(z, names, pictures, step, "embedding")

    def result(self, config: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """In the HPARAMS tab, in this run's own event file; `SummaryWriter.add_hparams` would start a second run in a subfolder."""
        from torch.utils.tensorboard.summary import hparams

        settings = {k: v if type(v) in (int, float, str) else json.dumps(v, default=str) for k, v in config.items() if v is not None}
        for tag, number in metrics.items():
            if tag not in self._tags:
                self._writer.add_scalar(shown_tag(tag), number, self._last_step)
        for summary in hparams(settings, {shown_tag(tag): number for tag, number in metrics.items()}):
            self._writer._get_file_writer().add_summary(summary)

    def flush(self) -> None:
        """Write what is waiting."""
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()
