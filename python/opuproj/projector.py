"""The public operator `Projector`, which multiplies by a matrix that is never stored, and its `Adjoint`."""

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
from .backends import Read, Request, named
from .camera import Camera
from .encoded import default_digits
from .inputs.arrays import vectors
from .projection import apply, apply_adjoint
from .projection import project as project  # its former place

# The end of the error about a value that is not ternary. matvec accepts real numbers, but not in mode "intensity".
_ADVICE: dict[Mode, str] = {
    "intensity": "use op(x, digits=…) for real numbers, or opuproj.ternarize",
    **dict.fromkeys(
        ("linear", "complex", "real"), "use op(x, digits=…) or op.matvec(x) for real numbers, or opuproj.ternarize"
    ),
}


@dataclass(frozen=True, init=False, repr=False)
class Projector:
    r"""The linear operator of a random scattering medium, optionally read through a camera.

    The object holds a few integers, whatever its shape. It is immutable, hashable and picklable, and threads may share
    it.

    Parameters
    ----------
    n_inputs : int
        The length of each input vector.
    n_outputs : int
        The length of each result.
    seed : int, default 0
        Selects the medium: from 0 to 2**64 - 1.
    mode : {"intensity", "linear", "complex", "real"}, default "linear"
        The quantity that is returned, as in :func:`project`. ``"linear"`` is the device's own real matrix R, as a
        camera's readings allow to recover it. ``"real"`` is another real matrix, G, at half the cost.
    ensemble : {"gaussian", "structured"}, default "gaussian"
        The distribution of T, as in :func:`project`.
    n_anchor : int, default 64
        The number of pixels that the anchor lights, from 1 to 4096. Mode ``"linear"`` uses it, and mode ``"complex"``
        with a camera.
    camera : Camera, optional
        The camera that reads the intensities, as in :func:`project`.
    dtype : dtype, default float32
        As in :func:`project`.
    threads : int, optional
        The number of threads. By default, each call takes ``OPUPROJ_NUM_THREADS`` if it is set, else the number of
        cores that this process may use. It changes no result, and equality ignores it.
    device : str or torch.device, optional
        The device that computes, as in :func:`project`. By default, the GPU that holds the vectors, if one does, and
        else the CPU. It changes no result, and equality ignores it.

    Attributes
    ----------
    n_inputs, n_outputs, seed, mode, ensemble, n_anchor, camera, dtype, threads, device
        As given. `dtype` is the NumPy dtype of the results.
    row_start : int
        The row of the matrix that gives output 0. It is not 0 only for operators made by :meth:`rows` or by a slice.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type. The message names it.

    Notes
    -----
    T does not depend on its shape: two operators with the same seed have the same entry at every row and column that
    both have. So disjoint ranges of rows are independent projections, and each of many workers can compute a part. In
    the ensemble ``"structured"``, the rows do not depend on `n_outputs`, but they depend on `n_inputs`.

    The distribution of the entries, and how R follows from intensities, are described in [1]_ and in :func:`project`.

    `digits`, `out`, `noise_seed` and `progress` are arguments of the call: ``op(x, digits=5)``. ``op @ x`` projects
    rows. `matvec` and `matmat` accept real numbers, as one column or as the columns of a matrix.

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
    device: str | None = field(compare=False)

    # Makes `array @ operator` an error; otherwise NumPy would loop over the elements of the array.
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
        device: Any = None,
    ) -> None:
        spec = Spec.checked(
            n_inputs, n_outputs, seed=seed, mode=mode, ensemble=ensemble, n_anchor=n_anchor, camera=camera, dtype=dtype
        )
        name = None if device is None else named(device)[0]
        # A frozen dataclass prevents assignment.
        self.__dict__.update(_spec=spec, threads=_check.threads(threads), device=name)

    @classmethod
    def _of(cls, spec: Spec, threads: int | None, device: str | None) -> Projector:
        """Return the operator of a specification."""
        operator = object.__new__(cls)
        operator.__dict__.update(_spec=spec, threads=threads, device=device)
        return operator

    # Fields

    @property
    def n_inputs(self) -> int:
        """The length of each input vector."""
        return self._spec.n_inputs

    @property
    def n_outputs(self) -> int:
        """The length of each result."""
        return self._spec.n_outputs

    @property
    def row_start(self) -> int:
        """The row of the matrix that gives output 0: not 0 only for operators made by :meth:`rows` or by a slice."""
        return self._spec.row_start

    @property
    def seed(self) -> int:
        """The seed that selects the medium."""
        return self._spec.seed

    @property
    def mode(self) -> Mode:
        """The quantity that is returned: ``"intensity"``, ``"linear"``, ``"complex"`` or ``"real"``."""
        return self._spec.mode

    @property
    def ensemble(self) -> Ensemble:
        """The distribution of T: ``"gaussian"`` or ``"structured"``."""
        return self._spec.ensemble

    @property
    def n_anchor(self) -> int:
        """The number of pixels that the anchor lights."""
        return self._spec.n_anchor

    @property
    def camera(self) -> Camera | None:
        """The camera that reads the intensities, or None."""
        return self._spec.camera

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the results."""
        return self._spec.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the matrix: (n_outputs, n_inputs)."""
        return self.n_outputs, self.n_inputs

    def __repr__(self) -> str:
        spec = self._spec
        whole = spec.row_start == 0 and spec.n_outputs > 0
        text = (
            f"Projector({spec.n_inputs}, {max(1, spec.row_stop)}, seed={spec.seed}, mode={spec.mode!r}, "
            f"n_anchor={spec.n_anchor}, dtype={spec.dtype.name!r}"
            f"{'' if spec.ensemble == 'gaussian' else f', ensemble={spec.ensemble!r}'}"
            f"{'' if spec.camera is None else f', camera={spec.camera}'}"
            f"{'' if self.threads is None else f', threads={self.threads}'}"
            f"{'' if self.device is None else f', device={self.device!r}'})"
        )
        return text if whole else f"{text}.rows({spec.row_start}, {spec.row_stop})"

    def __reduce__(self) -> tuple[Any, ...]:
        state = self._spec.to_state()
        start = state.pop("row_start")
        state |= {"threads": self.threads, "row_start": start}
        if self.device is not None:
            state["device"] = self.device
        return _restore, (state,)

    def __copy__(self) -> Projector:
        return self

    def __deepcopy__(self, memo: object) -> Projector:
        return self

    # Projections

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
            Vectors of -1, 0 and 1 from any library that :func:`project` accepts, or an :class:`EncodedBatch`. The
            ensemble ``"structured"`` also accepts any real numbers.
        digits : int, optional
            Round real numbers to this many ternary digits first, as in :func:`project`.
        noise_seed : int, optional
            The seed of the camera's noise, as in :func:`project`. By default each call has new noise.
        out : ndarray or tensor of shape (..., n_outputs), optional
            The array that receives the result, as in :func:`project`. It is returned.
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
        rows = vectors(x, digits, spec.ensemble, _ADVICE[spec.mode], self._usable_device())
        return apply(spec, rows, threads=self.threads, noise_seed=noise_seed, out=out, progress=progress)

    def __matmul__(self, x: Any) -> Any:
        """Project vectors: ``op @ x`` is ``op(x)``, so x has shape (..., n_inputs)."""
        spec = self._spec
        rows = vectors(x, None, spec.ensemble, _ADVICE[spec.mode], self._usable_device())
        return apply(spec, rows, threads=self.threads)

    def _usable_device(self) -> str | None:
        """Return the operator's device, or raise RuntimeError if this machine cannot use it."""
        return None if self.device is None else named(self.device)[0]

    def __rmatmul__(self, x: object) -> NoReturn:
        none = self.mode == "intensity" or self.ensemble == "structured"
        adjoint = "" if none else f", and op.T @ x takes rows of n_outputs ({self.n_outputs}) back"
        raise TypeError(
            f"x @ op is not defined: op @ x projects the rows of x, which have n_inputs ({self.n_inputs}) elements"
            f"{adjoint}"
        )

    def __mul__(self, factor: object) -> NoReturn:
        raise TypeError("an operator cannot be multiplied by a number: multiply its results, as in 2 * op(x)")

    __rmul__ = __mul__

    # The adjoint, and the interface of scipy.sparse.linalg

    @property
    def H(self) -> Adjoint:  # noqa: N802
        """The adjoint: ``op.H @ y`` is Rᵗy for mode ``"linear"``, Gᵗy for ``"real"``, Tᴴy for ``"complex"``.

        See :class:`Adjoint`.

        Raises
        ------
        AttributeError
            If the mode is ``"intensity"``, which is not linear, or the ensemble ``"structured"``.
        """
        return self._adjoint(conjugated=True)

    @property
    def T(self) -> Adjoint:  # noqa: N802
        """The transpose: ``op.T @ y`` is Rᵗy for mode ``"linear"``, Gᵗy for ``"real"``, Tᵗy for ``"complex"``.

        See :class:`Adjoint`.

        Raises
        ------
        AttributeError
            If the mode is ``"intensity"``, which is not linear, or the ensemble ``"structured"``.
        """
        return self._adjoint(conjugated=False)

    def _adjoint(self, *, conjugated: bool) -> Adjoint:
        try:
            return Adjoint(self, conjugated)
        except ValueError as error:  # hasattr() expects AttributeError
            raise AttributeError(str(error)) from None

    def matvec(self, x: Any) -> NDArray[Any]:
        """Multiply one vector of real or complex numbers, as :func:`scipy.sparse.linalg.aslinearoperator` expects.

        Parameters
        ----------
        x : array_like of shape (n_inputs,) or (n_inputs, 1)
            Real numbers, or complex ones for mode ``"complex"``. They are rounded to 10 ternary digits, with an error
            of at most 1.7e-5 of the largest element. If the operator's dtype has double precision, they are rounded to
            20 digits, with an error of at most 2.9e-10. Use double precision for a solver that must converge further.

        Returns
        -------
        ndarray of shape (n_outputs,) or (n_outputs, 1)

        Raises
        ------
        ValueError, TypeError
            As :func:`project`; also if the mode is ``"intensity"``, which is not linear.
        """
        product: NDArray[Any] = self._multiply(np.asarray(x).T).T
        return product

    def matmat(self, x: Any) -> NDArray[Any]:
        """Multiply the columns of a matrix of shape (n_inputs, k), with the rounding of :meth:`matvec`."""
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
        """Project rows of real or complex numbers; the Gaussian ensemble rounds them to digits that suit the dtype."""
        if self.mode == "intensity":
            raise ValueError("mode is 'intensity', which is not linear: use mode 'linear', 'complex' or 'real'")
        digits = None if self.ensemble == "structured" else default_digits(self.dtype)
        if x.dtype.kind != "c" or self.mode != "complex":
            return np.asarray(self(x, digits=digits))
        real, imaginary = self(np.stack([x.real, x.imag]), digits=digits)
        return np.asarray(real + 1j * imaginary)

    # Windows and variants

    def rows(self, start: int, stop: int) -> Projector:
        """Return the operator that computes only outputs start to stop - 1, with the same entries.

        Parameters
        ----------
        start, stop : int
            0 <= start <= stop <= n_outputs.

        Returns
        -------
        Projector
            It has ``n_outputs == stop - start``. Calling `rows` on it again counts from its own first row.

        Raises
        ------
        ValueError
            If a row does not exist.

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
            The camera that reads the intensities; None gives exact results.

        Raises
        ------
        ValueError, TypeError
            If `camera` is not a camera, if the dtype is an integer dtype that the new camera cannot give, or if the
            mode is ``"real"`` or the ensemble ``"structured"``, which exist in software only.
        """
        return self._with(self._spec.with_camera(camera))

    def seen_by(self, camera: Camera | None) -> Projector:
        """Return the same operator with another camera: the old name of :meth:`with_camera`.

        .. deprecated:: 0.1
            Use :meth:`with_camera`.
        """
        warnings.warn("seen_by is deprecated: use with_camera", DeprecationWarning, stacklevel=2)
        return self.with_camera(camera)

    def __getitem__(self, index: slice) -> Projector:
        """Return the operator of a slice of outputs. A slice beyond the ends is clipped, as in Python."""
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
        return self._with(self._spec.rows(start, stop))

    def _with(self, spec: Spec) -> Projector:
        """Return an operator of this class, with another specification."""
        operator = object.__new__(type(self))
        operator.__dict__.update(self.__dict__, _spec=spec)
        return operator

    def matrix(
        self,
        rows: slice | range | Sequence[int] | NDArray[np.integer[Any]] | None = None,
        columns: slice | range | Sequence[int] | NDArray[np.integer[Any]] | None = None,
        *,
        device: Any = "cpu",
    ) -> Any:
        """Return exact entries of the operator's matrix, for small windows.

        Parameters
        ----------
        rows, columns : slice, range or sequence of int, optional
            The outputs and the inputs, in any order. All by default. Negative numbers count from the end.
        device : str or torch.device, default "cpu"
            The device that computes the entries: ``"cpu"``, ``"cuda"`` (the current GPU) or one such as ``"cuda:1"``.

        Returns
        -------
        ndarray of shape (n_rows, n_columns), or a torch tensor on a GPU
            The real matrix R for mode ``"linear"`` and G for ``"real"``; the complex matrix T for ``"complex"`` and
            ``"intensity"``. The precision is that of `dtype`.

        Raises
        ------
        IndexError
            If a row or a column does not exist.
        ValueError
            If `device` is not one of these.
        RuntimeError
            If the GPU cannot be used. The message says why.
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
        picked_columns = _check.picked("columns", columns, self.n_inputs)
        name, backend = named(device)
        return backend.entries(self._spec, picked_rows, picked_columns, Request(self.threads), name)


@dataclass(frozen=True)
class Adjoint:
    r"""The adjoint of a :class:`Projector`, or its transpose: the result of ``op.H`` or ``op.T``.

    It maps vectors of `n_outputs` numbers to vectors of `n_inputs`. It computes Rᵗy for mode ``"linear"`` and Gᵗy for
    ``"real"``. For ``"complex"``, ``op.H`` computes Tᴴy and ``op.T`` computes Tᵗy. The object holds only the operator,
    and generates the entries of the matrix again, tile by tile. For a window ``op.rows(a, b)`` it uses the rows of the
    window.

    Attributes
    ----------
    operator : Projector
        The operator, of any mode but ``"intensity"``. Its camera has no effect: this is the adjoint of the matrix.
    conjugated : bool
        True for ``op.H``, False for ``op.T``. For ``"linear"`` and ``"real"`` the two are the same.

    Raises
    ------
    ValueError
        If the operator's mode is ``"intensity"``, which is not linear, or its ensemble ``"structured"``.
    TypeError
        If `operator` is not a Projector, or `conjugated` is not a bool.

    Notes
    -----
    Vectors are rounded to integers as in :func:`opuproj.encode`; the real and the imaginary part are rounded
    separately. (For ``"linear"``, y is first multiplied by the phases of the anchor's field.) For the rounded vectors
    the result is exact: sums of integers that are scaled and rounded once. It depends neither on the batch nor on the
    number of threads nor on the instruction set. So for d digits

    \|result\ :sub:`j` − exact\ :sub:`j`\| ≤ √2 max\|y\| Σ\ :sub:`i` \|T\ :sub:`ij`\| / (3\ :sup:`d` − 1)

    (√2 times that for ``"linear"``; for ``"real"``, G takes the place of T, and 1 that of √2), plus the rounding to the
    result's dtype. Rounding errors add up like noise, so the typical error is n\ :sub:`outputs` :sup:`−1/2` of this
    bound.

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

    # Makes `array @ adjoint` an error; otherwise NumPy would loop over the elements of the array.
    __array_ufunc__ = None

    def __post_init__(self) -> None:
        if not isinstance(self.operator, Projector):
            raise TypeError(f"operator is {self.operator!r}, but must be an opuproj.Projector")
        if not isinstance(self.conjugated, (bool, np.bool_)):
            raise TypeError(f"conjugated is {self.conjugated!r}, but must be True or False")
        if self.operator.mode == "intensity":
            raise ValueError(
                "mode is 'intensity', which is not linear and has no adjoint: use mode 'linear', 'complex' or 'real'"
            )
        if self.operator.ensemble == "structured":
            raise ValueError("ensemble is 'structured', which has no adjoint here: use ensemble 'gaussian'")
        if self.operator.mode != "complex":
            object.__setattr__(self, "conjugated", True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        type(self).__init__(self, **state)  # checks a pickled adjoint like a new one

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the adjoint's matrix: (n_inputs, n_outputs)."""
        return self.operator.n_inputs, self.operator.n_outputs

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of results for vectors in single precision: the operator's dtype."""
        return self.operator.dtype

    @property
    def H(self) -> Projector:  # noqa: N802
        """The original operator, if this is ``op.H``."""
        if not self.conjugated:
            raise AttributeError(
                "this is op.T; its adjoint multiplies by the conjugate of T, which is not available: use op.H"
            )
        return self.operator

    @property
    def T(self) -> Projector:  # noqa: N802
        """The original operator, if this is ``op.T``."""
        if self.conjugated and self.operator.mode == "complex":
            raise AttributeError(
                "this is op.H; its transpose multiplies by the conjugate of T, which is not available: use op.T"
            )
        return self.operator

    def __call__(self, y: Any, *, digits: int | None = None, out: Any = None, progress: bool = False) -> Any:
        """Multiply vectors of outputs by the adjoint.

        Parameters
        ----------
        y : array_like of shape (..., n_outputs)
            Real numbers, or complex ones for mode ``"complex"``, from any library that :func:`opuproj.project` accepts.
            A sparse matrix is made dense a few vectors at a time.
        digits : int, optional
            The number of ternary digits that represent y, from 1 to 20. The default is 10, or 20 if the result has
            double precision. Up to 5 digits cost one int8 multiplication, up to 10 cost two, and so on. The entries of
            the matrix are generated once for all digits.
        out : ndarray or tensor of shape (..., n_inputs), optional
            The array that receives the result, as in :func:`project`. It is returned. It must not overlap `y`.
        progress : bool, default False
            Show a progress bar.

        Returns
        -------
        ndarray or tensor of shape (..., n_inputs)
            Complex for mode ``"complex"``, else real. It has double precision if the operator's dtype or
            the dtype of `y` has. It belongs to the library of `y` and is on the same device.

        Raises
        ------
        ValueError
            If `y` has another length or holds NaN or an infinity (the message says where), or an argument is out of
            range.
        TypeError
            If `y` does not hold numbers, or holds complex ones in another mode than ``"complex"``.
        MemoryError
            If the result cannot be allocated.
        """
        read: Read = "complex" if self.operator.mode == "complex" else "real"
        operator = self.operator
        return apply_adjoint(
            operator._spec,
            y,
            read,
            conjugated=self.conjugated,
            digits=digits,
            threads=operator.threads,
            device=operator._usable_device(),
            out=out,
            progress=progress,
        )

    def __matmul__(self, y: Any) -> Any:
        """Multiply vectors by the adjoint: ``op.H @ y`` is ``op.H(y)``, so y has shape (..., n_outputs)."""
        return self(y)


def _restore(state: dict[str, Any]) -> Projector:
    """Return the operator of a pickled state. Its fields are checked like arguments."""
    fields = dict(state)
    if "threads" not in fields:
        raise ValueError("the state has no 'threads': it does not belong to a Projector")
    threads = _check.threads(fields.pop("threads"))
    device = fields.pop("device", None)
    if device is not None and not isinstance(device, str):
        raise ValueError(f"the state's device is {device!r}, but must be a name")
    return Projector._of(Spec.from_state(fields), threads, device)
