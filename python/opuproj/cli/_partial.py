"""A long result under way: OUT.partial, and OUT.partial.json with what was asked and how many tiles are on disk.

Tiles are on disk before the number that counts them, and all of it is before the name OUT. So whenever the machine
stops, the same command continues with what is counted, and OUT is whole or is not there.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from ._files import sync_folder, write_json

try:
    import fcntl
except ImportError:  # Windows: two runs at once are not noticed there
    fcntl = None  # type: ignore[assignment]

_RESTART = "--restart throws it away"


class Partial:
    """What an unfinished result is kept in. It is this process's alone until it is closed."""

    def __init__(self, out: Path, *, folder: bool) -> None:
        self.out, self._folder = out, folder
        self.path = out.with_name(f"{out.name}.partial")
        self.state_path = out.with_name(f"{out.name}.partial.json")
        self._state: dict[str, Any] = {}
        if self.path.exists() and self.path.is_dir() != folder:
            raise ValueError(f"{self.path} is {'a file' if folder else 'a folder'}, and not what is to be written")
        self._lock = self._locked()

    def _locked(self) -> int | None:
        if self._folder:
            self.path.mkdir(exist_ok=True)
        else:
            self.path.open("ab").close()
        if fcntl is None:
            return None
        # NFS locks no file that is open for reading only.
        lock = os.open(self.path, os.O_RDONLY if self._folder else os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(self.path).st_ino == os.fstat(lock).st_ino:
                return lock
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError:  # a file system without locks
            os.close(lock)
            return None
        os.close(lock)
        raise ValueError(f"{self.path} is being written by another process")

    def begun(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Return the state of an earlier run with the same request, or None if there was none.

        Raises ValueError if what is there came of another request, or cannot be continued.
        """
        state = self._read()
        if state is None:
            if self._is_empty():
                return None
            raise ValueError(
                f"{self.path} is there without {self.state_path.name}, so its content is unknown: {_RESTART}"
            )
        asked = state["request"]
        for name in dict.fromkeys([*request, *asked]):
            there, here = asked.get(name), request.get(name)
            if there != here:
                raise ValueError(
                    f"{self.path} is of another request: {name} is {there} there and {here} here; {_RESTART}"
                )
        if self._is_empty() and state["tiles"] > 0:
            raise ValueError(f"{self.path} is gone, and with it what {self.state_path.name} counts: {_RESTART}")
        self._state = state
        return state

    def finished(self, request: dict[str, Any]) -> bool:
        """Whether an earlier run stopped between the last two steps: OUT has its name, and the state is still there."""
        with suppress(ValueError, OSError):
            state = self._read()
            return (
                state is not None
                and state["request"] == request
                and state.get("complete") == os.stat(self.out).st_ino
                and self._is_empty()
            )
        return False

    def _read(self) -> dict[str, Any] | None:
        try:
            state = json.loads(self.state_path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError):
            state = None
        fits = isinstance(state, dict) and isinstance(state.get("request"), dict)
        if not (fits and all(isinstance(state.get(k), int) and state[k] >= 0 for k in ("tiles", "rows", "columns"))):
            raise self.invalid_state()
        return state  # type: ignore[no-any-return]

    def invalid_state(self) -> ValueError:
        """Return the error of a state that no run leaves."""
        return ValueError(f"{self.state_path} is not what this program writes: {_RESTART}")

    def _is_empty(self) -> bool:
        return not any(self.path.iterdir()) if self._folder else self.path.stat().st_size == 0

    def begin(self, state: dict[str, Any]) -> None:
        """Say what is asked, before anything of it is there."""
        self._state = {**state, "tiles": 0}
        write_json(self.state_path, self._state)

    def count(self, tiles: int, **more: int) -> None:
        """Say how many tiles are on disk, which they must be."""
        self._state = {**self._state, "tiles": tiles, **more}
        write_json(self.state_path, self._state)

    def finish(self, tiles: int) -> None:
        """Give the result its name."""
        self.count(tiles, complete=os.stat(self.path).st_ino)
        if self._folder and self.out.exists():  # a folder is not replaced by another in one step
            old = self.out.with_name(f"{self.out.name}.{os.getpid()}.old")
            os.replace(self.out, old)
            os.replace(self.path, self.out)
            shutil.rmtree(old)
        else:
            os.replace(self.path, self.out)
        sync_folder(self.out.parent)
        self.state_path.unlink()

    def empty(self) -> None:
        """Throw away what is there, the state first: it must never count what is gone."""
        self.state_path.unlink(missing_ok=True)
        if self._folder:
            for path in self.path.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        else:
            os.truncate(self.path, 0)

    def remove(self) -> None:
        """Throw away all of it."""
        self.state_path.unlink(missing_ok=True)
        self.state_path.with_name(f"{self.state_path.name}.new").unlink(missing_ok=True)
        if self._folder:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others have it, and leave no trace of what was never begun."""
        if self.path.exists() and self._is_empty() and not self.state_path.exists():
            self.remove()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
