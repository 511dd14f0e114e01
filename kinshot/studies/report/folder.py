"""Where a report goes: a folder that has all of it or none, and never loses what is not a report's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from kinshot.core.atomic import aside, cannot_write, replace_folder, sync_folder, write_file
from kinshot.core.errors import ConfigError, DataError
from kinshot.core.outputs import check_output_file, check_output_folder
from kinshot.core.small_files import read_json
from kinshot.studies.report.content import KIND

PAGE, NUMBERS = "report.html", "report.json"


def check_out(out: Path, overwrite: bool, option: str = "--out") -> None:
    """Raise ConfigError unless a report may be written to `out`.

    A new or empty folder will do, and one that holds an earlier report and nothing else. `overwrite` allows any folder; what is
    not a report's stays there.
    """
    check_output_folder(out, f"{option} {out}")
    check_output_folder(out.resolve().parent, f"{option} {out}")  # where the files are gathered
    for name in (PAGE, NUMBERS):
        check_output_file(out / name, option)
    others = sorted(_held(out) - _report_files(out))
    if others and not overwrite:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise ConfigError(
            f"{option} {out} holds something that is no report ({others[0]}{more}): choose another folder, or add --overwrite to write "
            "the report beside it"
        )


def publish(files: dict[str, bytes], out: Path, overwrite: bool) -> None:
    """Write a report's files, all of them flushed before the first can be seen.

    A folder that holds nothing else is replaced as a whole. In any other the files are renamed into place one by one, the page last,
    and those of an earlier report that are not needed any more go.

    Raises:
        ConfigError: see `check_out`.
        DataError: the disk is full, read-only or gone; an earlier report is unchanged.
    """
    check_out(out, overwrite)
    for name in files:
        check_output_file(out / name, "--out")
    out = out.resolve()
    staged, size = aside(out, "tmp"), sum(map(len, files.values()))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        for name, data in files.items():
            write_file(staged / name, data)
        sync_folder(staged)
        _put(staged, out, list(files))
    except OSError as problem:
        raise DataError(cannot_write(out, size, problem)) from problem
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _put(staged: Path, out: Path, names: list[str]) -> None:
    earlier = _report_files(out)
    if not _held(out) - earlier and out != Path.cwd():  # a shell would lose the folder that it stands in
        replace_folder(staged, out)
        return
    for name in sorted(names, key=lambda name: name == PAGE):
        os.replace(staged / name, out / name)
    for name in earlier - set(names):
        (out / name).unlink(missing_ok=True)
    sync_folder(out)


def _held(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()


def _report_files(folder: Path) -> set[str]:
    """Names of the files of the report in a folder; none where there is no report that says so."""
    try:
        found = read_json(folder / NUMBERS)
        listed = set(map(str, found["files"])) if found["kind"] == KIND else set()
    except (DataError, KeyError, TypeError):
        return set()
    return {name for name in listed if Path(name).name == name and (folder / name).is_file()}
