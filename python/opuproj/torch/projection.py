"""The operator as a module."""

from __future__ import annotations

from typing import Any

import torch

from .. import _check
from .._check import Ensemble, Mode
from .._spec import Spec
from ..camera import Camera, refuse_digits
from ..encoded import MAX_DIGITS
from . import _autograd
from ._camera import noise_for
from ._layer import OperatorLayer
from ._ops import Call
from .ternarize import Ternarize


class Projection(OperatorLayer):
    r"""A random projection too large to store, as a layer without parameters.

    It is the operator of :class:`opuproj.Projector`, as a custom op (``opuproj::apply``) that ``torch.compile`` and
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
        if digits is not None:
            digits = _check.integer("digits", digits, 1, MAX_DIGITS)
            if ternarize is not None:
                raise TypeError(f"digits is {digits}, but ternarize makes input ternary already: give one of the two")
        # Before the rest, which looks at it; nn.Module takes no attributes yet.
        self.__dict__["digits"] = digits
        super().__init__(
            n_inputs,
            n_outputs,
            seed=seed,
            mode=mode,
            ensemble=ensemble,
            rows=rows,
            ternarize=ternarize,
            n_anchor=n_anchor,
            camera=camera,
            dtype=dtype,
            threads=threads,
        )

    def _set(self, spec: Spec, device: torch.device) -> None:
        self._refuse(spec)
        super()._set(spec, device)
        self._call = Call(self._spec, threads=self.threads, digits=self.digits, kin=self._kin).encode()

    def _refuse(self, spec: Spec) -> None:
        if self.digits is None:
            return
        refuse_digits(spec.mode, spec.camera, given=f"digits is {self.digits}")
        if spec.ensemble == "structured":
            raise ValueError(
                f"digits is {self.digits}, but the ensemble 'structured' takes real numbers as they are, without"
            )

    def _shared_by_kin(self) -> list[Any]:
        return [*super()._shared_by_kin(), self.digits]

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
        return self._scaled(self._project(t), a).to(self.dtype)

    def _project(self, x: torch.Tensor) -> torch.Tensor:
        member = self._member
        return _autograd.apply(x, self._call, noise_for(self.camera), None if member is self._own else member)

    def extra_repr(self) -> str:
        """Return what ``print`` shows between the brackets."""
        text = super().extra_repr()
        return text if self.digits is None else f"{text}, digits={self.digits}"
