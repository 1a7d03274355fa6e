"""Runs that can be interrupted and resumed: the shared command line, checkpoints, results as JSON."""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import random
import shlex
import sys
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from shutil import disk_usage
from time import monotonic
from typing import Any, Protocol

import numpy as np
import opuproj

from common import devices
from common.memory import readable

METHODS = ("bp", "dfa", "odfa", "shallow")


_running_on = devices.CPU


def parser(
    description: str, epilog: str, *, methods: bool = True, use: devices.Use = "train"
) -> argparse.ArgumentParser:
    """Return a parser with the options that all programs have.

    Parameters
    ----------
    description
        What the program does.
    epilog
        Examples of use, printed unchanged.
    methods
        Whether the program compares training methods in resumable runs, and has the options for that.
    use
        What the program does with a GPU, which decides its options for the device.
    """
    made = argparse.ArgumentParser(
        description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    program = Path(sys.argv[0]).stem
    made.add_argument("--quick", action="store_true", help="run a small version, in at most two minutes")
    made.add_argument(
        "--out",
        type=Path,
        default=Path("results") / program,
        metavar="DIR",
        help="folder of results, checkpoints and figures; finished runs in it are kept (default: %(default)s)",
    )
    if methods:
        made.add_argument(
            "--seeds", type=positive, metavar="N", help="number of runs of each method, with seeds 0 … N−1"
        )
        made.add_argument(
            "--methods",
            type=names_of(METHODS),
            default=list(METHODS),
            metavar="LIST",
            help=f"methods to train, separated by commas (default: {','.join(METHODS)})",
        )
        made.add_argument(
            "--save-seconds",
            type=float,
            default=20.0,
            metavar="S",
            help="seconds between two checkpoints (default: %(default)s)",
        )
    made.add_argument(
        "--threads", type=positive, metavar="N", help="number of threads (default: all cores that this process may use)"
    )
    devices.add_options(made, use)
    made.add_argument(
        "--no-progress",
        action="store_true",
        default=not sys.stderr.isatty(),
        help="show no progress bar (the default if standard error is not a terminal)",
    )
    return made


def add_tasks(parser: argparse.ArgumentParser, tasks: Collection[str]) -> None:
    """Add the options of a program that runs several tasks with several seeds."""
    parser.add_argument("--seeds", type=positive, metavar="N", help="runs of each kind, with seeds 0 … N−1")
    parser.add_argument(
        "--tasks",
        type=names_of(tasks),
        default=list(tasks),
        metavar="LIST",
        help=f"tasks, separated by commas (default: {','.join(tasks)})",
    )


def begin(arguments: argparse.Namespace) -> devices.Device:
    """Use the threads and the device that the command line chooses; print the device and return it."""
    global _running_on
    use_threads(arguments.threads)
    _running_on = devices.chosen(arguments)
    print(f"Device: {_running_on}\n", flush=True)
    return _running_on


def use_threads(n: int | None) -> None:
    """Let PyTorch, if it is installed, and opuproj use n threads each; None keeps their defaults."""
    if n is not None:
        if find_spec("torch") is not None:
            import torch

            torch.set_num_threads(n)
        os.environ["OPUPROJ_NUM_THREADS"] = str(n)


class HasState(Protocol):
    """An object that changes during training: a model, an optimizer, a scheduler, a feedback."""

    def state_dict(self) -> Any:
        """Return the state."""

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Restore the state."""


class Checkpoint:
    """A file from which an interrupted run resumes as if it had not been interrupted.

    Parameters
    ----------
    path
        The file. It need not exist.
    every
        Seconds between two saves; more if a save takes more than a twentieth of it.
    **parts
        The objects to save and restore, besides the states of all random number generators.

    Examples
    --------
    >>> checkpoint = Checkpoint(path, 20.0, model=model, optimizer=optimizer)
    >>> record = checkpoint.load() or {"epoch": 0, "losses": []}
    >>> for epoch in range(record["epoch"], epochs):
    ...     record["losses"].append(train(model, optimizer))
    ...     checkpoint.save({**record, "epoch": epoch + 1})
    """

    def __init__(self, path: str | os.PathLike[str], every: float, **parts: HasState):
        self.path = Path(path)
        self.every = every
        self.parts = parts
        self._saved_at = monotonic()
        self._save_seconds = 0.0

    def load(self) -> dict[str, Any] | None:
        """Restore all parts and random number generators; return the record, or None if nothing was saved."""
        if not self.path.exists():
            return None
        import torch

        saved = torch.load(self.path, map_location="cpu", weights_only=True)
        if set(saved["parts"]) != set(self.parts):
            raise ValueError(
                f"{self.path} holds the parts {sorted(saved['parts'])}, this run has {sorted(self.parts)}; "
                "remove the file, or choose another --out"
            )
        for name, part in self.parts.items():
            part.load_state_dict(saved["parts"][name])
        _set_random_state(saved["random"])
        record: dict[str, Any] = saved["record"]
        return record

    def save(self, record: dict[str, Any]) -> None:
        """Save all parts, random number generators and `record`, which consists of plain numbers, texts and tensors."""
        import torch

        started = monotonic()
        saved = {
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "random": _random_state(),
            "record": record,
        }
        replace(self.path, lambda temporary: torch.save(saved, temporary))
        self._saved_at = monotonic()
        self._save_seconds = self._saved_at - started

    def due(self) -> bool:
        """Whether the last save was at least `every` seconds ago, and saving takes little of the time."""
        return monotonic() - self._saved_at >= max(self.every, 20 * self._save_seconds)

    def remove(self) -> None:
        """Remove the file, after the run has finished and its results are written."""
        self.path.unlink(missing_ok=True)


def free_memory(device: devices.Device) -> None:
    """Free what earlier runs left: a model and its feedback refer to each other, and torch keeps a GPU's memory."""
    gc.collect()
    if device.is_gpu:
        import torch

        torch.cuda.empty_cache()


def check_room(device: devices.Device, n_parameters: int, folder: Path) -> None:
    """End the program if the device has no memory for a training by Adam, or the disk no space for its checkpoints."""
    free_memory(device)
    # A checkpoint holds parameters and Adam's two averages. Training adds gradients; measuring the alignment needs them
    # twice. Activations are left out.
    n_bytes = 4 * n_parameters
    if 5 * n_bytes > device.available():
        raise SystemExit(
            f"training needs {readable(5 * n_bytes)} for parameters, gradients and Adam's averages; "
            f"{device.name} has {readable(device.available())} available"
        )
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = disk_usage(existing).free
    if 6 * n_bytes > free:
        raise SystemExit(
            f"{folder} needs {readable(6 * n_bytes)} for a checkpoint and the one that replaces it; "
            f"{readable(free)} are free: choose another --out"
        )


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically: write a temporary file, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Keep the suffix, by which some writers choose the format.
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], results: dict[str, Any]) -> None:
    """Write results atomically, with their command, versions and machine."""
    text = json.dumps({**results, "made": made()}, indent=1, default=_plain) + "\n"
    replace(Path(path), lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read what write_json wrote; None if there is no such file."""
    if not Path(path).exists():
        return None
    results: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return results


def made() -> dict[str, Any]:
    """Return how and where results are made: command, versions, machine, device, date."""
    if find_spec("torch") is None:
        version, threads = None, None
    else:
        import torch

        version, threads = str(torch.__version__), torch.get_num_threads()
    return {
        "command": shlex.join(["python", *sys.argv]),
        "opuproj": opuproj.__version__,
        "torch": version,
        "python": platform.python_version(),
        "cpu": devices.cpu_name(),
        "device": _running_on.model,
        "autocast": _running_on.autocast,
        "compile": _running_on.compile,
        "threads": threads,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and its standard error, which is NaN for a single value."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, math.sqrt(variance / len(values))


def _plain(value: Any) -> Any:
    """Make plain numbers and lists of NumPy's and PyTorch's for JSON."""
    # A tensor exists only if torch was imported.
    arrays: tuple[Any, ...] = (np.generic, np.ndarray)
    if "torch" in sys.modules:
        arrays += (sys.modules["torch"].Tensor,)
    if isinstance(value, arrays):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"results must consist of numbers, texts, lists and dicts, not {type(value).__name__}")


def _random_state() -> dict[str, Any]:
    import torch

    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "torch": torch.get_rng_state(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss),
        "python": random.getstate(),
    }


def _set_random_state(state: dict[str, Any]) -> None:
    import torch

    torch.set_rng_state(state["torch"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    random.setstate(state["python"])


def positive(text: str) -> int:
    """Read a positive integer from the command line."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return value


def positive_number(text: str) -> float:
    """Read a positive number from the command line."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def names_of(known: Collection[str]) -> Callable[[str], list[str]]:
    """Return a function that reads some of these names, separated by commas, from the command line."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown {', '.join(unknown)}; there are {', '.join(known)}")
        return names

    return read
