"""Files that are whole or not there, whenever the machine stops: on disk before what counts on them, then renamed."""

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
    """A file that takes its name, in place of what had it, when all of it is on disk; else nothing of it stays."""

    def __init__(self, path: Path) -> None:
        refuse_special_file(path)
        self._path = path
        # In the same folder, under a name that nobody else uses.
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
    """Wait until a file is on disk, which the system does not end for a signal: another thread waits for it."""
    errors: list[OSError] = []
    # Of its own, as that of the file is closed where the wait is given up.
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
    except RuntimeError:  # the system grants no more threads
        sync()
    else:
        while thread.is_alive():  # with a limit: without one, Ctrl-C is not heard on every system
            thread.join(0.05)
    for error in errors:
        raise error


def reserve_space(file: BinaryIO, size: int, path: Path) -> bool:
    """Reserve so many bytes of disk for a file that is to have this name; False where the file system cannot.

    Raises OSError where there are not so many, ValueError where no file has.
    """
    if size >= 2**63:
        raise ValueError(f"{path} would take {size:,} bytes, and no file holds so much")
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
    """Replace a small file at once, and be sure that it is on disk."""
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        file.write(json.dumps(content, indent=1).encode())
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make sure that names in a folder are on disk."""
    if os.name == "posix":
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def sync_file(path: Path) -> None:
    """Make sure that a file's content is on disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def refuse_special_file(path: Path) -> None:
    """Refuse to put a file in the place of a folder, a device or a named pipe."""
    if path.is_dir():
        raise IsADirectoryError(21, "Is a directory", str(path))
    if path.exists() and not path.is_file():
        raise ValueError(f"OUT is {path}, a device or a pipe, and is not replaced by a file")
