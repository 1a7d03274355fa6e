"""Imports between the modules of the package: they form no cycle, and the compiled core is called in one place."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import FrameType

import numpy as np
import opuproj
import pytest
from helpers import ROOT

PACKAGE = ROOT / "python" / "opuproj"
# What computes. The rest of the core holds packed batches, reads and writes files, and tells constants.
COMPUTE = {
    "Floats",
    "Packer",
    "adjoint",
    "anchor_phases",
    "encode",
    "encode_sparse",
    "entries",
    "fields",
    "project",
    "project_structured",
    "read_fields",
    "row_max_abs",
    "structured_bytes",
}


def modules() -> dict[str, Path]:
    """Every module of the package by its name."""
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


@cache
def graph() -> dict[str, frozenset[str]]:
    """What each module imports: at its top, inside of functions, and for types."""
    found = modules()
    known = {*found, "opuproj._core"}
    return {name: frozenset(imported(name, path, known)) for name, path in found.items()}


def imported(name: str, path: Path, known: set[str]) -> set[str]:
    found = set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            submodules = {f"{origin}.{alias.name}" for alias in node.names} & known
            only_submodules = len(submodules) == len(node.names)
            found.update(submodules, [] if only_submodules else [origin])
    return (found & known) - {name}


def test_no_cycles() -> None:
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(reversed(error.args[1]))}")


@pytest.mark.parametrize(
    ("folder", "above"),
    [
        ("opuproj._spec", ("opuproj.inputs", "opuproj.backends", "opuproj.projector")),
        ("opuproj.inputs", ("opuproj.backends", "opuproj.packing", "opuproj.projector")),
        ("opuproj.backends", ("opuproj.projection", "opuproj.packing", "opuproj.projector", "opuproj.torch")),
        ("opuproj.torch", ("opuproj.dfa", "opuproj.lightonml", "opuproj.sklearn", "opuproj.cli", "opuproj.dask")),
    ],
)
def test_a_layer_imports_nothing_above_it(folder: str, above: tuple[str, ...]) -> None:
    for name, others in graph().items():
        if f"{name}.".startswith(f"{folder}."):
            wrong = [other for other in others if f"{other}.".startswith(tuple(f"{layer}." for layer in above))]
            assert not wrong, f"{name} imports {wrong}"


def test_only_the_cpu_backend_calls_what_computes_in_the_core() -> None:
    callers = set()
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            computes = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in COMPUTE
            if computes and node.value.id == "_core":
                callers.add(name)
            elif isinstance(node, ast.ImportFrom) and node.module == "_core":
                assert not COMPUTE & {alias.name for alias in node.names}, name
    # A type of the core may stand in an annotation of the contract, but nothing else is called.
    assert callers, "the test looks at nothing"
    assert {name for name in callers if not f"{name}.".startswith("opuproj.backends.cpu.")} == set()


WAYS = {
    "dense": lambda x: opuproj.project(x, 20),
    "digits": lambda x: opuproj.project(x / 3, 20, digits=5),
    "packed": lambda x: opuproj.project(opuproj.pack(x), 20),
    "structured": lambda x: opuproj.project(x / 3, 20, ensemble="structured"),
    "operator": lambda x: opuproj.Projector(30, 20) @ x,
    "camera": lambda x: opuproj.project(x, 20, camera=opuproj.Camera()),
    "sparse": lambda x: opuproj.project(pytest.importorskip("scipy.sparse").csr_array(x), 20),
    "tensor": lambda x: opuproj.project(pytest.importorskip("torch").from_numpy(x), 20),
}


@pytest.mark.parametrize("call", WAYS.values(), ids=list(WAYS))
def test_the_way_of_x_re_enters_no_module(call: Callable[[np.ndarray], object]) -> None:
    x, ways = np.ones((4, 30), np.int8), set()

    def follow(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            modules = []
            at: FrameType | None = frame
            while at is not None:
                name = at.f_globals.get("__name__", "")
                if name.startswith("opuproj.") and name not in modules[-1:]:
                    modules.append(name)
                at = at.f_back
            ways.add(tuple(reversed(modules)))

    call(x)
    before = sys.getprofile()
    sys.setprofile(follow)
    try:
        call(x)
    finally:
        sys.setprofile(before)
    assert any("opuproj.backends.cpu" in name for way in ways for name in way), "the call was not followed"
    assert not [way for way in ways if len(set(way)) < len(way)]
