"""Arrays of CuPy, JAX and Numba on a GPU: read where they are, on the right stream; results return to their library.

These libraries and a GPU are missing here. Classes with the same attributes take their place, over CPU tensors.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import opuproj
import pytest
import standin_backend
from helpers import assert_same_bits, ternary
from opuproj import backends

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(standin_backend.DEVICE not in backends.registered(), reason="needs g++")

from opuproj.inputs import arrays, foreign  # noqa: E402

EVENTS: list[str] = []


class Array:
    """An array on a GPU."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    @property
    def dtype(self) -> Any:
        return self.tensor.dtype

    def reshape(self, *shape: int) -> Any:
        return self.tensor.reshape(*shape)


class DLPackArray(Array):
    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError("the memory is on a GPU")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


class InterfaceArray(Array):
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {}


def library(name: str, kind: type[Array], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of this name with an array class, and from_dlpack."""
    module = types.ModuleType(name)
    own = type("ndarray", (kind,), {"__module__": name})

    def from_dlpack(tensor: Any) -> Any:
        EVENTS.append("back")
        if name == "jax" and tensor.dtype == torch.float64:  # without 64-bit types
            tensor = tensor.to(torch.float32)
        return own(tensor)

    module.ndarray = own  # type: ignore[attr-defined]
    if name == "jax":
        monkeypatch.setitem(sys.modules, "jax.numpy", module)
    if name == "numba":
        module.cuda = types.SimpleNamespace(as_cuda_array=from_dlpack)  # type: ignore[attr-defined]
    else:
        module.from_dlpack = from_dlpack  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    return own


@contextmanager
def recorded(name: str, device: Any) -> Iterator[None]:
    EVENTS.append(f"enter {name}")
    yield
    EVENTS.append(f"leave {name}")


@pytest.fixture(autouse=True)
def on_the_standin(monkeypatch: pytest.MonkeyPatch) -> None:
    EVENTS.clear()
    made = arrays._of_gpu

    def rows(*arguments: Any) -> Any:
        found = made(*arguments)
        found.device = standin_backend.DEVICE
        return found

    monkeypatch.setattr(arrays, "_of_gpu", rows)
    monkeypatch.setattr(arrays, "gpu_tensor", lambda name, x: x.tensor)
    monkeypatch.setattr(foreign, "_on_stream_of_cupy", lambda device: recorded("cupy", device))
    monkeypatch.setattr(foreign, "_until_done", lambda device: recorded("other", device))


LIBRARIES = [("cupy", DLPackArray), ("jax", DLPackArray), ("numba", InterfaceArray)]


@pytest.mark.parametrize(("name", "kind"), LIBRARIES)
@pytest.mark.parametrize("options", [{}, {"digits": 5}, {"ensemble": "structured"}], ids=repr)
def test_project(name: str, kind: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    own = library(name, kind, monkeypatch)
    x = ternary(3, 70).astype(np.float32)
    y = opuproj.project(own(torch.from_numpy(x)), 50, **options)
    assert type(y) is own
    assert_same_bits(y.tensor.numpy(), opuproj.project(x, 50, **options))
    stream = "cupy" if name == "cupy" else "other"
    assert [f"enter {stream}", "back", f"leave {stream}"] == EVENTS


@pytest.mark.parametrize(("name", "kind"), LIBRARIES)
def test_operators_and_batches(name: str, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    own = library(name, kind, monkeypatch)
    x, op = ternary(3, 70).astype(np.float32), opuproj.Projector(70, 50)
    given = own(torch.from_numpy(x))
    assert_same_bits((op @ given).tensor.numpy(), op @ x)
    y = op(given)
    assert_same_bits(y.tensor.numpy(), op(x))
    assert_same_bits(op.H(y).tensor.numpy(), op.H(op(x)))
    EVENTS.clear()
    batch = opuproj.pack(given)
    assert len(EVENTS) == 2  # packed within the context
    assert_same_bits(op(batch).tensor.numpy(), op(x))
    assert len(EVENTS) == 5  # and read within it
    assert_same_bits(op(opuproj.ternarize(given, 0.5)).tensor.numpy(), op(x))
    assert_same_bits(op(opuproj.encode(given)).tensor.numpy(), op(x, digits=5))


def test_a_result_that_the_library_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    own = library("jax", DLPackArray, monkeypatch)
    x = ternary(3, 70)
    y = opuproj.project(own(torch.from_numpy(x)), 50, dtype=np.float64)
    assert isinstance(y, torch.Tensor)
    assert_same_bits(y.numpy(), opuproj.project(x, 50, dtype=np.float64))


def test_an_array_namespace_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    own = library("cupy", DLPackArray, monkeypatch)
    namespace = types.SimpleNamespace(from_dlpack=lambda tensor: ("namespace", tensor))
    own.__array_namespace__ = lambda self: namespace
    monkeypatch.setattr("opuproj.inputs.foreign._in_library", lambda tensor, library: library.from_dlpack(tensor))
    assert opuproj.project(own(torch.ones(2, 3)), 5)[0] == "namespace"


def test_out(monkeypatch: pytest.MonkeyPatch) -> None:
    own = library("cupy", DLPackArray, monkeypatch)
    monkeypatch.setattr(foreign, "gpu_tensor", lambda name, x, written: x.tensor)
    settled: list[Any] = []
    monkeypatch.setattr("opuproj.projection.settle", settled.append)
    x = ternary(3, 70)
    given, out = own(torch.from_numpy(x)), own(torch.empty(3, 50))
    # A tensor of the CPU takes the place of one on a GPU.
    monkeypatch.setattr("opuproj.backends.cuda._results._on_gpu", lambda tensor: True)
    assert opuproj.project(given, 50, out=out) is out
    assert settled == [out]
    assert_same_bits(out.tensor.numpy(), opuproj.project(x, 50))
    with pytest.raises(ValueError, match=r"out has shape \(3, 49\), but must have shape \(3, 50\)"):
        opuproj.project(given, 50, out=own(torch.empty(3, 49)))
    jax = library("jax", DLPackArray, monkeypatch)
    with pytest.raises(TypeError, match="out is a JAX array, which cannot be changed"):
        opuproj.project(given, 50, out=jax(torch.empty(3, 50)))


def with_a_bad_value() -> Any:
    x = torch.from_numpy(ternary(3, 70)).float()
    x[1, 2] = 0.5
    return x


def test_errors_about_values_of_cupy_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    own = library("cupy", DLPackArray, monkeypatch)
    x = own(with_a_bad_value())
    assert opuproj.project(x, 50).tensor[1].isnan().all()
    with pytest.raises(ValueError, match=r"x\[1, 2\] is 0.5, but must be -1, 0 or 1"):
        opuproj.synchronize()
    opuproj.pack(x)
    del x
    with pytest.raises(ValueError, match=r"x\[1, 2\] is not -1, 0 or 1"):
        opuproj.synchronize()


@pytest.mark.parametrize(("name", "kind"), LIBRARIES[1:])
def test_errors_about_values_come_with_a_call_that_waits(name: str, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    own = library(name, kind, monkeypatch)
    x = with_a_bad_value()
    for call in (lambda: opuproj.project(own(x), 50), lambda: opuproj.pack(own(x))):
        with pytest.raises(ValueError, match=r"x\[1, 2\] is 0.5, but must be -1, 0 or 1"):
            call()
    y = torch.ones(2, 50)
    y[0, 3] = torch.inf
    with pytest.raises(ValueError, match=r"y\[0, 3\] is inf, but must be finite"):
        opuproj.Projector(70, 50).H(own(y))
    opuproj.synchronize()  # no error is left


def test_errors_about_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    own = library("cupy", DLPackArray, monkeypatch)
    with pytest.raises(ValueError, match="x is a single number"):
        opuproj.project(own(torch.tensor(1)), 5)
    with pytest.raises(TypeError, match=r"x has dtype torch.complex64"):
        opuproj.project(own(torch.ones(2, 3, dtype=torch.complex64)), 5)


def test_a_class_derived_from_cupys(monkeypatch: pytest.MonkeyPatch) -> None:
    own = library("cupy", DLPackArray, monkeypatch)
    derived = type("Derived", (own,), {"__module__": "program"})
    y = opuproj.project(derived(torch.from_numpy(ternary(2, 5))), 7)
    assert type(y) is own
    assert EVENTS == ["enter cupy", "back", "leave cupy"]


def test_without_torch_on_a_gpu_an_array_goes_through_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    own = library("cupy", DLPackArray, monkeypatch)
    monkeypatch.setattr(arrays, "gpu_tensor", lambda name, x: None)
    monkeypatch.setattr(own, "__array__", lambda self, *arguments, **options: self.tensor.numpy(), raising=False)
    x = ternary(3, 70)
    assert_same_bits(opuproj.project(own(torch.from_numpy(x)), 50), opuproj.project(x, 50))


def test_what_is_on_a_gpu() -> None:
    assert foreign.is_on_gpu(DLPackArray(None))
    assert foreign.is_on_gpu(InterfaceArray(None))
    for x in (np.ones(3), torch.ones(3), [1], None, 3.0):
        assert not foreign.is_on_gpu(x)
