"""The operator: a transmission matrix that is never stored, applied to ternary vectors; and its adjoint."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from . import _check
from ._check import Ensemble, Mode
from ._spec import Spec
from .backends import Read, backend
from .camera import Camera
from .encoded import default_digits
from .inputs.vectors import vectors
from .projection import apply, apply_adjoint

# The end of the error about a value that is not ternary; matvec takes no real numbers for intensities.
_ADVICE: dict[Mode, str] = {
    "intensity": "use op(x, digits=…) for real numbers, or opuproj.ternarize",
    **dict.fromkeys(
        ("linear", "complex"), "use op(x, digits=…) or op.matvec(x) for real numbers, or opuproj.ternarize"
    ),
}


@dataclass(frozen=True, init=False, repr=False)
class Projector:
    r"""The linear operator of a random scattering medium, and what a camera behind it sees.

    It holds a few integers, whatever its shape: it is immutable, hashable, pickles, and may be shared by threads.

    Parameters
    ----------
    n_inputs : int
        The length of the vectors it takes.
    n_outputs : int
        The length of the results.
    seed : int, default 0
        Which medium, from 0 to 2**64 - 1.
    mode : {"intensity", "linear", "complex"}, default "linear"
        What is measured, as in :func:`project`.
    ensemble : {"gaussian", "structured"}, default "gaussian"
        Which random matrices T is one of, as in :func:`project`.
    n_anchor : int, default 64
        How many pixels the anchor lights, from 1 to 4096. Used by ``"linear"``, and by ``"complex"`` in front of a
        camera.
    camera : Camera, optional
        Read the intensities through this camera, as in :func:`project`.
    dtype : dtype, default float32
        As in :func:`project`.
    threads : int, optional
        By default ``OPUPROJ_NUM_THREADS`` if set, else the number of cores that this process may use; looked up at each
        call. It changes no result, and takes no part in equality.

    Attributes
    ----------
    n_inputs, n_outputs, seed, mode, ensemble, n_anchor, camera, dtype, threads
        As given; `dtype` is that of the results.
    row_start : int
        The row of T that gives output 0: not 0 for an operator made by :meth:`rows`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type, which the message names.

    Notes
    -----
    Two operators with the same seed share their entries wherever both have them: T does not depend on its shape. So
    disjoint ranges of rows are independent projections, and many workers can each compute a part. (Of the ensemble
    ``"structured"`` the rows are the same for any `n_outputs`, but not for any `n_inputs`.)

    The law of the entries, and how R comes from intensities, are described in [1]_ and in :func:`project`.

    `digits`, `out`, `noise_seed` and `progress` are arguments of the call, ``op(x, digits=5)``; ``op @ x`` projects
    rows; `matvec` and `matmat` take real numbers and columns.

    References
    ----------
    .. [1] R. Ohana, D. Hesslow, D. Brunner, S. Gigan and K. Müller, "Linear optical random projections without
       holography", Optics Express 31, 25881, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> import opuproj
    >>> op = opuproj.Projector(1000, 50_000, seed=7)
    >>> x = np.zeros(1000, dtype=np.int8)
    >>> x[[3, 14, 15]] = 1, -1, 1
    >>> y = op @ x
    >>> y.shape
    (50000,)
    >>> np.array_equal(op[100:200](x), y[100:200])
    True
    >>> np.allclose(op.matrix(rows=slice(0, 5)) @ x, y[:5])
    True
    """

    _spec: Spec
    threads: int | None = field(compare=False)

    # NumPy must not take this for an array: array @ operator is an error, not a loop over elements.
    __array_ufunc__ = None

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        seed: int = 0,
        mode: Mode = "linear",
        ensemble: Ensemble = "gaussian",
        n_anchor: int = 64,
        camera: Camera | None = None,
        dtype: Any = np.float32,
        threads: int | None = None,
    ) -> None:
        spec = Spec.checked(
            n_inputs, n_outputs, seed=seed, mode=mode, ensemble=ensemble, n_anchor=n_anchor, camera=camera, dtype=dtype
        )
        self.__dict__.update(_spec=spec, threads=_check.threads(threads))  # a frozen dataclass refuses assignments

    @classmethod
    def _of(cls, spec: Spec, threads: int | None) -> Projector:
        """Return the operator of a specification."""
        operator = object.__new__(cls)
        operator.__dict__.update(_spec=spec, threads=threads)
        return operator

    # What it is

    @property
    def n_inputs(self) -> int:
        """The length of the vectors it takes."""
        return self._spec.n_inputs

    @property
    def n_outputs(self) -> int:
        """The length of the results."""
        return self._spec.n_outputs

    @property
    def row_start(self) -> int:
        """The row of T that gives output 0: not 0 for an operator made by :meth:`rows`."""
        return self._spec.row_start

    @property
    def seed(self) -> int:
        """Which medium."""
        return self._spec.seed

    @property
    def mode(self) -> Mode:
        """What is measured."""
        return self._spec.mode

    @property
    def ensemble(self) -> Ensemble:
        """Which random matrices T is one of."""
        return self._spec.ensemble

    @property
    def n_anchor(self) -> int:
        """How many pixels the anchor lights."""
        return self._spec.n_anchor

    @property
    def camera(self) -> Camera | None:
        """The camera that reads the intensities."""
        return self._spec.camera

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the results."""
        return self._spec.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """(n_outputs, n_inputs), as that of the matrix."""
        return self.n_outputs, self.n_inputs

    def __repr__(self) -> str:
        spec = self._spec
        whole = spec.row_start == 0 and spec.n_outputs > 0
        text = (
            f"Projector({spec.n_inputs}, {max(1, spec.row_stop)}, seed={spec.seed}, mode={spec.mode!r}, "
            f"n_anchor={spec.n_anchor}, dtype={spec.dtype.name!r}"
            f"{'' if spec.ensemble == 'gaussian' else f', ensemble={spec.ensemble!r}'}"
            f"{'' if spec.camera is None else f', camera={spec.camera}'}"
            f"{'' if self.threads is None else f', threads={self.threads}'})"
        )
        return text if whole else f"{text}.rows({spec.row_start}, {spec.row_stop})"

    def __reduce__(self) -> tuple[Any, ...]:
        state = self._spec.to_state()
        start = state.pop("row_start")
        return _restore, ({**state, "threads": self.threads, "row_start": start},)

    def __copy__(self) -> Projector:
        return self

    def __deepcopy__(self, memo: object) -> Projector:
        return self

    # What it does

    def __call__(
        self,
        x: Any,
        *,
        digits: int | None = None,
        noise_seed: int | None = None,
        out: Any = None,
        progress: bool = False,
    ) -> Any:
        """Project vectors.

        Parameters
        ----------
        x : array_like of shape (..., n_inputs)
            Vectors of -1, 0 and 1, from any library that :func:`project` takes, or an :class:`EncodedBatch`; of any
            real numbers for the ensemble ``"structured"``.
        digits : int, optional
            Take x as real numbers, in so many digits, as in :func:`project`.
        noise_seed : int, optional
            Which noise the operator's camera makes, as in :func:`project`; by default, noise that no other call has.
        out : ndarray or CPU tensor of shape (..., n_outputs), optional
            Filled with the result and returned, as in :func:`project`.
        progress : bool, default False
            Show a progress bar.

        Returns
        -------
        ndarray or tensor of shape (..., n_outputs)

        Raises
        ------
        ValueError, TypeError, MemoryError
            As :func:`project`.
        """
        spec = self._spec
        rows = vectors(x, digits, spec.ensemble, _ADVICE[spec.mode])
        return apply(spec, rows, threads=self.threads, noise_seed=noise_seed, out=out, progress=progress)

    def __matmul__(self, x: Any) -> Any:
        """Project vectors: ``op @ x`` is ``op(x)``, so x has shape (..., n_inputs)."""
        spec = self._spec
        return apply(spec, vectors(x, None, spec.ensemble, _ADVICE[spec.mode]), threads=self.threads)

    def __rmatmul__(self, x: object) -> NoReturn:
        none = self.mode == "intensity" or self.ensemble == "structured"
        adjoint = "" if none else f", and op.T @ x takes rows of n_outputs ({self.n_outputs}) back"
        raise TypeError(
            f"x @ op is not defined: op @ x projects the rows of x, which have n_inputs ({self.n_inputs}) elements"
            f"{adjoint}"
        )

    def __mul__(self, factor: object) -> NoReturn:
        raise TypeError("an operator is not multiplied by a number: multiply its results, as in 2 * op(x)")

    __rmul__ = __mul__

    # Back, and what solvers ask for

    @property
    def H(self) -> Adjoint:  # noqa: N802
        """The adjoint: ``op.H @ y`` is Rᵗy for mode ``"linear"``, Tᴴy for ``"complex"``. See :class:`Adjoint`.

        Raises
        ------
        AttributeError
            If the mode is ``"intensity"``, which is not linear, or the ensemble ``"structured"``.
        """
        return self._adjoint(conjugated=True)

    @property
    def T(self) -> Adjoint:  # noqa: N802
        """The transpose: ``op.T @ y`` is Rᵗy for mode ``"linear"``, Tᵗy for ``"complex"``. See :class:`Adjoint`.

        Raises
        ------
        AttributeError
            If the mode is ``"intensity"``, which is not linear, or the ensemble ``"structured"``.
        """
        return self._adjoint(conjugated=False)

    def _adjoint(self, *, conjugated: bool) -> Adjoint:
        try:
            return Adjoint(self, conjugated)
        except ValueError as error:  # hasattr and the like must see that there is none
            raise AttributeError(str(error)) from None

    def matvec(self, x: Any) -> NDArray[Any]:
        """Multiply one vector of real or complex numbers, as :func:`scipy.sparse.linalg.aslinearoperator` expects.

        Parameters
        ----------
        x : array_like of shape (n_inputs,) or (n_inputs, 1)
            Real numbers, and for mode ``"complex"`` complex ones. They are taken in 10 ternary digits, right to 1.7e-5
            of the largest element, or in 20, right to 2.9e-10, if the operator's dtype is of double precision: which
            it should be for a solver that is to converge further.

        Returns
        -------
        ndarray of shape (n_outputs,) or (n_outputs, 1)

        Raises
        ------
        ValueError, TypeError
            As :func:`project`; or if the mode is ``"intensity"``, which is not linear.
        """
        product: NDArray[Any] = self._multiply(np.asarray(x).T).T
        return product

    def matmat(self, x: Any) -> NDArray[Any]:
        """Multiply the columns of a matrix of shape (n_inputs, k), as :meth:`matvec` does one."""
        product: NDArray[Any] = self._multiply(np.asarray(x).T).T
        return product

    def rmatvec(self, y: Any) -> NDArray[Any]:
        """Multiply one vector of shape (n_outputs,) or (n_outputs, 1) by the adjoint: ``op.H @ y``."""
        product: NDArray[Any] = Adjoint(self)(np.asarray(y).T).T
        return product

    def rmatmat(self, y: Any) -> NDArray[Any]:
        """Multiply the columns of a matrix of shape (n_outputs, k) by the adjoint."""
        product: NDArray[Any] = Adjoint(self)(np.asarray(y).T).T
        return product

    def _multiply(self, x: NDArray[Any]) -> NDArray[Any]:
        """Project rows of real or complex numbers: as they are, or in as many digits as the dtype deserves."""
        if self.mode == "intensity":
            raise ValueError("mode is 'intensity', which is not linear: use mode 'linear' or 'complex'")
        digits = None if self.ensemble == "structured" else default_digits(self.dtype)
        if x.dtype.kind != "c" or self.mode == "linear":
            return np.asarray(self(x, digits=digits))
        real, imaginary = self(np.stack([x.real, x.imag]), digits=digits)
        return np.asarray(real + 1j * imaginary)

    # Parts of it

    def rows(self, start: int, stop: int) -> Projector:
        """Return the operator of outputs start to stop - 1 alone: the same entries, as a view of rows.

        Parameters
        ----------
        start, stop : int
            0 <= start <= stop <= n_outputs.

        Returns
        -------
        Projector
            With ``n_outputs == stop - start``. Rows of rows count from where the first began.

        Raises
        ------
        ValueError
            If the rows do not all exist.

        Examples
        --------
        >>> import opuproj
        >>> op = opuproj.Projector(10, 1000)
        >>> op.rows(100, 300).rows(5, 10) == op.rows(105, 110)
        True
        """
        return self._window(*_check.row_range((start, stop), self.n_outputs))

    def with_camera(self, camera: Camera | None) -> Projector:
        """Return the same operator with another camera, or with none.

        Parameters
        ----------
        camera : Camera or None
            Reads the intensities; None for exact results.

        Raises
        ------
        ValueError, TypeError
            If `camera` is no camera, the operator's dtype is one that only its own camera gives, or its ensemble is
            ``"structured"``, which exists in software only.
        """
        return Projector._of(self._spec.with_camera(camera), self.threads)

    def seen_by(self, camera: Camera | None) -> Projector:
        """Return the same operator with another camera: the old name of :meth:`with_camera`.

        .. deprecated:: 0.1
            Use :meth:`with_camera`.
        """
        warnings.warn("seen_by is deprecated: use with_camera", DeprecationWarning, stacklevel=2)
        return self.with_camera(camera)

    def __getitem__(self, index: slice) -> Projector:
        """Return the operator of a slice of outputs, cut off at the ends as Python does."""
        if not isinstance(index, slice):
            raise TypeError(
                f"an operator is indexed with a slice of outputs, not {index!r}; "
                "use op[i:i + 1] for one output and op.matrix(rows, columns) for entries"
            )
        start, stop, step = index.indices(self.n_outputs)
        if step != 1:
            raise ValueError(f"the slice has step {step}, but rows of an operator must be contiguous (step 1)")
        return self._window(start, max(start, stop))

    def _window(self, start: int, stop: int) -> Projector:
        return Projector._of(self._spec.rows(start, stop), self.threads)

    def matrix(
        self,
        rows: slice | range | Sequence[int] | NDArray[np.integer[Any]] | None = None,
        columns: slice | range | Sequence[int] | NDArray[np.integer[Any]] | None = None,
    ) -> NDArray[Any]:
        """Return exact entries of the matrix that the operator multiplies by, for small windows of it.

        Parameters
        ----------
        rows, columns : slice, range or sequence of int, optional
            Which outputs and which inputs, in any order; all by default. Negative numbers count from the end.

        Returns
        -------
        ndarray of shape (n_rows, n_columns)
            R, real, for mode ``"linear"``; T, complex, for ``"complex"`` and ``"intensity"``. In the precision of
            `dtype`.

        Raises
        ------
        IndexError
            If a row or a column does not exist.
        MemoryError
            If the window cannot be allocated.

        Examples
        --------
        >>> import opuproj
        >>> op = opuproj.Projector(10**6, 2 * 10**6, mode="complex")
        >>> op.matrix(rows=slice(1_999_998, None), columns=[0, 999_999]).shape
        (2, 2)
        """
        picked_rows = _check.picked("rows", rows, self.n_outputs)
        return backend("cpu").entries(self._spec, picked_rows, _check.picked("columns", columns, self.n_inputs))


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
        operator = self.operator
        return apply_adjoint(
            operator._spec,
            y,
            read,
            conjugated=self.conjugated,
            digits=digits,
            threads=operator.threads,
            out=out,
            progress=progress,
        )

    def __matmul__(self, y: Any) -> Any:
        """Take vectors back: ``op.H @ y`` is ``op.H(y)``, so y has shape (..., n_outputs)."""
        return self(y)


def _restore(state: dict[str, Any]) -> Projector:
    """Return the operator of a pickled state, all of which is checked as arguments are."""
    fields = dict(state)
    if "threads" not in fields:
        raise ValueError("the state has no 'threads': it is not that of a Projector")
    threads = _check.threads(fields.pop("threads"))
    return Projector._of(Spec.from_state(fields), threads)
