"""The operator as a module."""

from __future__ import annotations

import dataclasses
import json
import zlib
from typing import Any, cast

import torch

from .. import _check
from .._check import Ensemble, Mode
from ..camera import Camera, refuse_digits
from ..encoded import MAX_DIGITS
from ..projector import Projector
from . import _autograd, _dtypes, _state
from ._camera import noise_for, text_of
from ._operator import signed
from .ternarize import Ternarize


class Projection(torch.nn.Module):
    r"""A random projection too large to store, as a layer without parameters.

    It is the operator of :class:`opuproj.Projector`, as a custom op (``opuproj::project``) that ``torch.compile`` and
    ``torch.export`` trace through. It holds a few integers: so does its ``state_dict``, as a tensor of 98 small
    numbers, and copies cost nothing.

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
        float32 or float64, or float16 or bfloat16, to which results are rounded from float32; mode ``"complex"`` gives
        complex64 or complex128. ``half()``, ``bfloat16()``, ``float()``, ``double()`` and ``to(dtype)`` of a model set
        it: mode ``"complex"`` stays complex64 for the two of half precision.
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

    Gradients flow back through the projection to floating-point input, in every mode, and twice, in the dtype of the
    input: by the adjoint of the same matrix (:class:`opuproj.Adjoint`), of vectors in 10 digits, or 20 in double
    precision. They are those of the exact Rx, Tx or \|Tx\|² of an unrounded x: digits count as exact, and a camera has
    no gradient of its own. The ensemble ``"structured"`` has no gradient, and neither has forward-mode differentiation
    (``torch.func.jvp``, ``jacfwd``, ``hessian``): both raise NotImplementedError.

    ``torch.func.grad``, ``vjp``, ``jacrev`` and ``torch.vmap`` work, in one another too: calls that ``vmap`` makes one
    have the bits of each, and the noise of a camera follows its `randomness`. Layers of a stack
    (``torch.func.stack_module_state``) keep their own seeds, by a buffer of 32 numbers that is not part of the
    ``state_dict``. They must share all else, and the projections of unlike seeds are made one after the other.

    Autocast changes nothing: results have `dtype`, whatever that of the input is.

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
        half = _dtypes.half_of(dtype, mode)
        operator = Projector(
            n_inputs,
            n_outputs,
            seed=seed,
            mode=mode,
            ensemble=ensemble,
            n_anchor=n_anchor,
            camera=camera,
            dtype=dtype if half is None else torch.float32,
            threads=threads,
        )
        if operator.dtype.name not in _dtypes.BY_NAME:
            raise ValueError(f"dtype is {operator.dtype.name}, but a Projection gives floating-point numbers")
        _refuse_digits(digits, operator)
        start, stop = (0, operator.n_outputs) if rows is None else _check.row_range(rows, operator.n_outputs)
        self.n_inputs, self.n_outputs = operator.n_inputs, operator.n_outputs
        self.rows = (start, stop)
        self.ternarize, self.digits = ternarize, digits
        self._real = half or _dtypes.real_of(_dtypes.BY_NAME[operator.dtype.name])
        self.register_buffer("_member", None, persistent=False)
        self._set(operator, torch.device("cpu"))

    def _set(self, operator: Projector, device: torch.device) -> None:
        # Plain numbers, which torch.compile and torch.export take as constants; torch 2.4 knows none of 2**63 or more.
        self._signed, self.mode, self.n_anchor = signed(operator.seed), operator.mode, operator.n_anchor
        self.ensemble: str = operator.ensemble
        self.threads, self.camera = operator.threads, operator.camera
        self._camera_text = text_of(operator.camera)
        self._remember(device)

    def _remember(self, device: torch.device) -> None:
        """Write down in a buffer what is known as plain numbers: seed, dtype and device.

        Nothing reads it in this layer. But torch.func.stack_module_state stacks it and functional_call puts another's
        in its place, which `forward` notices; and casts and moves of a module reach nothing but tensors.
        """
        common = {name: value for name, value in self._state().items() if name not in ("version", "shape", "seed")}
        rule = self.ternarize and self.ternarize.rule
        shown = repr(rule) if dataclasses.is_dataclass(rule) else type(rule).__qualname__
        norm = self.ternarize and self.ternarize.norm
        text = json.dumps([common, self.n_inputs, self.digits, self._camera_text, shown, norm])
        self._kin = zlib.crc32(text.encode())
        self._own = _state.member_of(self.seed, self._kin, self._real, device)
        self.__dict__["_buffers"] = {**self._buffers, "_member": self._own}  # not into what copy.copy shares
        self.dtype = _dtypes.result(self._real, self.mode)

    @property
    def seed(self) -> int:
        """Which medium."""
        return self._signed % 2**64

    @seed.setter
    def seed(self, seed: int) -> None:
        self._signed = signed(_check.seed(seed))
        self._remember(self._own.device)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "_member" or "_own" not in self.__dict__:
            super().__setattr__(name, value)
        elif isinstance(value, torch.Tensor) and not value.is_meta:
            # As transformers does for what no file holds: with anything, but on the right device.
            self._remember(value.device)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_own" not in self.__dict__:  # pickled by a version that had no buffer
            self._signed, self._real = signed(self.__dict__.pop("seed")), _dtypes.real_of(self.dtype)
            self._non_persistent_buffers_set.add("_member")
            self._remember(torch.device("cpu"))

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        device = self._own.device
        self._remember(device)  # in this layer's dtype, whatever has been done to the buffer
        super()._apply(fn, recurse)
        applied = self._member
        if applied.is_floating_point() or applied.is_complex():
            self._real = _dtypes.real_of(applied.dtype)
        self._remember(device if applied.is_meta else applied.device)
        return self

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
        _autograd.refuse_tangent(x)
        if self.ternarize is None or not x.is_floating_point():
            return self._project(x).to(self.dtype)
        t, a = self.ternarize(x)
        a = a.to(torch.float64 if self._real == torch.float64 else torch.float32)
        return (self._project(t) * (a * a if self.mode == "intensity" else a)).to(self.dtype)

    def _project(self, x: torch.Tensor) -> torch.Tensor:
        start, stop = self.rows
        member = self._member
        y = _autograd.project(
            x,
            stop - start,
            self._signed,
            self.mode,
            start,
            self.n_anchor,
            self._camera_text,
            noise_for(self.camera),
            _dtypes.computed(self._real, self.mode),
            self.threads,
            self.digits,
            self.ensemble,
            None if member is self._own else member,
            self._kin,
        )
        return cast(torch.Tensor, y)

    def get_extra_state(self) -> torch.Tensor:
        """Return what tells the matrix from others, for ``state_dict``: a tensor of small numbers.

        Files of tensors can hold it, and it outlives averages of equal states, and casts to any floating-point dtype.
        """
        return _state.tensor_of(self._state(), self._own.device)

    def _state(self) -> dict[str, Any]:
        return {
            "version": _state.VERSION,
            "shape": (self.n_outputs, self.n_inputs),
            "rows": self.rows,
            "seed": self.seed,
            "mode": self.mode,
            "n_anchor": self.n_anchor,
            "ensemble": self.ensemble,
        }

    def set_extra_state(self, state: torch.Tensor | dict[str, Any]) -> None:
        """Take on the matrix of a ``state_dict``; its shape and rows must be those of this layer.

        Raises
        ------
        ValueError, TypeError
            If it is the state of another shape, or of no matrix: as a mean of states of different matrices.
        """
        self._load(_state.read(state))

    def _load(self, state: dict[str, Any]) -> None:
        mine = self._state()
        for name in ("version", "shape", "rows"):
            if state[name] != mine[name]:
                raise ValueError(f"the state's {name} is {state[name]}, but this Projection's is {mine[name]}")
        operator = Projector(
            self.n_inputs,
            self.n_outputs,
            seed=state["seed"],
            mode=state["mode"],
            ensemble=state["ensemble"],
            n_anchor=state["n_anchor"],
            camera=self.camera,
            dtype=_dtypes.computed(self._real, "linear"),
            threads=self.threads,
        )
        _refuse_digits(self.digits, operator)
        self._set(operator, self._own.device)

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
