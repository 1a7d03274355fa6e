"""`Projection`, the operator as a torch module."""

from __future__ import annotations

from typing import Any

import torch

from .. import _check
from .._check import Ensemble, Mode
from .._spec import Spec
from ..camera import Camera, refuse_digits
from ..encoded import MAX_DIGITS
from . import _autograd
from ._layer import OperatorLayer
from ._ops import Call
from ._state import noise_for
from .ternarize import Ternarize


class Projection(OperatorLayer):
    r"""A random projection too large to store, as a layer without parameters.

    It applies the operator of :class:`opuproj.Projector` as a custom op, through which ``torch.compile`` and
    ``torch.export`` can trace: ``opuproj::apply_on_device`` if a CUDA graph may capture the call, else
    ``opuproj::apply``. The layer stores a few integers. Its ``state_dict`` holds them as a tensor of 98 small numbers,
    and copies are cheap.

    Parameters
    ----------
    n_inputs, n_outputs : int
        The shape of the matrix is (n_outputs, n_inputs).
    seed : int, default 0
        Selects the medium: from 0 to 2**64 - 1.
    mode : {"linear", "real", "intensity", "complex"}, default "linear"
        The quantity that is returned, as in :func:`opuproj.project`. ``"real"`` is a real Gaussian matrix in half the
        time of ``"linear"``, which is the one that a camera's readings give.
    ensemble : {"gaussian", "structured"}, default "gaussian"
        The distribution of T, as in :func:`opuproj.project`. ``"structured"`` accepts floating-point input without
        rounding to -1, 0 and 1.
    rows : (start, stop), slice or range, optional
        Compute only these outputs: the last axis of the result has stop - start elements.
    ternarize : Ternarize, optional
        Rounds floating-point input to ternary vectors: x ≈ a t. The result is then a R t, a G t, a T t or a²\|T t\|².
        Rounding has no gradient: the result is detached. Without `ternarize` and `digits`, input of any dtype must hold
        -1, 0 and 1 only, except for the ensemble ``"structured"``. The rules ``Dither`` and ``BatchMax`` and the norm
        ``"batch"`` depend on all vectors of a call. Choose others if a feature may depend on its own vector only.
    digits : int, optional
        Round real input to this many ternary digits, from 1 to 20, as :func:`opuproj.project` does. Give either
        `ternarize` or `digits`.
    n_anchor : int, default 64
        The number of pixels that the anchor of ``"linear"`` lights.
    camera : Camera, optional
        The camera that reads the intensities, as in :func:`opuproj.project`; not for mode ``"real"``. Each call has new
        noise, with a seed from torch's generator: ``torch.manual_seed`` makes it repeatable.
    dtype : dtype, default float32
        float32 or float64; or float16 or bfloat16, to which results are rounded from float32. Mode ``"complex"`` gives
        complex64 or complex128. A model's ``half()``, ``bfloat16()``, ``float()``, ``double()`` and ``to(dtype)`` set
        it; with the two half precisions, mode ``"complex"`` stays complex64.
    threads : int, optional
        As in :func:`opuproj.project`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type. The message names it.

    Notes
    -----
    Input on a CUDA device is projected on that device if the package is installed with the extra ``cuda12`` or
    ``cuda13``. Otherwise, and on other devices, it is packed on its device. Its bits, two per element, are copied to
    the CPU, and the result is copied back. This is untested on hardware.

    A CUDA graph (``torch.cuda.CUDAGraph``, or ``torch.compile`` with ``mode="reduce-overhead"``) can capture what a
    CUDA device computes, also gradients. It cannot capture a call that goes through the CPU, nor one of a noisy camera,
    whose noise is new in each call: a recent ``torch.compile`` leaves such a call out of its graphs, and any other
    capture raises RuntimeError.

    Gradients of first and second order flow back through the projection to floating-point input, in every mode, in the
    dtype of the input. They are computed by the adjoint of the same matrix (:class:`opuproj.Adjoint`), from vectors in
    10 digits, or 20 in double precision. They are the gradients of the exact Rx, Gx, Tx or \|Tx\|² of an unrounded x:
    digits count as exact, and a camera has no gradient of its own. There is no gradient for the ensemble
    ``"structured"``, and no forward-mode differentiation (``torch.func.jvp``, ``jacfwd``, ``hessian``): both raise
    NotImplementedError.

    ``torch.func.grad``, ``vjp``, ``jacrev`` and ``torch.vmap`` work, also nested. ``vmap`` combines its calls into one
    and gives the bits of separate calls; a camera's noise follows its argument `randomness`. Layers of a stack
    (``torch.func.stack_module_state``) keep their own seeds, in a buffer of 32 numbers that is not part of the
    ``state_dict``. They must share all other settings. Projections with different seeds are computed one after the
    other.

    Autocast has no effect: results have `dtype` for every dtype of the input.

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
        # Set before super().__init__(), which reads it. Until then nn.Module accepts no attributes.
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

    _settings = OperatorLayer._settings | {"digits"}

    def _change(self, name: str, value: Any) -> None:
        if name != "digits":
            super()._change(name, value)
            return
        before = self.digits
        self.__dict__["digits"] = None if value is None else _check.integer("digits", value, 1, MAX_DIGITS)
        try:
            self._set(self._spec, self._own_seed_tensor.device)
        except ValueError:
            self.__dict__["digits"] = before
            raise

    def _set(self, spec: Spec, device: torch.device) -> None:
        self._check_spec(spec)
        super()._set(spec, device)
        self._call = Call(self._spec, threads=self.threads, digits=self.digits, fingerprint=self._fingerprint).encode()

    def _check_spec(self, spec: Spec) -> None:
        if self.digits is None:
            return
        refuse_digits(spec.mode, spec.camera, given=f"digits is {self.digits}")
        if spec.ensemble == "structured":
            raise ValueError(
                f"digits is {self.digits}, but the ensemble 'structured' uses real numbers without digits: omit digits="
            )

    def _shared_settings(self) -> list[Any]:
        return [*super()._shared_settings(), self.digits]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Project vectors.

        Parameters
        ----------
        x : Tensor of shape (..., n_inputs)
            Values of -1, 0 and 1 in any dtype; floating-point numbers with `ternarize`; any real numbers with `digits`
            or the ensemble ``"structured"``.

        Returns
        -------
        Tensor of shape (..., stop - start)
            On the device of `x`.

        Raises
        ------
        ValueError
            If `x` has another shape, or holds other values and neither `ternarize` nor `digits` is set.
        """
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"x is a {type(x).__name__}, but must be a torch.Tensor")
        if x.ndim == 0 or x.shape[-1] != self.n_inputs:
            raise ValueError(f"x has shape {tuple(x.shape)}, but must have shape (..., {self.n_inputs})")
        _autograd.refuse_tangent(x)
        if self.ternarize is None or not x.is_floating_point():
            return self._project(x).to(self.dtype)
        t, a = self.ternarize(x)
        return (self._project(t) * self._scale(a)).to(self.dtype)

    def _project(self, x: torch.Tensor) -> torch.Tensor:
        seed = self._seed_tensor
        return _autograd.apply(x, self._call, noise_for(self.camera), None if seed is self._own_seed_tensor else seed)

    def extra_repr(self) -> str:
        """Return the text that ``print`` shows between the parentheses."""
        text = super().extra_repr()
        return text if self.digits is None else f"{text}, digits={self.digits}"
