"""Weights & Biases."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Literal

from kinshot.learn.logger import LoggedRun, Logger
from kinshot.learn.loggers import LOGGERS


@LOGGERS.register("wandb", package="wandb", install="pip install wandb")
class WandbLogger(Logger):
    """Weights & Biases: scalars with every setting of the recipe, offline unless it is asked for otherwise.

    Offline nothing leaves the machine: files lie in `wandb/` in the run's folder until you call `wandb sync`. A run that goes on has the
    same id. Online, Weights & Biases itself leaves out steps that it has already; offline every process has a folder of its own, and
    `wandb sync --append` joins them. Pictures go to TensorBoard alone.

    Args:
        project: of Weights & Biases.
        entity: user or team; empty for your own.
        mode: offline writes files alone; online sends everything to the server that you are logged in to.
    """

    def __init__(
        self, run: LoggedRun, *, project: str = "kinshot", entity: str = "", mode: Literal["offline", "online"] = "offline"
    ) -> None:
        import wandb

        self._done = False
        name = run.known.setdefault("id", uuid.uuid4().hex[:12])
        self._run = wandb.init(
            project=project,
            entity=entity or None,
            id=name,
            name=run.folder.name,
            dir=str(run.folder),
            config=dict(run.config),
            mode=mode,
            resume="allow" if mode == "online" else None,
            settings=wandb.Settings(console="off", silent=True, disable_git=True, save_code=False),
        )

    def scalars(self, step: int, epoch: int | None, values: Mapping[str, float]) -> None:
        """What was recorded of a step."""
        self._run.log({**({} if epoch is None else {"epoch": epoch}), **values}, step=step)

    def result(self, config: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """The summary of the run."""
        self._run.summary.update(dict(metrics))
        self._done = True

    def close(self) -> None:
        """Hand over what is waiting; a run that did not get to its end is marked as failed, until it goes on."""
        self._run.finish(exit_code=0 if self._done else 1)
