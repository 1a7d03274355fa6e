"""Backends compute with vectors; each serves one type of device.

- This file defines the contract: the abstract class `Backend` (pack, ternarize, encode, project, adjoint, entries and
  integer fields) and `Request` (the options of one call). It also holds the registry of backends.
- `cpu/` is the CPU backend. It is the only code that calls the compute functions of the compiled core.
- `cuda/` is the backend of NVIDIA GPUs.

A new backend is a folder beside these that calls `register` or `register_loader` when it is imported.

The layers above (`projection.py`, `packing.py`, `torch/`) read an input into `Rows` (see `inputs/`), call
`backend_for(rows)`, and pass a `Spec` (the operator), the rows and a `Request` to it. A method receives a whole batch
and returns all results. All backends give the same bits: fields are sums of integers, and the scalar definition fixes
every later step. Devices without a backend of their own use the CPU backend.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._spec import Spec
from ..inputs.rows import ArrayRows, DigitRows, Rows, Threshold

Read = Literal["complex", "real part", "real"]
"""What the adjoint returns: Tᴴy, Re(Tᴴy), or the product with the transpose of the real matrix of the mode, R or G."""

Activation: TypeAlias = Literal["tanh", "sigmoid", "relu"] | None
"""An activation function whose value determines its derivative; None for the identity."""

IntegerFields: TypeAlias = Any
"""Exact fields, of int32 or int64: an array of the backend's library, or a NumPy array.

int32 holds those of vectors of up to `INT32_NONZEROS` nonzeros.
"""


Packed: TypeAlias = Any
"""Packed vectors: `_core.Packed` on the CPU, a `DeviceBatch` with its methods on a device."""

Encoded: TypeAlias = Any
"""Vectors in digits: `_core.Encoded` on the CPU, a `DeviceBatch` with its methods on a device."""


class Request(NamedTuple):  # creating a dataclass takes a microsecond more
    """The options of one call, in addition to its operator and its vectors."""

    # None lets the backend choose.
    threads: int | None = None
    noise_seed: int = 0
    # The index of the first vector in the noise of the seed.
    first_vector: int = 0
    # The column of the first element of dense vectors in digits, for exact projections by the Gaussian ensemble: a
    # multiple of 16.
    column_start: int = 0
    # Whether to show a progress bar, or a function that receives the fraction done.
    progress: bool | Callable[[float], None] = False


class Unread(Protocol):
    """Exact fields of ternary vectors, from which results are read part by part."""

    def read(self, start: int, stop: int, factors: Any, dtype: Any) -> Any:
        """Return results number start to stop - 1 of all vectors, each times the factor of its vector.

        `factors` are of float32 or float64, to which the results are rounded first. The products are rounded to
        `dtype` if the backend's kernels write it, and have the dtype of the factors otherwise.
        """

    def read_layers(self, start: int, factors: Any, outputs: Any, activation: Activation) -> Any:
        """Return results for equal layers, from number `start` on, in the shape and dtype of the layers' outputs.

        `outputs`, of shape (n_layers, n, width), holds what an activation function returned. Each result is multiplied
        by the factor of its vector and by the function's derivative there. None if the backend's kernels cannot.
        """


class Backend(ABC):
    """The contract of a backend, which computes with vectors on one type of device.

    Arrays belong to the backend's library: NumPy on the CPU, torch on a GPU. A method that fills `out` returns it. A
    GPU may find a bad value after the call has returned. Its results are then NaN, and a later call raises the error.
    """

    name: ClassVar[str]

    # Variants, which all give the same bits

    @abstractmethod
    def variants(self) -> Sequence[str]:
        """Return the names of the variants that this machine can run, such as its instruction sets."""

    @abstractmethod
    def using(self, variant: str) -> AbstractContextManager[None]:
        """Return a context manager within which the backend uses this variant."""

    def capturing(self, rows: Rows) -> bool:
        """Return whether the rows' stream is captured into a graph, which repeats the calls of a capture later."""
        return False

    def capturable(self, spec: Spec) -> bool:
        """Return whether a CUDA graph can capture products of this operator with vectors on the backend's device.

        Nothing then goes through the host, and nothing waits for the device.
        """
        return False

    def synchronize(self) -> None:  # noqa: B027  # most backends compute at once
        """Wait until all calls are complete, and raise ValueError about the first bad value that they found."""

    # Packing

    @abstractmethod
    def pack(self, rows: Rows) -> Packed:
        """Pack rows of -1, 0 and 1, or raise ValueError at the first other value."""

    @abstractmethod
    def ternarize(self, rows: ArrayRows, threshold: Threshold | Any) -> Packed:
        """Pack 1 above each row's threshold and -1 below its negative, or raise ValueError at the first NaN.

        An array of float64, or a tensor on the device of the rows, holds one threshold for each row, which is used as
        it is. The thresholds that follow from a :class:`Threshold` are first rounded to the precision of the rows.
        """

    @abstractmethod
    def largest(self, rows: ArrayRows) -> Any:
        """Return the largest of all magnitudes, for a relative threshold; raise ValueError at NaN or infinity.

        It is a number, or a scalar tensor on the backend's device.
        """

    @abstractmethod
    def encode(self, rows: DigitRows) -> Encoded:
        """Round rows of real numbers to digits, or raise ValueError at the first number that is not finite."""

    @abstractmethod
    def check(self, rows: Rows) -> None:
        """Check all values, as `project` does before it computes; raise ValueError at the first bad one."""

    # Operators

    @abstractmethod
    def project(self, spec: Spec, rows: Rows, out: Any, request: Request) -> Any:
        """Return the results of all vectors, of shape (..., n_outputs), in `out` if it is given.

        All errors in the vectors or in `out` are raised before any result is written.
        """

    def unread(self, spec: Spec, rows: Rows) -> Unread | None:
        """Return the fields of all vectors, to be read part by part; None if :meth:`project` must compute the results.

        They are the fields of ternary vectors for a real operator without a camera.
        """
        return None

    @abstractmethod
    def adjoint(
        self, spec: Spec, rows: ArrayRows, read: Read, *, conjugated: bool, n_digits: int, out: Any, request: Request
    ) -> NDArray[Any]:
        """Multiply vectors of outputs by the adjoint, or by the transpose; the result has shape (..., n_inputs).

        `spec.dtype` is the dtype of the result.
        """

    @abstractmethod
    def entries(
        self,
        spec: Spec,
        rows: range | NDArray[np.int64],
        columns: range | NDArray[np.int64],
        request: Request,
        device: str,
    ) -> Any:
        """Return entries of R (``"linear"``), G (``"real"``) or T at these outputs and inputs: (n_rows, n_columns).

        `device` is the name of the device that computes them and holds the result, such as ``"cuda:1"``.
        """

    # Fields, for sums over parts of the columns

    @abstractmethod
    def fields(self, spec: Spec, batch: Packed, column_start: int, out: IntegerFields, request: Request) -> None:
        """Fill `out` with √2048 Tx, or with 32 Gx for mode ``"real"``, for vectors that begin at column `column_start`.

        `out` has shape (n, `spec.components` · n_outputs): real and imaginary parts alternate, or one integer a row.
        """

    @abstractmethod
    def read_fields(self, spec: Spec, whole: IntegerFields, out: Any, request: Request) -> None:
        """Convert fields summed over all columns, of the shape that `fields` fills, to the results of `project`.

        `out` is an array of the same library, on the same device.
        """


_registered: dict[str, Backend] = {}
_loaders: dict[str, Callable[[], Backend | None]] = {}
_reasons: dict[str, Callable[[], str | None]] = {}


def register(device: str, backend: Backend) -> None:
    """Register the backend for vectors on a type of device."""
    _registered[device] = backend


def register_loader(device: str, load: Callable[[], Backend | None], why_not: Callable[[], str | None]) -> None:
    """Register a function that returns the backend for a type of device, or None if this machine cannot use it.

    It is called once, when the first vectors on such a device arrive. The other function returns why it cannot be used.
    """
    _loaders[device], _reasons[device] = load, why_not


def registered() -> dict[str, Backend]:
    """Return all backends by their types of device."""
    return dict(_registered)


def backend(device: str) -> Backend:
    """Return the backend for a type of device: the CPU backend if the device has none."""
    found = _registered.get(device)
    if found is not None:
        return found
    load = _loaders.pop(device, None)
    loaded = None if load is None else load()
    if loaded is None:
        return _registered["cpu"]
    _registered[device] = loaded
    return loaded


def named(device: Any) -> tuple[str, Backend]:
    """Return the name of a device that a user chose, a text or an object of torch, and its backend.

    Raises
    ------
    ValueError
        If it is no device of a backend.
    RuntimeError
        If the device cannot be used. The message says why.
    """
    name = str(device)
    kind, colon, index = name.partition(":")
    if kind not in {*_registered, *_reasons} or (colon and not (index.isdecimal() and kind != "cpu")):
        raise ValueError(f"device is {device!r}, but must be 'cpu', 'cuda' or one such as 'cuda:1'")
    found = backend(kind)
    if kind in _reasons and found is _registered["cpu"]:
        raise RuntimeError(f"device is {device!r}, which cannot be used: {_reasons[kind]()}")
    return name, found


def backend_for(rows: Rows) -> Backend:
    """Return the backend for the device on which the rows are."""
    return _registered.get(rows.device) or backend(rows.device)


class Served:
    """A context manager that gives the backend of rows, in the context in which they must be read.

    Where errors about values must come with the call, it ends when the device has checked them.
    """

    # A generator would take a microsecond more.
    __slots__ = ("_backend", "_rows", "_session")

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._session: AbstractContextManager[None] | None = None

    def __enter__(self) -> Backend:
        self._backend = backend_for(self._rows)
        if self._rows.session is not None:
            self._session = self._rows.session()
            self._session.__enter__()
        return self._backend

    def __exit__(self, *error: Any) -> None:
        if self._session is not None:
            self._session.__exit__(*error)
        if self._rows.sent and error[0] is None:
            self._backend.synchronize()
