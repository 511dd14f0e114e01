"""Files that are complete or not there: written aside, flushed to the disk, renamed into place.

What is being written is called `.NAME.tmp-<pid>` and lies in the same folder as `NAME`; a folder that is about to be replaced
is set aside as `.NAME.old-<pid>`. A killed process leaves such names behind: `sweep_orphans` puts them right.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from kinshot.core.errors import DataError, KinshotError

_ASIDE = re.compile(r"^\.(?P<name>.+)\.(?P<kind>tmp|old)-(?P<pid>\d+)$")

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_NOT_PLAIN = "it is a link, a pipe or a device, and no plain file"


def write_bytes(path: str | Path, data: bytes, *, fsync: bool = True, error: type[KinshotError] = DataError) -> None:
    """Replace the file `path` by `data`, or leave it as it was.

    Args:
        path: the file to write, a new name or a plain file: links, pipes and devices are not replaced; its folder must exist.
        data: the whole new content.
        fsync: wait until the content and the name are on the disk, so that a power cut cannot undo or halve them.
        error: what to raise when the disk is full, read-only or gone.

    Raises:
        KinshotError: of type `error`, naming the path, the size and the reason; the previous file is untouched.
    """
    path = Path(path)
    temporary = aside(path, "tmp")
    try:
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            raise OSError(errno.EINVAL, "it is a folder, a link, a pipe or a device, and no plain file", str(path))
        write_file(temporary, data, fsync=fsync)
        _keep_mode(path, temporary)
        os.replace(temporary, path)
        if fsync:
            sync_folder(path.parent)
    except OSError as problem:
        _discard(temporary)
        raise error(cannot_write(path, len(data), problem)) from problem
    except BaseException:
        _discard(temporary)
        raise


def make_folder(folder: Path, error: type[KinshotError] = DataError) -> None:
    """Make a folder with its parents, if it is not there. Raises `error`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise error(f"cannot create the folder {folder}: {problem.strerror}; choose another one") from problem


def write_text(path: str | Path, text: str, *, fsync: bool = True, error: type[KinshotError] = DataError) -> None:
    """Replace the file `path` by `text` in UTF-8, or leave it as it was (see `write_bytes`)."""
    write_bytes(path, text.encode("utf-8"), fsync=fsync, error=error)


def write_json(path: str | Path, value: Any, *, fsync: bool = True, error: type[KinshotError] = DataError) -> None:
    """Replace the file `path` by `value` as indented JSON, or leave it as it was (see `write_bytes`)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", fsync=fsync, error=error)


def replace_folder(temporary: Path, final: Path, *, fsync: bool = True) -> None:
    """Rename the finished folder `temporary` to `final`, replacing a folder of that name.

    POSIX cannot swap two folders in one step, so the old one is set aside first; a crash between the two renames leaves it
    there, complete, for readers and for `sweep_orphans` to find. Raises OSError with the old folder back in place.
    """
    old = aside(final, "old")
    if not final.exists():
        os.rename(temporary, final)
    else:
        shutil.rmtree(old, ignore_errors=True)
        os.rename(final, old)
        try:
            os.rename(temporary, final)
        except BaseException:
            os.rename(old, final)
            raise
    if fsync:
        sync_folder(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Delete a folder so that a crash half way never leaves a half-deleted folder under its own name."""
    doomed = aside(folder, "tmp")
    os.rename(folder, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def sweep_orphans(folder: str | Path, of: str = "") -> list[Path]:
    """Clear up in `folder` after dead processes, of one name only where it is given; returns what it removed or put back.

    A folder set aside goes back to its name if nothing has taken it, everything else is deleted. Names carrying this
    process's own pid count as dead (in a container every run has the same pid): call it before writing, not while.
    """
    swept = []
    found = [(entry, match) for entry in _entries(folder) if (match := _ASIDE.match(entry.name)) and of in ("", match["name"])]
    for entry, match in sorted(found, key=lambda pair: pair[0].name):
        pid = int(match["pid"])
        if pid != os.getpid() and pid_alive(pid):
            continue
        final = entry.with_name(match["name"])
        if match["kind"] == "old" and not final.exists():
            os.rename(entry, final)
        else:
            _discard(entry)
        swept.append(entry)
    return swept


def is_aside(path: Path) -> bool:
    """Whether a name is one that a process writes to, or moves old content to, while it replaces something."""
    return _ASIDE.match(path.name) is not None


def set_aside(path: Path) -> list[Path]:
    """The folders that hold what `path` held when a crash interrupted its replacement; empty while `path` exists."""
    if path.exists():
        return []
    return [e for e in _entries(path.parent) if (m := _ASIDE.match(e.name)) and m["kind"] == "old" and m["name"] == path.name]


def aside(path: Path, kind: str) -> Path:
    """The name beside `path` that this process writes to ("tmp") or moves the old content to ("old")."""
    return path.with_name(f".{path.name}.{kind}-{os.getpid()}")


def write_file(path: Path, data: bytes, *, fsync: bool = True) -> None:
    """Write a new file and wait for the disk. Not atomic by itself. Raises OSError."""
    descriptor = open_plain(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0))
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if fsync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_plain(path: Path, flags: int) -> int:
    """A descriptor of a plain file, opened or made without following a link or waiting for a pipe. Raises OSError for anything else."""
    try:
        descriptor = os.open(path, flags | _NO_FOLLOW, 0o666)
    except OSError as problem:
        if problem.errno in (errno.ELOOP, errno.ENXIO):
            raise OSError(problem.errno, _NOT_PLAIN, str(path)) from problem
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, _NOT_PLAIN, str(path))


def sync_folder(folder: Path) -> None:
    """Wait until the names in `folder` are on the disk. File systems that cannot do that for folders are left alone."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as problem:
        if problem.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def cannot_write(path: Path, size: int, problem: OSError) -> str:
    """The message for a failed write: what, how much, why, and what to do."""
    remedies = {
        errno.ENOSPC: "free some space or choose another folder",
        errno.EDQUOT: "free some of your quota or choose another folder",
        errno.EFBIG: "raise the file size limit (ulimit -f) or choose another folder",
        errno.EROFS: "the file system is read-only: choose another folder",
        errno.EACCES: "you may not write there: choose another folder or change its permissions",
        errno.EPERM: "you may not write there: choose another folder or change its permissions",
        errno.ENOENT: "create the folder first",
    }
    remedy = remedies.get(problem.errno or 0, "check the disk and the folder")
    return f"cannot write {path} ({size} bytes): {problem.strerror or problem}; {remedy}. What was there before is unchanged"


def pid_alive(pid: int) -> bool:
    """Whether a process of that number runs on this machine."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _entries(folder: str | Path) -> list[Path]:
    try:
        return list(Path(folder).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _keep_mode(path: Path, temporary: Path) -> None:
    with suppress(FileNotFoundError):
        os.chmod(temporary, stat.S_IMODE(path.stat().st_mode))


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
