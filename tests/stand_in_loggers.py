"""Packages that not everybody has, stood in for: they take what the real ones' documented signatures take, and note every call.

A folder of them goes on `PYTHONPATH`. Calls are lines of JSON in the file that STAND_IN names; at the step that STAND_IN_FAILS names they
fail as a server does that is gone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_NOTE = '''"""A stand-in."""

import json
import os


def note(*what):
    with open(os.environ["STAND_IN"], "a", encoding="utf-8") as file:
        file.write(json.dumps(what) + "\\n")


def fail_at(step):
    if os.environ.get("STAND_IN_FAILS") == str(step):
        raise ConnectionError("the server is gone")


def past():
    path = os.environ["STAND_IN"]
    return [json.loads(line) for line in open(path, encoding="utf-8")] if os.path.exists(path) else []
'''

_WANDB = '''"""Weights & Biases, as of its reference of version 0.31."""

from stand_in_notes import fail_at, note


class Settings:
    def __init__(self, *, console="auto", silent=False, disable_git=False, save_code=None):
        self.given = {"console": console, "silent": silent}


class Run:
    @property
    def summary(self):
        return self

    def update(self, values):
        note("wandb.summary", values)

    def log(self, data: dict, step: int | None = None, commit: bool | None = None) -> None:
        if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
            raise TypeError("wandb.log must be passed a dictionary")
        fail_at(step)
        note("wandb.log", step, data)

    def finish(self, exit_code: int | None = None) -> None:
        note("wandb.finish", exit_code)


def init(entity=None, project=None, dir=None, id=None, name=None, notes=None, tags=None, config=None, config_exclude_keys=None,
         config_include_keys=None, allow_val_change=None, group=None, job_type=None, mode=None, force=None, reinit=None, resume=None,
         resume_from=None, fork_from=None, save_code=None, tensorboard=None, sync_tensorboard=None, monitor_gym=None, settings=None):
    fail_at("start")
    if mode not in (None, "online", "offline", "disabled", "shared"):
        raise ValueError(mode)
    note("wandb.init", {"entity": entity, "project": project, "dir": dir, "id": id, "name": name, "mode": mode, "resume": resume,
                        "seed": config["seed"], **settings.given})
    return Run()
'''

_ENTITIES = '''"""Entities, as of MLflow 3.17."""


class Metric:
    def __init__(self, key, value, timestamp, step, model_id=None):
        self.key, self.value, self.timestamp, self.step = key, float(value), int(timestamp), int(step)


class Param:
    def __init__(self, key, value):
        self.key, self.value = key, value
'''

_TRACKING = '''"""The client, as of MLflow 3.17."""

import re
from types import SimpleNamespace

from mlflow.entities import Metric
from stand_in_notes import fail_at, note, past


class MlflowClient:
    def __init__(self, tracking_uri=None, registry_uri=None, workspace_store_uri=None):
        if tracking_uri.startswith("file:") or "://" not in tracking_uri:
            raise RuntimeError("the filesystem tracking backend is in maintenance mode")
        note("mlflow.client", tracking_uri)

    def get_experiment_by_name(self, name):
        known = [call for call in past() if call[:2] == ["mlflow.experiment", name]]
        return SimpleNamespace(experiment_id="7") if known else None

    def create_experiment(self, name, artifact_location=None, tags=None):
        note("mlflow.experiment", name)
        return "7"

    def create_run(self, experiment_id, start_time=None, tags=None, run_name=None):
        note("mlflow.run", experiment_id, run_name)
        return SimpleNamespace(info=SimpleNamespace(run_id="abc"))

    def update_run(self, run_id, status=None, name=None):
        note("mlflow.status", run_id, status)

    def set_terminated(self, run_id, status=None, end_time=None):
        note("mlflow.end", run_id, status)

    def log_batch(self, run_id, metrics=(), params=(), tags=(), synchronous=None):
        if len(params) > 100 or len(metrics) > 1000:
            raise ValueError("at most 100 parameters and 1000 metrics in a request")
        for one in [*metrics, *params]:
            if not re.fullmatch(r"[/\\w.\\- :]*", one.key):
                raise ValueError(f"invalid name {one.key!r}")
        for step in {one.step for one in metrics}:
            fail_at(step)
        for one in metrics:
            note("mlflow.metric", run_id, one.key, one.value, one.step)
        for one in params:
            note("mlflow.param", run_id, one.key, one.value)

    def get_metric_history(self, run_id, key):
        calls = [call for call in past() if call[:3] == ["mlflow.metric", run_id, key]]
        return [Metric(key, value, 0, step) for _, _, _, value, step in calls]
'''


def write_stand_ins(folder: Path) -> Path:
    """The packages wandb and mlflow in a folder."""
    (folder / "mlflow").mkdir(parents=True)
    files = {"stand_in_notes.py": _NOTE, "wandb.py": _WANDB, "mlflow/__init__.py": "", "mlflow/entities.py": _ENTITIES}
    for name, text in {**files, "mlflow/tracking.py": _TRACKING}.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def calls(notes: Path, kind: str = "") -> list[list[Any]]:
    """What was noted, in order; with `kind` without its name, of calls of this one alone."""
    found = [json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines()] if notes.exists() else []
    return [call[1:] if kind else call for call in found if not kind or call[0] == kind]
