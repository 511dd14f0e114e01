"""Where results go, looked at before the work: a finished table is not lost to a name that could never be written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kinshot.core.errors import ConfigError

_LONGEST = 225
"""Bytes of a name: file systems take 255, and a file is first written under a name that is a little longer."""


def check_output_file(path: Path, option: str) -> None:
    """Raise ConfigError unless a file may be written to `path`: a new name or a plain file, in a folder that is or can be made.

    Folders, links, pipes and devices are never replaced.

    Args:
        path: the file.
        option: what gave it, for the message.
    """
    if any(len(os.fsencode(part)) > _LONGEST for part in path.parts):
        raise ConfigError(f"{option} {path}: the name is too long; choose another one")
    try:
        if os.path.lexists(path):
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode):
                kind = "a folder" if stat.S_ISDIR(mode) else "a link" if stat.S_ISLNK(mode) else "a pipe or a device"
                raise ConfigError(f"{option} {path} is {kind}, which is not replaced by a file: choose another name")
        elif path.name in ("", ".", ".."):
            raise ConfigError(f"{option} {path} names no file: give one")
    except OSError as problem:
        raise ConfigError(f"{option} {path}: {problem.strerror}; choose another name") from problem
    check_output_folder(path.parent, f"{option} {path}")


def check_output_folder(folder: Path, what: str) -> None:
    """Raise ConfigError unless a folder can be written to, or made; `what` is to be written there, for the message."""
    try:
        standing = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
        if not standing.is_dir():
            kind = "a file" if standing.is_file() else "a link to nowhere or a device"
            raise ConfigError(f"{what}: {standing} is {kind}, and no folder; choose another place")
        if not os.access(standing, os.W_OK | os.X_OK):
            raise ConfigError(f"{what}: you may not write to {standing}; choose another place")
    except OSError as problem:
        raise ConfigError(f"{what}: {problem.strerror}; choose another place") from problem
