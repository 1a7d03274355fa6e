"""Check an installed package: the README's first lines, the same bits from every kernel, the command line's demo.

    python -I smoke.py [--torch]

It needs only the environment that it runs in and imports nothing from the checkout.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import sysconfig
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import opuproj
from opuproj import _core

# The checksum of a projection of the README's x in mode "complex": the same bits on every machine.
DIGEST = "e7ef5ad0d93579180035c3fb87db7618"


def readme(block: int) -> dict[str, Any]:
    """Run some of the Python lines of the README that was installed."""
    text = str(importlib.metadata.metadata("opuproj").json["description"])
    names: dict[str, Any] = {}
    exec(compile(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[block], "README.md", "exec"), names)
    return names


def digest(y: Any) -> str:
    """Return a checksum of the bytes of an array, which are little endian."""
    return hashlib.sha256(np.ascontiguousarray(y, "<c8").tobytes()).hexdigest()[:32]


def main() -> None:
    """Check everything and print the result."""
    parser = argparse.ArgumentParser(description="Check an installed package.")
    parser.add_argument("--torch", action="store_true", help="check what needs torch, too")
    with_torch = parser.parse_args().torch
    assert Path(opuproj.__file__).is_relative_to(sysconfig.get_path("platlib")), opuproj.__file__
    assert opuproj.__version__ == importlib.metadata.version("opuproj")

    x, y = itemgetter("x", "y")(readme(0))
    assert (y.shape, y.dtype) == ((10_000,), np.float32)
    few = x[:20_000]
    kernels = [name for name, found in _core.instruction_sets() if found]
    for kernel in kernels:
        os.environ["OPUPROJ_ISA"] = kernel
        found = digest(opuproj.project(few, 300, mode="complex"))
        assert found == DIGEST, f"{kernel}: {found}, but must be {DIGEST}"
    del os.environ["OPUPROJ_ISA"]

    if with_torch:
        import torch

        tensor = torch.from_numpy(few)
        assert torch.equal(opuproj.project(tensor, 300), torch.from_numpy(opuproj.project(few, 300)))
        # The README's second block trains by direct feedback.
        gradients = [weights.grad for weights in readme(1)["model"].parameters()]
        assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)

    for command in (["demo"], ["info", "--help"]):
        subprocess.run([sys.executable, "-I", "-m", "opuproj", *command], check=True, stdout=subprocess.DEVNULL)
    script = Path(sysconfig.get_path("scripts"), "opuproj")
    subprocess.run([script, "--version"], check=True, stdout=subprocess.DEVNULL)

    torch_version = importlib.metadata.version("torch") if with_torch else "none"
    print(
        f"opuproj {opuproj.__version__} works: Python {platform.python_version()}, NumPy {np.__version__}, "
        f"torch {torch_version}, kernels {' '.join(kernels)}"
    )


if __name__ == "__main__":
    main()
