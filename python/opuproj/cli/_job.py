"""The projection of a file: checks the request, computes block by block, and resumes after a stop."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

from tqdm import tqdm

from .. import _check, _core, _memory
from .._spec import Spec
from ..backends import backend_for
from ..encoded import MAX_DIGITS, TERNARY_BASE
from ..inputs.rows import DigitRows, NumberRows, PackedRows, Rows
from ..projection import apply
from ._errors import Terminated, Unfinished
from ._packed import PackedReader
from ._partial import Partial
from ._plan import Plan, plan
from ._reader import Reader
from ._writers import NpyWriter, PipeWriter, Writer
from ._zarr import ZarrWriter

_ADVICE = "use --digits, or opuproj pack --threshold, for other values"


class Job:
    """A checked request: the input, the operator and the options."""

    def __init__(self, arguments: argparse.Namespace, reader: Reader) -> None:
        self._reader, self._digits = reader, arguments.digits
        self._batch_rows, self._checkpoint = arguments.batch_rows, arguments.checkpoint
        spec = Spec.checked(
            reader.n_inputs,
            arguments.outputs,
            seed=arguments.seed,
            mode=arguments.mode,
            n_anchor=arguments.n_anchor,
            camera=arguments.camera,
            dtype=arguments.dtype,
        )
        self._threads = _check.threads(arguments.threads)
        if arguments.rows is not None:
            spec = spec.rows(*_check.row_range(slice(*arguments.rows), spec.n_outputs))
        self._spec = spec
        self._noise_given: int | None = arguments.noise_seed
        if isinstance(reader, PackedReader) and self._digits is not None:
            raise ValueError(
                f"digits is {self._digits}, but {reader.name} is a packed file, which is ternary: leave it out"
            )
        # A projection of no vectors to no outputs checks every argument and computes nothing.
        apply(spec.rows(0, 0), self._rows(0, 0), threads=self._threads, noise_seed=self._noise_given)
        self._shape = (*reader.shape[:-1], spec.n_outputs)
        # NumPy's limit on bytes counts an empty axis as one of length 1.
        if math.prod(length or 1 for length in self._shape) * spec.dtype.itemsize >= 2**63 - 2**16:
            raise ValueError(
                f"the result would have shape {self._shape}, which is too large for any array: give fewer --rows"
            )
        self._noise: int | None = None
        if spec.noisy:
            self._noise = _check.noise_seed(self._noise_given)

    def _rows(self, start: int, stop: int) -> Rows:
        rows = self._reader.rows(start, stop, _ADVICE)
        if self._digits is None:
            return rows
        assert isinstance(rows, NumberRows), "a packed file has no digits"
        return DigitRows(rows, TERNARY_BASE, _check.integer("digits", self._digits, 1, MAX_DIGITS))

    def _plan(self, *, in_order: bool) -> Plan:
        n_inputs = self._reader.n_inputs
        return plan(
            self._reader.n_rows,
            self._spec.n_outputs,
            self._spec.dtype.itemsize,
            n_inputs=n_inputs,
            row_bytes=_memory.packed_bytes(1, n_inputs) * (1 if self._digits is None else 2 * self._digits),
            batch_rows=self._batch_rows,
            in_order=in_order,
        )

    def _request(self) -> dict[str, Any]:
        """Return all values on which the bits of the result depend."""
        fields = json.loads(self._spec.encode())
        del fields["row_start"], fields["n_outputs"], fields["ensemble"]
        request = {
            "opuproj": _core.__version__,
            "input": self._reader.identity(),
            "rows": [self._spec.row_start, self._spec.row_stop],
            "shape": self._shape,
            "digits": self._digits,
            "noise_seed": self._noise_given,
            **fields,
        }
        return json.loads(json.dumps(request))  # type: ignore[no-any-return]

    def _check(self, first_row: int) -> None:
        """Check all values before any is projected, as `opuproj.project` does. A pipe can be read only once."""
        if not self._reader.seekable:
            return
        rows = self._rows(first_row, self._reader.n_rows)
        if rows.n_rows:
            backend_for(rows).check(rows)

    # To a pipe

    def to_pipe(self) -> None:
        """Write the result to standard output as it is computed."""
        self._check(0)
        self._print_noise_seed()
        writer = PipeWriter(sys.stdout.buffer, self._shape, self._spec.dtype)
        writer.create()
        for _ in self._compute_tiles(self._plan(in_order=True), 0, writer):
            pass
        writer.sync()
        self._reader.refuse_change()

    # To a file

    def to_file(self, out: Path, restart: bool) -> None:
        """Write the result to a partial file next to `out`, and rename it when it is complete."""
        partial = Partial(out, folder=out.suffix == ".zarr")
        with closing(partial):
            request = self._request()
            finished = not restart and partial.finished(request)
            if finished and self._reader.seekable:
                partial.remove()
                return
            if restart or finished:  # another pipe may hold other vectors
                partial.empty()
            begun = self._resumable(partial, request)
            sizes = self._plan(in_order=False)
            if begun is not None:  # the existing tiles have the sizes of its plan
                sizes = Plan(sizes.n_rows, sizes.n_outputs, max(1, begun["rows"]), max(1, begun["columns"]))
                self._noise = begun.get("noise")
            first = 0 if begun is None else begun["tiles"]
            if first > sizes.n_tiles:
                raise partial.invalid_state()
            writer: Writer
            if out.suffix == ".zarr":
                writer = ZarrWriter(partial.path, sizes, self._shape, self._spec.dtype)
            else:
                writer = NpyWriter(partial.path, self._shape, self._spec.dtype)
            with closing(writer):
                self._write_tiles(partial, writer, sizes, first, request)
            try:
                self._reader.refuse_change()
            except ValueError:
                partial.remove()
                raise
            with _errors_of(out):
                partial.finish(sizes.n_tiles)
        self._print_summary(out)

    def _resumable(self, partial: Partial, request: dict[str, Any]) -> dict[str, Any] | None:
        """Return the state of a run that can be resumed, or None after removing what cannot be."""
        begun = partial.begun(request)
        if begun is not None and not (self._reader.seekable and begun["tiles"]):
            partial.empty()
            return None
        return begun

    def _write_tiles(self, partial: Partial, writer: Writer, sizes: Plan, first: int, request: dict[str, Any]) -> None:
        safe = done = first
        sound = True  # after a failed sync, a later sync may wrongly report success
        try:
            across = max(1, -(-sizes.n_outputs // sizes.columns))
            self._check(min(first // across * sizes.rows, sizes.n_rows))
            with _errors_of(partial.path):
                if first:
                    writer.reopen()
                else:
                    partial.begin(
                        {"request": request, "rows": sizes.rows, "columns": sizes.columns, "noise": self._noise}
                    )
                    writer.create()
                    self._print_noise_seed()
                last = monotonic()
                for done in self._compute_tiles(sizes, first, writer):
                    if self._reader.seekable and monotonic() - last >= self._checkpoint:
                        sound = False
                        writer.sync()
                        sound = True
                        partial.count(done)
                        safe, last = done, monotonic()
                sound = False
                writer.sync()
        except (Exception, KeyboardInterrupt, Terminated) as error:
            if not self._reader.seekable or done == 0:
                writer.close()
                partial.remove()
                raise
            with suppress(OSError):
                if done > safe and sound:
                    writer.sync()
                    partial.count(done)
                    safe = done
            raise Unfinished(f"{safe / sizes.n_tiles:.0%} is kept in {partial.path}", "continues") from error

    def _compute_tiles(self, sizes: Plan, first: int, writer: Writer) -> Iterator[int]:
        """Compute and write tiles; yield the number of finished tiles after each."""
        spec = self._spec
        high, wide = min(sizes.rows, max(1, sizes.n_rows)), sizes.columns
        n_bytes = high * wide * spec.dtype.itemsize
        memory = _memory.allocate(
            "a tile of the result", (high * wide,), spec.dtype, "take fewer vectors with --batch-rows"
        )
        total = math.prod(self._shape)
        with tqdm(
            total=total,
            initial=sizes.computed(first),
            unit=" outputs",
            unit_scale=True,
            desc="opuproj",
            disable=n_bytes == 0 or sys.stderr is None or not sys.stderr.isatty(),
        ) as bar:
            for top, bottom, tiles in sizes.blocks(first):
                block = self._read_block(top, bottom)
                for tile in tiles:
                    shape = (bottom - top, tile.right - tile.left)
                    values = memory[: math.prod(shape)].reshape(shape)
                    before = sizes.computed(tile.number)

                    def advance(fraction: float, before: int = before, size: int = values.size) -> None:
                        bar.update(before + round(fraction * size) - bar.n)

                    apply(
                        spec.rows(tile.left, tile.right),
                        block,
                        threads=self._threads,
                        noise_seed=self._noise,
                        out=values,
                        progress=advance,
                        first_vector=top,
                    )
                    writer.write(tile, values)
                    yield tile.number + 1

    def _read_block(self, top: int, bottom: int) -> PackedRows[_core.Packed] | PackedRows[_core.Encoded]:
        """Return a block of vectors, which is read once for all its tiles."""
        rows = self._rows(top, bottom)
        if isinstance(rows, DigitRows):
            return PackedRows(rows.name, backend_for(rows).encode(rows), rows.shape)
        return PackedRows(rows.name, backend_for(rows).pack(rows), rows.shape)

    def _print_noise_seed(self) -> None:
        if self._noise is not None and self._noise_given is None and sys.stderr is not None:
            print(f"opuproj: the camera's noise is that of --noise-seed {self._noise}", file=sys.stderr)

    def _print_summary(self, out: Path) -> None:
        if sys.stderr is not None and sys.stderr.isatty():
            size = _memory.readable(math.prod(self._shape) * self._spec.dtype.itemsize)
            print(f"{out}: {self._shape} {self._spec.dtype.name}, {size}", file=sys.stderr)


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Add the file's name to an OSError that has none."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise
