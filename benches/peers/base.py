"""What every peer is: a random projection that one would use instead of opuproj."""

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

    A peer is given the same x as opuproj, already of the dtype that it is fastest in, and a result that exists where
    its library can fill one. Neither scaling nor the conversion of x is counted, unless its docstring says otherwise;
    of opuproj packing is.
    """

    name: ClassVar[str]
    mode: ClassVar[Mode] = "linear"  # which of opuproj's results is of the same kind
    needs: ClassVar[tuple[str, ...]] = ()  # packages
    generates: ClassVar[bool] = False  # in every product anew, so that its time is proportional to the outputs

    @classmethod
    def check(cls, n_inputs: int, n_outputs: int) -> None:
        """Raise UnavailableError where a package, a device or memory is missing."""
        for package in cls.needs:
            if find_spec(package) is None:
                raise UnavailableError(f"{package} is not installed")
        needed, available = 3 * cls.stored_bytes(n_inputs, n_outputs), machine.available_bytes()
        if needed > available:
            raise UnavailableError(f"building it takes some {size(needed)}, and {size(available)} are available")

    @classmethod
    @abstractmethod
    def stored_bytes(cls, n_inputs: int, n_outputs: int) -> int:
        """Bytes of matrix that are kept between products."""

    @classmethod
    @abstractmethod
    def build(cls, n_inputs: int, n_outputs: int) -> Peer:
        """Draw the matrix, or prepare to."""

    @abstractmethod
    def multiply(self, x: Ternary) -> Work:
        """Prepare the product for x of shape (batch, n_inputs); the work returns it, of shape (batch, n_outputs)."""

    @abstractmethod
    def matrix(self) -> NDArray[Any]:
        """The matrix that products are with, of shape (n_outputs, n_inputs): for tests of small ones."""
