"""Folders of a sweep's runs: one for each, the same one every time, and never another run's."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinshot.core.errors import ConfigError
from kinshot.runs.sweep import plan_sweep, run_sweep
from tests.tiny import TINY
from tests.trees import write_folder

FOLDER = ("data=folder", "data.size=16", "data.split=train", "train.batch_size=4", "train.epochs=1", "encoder.width=4")
QUIET = ("monitor.tensorboard=false", "monitor.knn_every=0")


def places(out: Path, *settings: str, seeds: tuple[int, ...] = (0,)) -> list[str]:
    return [job.out.name for job in plan_sweep(str(TINY), (*FOLDER, *settings), list(seeds), out)]


def test_values_that_look_alike_as_file_names_get_folders_of_their_own(tmp_path: Path) -> None:
    found = places(tmp_path, "data.root=x/y,x-y,x/-y")
    assert len(set(found)) == 3
    assert found == places(tmp_path, "data.root=x/y,x-y,x/-y")
    assert found[1] == "root=x-y_seed=0"
    assert places(tmp_path, "data.root=z,x/y")[1] == found[0]  # whatever stands beside it
    assert all("/" not in name for name in found)


def test_long_values_get_names_that_a_disk_takes(tmp_path: Path) -> None:
    long = "é" * 300
    found = places(tmp_path, f"data.root={long}a,{long}b", seeds=(0, 1))
    assert len(set(found)) == 4
    assert all(len(name.encode()) <= 255 for name in found)


def test_a_run_that_is_asked_for_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="twice"):
        places(tmp_path, "data.root=x,x")
    with pytest.raises(ConfigError, match="twice"):
        places(tmp_path, "data.root=x", seeds=(1, 1))


def test_each_run_is_trained_on_its_own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place in ("x/y", "x-y"):
        write_folder(Path(place))
    next(Path("x-y/train/cat").iterdir()).unlink()
    planned = plan_sweep(str(TINY), (*FOLDER, *QUIET, "data.root=x/y,x-y"), [0], Path("sw"))
    said: list[str] = []
    results = run_sweep(planned, said.append)
    assert len({result["weights"] for result in results}) == 2
    assert [Path(result["out"]) for result in results] == [job.out for job in planned]
    assert run_sweep(planned, said.append) == results  # continued, not trained anew


def test_runs_of_an_earlier_version_are_found_under_their_old_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(Path("x/y"))
    settings = (*FOLDER, *QUIET, "data.root=x/y,x-y")
    first = plan_sweep(str(TINY), settings, [0], Path("sw"))[:1]
    run_sweep(first, lambda text: None)
    first[0].out.rename("sw/root=x-y_seed=0")
    again, other = (job.out.name for job in plan_sweep(str(TINY), settings, [0], Path("sw")))
    assert again == "root=x-y_seed=0"
    assert other != again
    assert [job.out.name for job in plan_sweep(str(TINY), (*FOLDER, *QUIET, "data.root=x-y,x/y"), [0], Path("sw"))] == [other, again]
