"""Writes files so that they are complete or absent even if the machine stops: sync to disk first, then rename."""

from __future__ import annotations

import errno
import json
import os
import secrets
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO


class Replacement:
    """A new file that replaces `path` once all of it is on disk. After an error it is deleted."""

    def __init__(self, path: Path) -> None:
        refuse_special_file(path)
        self._path = path
        # In the same folder, under a unique name.
        self._partial = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
        self._file: BinaryIO

    def __enter__(self) -> BinaryIO:
        self._file = self._partial.open("xb")
        return self._file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._file as file:
                if kind is None:
                    file.flush()
                    _sync(file.fileno())
            if kind is None:
                os.replace(self._partial, self._path)
                sync_folder(self._path.parent)
        finally:
            with suppress(OSError):
                self._partial.unlink()


def _sync(descriptor: int) -> None:
    """Wait until a file is on disk. Signals do not interrupt fsync, so another thread calls it."""
    errors: list[OSError] = []
    # The thread needs its own descriptor, because the file is closed if the wait is interrupted.
    same = os.dup(descriptor)

    def sync() -> None:
        try:
            os.fsync(same)
        except OSError as error:
            errors.append(error)
        finally:
            os.close(same)

    thread = threading.Thread(target=sync, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the system allows no more threads
        sync()
    else:
        while thread.is_alive():  # without a timeout, some systems do not deliver Ctrl-C
            thread.join(0.05)
    for error in errors:
        raise error


def reserve_space(file: BinaryIO, size: int, path: Path) -> bool:
    """Reserve `size` bytes of disk for a file; return False if the file system cannot. `path` is for messages.

    Raises OSError if the disk has less space, and ValueError if no file can have this size.
    """
    if size >= 2**63:
        raise ValueError(f"{path} would take {size:,} bytes, which is too large for any file")
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV):
            raise OSError(
                error.errno, f"{os.strerror(error.errno or 0)}: it takes {size:,} bytes", str(path)
            ) from error
        return False
    return True


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace a small file atomically, and wait until it is on disk."""
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        file.write(json.dumps(content, indent=1).encode())
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on disk."""
    if os.name == "posix":
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def sync_file(path: Path) -> None:
    """Wait until a file's content is on disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def refuse_special_file(path: Path) -> None:
    """Raise an error if `path` is a folder, a device or a named pipe, which a file would replace."""
    if path.is_dir():
        raise IsADirectoryError(21, "Is a directory", str(path))
    if path.exists() and not path.is_file():
        raise ValueError(f"OUT is {path}, a device or a pipe, which a file cannot replace: give another name")
