"""A lock on an unfinished result, so that two runs cannot write it at the same time."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def lock(path: Path) -> Callable[[], None]:
    """Lock the file or folder at `path`, and return the function that releases the lock.

    On a file system without locks it locks nothing.

    Raises
    ------
    ValueError
        If another process has locked it.
    """
    return _lock_beside(path) if fcntl is None else _lock_itself(path)


def _lock_itself(path: Path) -> Callable[[], None]:
    # NFS cannot lock a file that is open only for reading.
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
            return lambda: os.close(descriptor)
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:  # a file system without locks
        os.close(descriptor)
        return _nothing
    os.close(descriptor)
    raise _taken(path)


def _lock_beside(path: Path) -> Callable[[], None]:
    """Lock a file next to `path`: Windows cannot lock a folder, and a locked file cannot be renamed there."""
    import filelock

    name = path.with_name(f"{path.name}.lock")
    held = filelock.FileLock(name)
    try:
        held.acquire(blocking=False)
    except filelock.Timeout:
        raise _taken(path) from None
    except OSError:  # a file system without locks
        return _nothing

    def release() -> None:
        held.release()
        with suppress(OSError):  # Windows refuses to delete it while another process waits for it
            name.unlink()

    return release


def _taken(path: Path) -> ValueError:
    return ValueError(f"{path} is being written by another process")


def _nothing() -> None:
    pass
