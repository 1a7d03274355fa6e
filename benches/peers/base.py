"""The base class of peers: random projections that one would use instead of opuproj."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.util import find_spec
from typing import Any, ClassVar

from numpy.typing import NDArray

from benches import machine
from benches.inputs import Ternary
from benches.result import size
from benches.setting import Mode, UnavailableError
from benches.timing import Work


class Peer(ABC):
    """A random matrix of shape (n_outputs, n_inputs), stored or not.

    A peer receives the same x as opuproj, in the dtype that is fastest for it, and an existing result if its library
    can fill one. Scaling and the conversion of x are not counted, unless its docstring says otherwise. The packing of x
    by opuproj is counted.
    """

    name: ClassVar[str]
    modes: ClassVar[tuple[Mode, ...]] = ("linear", "real")  # the modes of opuproj with the same kind of result
    needs: ClassVar[tuple[str, ...]] = ()  # packages

    @classmethod
    def check(cls, n_inputs: int, n_outputs: int) -> None:
        """Raise UnavailableError if a package, a device or memory is missing."""
        for package in cls.needs:
            if find_spec(package) is None:
                raise UnavailableError(f"{package} is not installed")
        needed, available = 3 * cls.stored_bytes(n_inputs, n_outputs), machine.available_bytes()
        if needed > available:
            raise UnavailableError(f"building it takes some {size(needed)}, and {size(available)} are available")

    @classmethod
    @abstractmethod
    def stored_bytes(cls, n_inputs: int, n_outputs: int) -> int:
        """Bytes of the matrix that are stored between products."""

    @classmethod
    @abstractmethod
    def build(cls, n_inputs: int, n_outputs: int) -> Peer:
        """Draw the matrix, or prepare to."""

    def first(self, n_inputs: int, n_outputs: int) -> Peer | None:
        """Return the peer of the first outputs only, if its time is in proportion to them."""
        return None

    @abstractmethod
    def multiply(self, x: Ternary) -> Work:
        """Return the work that multiplies x of shape (batch, n_inputs) and returns the shape (batch, n_outputs)."""

    @abstractmethod
    def matrix(self) -> NDArray[Any]:
        """Return the matrix, of shape (n_outputs, n_inputs), for tests of small ones."""
