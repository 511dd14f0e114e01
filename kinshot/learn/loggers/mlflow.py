"""MLflow."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from kinshot.learn.logger import LoggedRun, Logger
from kinshot.learn.loggers import LOGGERS

_ALLOWED = re.compile(r"[^\w\-. :/]")
_LONGEST = 500
"""Characters that every version of MLflow keeps of a parameter's value."""


@LOGGERS.register("mlflow", package="mlflow", install="pip install mlflow")
class MlflowLogger(Logger):
    """MLflow: scalars by step, every setting of the recipe as a parameter; in the run's own folder unless a server is named.

    A run that goes on is the same run of MLflow, and steps that it has of a metric already are not recorded again. Characters that MLflow
    does not take in names become `_`; settings longer than 500 characters are cut. Pictures go to TensorBoard alone.

    Args:
        uri: where MLflow keeps runs, as its `tracking_uri`: a folder, a data base such as sqlite:///FILE, or a server; in quotes, as it has
            colons: `"mlflow:uri='http://HOST:5000'"`. Empty for the data base `mlruns/mlflow.db` in the run's folder, as MLflow 3 takes
            plain folders no more. What the environment says plays no part.
        experiment: under which runs are listed.
    """

    def __init__(self, run: LoggedRun, *, uri: str = "", experiment: str = "kinshot") -> None:
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self._metric = Metric
        place = None if uri else (run.folder / "mlruns").resolve()
        if place is not None:
            place.mkdir(exist_ok=True)
        self._client = MlflowClient(tracking_uri=uri or f"sqlite:///{place}/mlflow.db")
        if "run" not in run.known:
            found = self._client.get_experiment_by_name(experiment)
            artifacts = None if place is None else place.as_uri()
            number = found.experiment_id if found is not None else self._client.create_experiment(experiment, artifacts)
            run.known["run"] = self._client.create_run(number, run_name=run.folder.name).info.run_id
            params = [Param(_name(key), str(value)[:_LONGEST]) for key, value in run.config.items()]
            for first in range(0, len(params), 100):
                self._client.log_batch(run.known["run"], params=params[first : first + 100])
        self._run = run.known["run"]
        self._client.update_run(self._run, status="RUNNING")
        self._goes_on = run.resume_step >= 0
        self._recorded: dict[str, int] = {}

    def scalars(self, step: int, epoch: int | None, values: Mapping[str, float]) -> None:
        """What was recorded of a step, but for what is there already."""
        now = time.time_ns() // 1_000_000
        named = {_name(tag): value for tag, value in {**({} if epoch is None else {"epoch": epoch}), **values}.items()}
        metrics = [self._metric(tag, value, now, step) for tag, value in named.items() if self._new(tag, step)]
        self._client.log_batch(self._run, metrics=metrics)

    def result(self, config: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """The run is finished."""
        self._client.set_terminated(self._run, "FINISHED")

    def _new(self, tag: str, step: int) -> bool:
        if tag not in self._recorded:
            known = self._client.get_metric_history(self._run, tag) if self._goes_on else []
            self._recorded[tag] = max((one.step for one in known), default=-1)
        if step <= self._recorded[tag]:
            return False
        self._recorded[tag] = step  # two records of one step say its epoch twice
        return True


def _name(tag: str) -> str:
    return _ALLOWED.sub("_", tag)
