"""The compiled module. It has no defaults, and accepts only NumPy arrays of one or two axes."""

from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BLOCK_COMPONENTS",
    "INT32_NONZEROS",
    "MAX_ANCHOR",
    "Encoded",
    "Floats",
    "Packed",
    "Packer",
    "__version__",
    "adjoint",
    "anchor_phases",
    "choose_isa",
    "encode",
    "encode_sparse",
    "entries",
    "fields",
    "instruction_sets",
    "keystream_seconds",
    "multiply_seconds",
    "project",
    "project_structured",
    "read_fields",
    "row_max_abs",
    "structured_bytes",
    "variable",
]

__version__: str

@final
class Packed:
    """An immutable (n_rows, n_inputs) batch of -1, 0 and 1, as two bit planes with rows padded to 64 columns."""

    @property
    def n_rows(self) -> int: ...
    @property
    def n_inputs(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def row_nnz(self) -> NDArray[np.int64]: ...
    def unpack_into(self, out: NDArray[np.int8], row: int, column: int, /) -> None: ...
    def take(self, rows: NDArray[np.int64], /) -> Packed: ...
    def planes(self, msb_first: bool, /) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]: ...
    @staticmethod
    def from_planes(
        positive: NDArray[np.uint8], negative: NDArray[np.uint8], n_inputs: int, msb_first: bool, /
    ) -> Packed: ...
    @staticmethod
    def from_csr(
        indptr: NDArray[np.int64], indices: NDArray[np.int64], values: NDArray[np.int8], n_inputs: int, /
    ) -> Packed: ...
    @staticmethod
    def concatenate(parts: Sequence[Packed], /) -> Packed: ...
    def save(self, path: str, shape: Sequence[int], /) -> None: ...
    @staticmethod
    def load(path: str, /) -> tuple[Packed, list[int]]: ...
    def to_bytes(self) -> bytes: ...
    @staticmethod
    def from_bytes(data: bytes, /) -> Packed: ...
    def __eq__(self, other: object, /) -> bool: ...

@final
class Encoded:
    """An immutable (n_rows, n_inputs) batch of real numbers: one Packed per digit, and one scale per row."""

    def __new__(cls, base: int, digits: Sequence[Packed], scales: NDArray[np.float64], /) -> Encoded: ...
    @property
    def n_rows(self) -> int: ...
    @property
    def base(self) -> int: ...
    @property
    def n_digits(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def scales(self) -> NDArray[np.float64]: ...
    def digit(self, k: int, /) -> Packed: ...
    @staticmethod
    def concatenate(parts: Sequence[Encoded], /) -> Encoded: ...
    def __eq__(self, other: object, /) -> bool: ...

@final
class Packer:
    """Fills a Packed from pieces, so that no array larger than a piece is copied."""

    def __new__(cls, n_rows: int, n_inputs: int, isa: str | None, /) -> Packer: ...
    def push(self, x: NDArray[Any], /) -> tuple[int, int] | None: ...
    def push_ternarized(self, e: NDArray[Any], thresholds: NDArray[np.float64], /) -> tuple[int, int] | None: ...
    def finish(self) -> Packed: ...

def row_max_abs(e: NDArray[Any], isa: str | None, /) -> NDArray[np.float64]: ...

@final
class Floats:
    """Rows of real numbers in float32, each scaled by a power of two. They are filled from pieces."""

    def __new__(cls, n_rows: int, n_inputs: int) -> Floats: ...
    @property
    def n_rows(self) -> int: ...
    @property
    def n_inputs(self) -> int: ...
    def push(self, x: NDArray[Any], largest: NDArray[np.float64], /) -> None: ...

def project(
    batch: Packed | Encoded,
    out: NDArray[Any],
    *,
    seed: int,
    mode: str,
    row_start: int,
    n_anchor: int,
    camera: object | None,
    noise_seed: int,
    first_vector: int,
    threads: int,
    isa: str | None,
    on_progress: Callable[[float], object] | None,
    columns: NDArray[np.uint64] | None = None,
    column_start: int = 0,
) -> None: ...
def project_structured(
    batch: Packed | Floats,
    out: NDArray[Any],
    *,
    seed: int,
    mode: str,
    row_start: int,
    n_anchor: int,
    threads: int,
    isa: str | None,
    on_progress: Callable[[float], object] | None,
) -> None: ...
def structured_bytes(n_inputs: int, /) -> int | None: ...
def fields(
    batch: Packed,
    out: NDArray[np.int32] | NDArray[np.int64],
    *,
    seed: int,
    mode: str,
    row_start: int,
    column_start: int,
    threads: int,
    isa: str | None,
) -> None: ...
def read_fields(
    fields: NDArray[np.int32] | NDArray[np.int64],
    out: NDArray[Any],
    *,
    seed: int,
    mode: str,
    row_start: int,
    n_anchor: int,
    threads: int,
    isa: str | None,
) -> None: ...
def adjoint(
    batch: Encoded,
    out: NDArray[Any],
    *,
    seed: int,
    read: str,
    row_block: int,
    threads: int,
    isa: str | None,
    on_progress: Callable[[float], object] | None,
) -> None: ...
def anchor_phases(
    n_rows: int, *, seed: int, row_start: int, n_anchor: int, isa: str | None
) -> NDArray[np.complex128]: ...
def encode(x: NDArray[Any], largest: NDArray[np.float64], base: int, n_digits: int, isa: str | None, /) -> Encoded: ...
def encode_sparse(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int64],
    values: NDArray[Any],
    n_inputs: int,
    base: int,
    n_digits: int,
    isa: str | None,
    /,
) -> Encoded: ...
def entries(
    rows: NDArray[np.uint64],
    columns: NDArray[np.uint64],
    out: NDArray[Any],
    *,
    seed: int,
    mode: str,
    n_anchor: int,
    isa: str | None,
) -> None: ...
def instruction_sets() -> list[tuple[str, bool]]: ...
def variable(name: str, /) -> str | None: ...
def choose_isa(isa: str | None, /) -> str: ...

BLOCK_COMPONENTS: int
INT32_NONZEROS: int
MAX_ANCHOR: int

def keystream_seconds(isa: str | None, n_bytes: int, /) -> float: ...
def multiply_seconds(isa: str | None, n_multiply_adds: int, /) -> float: ...
