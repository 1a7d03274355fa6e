"""The adjoint: from outputs back to inputs, through the same matrix that is never stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import _check, _config, _core, _inputs, _outputs, _progress, _rows, encoded

if TYPE_CHECKING:
    from .projector import Projector

Read = Literal["complex", "real", "linear"]

# Entries of the anchor's columns between two chances of Ctrl-C.
_PHASE_ENTRIES = 1 << 24
_DOUBLE = ("float64", "complex128")


def default_digits(dtype: np.dtype[Any]) -> int:
    """Return how many digits stand for real numbers where nobody says: right to 2e-5, or 3e-10 for double precision."""
    return 20 if dtype.name in _DOUBLE else 10


@dataclass(frozen=True)
class Adjoint:
    r"""The adjoint of a :class:`Projector`, or its transpose: what ``op.H`` and ``op.T`` give.

    It takes vectors of `n_outputs` numbers back to `n_inputs`: Rᵗy for mode ``"linear"``; Tᴴy for ``op.H`` and Tᵗy for
    ``op.T`` of mode ``"complex"``. It holds nothing but the operator and generates the same matrix again, tile by tile;
    of a window ``op.rows(a, b)`` it takes the window's rows.

    Attributes
    ----------
    operator : Projector
        The operator that it is the adjoint of, of mode ``"linear"`` or ``"complex"``. Its camera plays no part: the
        adjoint is that of the matrix.
    conjugated : bool
        Whether it is ``op.H``; ``op.T`` otherwise. For ``"linear"`` the two are the same.

    Raises
    ------
    ValueError
        If the operator's mode is ``"intensity"``, which is not linear, or its ensemble ``"structured"``.
    TypeError
        If `operator` is no Projector, or `conjugated` no bool.

    Notes
    -----
    Vectors are rounded to integers as by :func:`opuproj.encode`, each part of a complex number for itself (for
    ``"linear"``, of y times the phases of the anchor's field). The result is exact for these, whatever the batch, the
    number of threads and the instruction set: sums of integers that are scaled and rounded once. So for d digits

    \|result\ :sub:`j` − exact\ :sub:`j`\| ≤ √2 max\|y\| Σ\ :sub:`i` \|T\ :sub:`ij`\| / (3\ :sup:`d` − 1)

    (√2 times that for ``"linear"``), besides the rounding to the result's dtype; and typically n\ :sub:`outputs`
    :sup:`−1/2` of it, as rounding errors add up like noise.

    Examples
    --------
    >>> import numpy as np
    >>> import opuproj
    >>> op = opuproj.Projector(1000, 200, seed=7, mode="complex")
    >>> y = np.random.default_rng(0).standard_normal(200)
    >>> x = op.H @ y
    >>> x.shape
    (1000,)
    >>> np.allclose(x, op.matrix().conj().T @ y, atol=1e-2)
    True
    """

    operator: Projector
    conjugated: bool = True

    # NumPy must not take this for an array: array @ adjoint is an error, not a loop over elements.
    __array_ufunc__ = None

    def __post_init__(self) -> None:
        from .projector import Projector  # which imports this module

        if not isinstance(self.operator, Projector):
            raise TypeError(f"operator is {self.operator!r}, but must be an opuproj.Projector")
        if not isinstance(self.conjugated, (bool, np.bool_)):
            raise TypeError(f"conjugated is {self.conjugated!r}, but must be True or False")
        if self.operator.mode == "intensity":
            raise ValueError(
                "mode is 'intensity', which is not linear and has no adjoint: use mode 'linear' or 'complex'"
            )
        if self.operator.ensemble == "structured":
            raise ValueError("ensemble is 'structured', which has no adjoint here: use ensemble 'gaussian'")
        if self.operator.mode == "linear":
            object.__setattr__(self, "conjugated", True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        type(self).__init__(self, **state)  # a pickled adjoint is checked as a new one is

    @property
    def shape(self) -> tuple[int, int]:
        """(n_inputs, n_outputs), as that of the matrix."""
        return self.operator.n_inputs, self.operator.n_outputs

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of results for vectors in single precision: that of the operator."""
        return self.operator.dtype

    @property
    def H(self) -> Projector:  # noqa: N802
        """The operator again, for ``op.H``."""
        if not self.conjugated:
            raise AttributeError(
                "this is op.T, whose adjoint is the conjugate of T, which no operator applies: use op.H"
            )
        return self.operator

    @property
    def T(self) -> Projector:  # noqa: N802
        """The operator again, for ``op.T``."""
        if self.conjugated and self.operator.mode == "complex":
            raise AttributeError(
                "this is op.H, whose transpose is the conjugate of T, which no operator applies: use op.T"
            )
        return self.operator

    def __call__(self, y: Any, *, digits: int | None = None, out: Any = None, progress: bool = False) -> Any:
        """Take vectors of outputs back to inputs.

        Parameters
        ----------
        y : array_like of shape (..., n_outputs)
            Real numbers, and for mode ``"complex"`` complex ones, from any library that :func:`opuproj.project` takes.
            A sparse matrix is made dense a few vectors at a time.
        digits : int, optional
            How many ternary digits stand for them, from 1 to 20: by default 10, or 20 if the result is in double
            precision. Up to 5 cost one int8 multiplication, up to 10 two and so on (more in vectors of more than 88,738
            outputs); the entries of T are generated once for all.
        out : ndarray or CPU tensor of shape (..., n_inputs), optional
            Filled with the result and returned. It must not overlap `y`.
        progress : bool, default False
            Show a progress bar.

        Returns
        -------
        ndarray or tensor of shape (..., n_inputs)
            Real for mode ``"linear"`` and complex for ``"complex"``; in double precision if the operator's dtype or
            that of `y` is; in the library of `y`, on its device.

        Raises
        ------
        ValueError
            If `y` has another length, or holds NaN or an infinity (saying where), or an argument is out of range.
        TypeError
            If `y` does not hold numbers, or complex ones for mode ``"linear"``.
        MemoryError
            If the result cannot be allocated.
        """
        read: Read = "complex" if self.operator.mode == "complex" else "linear"
        return self._apply(y, read, digits, out, progress)

    def __matmul__(self, y: Any) -> Any:
        """Take vectors back: ``op.H @ y`` is ``op.H(y)``, so y has shape (..., n_outputs)."""
        return self(y)

    def _apply(self, y: Any, read: Read, digits: int | None, out: Any, progress: bool) -> Any:
        operator = self.operator
        source = _Parts(y, operator, negated=not self.conjugated)
        dtype = operator.dtype
        if source.double:
            dtype = np.result_type(dtype, np.float64)
        if read == "real":
            dtype = np.empty(0, dtype).real.dtype
        n_digits = default_digits(dtype) if digits is None else digits
        n_digits = _check.integer("digits", n_digits, 1, encoded.MAX_DIGITS)
        coded = encoded.EncodingSource(source, encoded.TERNARY_BASE, n_digits)
        shape = (*source.y.shape[:-1], operator.n_inputs)
        result = _outputs.new(shape, dtype) if out is None else _outputs.given(out, shape, dtype, source)
        rows = _outputs.rows_of(result)
        if operator.n_outputs == 0:  # a sum of nothing
            rows[...] = 0
            return source.y.wrap(result) if out is None else out
        step = coded.block_rows()
        blocks: Iterable[_core.Encoded]
        if step >= source.n_rows:
            blocks = (coded.pack(),)
        else:  # look at all of y before its first block is projected
            for _ in source.real_pieces():
                pass
            blocks = coded.packed_blocks(step)
        if rows.size == 0:
            pass
        elif progress:
            with _progress.bar(rows.size) as advance:
                self._run(blocks, rows, read, advance)
        else:
            self._run(blocks, rows, read, None)
        if not self.conjugated:
            np.conjugate(rows, out=rows)
            rows += 0  # −0 becomes 0
        return source.y.wrap(result) if out is None else out

    def _run(
        self,
        blocks: Iterable[_core.Encoded],
        rows: NDArray[Any],
        read: Read,
        advance: Callable[[float], None] | None,
    ) -> None:
        operator, done = self.operator, 0
        isa, threads = _config.isa(), _config.n_threads(operator.threads)
        for block in blocks:
            part = rows[done : done + block.n_rows]
            start, share = done / len(rows), len(part) / len(rows)
            _core.adjoint(
                block,
                part,
                seed=operator.seed,
                read=read,
                row_block=operator.row_start // _core.BLOCK_ROWS,
                threads=threads,
                isa=isa,
                on_progress=advance and _progress.part_of(advance, start, share),
            )
            done += len(part)
            del block  # before the next one is made


class _Parts(_rows.RealRows):
    """Vectors of outputs as the core takes them: real and imaginary parts in turn, from the first row of a block on."""

    def __init__(self, y: Any, operator: Projector, *, negated: bool) -> None:
        self.y = _inputs.source("y", y, complex_too=operator.mode == "complex", fewest=0)
        if self.y.n_inputs != operator.n_outputs:
            raise ValueError(
                f"y has shape {self.y.shape}, so its vectors have {self.y.n_inputs} numbers, but this adjoint "
                f"takes {operator.n_outputs}, one for each output"
            )
        self.operator, self.negated = operator, negated
        self.double = str(self.y.array.dtype).removeprefix("torch.") in (*_DOUBLE, "longdouble", "clongdouble")
        # Zeros for the rows before the window's in its first block.
        self.before = operator.row_start % _core.BLOCK_ROWS
        super().__init__("y", (self.y.n_rows, 2 * (self.before + operator.n_outputs)))

    def memory(self) -> tuple[NDArray[Any], ...]:
        return self.y.memory()

    def position(self, row: int, column: int) -> str:
        return self.y.position(row, column // 2 - self.before)

    def real_pieces(self) -> Iterator[NDArray[Any]]:
        phases = self._phases() if self.operator.mode == "linear" else None
        done = 0
        for piece in self.y.real_pieces():
            real = piece.real.dtype if phases is None else np.float64
            parts = np.zeros((len(piece), self.before + self.operator.n_outputs, 2), real)
            inner = parts[:, self.before :]
            if phases is None:
                inner[..., 0] = piece.real
                if piece.dtype.kind == "c":
                    np.multiply(piece.imag, -1 if self.negated else 1, out=inner[..., 1])
            else:
                inner[..., 0] = piece
            _rows.largest(self, parts.reshape(len(piece), -1), done, "encoding")  # as it was given
            if phases is not None:
                np.multiply(piece, phases.imag, out=inner[..., 1])
                inner[..., 0] *= phases.real
            done += len(piece)
            yield parts.reshape(len(piece), -1)

    def _phases(self) -> NDArray[np.complex128]:
        """Return r/|r| for the anchor's field r at each output."""
        operator, isa = self.operator, _config.isa()
        step = max(1, _PHASE_ENTRIES // operator.n_anchor)
        return np.concatenate(
            [
                _core.anchor_phases(
                    min(step, operator.n_outputs - start),
                    seed=operator.seed,
                    row_start=operator.row_start + start,
                    n_anchor=operator.n_anchor,
                    isa=isa,
                )
                for start in range(0, operator.n_outputs, step)
            ]
        )
