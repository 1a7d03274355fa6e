"""How arrays of other libraries on a GPU become tensors, and on which streams they are read.

torch has no GPU here, so objects that record what is asked of them take the place of `torch.cuda` and CuPy.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from opuproj.inputs import foreign  # noqa: E402


class Stream:
    """A stream of CUDA at an address."""

    def __init__(self, address: int, log: list[Any]) -> None:
        self.cuda_stream, self.log = address, log
        self.device = torch.device("cuda", 0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.cuda_stream == self.cuda_stream

    __hash__ = None  # type: ignore[assignment]

    def wait_stream(self, other: Stream) -> None:
        self.log.append(f"{self.cuda_stream} waits for {other.cuda_stream}")

    def synchronize(self) -> None:
        self.log.append(f"wait for {self.cuda_stream}")


class Machine:
    """GPUs, the current one, and the current stream of torch and of CuPy. `memory` holds the GPU of each address."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.current, self.stream, self.cupy, self.capturing = 0, Stream(0, self.log), 0, False
        self.memory: dict[int, int] = {}

    @contextmanager
    def device(self, device: Any) -> Iterator[None]:
        before, self.current = self.current, getattr(device, "index", device)
        yield
        self.current = before

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        before, self.stream = self.stream, stream
        yield
        self.stream = before

    def as_tensor(self, x: Any, device: str) -> Any:
        """What torch does: share the memory if it is on the current GPU, else copy it there."""
        assert device == "cuda"
        address = x.__cuda_array_interface__["data"][0]
        there = address == 0 or self.memory.get(address) == self.current
        self.log.append(("shared" if there else "copied", x.__cuda_array_interface__["shape"], self.current))
        return types.SimpleNamespace(data_ptr=lambda: address if there else -1)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    m = Machine()
    for name, replacement in {
        "is_available": lambda: True,
        "device_count": lambda: 3,
        "current_device": lambda: m.current,
        "device": m.device,
        "stream": m.on,
        "current_stream": lambda device: m.stream,
        "default_stream": lambda device: Stream(0, m.log),
        # torch takes 0 for a request of a new stream.
        "ExternalStream": lambda address, device: Stream(address or 999, m.log),
        "is_current_stream_capturing": lambda: m.capturing,
        "synchronize": lambda device: m.log.append(f"wait for GPU {device}"),
    }.items():
        monkeypatch.setattr(torch.cuda, name, replacement)
    monkeypatch.setattr(torch, "as_tensor", m.as_tensor)
    cuda = types.SimpleNamespace(Device=m.device, get_current_stream=lambda: types.SimpleNamespace(ptr=m.cupy))
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(cuda=cuda))  # type: ignore[arg-type]
    return m


class InterfaceArray:
    def __init__(self, address: int = 0, **fields: Any) -> None:
        self.__dict__["fields"] = {"shape": (2, 3), "typestr": "<f4", "data": (address, False), **fields}

    @property
    def __cuda_array_interface__(self) -> Any:
        return self.fields

    def copy(self) -> Any:
        return type(self)(self.fields["data"][0] + 1)


class DLPackArray:
    """Its memory is a NumPy array's."""

    where = (2, 1)

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.where

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__()


# Streams


@pytest.mark.parametrize(("address", "stream"), [(0, 0), (1, 0), (2, 2), (77, 77)])
def test_the_stream_of_cupy(address: int, stream: int, machine: Machine) -> None:
    machine.cupy = address
    with foreign._on_stream_of_cupy(torch.device("cuda", 2)):
        assert machine.stream.cuda_stream == stream
        assert machine.current == 2
        machine.log.append("call")
    assert machine.stream.cuda_stream == machine.current == 0
    apart = stream != 0
    assert machine.log == ([f"{stream} waits for 0"] * apart) + ["call"] + [f"0 waits for {stream}"] * apart


def test_a_capture_waits_for_no_other_stream(machine: Machine) -> None:
    machine.cupy, machine.capturing = 77, True
    with foreign._on_stream_of_cupy(torch.device("cuda", 0)):
        pass
    assert machine.log == []


def test_other_libraries_wait_also_after_an_error(machine: Machine) -> None:
    with pytest.raises(KeyError), foreign._until_done(torch.device("cuda", 0)):
        raise KeyError
    assert machine.log == ["wait for 0"]


def test_out_is_settled(machine: Machine) -> None:
    cupy = type("ndarray", (DLPackArray,), {"__module__": "cupy"})
    for address, log in ((0, []), (1, []), (77, ["wait for 0"])):  # another stream of CuPy's knows nothing of the call
        machine.cupy = address
        foreign.settle(cupy(None))
        assert machine.log == log
    machine.log.clear()
    machine.memory[4096] = 1
    foreign.settle(InterfaceArray(4096))
    assert machine.log[-1] == "wait for 0"
    machine.log.clear()
    for out in (np.ones(3), torch.ones(3), None):
        foreign.settle(out)
    assert machine.log == []


# Memory


@pytest.mark.parametrize("gpu", [0, 1, 2])
def test_the_interface_finds_the_gpu(gpu: int, machine: Machine) -> None:
    machine.memory[4096] = gpu
    assert foreign.gpu_tensor("x", InterfaceArray(4096)).data_ptr() == 4096
    assert machine.log[-2:] == [f"wait for GPU {gpu}", ("shared", (2, 3), gpu)]
    assert all(entry[1] == (1,) for entry in machine.log if entry[0] == "copied")  # nothing more than a byte
    assert machine.current == 0


def test_the_interface_of_an_empty_array(machine: Machine) -> None:
    assert foreign.gpu_tensor("x", InterfaceArray(0, shape=(0, 3))) is not None


def test_memory_of_no_gpu(machine: Machine) -> None:
    with pytest.raises(TypeError, match=r"x is a InterfaceArray of .* on a GPU, .*no GPU holds its memory.* must be"):
        foreign.gpu_tensor("x", InterfaceArray(4096))


def test_reversed_arrays_are_copied_only_to_be_read(machine: Machine) -> None:
    machine.memory |= {4096: 0, 4097: 0}
    x = InterfaceArray(4096, strides=(-12, 4))
    assert foreign.gpu_tensor("x", x).data_ptr() == 4097
    assert foreign.gpu_tensor("out", x, written=True).data_ptr() == 4096


def test_dlpack(machine: Machine) -> None:
    x = DLPackArray(np.arange(6.0))
    tensor = foreign.gpu_tensor("x", x)
    assert isinstance(tensor, torch.Tensor)
    assert tensor.data_ptr() == x.array.ctypes.data
    if torch.__version__.startswith("2.4."):  # it aborts the process
        return
    with pytest.raises(TypeError, match=r"x is a DLPackArray .* on a GPU, which torch cannot read \(.*\): it must be"):
        foreign.gpu_tensor("x", DLPackArray(np.arange(6.0)[::-1]))  # it has no other interface


def test_managed_memory_is_read_by_the_other_interface(machine: Machine) -> None:
    class Managed(InterfaceArray, DLPackArray):
        where = (13, 2)

    machine.memory[4096] = 2
    assert foreign.gpu_tensor("x", Managed(4096)).data_ptr() == 4096
    with pytest.raises(TypeError, match="which torch cannot read"):
        foreign.gpu_tensor("x", type("Managed", (DLPackArray,), {"where": (13, 0)})(None))


def test_an_array_on_several_devices_goes_through_the_host() -> None:
    class Sharded(DLPackArray):
        def __dlpack_device__(self) -> tuple[int, int]:
            raise BufferError("__dlpack__ only supported for unsharded arrays")

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return self.array

    import opuproj

    x = np.ones((2, 3), np.float32)
    assert not foreign.is_on_gpu(Sharded(x))
    assert np.array_equal(opuproj.project(Sharded(x), 5), opuproj.project(x, 5))


def test_numba_and_what_a_library_cannot_hold() -> None:
    def refuse(tensor: Any) -> Any:
        raise KeyError(tensor.dtype)

    numba = types.SimpleNamespace(__name__="numba", cuda=types.SimpleNamespace(as_cuda_array=refuse))
    tensor = torch.ones(3)
    assert foreign._in_library(tensor, numba) is tensor
    assert foreign._in_library(tensor, types.SimpleNamespace(__name__="program")) is tensor
