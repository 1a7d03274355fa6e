"""The device on which a program computes: the CPU or a GPU, bfloat16 autocast, compiled models.

Random generators that decide data or initial weights stay on the CPU, so that runs on all devices begin from the same
weights. This module imports torch only where it is used, for programs that do not need it.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar

from opuproj import Projector
from tqdm import tqdm

from common import memory

Use = Literal["train", "project", "cpu"]
"""What a program does with a GPU: train models of torch, project arrays, or nothing."""

M = TypeVar("M")


@dataclass(frozen=True)
class Device:
    """A device, and how models compute on it.

    Attributes
    ----------
    name
        As torch and opuproj call it: "cpu", "cuda" or one such as "cuda:1".
    autocast
        Whether forward passes run under bfloat16 autocast.
    compile
        Whether models are compiled.
    """

    name: str = "cpu"
    autocast: bool = False
    compile: bool = False

    @property
    def is_gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.name != "cpu"

    @property
    def model(self) -> str:
        """The GPU's product name, or "cpu"."""
        if not self.is_gpu:
            return "cpu"
        import torch

        return str(torch.cuda.get_device_name(self.name))

    def __str__(self) -> str:
        """Write it as the programs print it."""
        text = f"{self.model} ({self.name})" if self.is_gpu else f"{cpu_name()} (cpu)"
        return text + ", bfloat16 autocast" * self.autocast + ", compiled" * self.compile

    def casting(self) -> AbstractContextManager[Any]:
        """Return the context of a forward pass: autocast, or nothing."""
        if not self.autocast:
            return nullcontext()
        import torch

        context: AbstractContextManager[Any] = torch.autocast(self.name.partition(":")[0], dtype=torch.bfloat16)
        return context

    def compiled(self, model: M) -> M:
        """Compile a model in place if that was chosen, and return it. Call it after feedback is attached.

        Blocks end graphs, and one that ends in the loop of a Sequential would leave it all uncompiled. So the parts of
        a Sequential with feedback are compiled one by one.
        """
        if self.compile:
            from opuproj.dfa import Feedback
            from torch import nn

            if isinstance(model, nn.Sequential) and Feedback.of(model) is not None:
                for part in model.children():
                    part.compile(dynamic=False)
            else:
                model.compile()  # type: ignore[attr-defined]
        return model

    def wait(self) -> None:
        """Wait until the device has done its work, so that a clock can be read."""
        if self.is_gpu:
            import torch

            torch.cuda.synchronize(self.name)

    def available(self) -> int:
        """Return the available memory of the device in bytes."""
        if not self.is_gpu:
            return memory.available()
        import torch

        return int(torch.cuda.mem_get_info(self.name)[0])

    def peak_memory(self) -> int | None:
        """Return the most bytes that torch has used on a GPU, or this process in the CPU's memory."""
        if not self.is_gpu:
            return memory.peak_resident()
        import torch

        return int(torch.cuda.max_memory_allocated(self.name))

    def computed(self, earlier: Mapping[str, Any] | None, path: Path) -> dict[str, Any]:
        """Return what a run records of its devices; print it if the run began, or was finished, on another device.

        Parameters
        ----------
        earlier
            What the run recorded before; None if it had no such record, because all computed on the CPU then.
        path
            The file of the run, for messages.

        Raises
        ------
        SystemExit
            If the earlier part differs in autocast, so that its numbers have another precision.
        """
        found = earlier or {"devices": ["cpu"], "autocast": False, "compile": False}
        if found["autocast"] != self.autocast:
            one, other = ("with", "without") if found["autocast"] else ("without", "with")
            raise SystemExit(f"{path} was computed {one} --autocast, and this run is {other} it: choose another --out")
        if found["devices"][-1] != self.model:
            tqdm.write(f"{path} was computed on {found['devices'][-1]} before, not on {self.model}")
        if found["compile"] != self.compile:
            tqdm.write(f"{path} was computed {'with' if found['compile'] else 'without'} --compile before")
        return dict(found)

    def computing(self, earlier: Mapping[str, Any] | None, path: Path) -> dict[str, Any]:
        """Return the same for a run that goes on here, with this device as its last."""
        found = self.computed(earlier, path)
        if found["devices"][-1] != self.model:
            found["devices"] = [*found["devices"], self.model]
        return {**found, "compile": found["compile"] or self.compile}

    def beginning(self) -> dict[str, Any]:
        """Return the same for a run that begins here."""
        return {"devices": [self.model], "autocast": self.autocast, "compile": self.compile}


CPU = Device()


def names(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the devices on which runs were computed, from their results."""
    return sorted({name for result in results for name in result.get("computed", {"devices": ["cpu"]})["devices"]})


def tell_mixture(results: Iterable[Mapping[str, Any]]) -> None:
    """Print the devices of runs that a table or a figure compares, if there are several."""
    found = names(results)
    if len(found) > 1:
        print(f"\nThese runs were computed on different devices: {', '.join(found)}")


def add_options(parser: argparse.ArgumentParser, use: Use) -> None:
    """Add --device and, for programs that train, --autocast and --compile."""
    only = "; this program computes on the CPU only" if use == "cpu" else ""
    parser.add_argument(
        "--device",
        type=_reader(use),
        default="auto",
        metavar="{cuda,cpu}",
        help=f"device that computes; cuda:1 is the second GPU (default: cuda where there is one, else cpu{only})",
    )
    if use == "train":
        parser.add_argument("--autocast", action="store_true", help="forward passes under bfloat16 autocast")
        parser.add_argument("--compile", action="store_true", help="compile the models by torch.compile")


def chosen(arguments: argparse.Namespace) -> Device:
    """Return the device that the command line chooses."""
    options = (bool(getattr(arguments, option, False)) for option in ("autocast", "compile"))
    return Device(arguments.device, *options)


def cpu_name() -> str:
    """Return the name of the processor, if the system gives it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _reader(use: Use) -> Callable[[str], str]:
    def read(text: str) -> str:
        """Read a device from the command line."""
        if text == "auto":
            return "cpu" if _refusal("cuda", use) else "cuda"
        kind, colon, index = text.partition(":")
        if text != "cpu" and (kind != "cuda" or (colon and not index.isdecimal())):
            raise argparse.ArgumentTypeError(f"{text!r} is not cpu, cuda or one such as cuda:1")
        if reason := _refusal(text, use):
            raise argparse.ArgumentTypeError(f"{text!r} cannot be used: {reason}")
        return text

    return read


def _refusal(name: str, use: Use) -> str | None:
    """Return why a program cannot use a device, or None if it can."""
    if name == "cpu":
        return None
    if use == "cpu":
        return "this program computes on the CPU only"
    if find_spec("torch") is None:
        return "torch is not installed"
    import torch

    if not torch.cuda.is_available():
        return "torch finds no GPU that it can use"
    index = int(name.partition(":")[2] or 0)
    if index >= torch.cuda.device_count():
        return f"there are {torch.cuda.device_count()} GPUs, counted from 0"
    if use == "project":
        try:
            Projector(1, 1, device=name)
        except RuntimeError as error:  # without the extra of this package, for example
            return str(error)
    return None
