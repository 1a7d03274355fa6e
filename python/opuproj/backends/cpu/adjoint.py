"""The adjoint: multiplies vectors of outputs, rounded to digits, by the conjugate entries of the matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _core, _progress
from ..._spec import Spec
from ...encoded import TERNARY_BASE
from ...inputs.rows import ArrayRows, DigitRows, NumberRows
from .. import Read, Request
from . import machine, results
from .dense import ENCODING, DigitConverter, largest

# The number of entries of the anchor's columns that are computed between two checks for Ctrl-C.
_PHASE_ENTRIES = 1 << 24


def adjoint(
    spec: Spec, rows: ArrayRows, read: Read, *, conjugated: bool, n_digits: int, out: Any, request: Request
) -> NDArray[Any]:
    """Multiply vectors of outputs by the adjoint, as :meth:`Backend.adjoint` says."""
    parts = _InterleavedRows(rows, spec, negated=not conjugated)
    coded, converter = DigitRows(parts, TERNARY_BASE, n_digits), DigitConverter()
    result = results.allocated((*rows.shape[:-1], spec.n_inputs), spec.dtype, out, rows)
    flat = results.rows_of(result)
    if spec.n_outputs == 0:  # an empty sum
        flat[...] = 0
        return result
    step = converter.block_rows(coded)
    blocks: Iterable[_core.Encoded]
    if step >= parts.n_rows:
        blocks = (converter.whole(coded),)
    else:  # check all numbers before the first block is multiplied
        for _ in parts.real_pieces():
            pass
        blocks = converter.blocks(coded, step)
    if flat.size == 0:
        pass
    elif not request.progress:
        _run(spec, blocks, flat, read, request.threads, None)
    else:
        with _progress.shown(request.progress, flat.size) as advance:
            _run(spec, blocks, flat, read, request.threads, advance)
    if not conjugated:
        np.conjugate(flat, out=flat)
        flat += 0  # −0 becomes 0
    return result


def _run(
    spec: Spec,
    blocks: Iterable[_core.Encoded],
    out: NDArray[Any],
    read: Read,
    threads: int | None,
    advance: Callable[[float], None] | None,
) -> None:
    done, isa, n_threads = 0, machine.isa(), machine.n_threads(threads)
    for block in blocks:
        part = out[done : done + block.n_rows]
        _core.adjoint(
            block,
            part,
            seed=spec.seed,
            read=read,
            row_block=spec.row_start // spec.block_rows,
            threads=n_threads,
            isa=isa,
            on_progress=advance and _progress.part_of(advance, done / len(out), len(part) / len(out)),
        )
        done += len(part)
        del block  # free its memory before the next one is made


class _InterleavedRows(NumberRows):
    """Vectors of outputs as the core needs them: the components of whole row blocks of T.

    Real and imaginary parts alternate. A vector for mode ``"real"`` holds these components already.
    """

    def __init__(self, y: ArrayRows, spec: Spec, *, negated: bool) -> None:
        self._y, self._spec, self._negated = y, spec, negated
        # The number of rows of the first block that come before the window; they get zeros.
        self._before = spec.row_start % spec.block_rows
        super().__init__("y", (y.n_rows, spec.components * (self._before + spec.n_outputs)))

    def position(self, row: int, column: int) -> str:
        return self._y.position(row, column // self._spec.components - self._before)

    def real_pieces(self) -> Iterator[NDArray[Any]]:
        phases = _phases(self._spec) if self._spec.mode == "linear" else None
        done = 0
        for piece in self._y.real_pieces():
            real = piece.real.dtype if phases is None else np.float64
            parts = np.zeros((len(piece), self._before + self._spec.n_outputs, self._spec.components), real)
            inner = parts[:, self._before :]
            if phases is None:
                inner[..., 0] = piece.real
                if piece.dtype.kind == "c":
                    np.multiply(piece.imag, -1 if self._negated else 1, out=inner[..., 1])
            else:
                inner[..., 0] = piece
            largest(self, parts.reshape(len(piece), -1), done, ENCODING)  # errors show the numbers as they were given
            if phases is not None:
                np.multiply(piece, phases.imag, out=inner[..., 1])
                inner[..., 0] *= phases.real
            done += len(piece)
            yield parts.reshape(len(piece), -1)


def _phases(spec: Spec) -> NDArray[np.complex128]:
    """Return r/|r| for the anchor's field r at each output."""
    isa = machine.isa()
    step = max(1, _PHASE_ENTRIES // spec.n_anchor)
    return np.concatenate(
        [
            _core.anchor_phases(
                min(step, spec.n_outputs - start),
                seed=spec.seed,
                row_start=spec.row_start + start,
                n_anchor=spec.n_anchor,
                isa=isa,
            )
            for start in range(0, spec.n_outputs, step)
        ]
    )
