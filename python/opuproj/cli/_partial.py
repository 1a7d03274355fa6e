"""An unfinished result: OUT.partial, and OUT.partial.json with the request and the number of tiles on disk.

Tiles are on disk before the file that counts them, and everything is on disk before the result gets the name OUT. So
the same command resumes after the machine stops at any moment, and OUT is either complete or absent.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ._files import sync_folder, write_json
from ._lock import lock

_RESTART = "--restart deletes it"


class Partial:
    """The files of an unfinished result, which this process locks until it closes them."""

    def __init__(self, out: Path, *, folder: bool) -> None:
        self.out, self._folder = out, folder
        self.path = out.with_name(f"{out.name}.partial")
        self.state_path = out.with_name(f"{out.name}.partial.json")
        self._state: dict[str, Any] = {}
        if self.path.exists() and self.path.is_dir() != folder:
            found, wanted = ("a file", "a folder") if folder else ("a folder", "a file")
            raise ValueError(f"{self.path} is {found}, but must be {wanted} for this result: remove it")
        if folder:
            self.path.mkdir(exist_ok=True)
        else:
            self.path.open("ab").close()
        self._release: Callable[[], None] | None = lock(self.path)

    def begun(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Return the state of an earlier run with the same request, or None if there was none.

        Raises ValueError if the partial result belongs to another request or cannot be resumed.
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
        """Whether an earlier run stopped between its last two steps.

        It then renamed the result, but did not delete the state.
        """
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
        """Return the error about an invalid state file."""
        return ValueError(f"{self.state_path} is not a state that this program wrote: {_RESTART}")

    def _is_empty(self) -> bool:
        return not any(self.path.iterdir()) if self._folder else self.path.stat().st_size == 0

    def begin(self, state: dict[str, Any]) -> None:
        """Write the request, before the first tile."""
        self._state = {**state, "tiles": 0}
        write_json(self.state_path, self._state)

    def count(self, tiles: int, **more: int) -> None:
        """Write the number of tiles, which must be on disk already."""
        self._state = {**self._state, "tiles": tiles, **more}
        write_json(self.state_path, self._state)

    def finish(self, tiles: int) -> None:
        """Rename the result to OUT and delete the state."""
        self.count(tiles, complete=os.stat(self.path).st_ino)
        if self._folder and self.out.exists():  # one step cannot replace a folder by another
            old = self.out.with_name(f"{self.out.name}.{os.getpid()}.old")
            os.replace(self.out, old)
            os.replace(self.path, self.out)
            shutil.rmtree(old)
        else:
            os.replace(self.path, self.out)
        sync_folder(self.out.parent)
        self.state_path.unlink()

    def empty(self) -> None:
        """Delete the partial result, the state first, which must never count missing tiles."""
        self.state_path.unlink(missing_ok=True)
        if self._folder:
            for path in self.path.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        else:
            os.truncate(self.path, 0)

    def remove(self) -> None:
        """Delete the partial result and the state."""
        self.state_path.unlink(missing_ok=True)
        self.state_path.with_name(f"{self.state_path.name}.new").unlink(missing_ok=True)
        if self._folder:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the lock; delete the files if nothing was begun."""
        if self.path.exists() and self._is_empty() and not self.state_path.exists():
            self.remove()
        if self._release is not None:
            self._release()
            self._release = None
