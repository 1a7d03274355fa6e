"""Compiles the kernels with NVRTC and keeps the results on disk.

A file of the cache holds one cubin behind its SHA-256 digest. Its name covers everything that the cubin depends on: all
sources, the options, the architecture and the version of NVRTC. Writers write a file of their own and rename it, so a
reader never finds a part of a file. What cannot be read is compiled again, and what cannot be written stays in memory.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

KERNELS = Path(__file__).parent / "kernels"
CACHE_VARIABLE = "OPUPROJ_CACHE_DIR"
INSTALL = "pip install 'opuproj[cuda13]' (for a driver of CUDA 13 or newer) or 'opuproj[cuda12]' (for one of CUDA 12)"

# A fused multiply-add rounds once where the CPU rounds twice.
_OPTIONS = {"std": "c++17", "fma": False}
_DIGEST_BYTES = hashlib.sha256().digest_size

_cubins: dict[tuple[str, str, tuple[str, ...]], bytes] = {}
_lock = threading.Lock()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may hold it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def cubin(file: str, architecture: str, macros: tuple[str, ...] = ()) -> bytes:
    """Return the cubin of `kernels/<file>`, from memory, from the disk or compiled.

    To compile, NVRTC 13 initialises CUDA if there is a driver, so fork no process afterwards that uses CUDA.

    Parameters
    ----------
    file
        A file of the folder `kernels`.
    architecture
        Such as ``"sm_90"``.
    macros
        Definitions, each ``"NAME"`` or ``"NAME=value"``.

    Raises
    ------
    RuntimeError
        If NVRTC is not installed, is too old for the architecture, or does not compile the file.
    """
    request = (file, architecture, macros)
    found = _cubins.get(request)
    if found is None:
        with _lock:
            found = _cubins.get(request)
            if found is None:
                found = _cubins[request] = _load(*request)
    return found


def cache_folder() -> Path | None:
    """Return the folder of the cache on disk, or None if this user has no home folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    try:
        if sys.platform == "win32":
            base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(base) / "opuproj"


def _load(file: str, architecture: str, macros: tuple[str, ...]) -> bytes:
    path = _path(file, architecture, macros)
    found = None if path is None else _read(path)
    if found is None:
        found = compiled(file, architecture, macros)
        if path is not None:
            _write(path, found)
    return found


def compiled(
    file: str,
    architecture: str,
    macros: tuple[str, ...] = (),
    *,
    log: Any = None,
    ptxas_options: list[str] | None = None,
) -> bytes:
    """Compile a file without any cache, and write the messages of the compiler to `log`."""
    nvrtc = _nvrtc()
    from cuda.core import Program, ProgramOptions

    version = ".".join(map(str, _version(nvrtc)))
    known = _checked(nvrtc, nvrtc.nvrtcGetSupportedArchs())
    if int(architecture.removeprefix("sm_")) not in known:
        raise RuntimeError(
            f"NVRTC {version} cannot compile for {architecture}, but for sm_{min(known)} to sm_{max(known)}; "
            f"a newer version may: {INSTALL.replace('install', 'install --upgrade', 1)}"
        )
    try:
        options = ProgramOptions(
            name=file,
            arch=architecture,
            include_path=[str(KERNELS)],
            define_macro=[_definition(macro) for macro in macros] or None,
            ptxas_options=ptxas_options,
            # Functions of a file are compiled at once, on all cores, except for the newest architectures, for which
            # the compiler then keeps numbers of some functions in memory, from one run to the next differently.
            split_compile=0 if _version(nvrtc) >= (12, 8) and int(architecture[3:]) < 100 else None,
            **_OPTIONS,
        )
        source = (KERNELS / file).read_text(encoding="utf-8")
        return bytes(Program(source, code_type="c++", options=options).compile("cubin", logs=log).code)
    except Exception as error:
        given = f" with {', '.join(macros)}" if macros else ""
        raise RuntimeError(f"NVRTC {version} did not compile {file} for {architecture}{given}: {error}") from error


def _definition(macro: str) -> str | tuple[str, str]:
    name, equals, value = macro.partition("=")
    return (name, value) if equals else name


def _nvrtc() -> Any:
    """Return NVIDIA's module for NVRTC, with the library loaded."""
    try:
        import cuda.core  # noqa: F401
        from cuda.bindings import nvrtc

        _version(nvrtc)
    except (ImportError, RuntimeError, OSError) as error:
        raise RuntimeError(f"NVRTC, which compiles the kernels, was not found: {INSTALL}") from error
    return nvrtc


def _version(nvrtc: Any) -> tuple[int, int]:
    major, minor = _checked(nvrtc, nvrtc.nvrtcVersion())
    return major, minor


def _checked(nvrtc: Any, result: tuple[Any, ...]) -> Any:
    if result[0] != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise RuntimeError(f"NVRTC failed: {result[0].name}")
    return result[1] if len(result) == 2 else result[1:]


def _path(file: str, architecture: str, macros: tuple[str, ...]) -> Path | None:
    folder = cache_folder()
    if folder is None:
        return None
    key = hashlib.sha256(repr((file, architecture, macros, sorted(_OPTIONS.items()), _version(_nvrtc()))).encode())
    for source in sorted(KERNELS.glob("*.cu*")):
        text = source.read_bytes()
        key.update(f"{source.name} {len(text)}\n".encode())
        key.update(text)
    return folder / f"{Path(file).stem}-{architecture}-{key.hexdigest()}.cubin"


def _read(path: Path) -> bytes | None:
    """Return the cubin in a file of the cache, or None if there is none or it is damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, found = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return found if hashlib.sha256(found).digest() == digest else None


def _write(path: Path, found: bytes) -> None:
    """Keep a cubin on disk, or do nothing if the disk does not let us."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(hashlib.sha256(found).digest() + found)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
