"""The operator as a module."""

from __future__ import annotations

from typing import Any, cast

import torch

from .. import _check
from .._check import Ensemble, Mode
from ..camera import Camera, refuse_digits
from ..encoded import MAX_DIGITS
from ..projector import Projector
from . import _operator
from ._camera import noise_for, text_of
from ._dtypes import BY_NAME
from .ternarize import Ternarize


class Projection(torch.nn.Module):
    r"""A random projection too large to store, as a layer without parameters.

    It is the operator of :class:`opuproj.Projector`, as a custom op (``opuproj::project``) that ``torch.compile`` and
    ``torch.export`` trace through. It holds a few integers: so does its ``state_dict``, and copies cost nothing.

    Parameters
    ----------
    n_inputs, n_outputs : int
        The shape of the matrix is (n_outputs, n_inputs).
    seed : int, default 0
        Which medium, from 0 to 2**64 - 1.
    mode : {"linear", "intensity", "complex"}, default "linear"
        What is measured, as in :func:`opuproj.project`.
    ensemble : {"gaussian", "structured"}, default "gaussian"
        Which random matrices T is one of, as in :func:`opuproj.project`. ``"structured"`` takes floating-point input as
        it is.
    rows : (start, stop), slice or range, optional
        Compute these outputs only: the last axis of the result then has stop - start elements.
    ternarize : Ternarize, optional
        How floating-point input becomes ternary: x ≈ a t. (The rules ``Dither`` and ``BatchMax`` and the norm
        ``"batch"`` look at all vectors of a call together: for features that depend on their own vector only, choose
        others.) The result is then a R t, a T t or a²\|T t\|². Rounding has no gradient: the result is detached.
        Without it and without `digits`, input of any dtype must be of -1, 0 and 1, but for the ensemble
        ``"structured"``.
    digits : int, optional
        Take input as real numbers, in so many ternary digits, from 1 to 20, as :func:`opuproj.project` does. Give
        either `ternarize` or `digits`.
    n_anchor : int, default 64
        How many pixels the anchor of ``"linear"`` lights.
    camera : Camera, optional
        Read the intensities through this camera, as in :func:`opuproj.project`. Its noise is fresh at each call, from a
        seed of torch's generator: ``torch.manual_seed`` makes it repeatable.
    dtype : dtype, default float32
        float32 or float64; mode ``"complex"`` gives complex64 or complex128.
    threads : int, optional
        As in :func:`opuproj.project`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type, which the message names.

    Notes
    -----
    Input on a GPU is packed there; its bits, two an element, go to the CPU, and the result comes back. This has not
    been tested on hardware.

    Gradients flow back through the projection to floating-point input, in every mode, and twice: by the adjoint of the
    same matrix (:class:`opuproj.Adjoint`), of vectors in 10 digits, or 20 in double precision. They are those of the
    exact Rx, Tx or \|Tx\|² of an unrounded x: digits count as exact, and a camera has no gradient of its own. The
    ensemble ``"structured"`` has no gradient, and neither has forward-mode differentiation (``torch.func.jvp``,
    ``jacfwd``): both raise NotImplementedError.

    Examples
    --------
    >>> import torch
    >>> from opuproj.torch import Projection, RowMax, Ternarize
    >>> layer = Projection(1000, 200, seed=1, ternarize=Ternarize(RowMax(0.25)))
    >>> layer(torch.randn(8, 3, 1000)).shape
    torch.Size([8, 3, 200])
    """

    n_inputs: int
    n_outputs: int

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        seed: int = 0,
        mode: Mode = "linear",
        ensemble: Ensemble = "gaussian",
        rows: tuple[int, int] | slice | range | None = None,
        ternarize: Ternarize | None = None,
        digits: int | None = None,
        n_anchor: int = 64,
        camera: Camera | None = None,
        dtype: Any = torch.float32,
        threads: int | None = None,
    ) -> None:
        super().__init__()
        if ternarize is not None and not isinstance(ternarize, Ternarize):
            raise TypeError(f"ternarize is {ternarize!r}, but must be an opuproj.torch.Ternarize, or None")
        if digits is not None:
            digits = _check.integer("digits", digits, 1, MAX_DIGITS)
            if ternarize is not None:
                raise TypeError(f"digits is {digits}, but ternarize makes input ternary already: give one of the two")
        operator = Projector(
            n_inputs,
            n_outputs,
            seed=seed,
            mode=mode,
            ensemble=ensemble,
            n_anchor=n_anchor,
            camera=camera,
            dtype=dtype,
            threads=threads,
        )
        if operator.dtype.name not in BY_NAME:
            raise ValueError(f"dtype is {operator.dtype.name}, but a Projection gives floating-point numbers")
        _refuse_digits(digits, operator)
        start, stop = (0, operator.n_outputs) if rows is None else _check.row_range(rows, operator.n_outputs)
        self.n_inputs, self.n_outputs = operator.n_inputs, operator.n_outputs
        self.rows = (start, stop)
        self.ternarize, self.digits = ternarize, digits
        self._set(operator)

    def _set(self, operator: Projector) -> None:
        # Plain numbers, which torch.compile and torch.export take as constants.
        self.seed, self.mode, self.n_anchor = operator.seed, operator.mode, operator.n_anchor
        self.ensemble: str = operator.ensemble
        self.threads, self.camera = operator.threads, operator.camera
        self._camera_text = text_of(operator.camera)
        self.dtype = BY_NAME[operator.dtype.name]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Project vectors.

        Parameters
        ----------
        x : Tensor of shape (..., n_inputs)
            Of -1, 0 and 1 in any dtype, or floating-point numbers for `ternarize`, or any real ones for `digits` or the
            ensemble ``"structured"``.

        Returns
        -------
        Tensor of shape (..., stop - start)
            On the device of `x`.

        Raises
        ------
        ValueError
            If `x` is not of that shape, or holds other values and there is neither `ternarize` nor `digits`.
        """
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"x is a {type(x).__name__}, but must be a torch.Tensor")
        if x.ndim == 0 or x.shape[-1] != self.n_inputs:
            raise ValueError(f"x has shape {tuple(x.shape)}, but must have shape (..., {self.n_inputs})")
        _operator.refuse_tangent(x)
        if self.ternarize is None or not x.is_floating_point():
            return self._project(x)
        t, a = self.ternarize(x)
        a = a.to(torch.float64 if self._double() else torch.float32)
        return self._project(t) * (a * a if self.mode == "intensity" else a)

    def _double(self) -> bool:
        return self.dtype in (torch.float64, torch.complex128)

    def _project(self, x: torch.Tensor) -> torch.Tensor:
        start, stop = self.rows
        y = _operator.project(
            x,
            stop - start,
            _operator.signed(self.seed),
            self.mode,
            start,
            self.n_anchor,
            self._camera_text,
            noise_for(self.camera),
            self.dtype,
            self.threads,
            self.digits,
            self.ensemble,
        )
        return cast(torch.Tensor, y)

    def get_extra_state(self) -> dict[str, Any]:
        """Return what tells the matrix from others: plain numbers and names, for ``state_dict``."""
        return {
            "version": 1,
            "shape": (self.n_outputs, self.n_inputs),
            "rows": self.rows,
            "seed": self.seed,
            "mode": self.mode,
            "n_anchor": self.n_anchor,
            "ensemble": self.ensemble,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take on the matrix of a ``state_dict``; its shape and rows must be those of this layer."""
        mine = self.get_extra_state()
        state = {"ensemble": "gaussian", **state}  # what was saved before there was another
        missing = [name for name in mine if name not in state]
        if missing:
            raise ValueError(f"the state has no {missing[0]!r}: it is not that of a Projection")
        for name in ("version", "shape", "rows"):
            theirs = state[name] if name == "version" else tuple(state[name])
            if theirs != mine[name]:
                raise ValueError(f"the state's {name} is {theirs}, but this Projection's is {mine[name]}")
        operator = Projector(
            self.n_inputs,
            self.n_outputs,
            seed=state["seed"],
            mode=state["mode"],
            ensemble=state["ensemble"],
            n_anchor=state["n_anchor"],
            camera=self.camera,
            dtype=torch.float64 if self._double() else torch.float32,
            threads=self.threads,
        )
        _refuse_digits(self.digits, operator)
        self._set(operator)

    def extra_repr(self) -> str:
        """Return what ``print`` shows between the brackets."""
        text = f"{self.n_inputs}, {self.n_outputs}, seed={self.seed}, mode={self.mode!r}"
        if self.ensemble != "gaussian":
            text += f", ensemble={self.ensemble!r}"
        if self.rows != (0, self.n_outputs):
            text += f", rows={self.rows}"
        if self.camera is not None:
            text += f", camera={self.camera}"
        if self.digits is not None:
            text += f", digits={self.digits}"
        return text if self.ternarize is None else f"{text}, ternarize={self.ternarize}"


def _refuse_digits(digits: int | None, operator: Projector) -> None:
    """Raise ValueError if there are digits, but what takes them does not."""
    if digits is None:
        return
    refuse_digits(operator.mode, operator.camera, given=f"digits is {digits}")
    if operator.ensemble == "structured":
        raise ValueError(f"digits is {digits}, but the ensemble 'structured' takes real numbers as they are, without")
