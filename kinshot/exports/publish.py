"""Writing what was made: put aside whole, opened there as its readers will, compared with the encoder, and only then given its name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from kinshot.core.atomic import aside, cannot_write, make_folder, replace_folder, sweep_orphans, sync_folder, write_file
from kinshot.core.errors import ConfigError, DataError
from kinshot.core.outputs import check_output_file, check_output_folder
from kinshot.exports.proof import Proof, proved
from kinshot.exports.subject import Made, Subject
from kinshot.recipes.exported import only_exported


def check_target(path: Path, suffix: str, overwrite: bool) -> None:
    """Raise ConfigError unless an export may be written to `path`.

    What a dead process was writing under this name is cleared up, and what it was replacing is put back.

    Args:
        path: a file with the format's ending, or for a format without one a folder.
        suffix: the format's ending; empty for a folder.
        overwrite: whether an export of that name may be replaced. A folder is replaced only where it holds an export and nothing else.
    """
    if suffix and path.suffix != suffix:
        raise ConfigError(f"{path}: a file of this format ends with {suffix}: call it {path.stem or 'encoder'}{suffix}")
    if suffix:
        check_output_file(path, "the export")
    else:
        check_output_folder(path.parent, f"the export {path}")
    if path.parent.is_dir():
        sweep_orphans(path.parent, path.name)
    if not os.path.lexists(path):
        return
    if not suffix:
        _check_folder(path)
    if not overwrite and (suffix or any(path.iterdir())):
        raise ConfigError(f"{path} is there already: choose another name, or add --overwrite")


def publish(path: Path, made: Made, subject: Subject) -> Proof:
    """Write a file or a folder, compared, in the place of an earlier one.

    Raises:
        ConfigError: it is not equal to the encoder; nothing is left of it, and an earlier one is as it was.
        DataError: it cannot be written; the same.
    """
    make_folder(path.parent)
    stage = aside(path, "tmp")
    try:
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir()
        single = set(made.files) == {""}
        for name, data in made.files.items():
            write_file(stage / (path.name if single else name), data)
        proof = proved(made.what, subject.features, made.opened(stage / path.name if single else stage), subject.values, subject.shown)
        if single:
            os.replace(stage / path.name, path)
            sync_folder(path.parent)
        else:
            sync_folder(stage)
            replace_folder(stage, path)
    except OSError as problem:
        raise DataError(cannot_write(path, sum(map(len, made.files.values())), problem)) from problem
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return proof


def _check_folder(path: Path) -> None:
    """Raise ConfigError for what is in the way and is no exported folder: nothing else is ever replaced."""
    if path.is_symlink() or not path.is_dir():
        raise ConfigError(f"{path} is a file or a link, and this format is a folder: choose another name")
    if any(path.iterdir()) and not only_exported(path):
        raise ConfigError(f"{path} is a folder that holds something else than an export, which is never replaced: choose another name")
