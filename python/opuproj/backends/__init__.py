"""The contract of a backend, and which backend computes where.

A whole batch goes in, rows of results come out. Fields are sums of integers, so every backend gives the same bits:
those of the scalar definition. Each folder beside this file is a backend, and registers itself when it is imported.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._spec import Spec
from ..inputs.rows import ArrayRows, DigitRows, Rows, Threshold

Read = Literal["complex", "real", "linear"]
"""What the adjoint returns: Tᴴy, Re(Tᴴy) or Rᵗy."""


class Request(NamedTuple):  # a dataclass would take a microsecond more to make
    """How one call is computed, beside its operator and its vectors."""

    # None for the backend's own choice.
    threads: int | None = None
    noise_seed: int = 0
    # The place of the first vector among those of one noise seed.
    first_vector: int = 0
    # Whether to show a bar, or the function that receives the fraction done.
    progress: bool | Callable[[float], None] = False


class Backend(ABC):
    """What computes with vectors on one kind of device.

    Arrays are those that the backend works on: NumPy's on the CPU. A method that fills `out` returns it.
    """

    name: ClassVar[str]

    # What gives the same bits in several ways

    @abstractmethod
    def variants(self) -> Sequence[str]:
        """Return the instruction sets, or whatever else this machine offers a choice of."""

    @abstractmethod
    def forced(self, variant: str) -> AbstractContextManager[None]:
        """Return a context in which one of `variants` is used."""

    # Packing

    @abstractmethod
    def pack(self, rows: Rows) -> _core.Packed:
        """Pack rows of -1, 0 and 1, or raise ValueError at the first other value."""

    @abstractmethod
    def ternarize(self, rows: ArrayRows, threshold: Threshold | NDArray[np.float64]) -> _core.Packed:
        """Pack 1 above each row's threshold and -1 below its negative, or raise ValueError at the first NaN.

        An array holds the thresholds themselves, one for each row. Those of a :class:`Threshold` are rounded to the
        precision of the rows first.
        """

    @abstractmethod
    def largest(self, rows: ArrayRows) -> float:
        """Return the largest magnitude of all numbers, for a relative threshold, or refuse NaN and infinities."""

    @abstractmethod
    def encode(self, rows: DigitRows) -> _core.Encoded:
        """Round rows of real numbers to digits, or raise ValueError at the first that is not finite."""

    @abstractmethod
    def check(self, rows: Rows) -> None:
        """Look at all values, as `project` does before it computes; raise ValueError at the first bad one."""

    # Operators

    @abstractmethod
    def project(self, spec: Spec, rows: Rows, out: Any, request: Request) -> NDArray[Any]:
        """Return the results of all vectors, of shape (..., n_outputs), in `out` if that is given.

        Whatever is wrong with the vectors or with `out` is found before any result is written.
        """

    @abstractmethod
    def adjoint(
        self, spec: Spec, rows: ArrayRows, read: Read, *, conjugated: bool, n_digits: int, out: Any, request: Request
    ) -> NDArray[Any]:
        """Return vectors of outputs multiplied by the adjoint, or by the transpose, of shape (..., n_inputs).

        `spec.dtype` is the dtype of the result.
        """

    @abstractmethod
    def entries(self, spec: Spec, rows: range | NDArray[np.int64], columns: range | NDArray[np.int64]) -> NDArray[Any]:
        """Return the entries of R (``"linear"``) or T at some outputs and inputs, of shape (n_rows, n_columns)."""

    # Fields, for sums over parts of the columns

    @abstractmethod
    def fields(
        self, spec: Spec, batch: _core.Packed, column_start: int, out: NDArray[np.int32], request: Request
    ) -> None:
        """Fill `out`, of shape (n, 2 n_outputs), with √2048 Tx of vectors that begin at a column of T.

        Real and imaginary parts alternate.
        """

    @abstractmethod
    def read_fields(self, spec: Spec, whole: NDArray[np.int32], out: NDArray[Any], request: Request) -> None:
        """Read fields of all columns, of shape (n, 2 n_outputs), out as `project` does, into `out`."""


_registered: dict[str, Backend] = {}


def register(device: str, backend: Backend) -> None:
    """Let a backend compute for vectors on a type of device."""
    _registered[device] = backend


def registered() -> dict[str, Backend]:
    """Return all backends, by the types of device that they compute for."""
    return dict(_registered)


def backend(device: str) -> Backend:
    """Return the backend of a type of device; vectors on devices without one go through the CPU."""
    return _registered.get(device) or _registered["cpu"]


def backend_for(rows: Rows) -> Backend:
    """Return the backend that computes with rows where they are."""
    return _registered.get(rows.device) or _registered["cpu"]
