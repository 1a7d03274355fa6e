"""One call of an operator, once all has been checked: its blocks of vectors one after the other through the core."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _core, _progress
from ._sources import Block, digits_of
from ._sparse import Compact
from .camera import imperfect

if TYPE_CHECKING:
    from .projector import Projector

# Of results of one digit in front of a camera.
_PHOTOGRAPH_BYTES = 1 << 23


class Call(NamedTuple):  # and no dataclass, which takes a microsecond more to make
    """How a call is computed, besides its operator and its vectors, or how a part of it is."""

    isa: str | None
    threads: int
    noise_seed: int
    # The place of the first vector among those of one noise seed.
    first_vector: int
    # Told the fraction that is done.
    advance: Callable[[float], None] | None

    def part(self, first: int, start: float, share: float) -> Call:
        """Return how a part is computed: vectors from `first` on, the `share` of the work that begins at `start`."""
        advance = self.advance and _progress.part_of(self.advance, start, share)
        return self._replace(first_vector=self.first_vector + first, advance=advance)


def run(operator: Projector, blocks: Iterable[Block], rows: NDArray[Any], call: Call) -> None:
    """Project blocks of vectors, and write results to `rows`, of shape (n_vectors, n_outputs), which is not empty."""
    done, n = 0, len(rows)
    for block in blocks:
        size = block.n_rows
        whole = size == n
        out = rows if whole else rows[done : done + size]
        part = call if whole else call.part(done, done / n, size / n)
        batch, columns = block if isinstance(block, Compact) else (block, None)
        if isinstance(batch, _core.Floats) or (operator.ensemble == "structured" and isinstance(batch, _core.Packed)):
            _transform(operator, batch, out, part)
        elif isinstance(batch, _core.Packed) or not imperfect(operator.camera):
            _project(operator, batch, columns, out, part)
        else:
            _photograph(operator, batch, columns, out, part)
        done += size
        del block, batch, columns  # before the next one is made


def _transform(operator: Projector, block: _core.Packed | _core.Floats, out: NDArray[Any], call: Call) -> None:
    _core.project_structured(
        block,
        out,
        seed=operator.seed,
        mode=operator.mode,
        row_start=operator.row_start,
        n_anchor=operator.n_anchor,
        threads=call.threads,
        isa=call.isa,
        on_progress=call.advance,
    )


def _project(
    operator: Projector,
    block: _core.Packed | _core.Encoded,
    columns: NDArray[np.uint64] | None,
    out: NDArray[Any],
    call: Call,
) -> None:
    _core.project(
        block,
        out,
        seed=operator.seed,
        mode=operator.mode,
        row_start=operator.row_start,
        n_anchor=operator.n_anchor,
        camera=operator.camera,
        noise_seed=call.noise_seed,
        first_vector=call.first_vector,
        threads=call.threads,
        isa=call.isa,
        on_progress=call.advance,
        columns=columns,
    )


def _photograph(
    operator: Projector, block: _core.Encoded, columns: NDArray[np.uint64] | None, out: NDArray[Any], call: Call
) -> None:
    """Add up what the camera gives of each digit."""
    digits = list(digits_of(block))
    n_outputs = out.shape[1]
    width = max(1, _PHOTOGRAPH_BYTES // (len(out) * out.itemsize or 1))
    for start in range(0, n_outputs, width):
        part = out[:, start : start + width]
        window = operator.rows(start, start + part.shape[1])
        one = np.empty_like(part, order="C")
        share = part.shape[1] / n_outputs / len(digits)
        for k, digit in enumerate(digits):
            # Frames that no other digit has.
            _project(window, digit, columns, one, call.part(k << 40, start / n_outputs + k * share, share))
            if k == 0:
                part[...] = one
            else:
                part *= block.base
                part += one
        part *= block.scales()[:, None]
