"""Runs the kernels of the CUDA backend on the CPU: g++ compiles them with a header that stands in for a GPU."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import opuproj
import pytest

_HERE = Path(__file__).parent
KERNELS = Path(opuproj.__file__).parent / "backends" / "cuda" / "kernels"
_FLAGS = ("-O2", "-std=c++17", "-ffp-contract=off", "-fPIC", "-shared", "-w", "-x", "c++", "-U_FORTIFY_SOURCE")
_KERNEL = re.compile(r'extern "C" __global__ void\s+(?:__launch_bounds__\(([^,)]*)[^)]*\)\s*)?(\w+)')
_lock = threading.Lock()


def kernels_of(source: str) -> list[str]:
    """The names of the kernels that a CUDA source defines."""
    return [name for _, name in _KERNEL.findall(source)]


@cache
def _library(file: str, macros: tuple[str, ...] = ()) -> ctypes.CDLL:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    source = (KERNELS / file).read_text()
    code = f'#include "{KERNELS / file}"\n'
    for most, name in _KERNEL.findall(source):
        code += f'extern "C" void standin_{name}(u32 grid, u32 block, void** a) {{ launch({name}, grid, block, a); }}\n'
        code += f'extern "C" const char* types_{name}() {{ return types({name}); }}\n'
        code += f'extern "C" int most_threads_{name}() {{ return {most or 1024}; }}\n'
    texts = [path.read_bytes() for path in sorted([*KERNELS.iterdir(), *_HERE.glob("*.cuh")]) if path.is_file()]
    key = hashlib.sha256(b"".join([*texts, code.encode(), repr(macros).encode(), repr(_FLAGS).encode()])).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"opuproj-standin-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{key[:32]}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            main, built = Path(temporary) / "main.cpp", Path(temporary) / "main.so"
            main.write_text(code)
            defines = [f"-D{macro}" for macro in macros]
            includes = [f"-I{_HERE}", f"-I{KERNELS}"]
            subprocess.run([compiler, *_FLAGS, *defines, *includes, str(main), "-o", str(built)], check=True)
            built.rename(library)
    return ctypes.CDLL(str(library))


@cache
def types_of(file: str, kernel: str, macros: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The types of a kernel's arguments: "p8" is a pointer, and "f8", "u4" and "i4" are numbers of so many bytes."""
    function = getattr(_library(file, macros), f"types_{kernel}")
    function.restype = ctypes.c_char_p
    return tuple(function().decode().split())


@cache
def most_threads(file: str, kernel: str, macros: tuple[str, ...] = ()) -> int:
    """The most threads with which a kernel may be launched, by its launch bounds."""
    return int(getattr(_library(file, macros), f"most_threads_{kernel}")())


def launch(file: str, kernel: str, grid: int, threads: int, *arguments: Any, macros: tuple[str, ...] = ()) -> None:
    """Run a kernel. Arguments are NumPy scalars of the kernel's types; an array passes its address."""
    values = [
        np.array([argument.ctypes.data if isinstance(argument, np.ndarray) else argument]) for argument in arguments
    ]
    addresses = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
    function = getattr(_library(file, macros), f"standin_{kernel}")
    with _lock:
        function(ctypes.c_uint(grid), ctypes.c_uint(threads), addresses)
