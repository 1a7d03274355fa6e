"""NVRTC compiles every kernel for every supported architecture, within limits. Compiled kernels are kept on disk.

None of this needs a GPU.
"""

from __future__ import annotations

import io
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from helpers import ROOT
from opuproj.backends.cuda import _compile

ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
FILES = sorted(path.name for path in _compile.KERNELS.glob("*.cu"))
# The definitions that a file is compiled with, each in turn; none for other files.
MACROS: dict[str, list[tuple[str, ...]]] = {"structured.cu": [("LOG2_N=8",), ("LOG2_N=20",)]}


class Limits(NamedTuple):
    """What ptxas may report of a kernel, on any architecture."""

    registers: int = 128
    spilled: int = 0  # bytes written to local memory and read again
    static_shared: int = 1024  # bytes


# By kernels; a kernel that is not here has the defaults. Blocks of 512 threads have 128 registers for each, of 384
# 168. The compiler spills a little more or less with each of its versions.
LIMITS = {
    "whole": Limits(spilled=32),
    "field_32": Limits(registers=168, spilled=64),
    "field_bytes_32": Limits(registers=168, spilled=64),
    # A square root calls a function where it is not a normal number.
    **dict.fromkeys(
        (f"linear_{field}_{result}" for field in ("int32", "int64") for result in ("float32", "float64")),
        Limits(spilled=64),
    ),
}


# The compiler keeps more numbers of these kernels at a time for the newest architectures than for the others.
NEWEST = {"sm_100", "sm_120"}
LIMITS_OF_NEWEST = {
    **LIMITS,
    "whole": Limits(spilled=500),
    "field_32": Limits(registers=168, spilled=128),
    "field_bytes_32": Limits(registers=168, spilled=192),
    # Of the camera: its noise calls functions.
    **dict.fromkeys(
        (f"intensity_{field}_{result}" for field in ("int32", "int64") for result in ("float32", "float64")),
        Limits(spilled=64),
    ),
}


def nvrtc_or_skip() -> Any:
    core = pytest.importorskip("cuda.core", reason="needs NVRTC", exc_type=ImportError)
    try:
        return core, _compile._nvrtc()
    except RuntimeError:
        pytest.skip("needs NVRTC")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the cache on disk, and nothing in memory."""
    nvrtc_or_skip()
    monkeypatch.setenv("OPUPROJ_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(_compile, "_cubins", {})
    return tmp_path / "cache"


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of kernels with one small file, which includes another."""
    folder = tmp_path / "kernels"
    folder.mkdir()
    (folder / "value.cuh").write_text("#ifndef VALUE\n#define VALUE 1\n#endif\n")
    (folder / "small.cu").write_text(
        '#include <value.cuh>\nextern "C" __global__ void small(int* out) { *out = VALUE; }\n'
    )
    monkeypatch.setattr(_compile, "KERNELS", folder)
    return folder


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was compiled, in order."""
    done: list[Any] = []
    compiled = _compile.compiled
    monkeypatch.setattr(_compile, "compiled", lambda *request: done.append(request) or compiled(*request))
    return done


# Every kernel


def reported(log: str) -> dict[str, Limits]:
    """What ptxas says of each kernel."""
    found = {}
    for part in log.split("Compiling entry function '")[1:]:
        name = part.partition("'")[0]
        stores, loads = map(int, re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", part).groups())  # type: ignore[union-attr]
        registers = int(re.search(r"Used (\d+) registers", part)[1])  # type: ignore[index]
        shared = re.search(r"(\d+) bytes smem", part)
        found[name] = Limits(registers, stores + loads, int(shared[1]) if shared else 0)
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("file", "macros"), [(file, macros) for file in FILES for macros in MACROS.get(file, [()])])
def test_every_kernel_compiles_within_its_limits(file: str, macros: tuple[str, ...], architecture: str) -> None:
    nvrtc_or_skip()
    log = io.StringIO()
    code = _compile.compiled(file, architecture, macros, log=log, ptxas_options=["-v"])
    assert code.startswith(b"\x7fELF")
    found = reported(log.getvalue())
    assert found, log.getvalue()
    limits = LIMITS_OF_NEWEST if architecture in NEWEST else LIMITS
    excess = {
        f"{kernel}: {value} {name.replace('_', ' ')}, at most {most}"
        for kernel, values in found.items()
        for name, value, most in zip(Limits._fields, values, limits.get(kernel, Limits()), strict=True)
        if value > most
    }
    assert not excess, log.getvalue()


def test_floats_are_not_fused(cache: Path, kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {
        "": "x[0] * x[1] + x[2]",
        "_separate": "__dadd_rn(__dmul_rn(x[0], x[1]), x[2])",
        "_fused": "fma(x[0], x[1], x[2])",
    }
    code = {}
    for name, sum_ in body.items():
        (kernels / "sum.cu").write_text(f'extern "C" __global__ void f(double* x) {{ x[0] = {sum_}; }}\n')
        code[name] = _compile.compiled("sum.cu", "sm_90")
    assert code[""] == code["_separate"]
    assert code[""] != code["_fused"]


# The cache


def test_a_cubin_is_compiled_once_and_kept_on_disk(cache: Path, kernels: Path, compilations: list[Any]) -> None:
    first = _compile.cubin("small.cu", "sm_90")
    assert _compile.cubin("small.cu", "sm_90") is first
    assert len(compilations) == 1
    assert [path.suffix for path in cache.iterdir()] == [".cubin"]
    _compile._cubins.clear()  # as in another process
    assert _compile.cubin("small.cu", "sm_90") == first
    assert len(compilations) == 1


def test_what_a_cubin_depends_on_is_in_its_key(
    cache: Path, kernels: Path, compilations: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    different = [_compile.cubin("small.cu", "sm_90")]

    def again(*request: Any) -> None:
        _compile._cubins.clear()
        different.append(_compile.cubin(*request))
        assert len(compilations) == len(different)

    again("small.cu", "sm_80")
    again("small.cu", "sm_90", ("VALUE=2",))
    again("small.cu", "sm_90", ("OTHER",))
    (kernels / "value.cuh").write_text("#define VALUE 3\n")  # an included file
    again("small.cu", "sm_90")
    monkeypatch.setitem(_compile._OPTIONS, "fma", True)
    again("small.cu", "sm_90")
    monkeypatch.setattr(_compile, "_version", lambda nvrtc: (99, 0))
    again("small.cu", "sm_90")
    assert different[0] != different[2]
    assert different[0] != different[4]


@pytest.mark.parametrize("damage", ["", "cut", "flipped", "appended"])
def test_a_damaged_file_is_compiled_again(cache: Path, kernels: Path, compilations: list[Any], damage: str) -> None:
    first = _compile.cubin("small.cu", "sm_90")
    (path,) = cache.iterdir()
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(flipped) // 2] ^= 1
    path.write_bytes({"": b"", "cut": content[:-1], "flipped": bytes(flipped), "appended": content + b"\0"}[damage])
    _compile._cubins.clear()
    assert _compile.cubin("small.cu", "sm_90") == first
    assert len(compilations) == 2
    assert path.read_bytes() == content
    assert len(list(cache.iterdir())) == 1


def test_a_folder_that_cannot_be_made(
    cache: Path, kernels: Path, compilations: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("a file where the folder should be")
    first = _compile.cubin("small.cu", "sm_90")
    assert _compile.cubin("small.cu", "sm_90") is first
    assert len(compilations) == 1
    assert cache.read_text() == "a file where the folder should be"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(cache: Path, kernels: Path) -> None:
    cache.mkdir()
    cache.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert _compile.cubin("small.cu", "sm_90").startswith(b"\x7fELF")
        assert not list(cache.iterdir())
    finally:
        cache.chmod(stat.S_IRWXU)


@pytest.mark.parametrize("step", ["write_bytes", "replace", "mkdir"])
def test_a_full_disk(cache: Path, kernels: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    cache.mkdir()

    def fail(path: Path, *arguments: Any, **options: Any) -> None:
        if step == "write_bytes":
            path.touch()  # a part may be there already
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, step, fail)
    assert _compile.cubin("small.cu", "sm_90").startswith(b"\x7fELF")
    assert not list(cache.iterdir())


def test_a_user_without_a_home_folder(
    cache: Path, kernels: Path, compilations: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPUPROJ_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert _compile.cache_folder() is None
    assert _compile.cubin("small.cu", "sm_90") is _compile.cubin("small.cu", "sm_90")
    assert len(compilations) == 1


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPUPROJ_CACHE_DIR", raising=False)
    for platform, variable, expected in (
        ("linux", "XDG_CACHE_HOME", tmp_path / "opuproj"),
        ("linux", None, Path.home() / ".cache" / "opuproj"),
        ("win32", "LOCALAPPDATA", tmp_path / "opuproj"),
        ("darwin", None, Path.home() / "Library" / "Caches" / "opuproj"),
    ):
        with monkeypatch.context() as changed:
            changed.setattr(sys, "platform", platform)
            changed.delenv("XDG_CACHE_HOME", raising=False)
            if variable:
                changed.setenv(variable, str(tmp_path))
            assert _compile.cache_folder() == expected


WRITER = """
import sys
from pathlib import Path
from opuproj.backends.cuda import _compile
_compile.KERNELS = Path(sys.argv[1])
print(len(_compile.cubin("small.cu", "sm_90")), flush=True)
for _ in range(300):
    _compile._write(_compile._path("small.cu", "sm_90", ()), _compile._cubins["small.cu", "sm_90", ()])
    assert _compile._read(_compile._path("small.cu", "sm_90", ())) is not None
"""


def test_concurrent_writers(cache: Path, kernels: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "python"), *sys.path])}
    command = [sys.executable, "-c", WRITER, str(kernels)]
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    sizes = {process.communicate(timeout=120)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(sizes) == 1
    (path,) = cache.iterdir()
    assert _compile._read(path) == _compile.cubin("small.cu", "sm_90")


# Errors


def test_a_kernel_that_does_not_compile(cache: Path, kernels: Path) -> None:
    (kernels / "bad.cu").write_text("__device__ int x = undefined_name;\n")
    with pytest.raises(RuntimeError, match=r"(?s)NVRTC .* did not compile bad.cu for sm_90: .*undefined_name"):
        _compile.cubin("bad.cu", "sm_90")
    with pytest.raises(RuntimeError, match=r"did not compile bad.cu for sm_90 with A=1, B: "):
        _compile.cubin("bad.cu", "sm_90", ("A=1", "B"))
    (kernels / "bad.cu").write_text("__device__ int x = 0;\n")
    assert _compile.cubin("bad.cu", "sm_90")  # an error is not kept


def test_an_architecture_that_nvrtc_does_not_know(cache: Path, kernels: Path) -> None:
    with pytest.raises(RuntimeError, match=r"NVRTC .* cannot compile for sm_999, but for sm_.*--upgrade 'opuproj\["):
        _compile.cubin("small.cu", "sm_999")


@pytest.mark.parametrize("missing", ["cuda", "cuda.core", "cuda.bindings"])
def test_packages_that_are_not_installed(kernels: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name in [name for name in sys.modules if f"{name}.".startswith(f"{missing}.")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(_compile, "_cubins", {})
    with pytest.raises(RuntimeError, match=r"NVRTC.* was not found: pip install .*\[cuda13\].*\[cuda12\]"):
        _compile.cubin("small.cu", "sm_90")


def test_a_library_that_is_not_installed(kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, nvrtc = nvrtc_or_skip()

    def missing() -> None:
        raise RuntimeError('Failure finding "libnvrtc.so"')

    monkeypatch.setattr(nvrtc, "nvrtcVersion", missing)
    monkeypatch.setattr(_compile, "_cubins", {})
    with pytest.raises(RuntimeError, match=r"NVRTC.* was not found: pip install"):
        _compile.cubin("small.cu", "sm_90")
