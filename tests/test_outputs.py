"""Files of results: refused before the work where they cannot be written, and what was measured is printed in any case."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import click
import pytest

from kinshot.cli import fewshot, ssl
from kinshot.cli.outputs import OutputFile
from kinshot.core import atomic
from kinshot.core.atomic import write_bytes
from kinshot.core.errors import ConfigError, DataError
from kinshot.core.outputs import check_output_file, check_output_folder
from kinshot.studies.report.folder import check_out
from tests.study_runs import DIGITS, write_run

EVAL = ["eval", "run", "--data", "digits", "--episodes", "20", "--shots", "1", "-q", "--no-reference", "--features", "backbone"]


def commands(group: click.Group) -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        found |= commands(command) if isinstance(command, click.Group) else {f"{group.name} {name}": command}
    return found


EVERY = {**commands(ssl.ssl), **commands(fewshot.fewshot)}


@pytest.mark.parametrize("command", EVERY)
def test_every_option_that_writes_a_file_checks_its_name(command: str) -> None:
    # an option that may be repeated names files that are read
    writing = [p for p in EVERY[command].params if {"--results", "--plot", "--save-episodes"} & set(p.opts) and not p.multiple]
    assert [param.opts for param in writing if not isinstance(param.type, OutputFile)] == []


def test_the_commands_that_measure_are_among_them() -> None:
    with_results = {name for name, command in EVERY.items() if any("--results" in param.opts for param in command.params)}
    assert with_results >= {"fewshot eval", "fewshot lowshot", "fewshot imprint", "fewshot generalized", "ssl probe", "ssl measure"}


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A folder with everything that is no plain file."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "nowhere").symlink_to("gone")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("folder", "is a folder"),
        ("link", "is a link"),
        ("nowhere", "is a link"),
        ("pipe", "is a pipe"),
        ("file/r.json", "no folder|Not a directory"),
        ("nowhere/r.json", "no folder"),
        ("x" * 300, "too long"),
        ("new/" + "x" * 300, "too long"),
        (".", "is a folder"),
    ],
)
def test_what_can_never_be_written_is_refused_at_once(name: str, why: str, crowded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=why):
        check_output_file(crowded / name, "--results")
    monkeypatch.chdir(crowded)
    with pytest.raises(ConfigError, match=why):
        check_output_file(Path(name), "--results")
    assert fewshot.main([*EVAL, "--results", name]) == 2  # there is no checkpoint `run`, which would be 3


def test_new_names_and_plain_files_are_fine(crowded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(crowded)
    for name in ("file", "new.json", "new/folder/r.json", "folder/r.json"):
        check_output_file(Path(name), "--results")
        check_output_file(crowded / name, "--results")
    assert not (crowded / "new").exists()


@pytest.mark.parametrize("name", ["folder", "link", "nowhere", "pipe"])
def test_nothing_but_a_plain_file_is_ever_replaced(name: str, crowded: Path) -> None:
    before = (crowded / name).lstat()
    with pytest.raises(DataError, match="no plain file"):
        write_bytes(crowded / name, b"new")
    assert (crowded / name).lstat() == before
    assert (crowded / "file").read_text() == "mine"


def test_a_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # as for anybody but root
    for place in (tmp_path, tmp_path / "new" / "below"):
        with pytest.raises(ConfigError, match="may not write"):
            check_output_folder(place, "--out")
    with pytest.raises(ConfigError, match="may not write"):
        check_out(tmp_path / "report", overwrite=False)


@pytest.mark.parametrize("name", ["report.html", "report.json"])
def test_a_report_does_not_take_the_place_of_what_is_no_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    os.mkfifo(tmp_path / "report" / name)
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="pipe"):
            check_out(tmp_path / "report", overwrite)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_table_is_printed_also_when_the_disk_has_run_full(
    as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(Path("run"), DIGITS)

    def full(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    args = [*EVAL, "--results", "out/r.json", *["--json"] * as_json]
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write_file", full)
        assert fewshot.main(args) == 3
    failed = capsys.readouterr()
    assert "No space left" in failed.err
    assert not Path("out/r.json").exists()
    assert fewshot.main(args) == 0
    fine = capsys.readouterr()
    assert Path("out/r.json").is_file()
    if as_json:
        assert json.loads(failed.out)["rows"] == json.loads(fine.out)["rows"]
    else:
        assert "prototype" in failed.out
        assert failed.out.splitlines()[-1] == fine.out.splitlines()[-1]
