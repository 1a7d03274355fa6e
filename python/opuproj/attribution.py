"""Projections of the gradients of whole models, for data attribution and data selection.

projector = GradientProjector(grad_dim, proj_dim=4096, seed=0)
z = projector.project(grads, model_id=0)    # grads: a tensor (n, grad_dim), or a dict of per-example gradients

The interface is that of ``trak.projectors.AbstractProjector``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch

from . import _check, _progress
from ._spec import Spec
from .encoded import MAX_DIGITS
from .inputs.arrays import digit_rows, vectors
from .inputs.rows import Rows
from .projection import apply

__all__ = ["GradientProjector"]

Gradients: TypeAlias = torch.Tensor | Mapping[str, torch.Tensor]

# A block of inputs whose digits share a scale begins at a multiple of this.
_BLOCK_STEP = 16
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Steps through the seeds of models. It is odd, so that 2**64 models have 2**64 seeds.
_SEED_STEP = 0x9E3779B97F4A7C15


class GradientProjector:
    r"""Projects gradients of all parameters of a model by a Gaussian matrix that is generated from a seed.

    The matrix has independent entries of mean 0 and variance 1, of mode ``"real"`` (see :func:`opuproj.project`). It is
    the same on every device. Nothing of it is stored, so `grad_dim` may be the size of a large language model.

    The gradients are rounded to digits block by block: each block of `block_size` elements of each example has a scale
    of its own. So one large gradient, such as that of a bias, does not coarsen the others.

    Parameters
    ----------
    grad_dim : int
        The number of parameters: the elements of a gradient.
    proj_dim : int
        The number of elements of a projection.
    seed : int, default 0
        The seed of the matrix, from 0 to 2**64 - 1.
    proj_type : {"normal"}, default "normal"
        The distribution of the entries. It is there for the interface.
    device : str or torch.device, optional
        The device that computes and holds the results. Gradients on other devices are moved there, block by block. By
        default the device of the gradients.
    ensemble : {"gaussian", "structured"}, default "gaussian"
        The distribution of the matrix, as in :func:`opuproj.project`. ``"structured"`` costs about 2 log₂ `grad_dim`
        additions for each element of a result, in place of `grad_dim` products. It takes whole gradients of float32
        without digits, at once.
    digits : int, default 10
        The number of ternary digits of each element, from 1 to 20. With d digits, the rounding error of an element is
        at most 1 / (3^d - 1) of the largest element of its block: 2e-5 with 10 digits. 5 digits take half the time,
        with an error of up to 0.4 %.
    block_size : int, default 65536
        The number of elements that share a scale: a multiple of 16.
    threads : int, optional
        As in :func:`opuproj.project`.
    progress : bool, default False
        Show a progress bar in each call.

    Attributes
    ----------
    grad_dim, proj_dim, seed, proj_type, device
        The arguments.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type. The message names it.

    Notes
    -----
    Projections of model 0 are those of ``opuproj.Projector(grad_dim, proj_dim, seed=seed, mode="real")``, apart from
    rounding. Model m has the seed (`seed` + m · 0x9E3779B97F4A7C15) mod 2⁶⁴.

    References
    ----------
    .. [1] S. M. Park, K. Georgiev, A. Ilyas, G. Leclerc and A. Madry, "TRAK: Attributing model behavior at scale",
       ICML 2023.

    Examples
    --------
    >>> import torch
    >>> from opuproj.attribution import GradientProjector
    >>> projector = GradientProjector(grad_dim=1_000_000, proj_dim=64, seed=1)
    >>> projector.project(torch.randn(4, 1_000_000), model_id=0).shape
    torch.Size([4, 64])
    """

    def __init__(
        self,
        grad_dim: int,
        proj_dim: int,
        seed: int = 0,
        proj_type: Literal["normal"] = "normal",
        device: Any = None,
        *,
        ensemble: _check.Ensemble = "gaussian",
        digits: int = 10,
        block_size: int = 65_536,
        threads: int | None = None,
        progress: bool = False,
    ) -> None:
        grad_dim, proj_dim = _check.size("grad_dim", grad_dim), _check.size("proj_dim", proj_dim)
        self._spec = Spec.checked(grad_dim, proj_dim, seed=seed, mode="real", ensemble=ensemble)
        self.grad_dim, self.proj_dim, self.seed = self._spec.n_inputs, self._spec.n_outputs, self._spec.seed
        kind = getattr(proj_type, "value", proj_type)  # trak has an enumeration
        if kind != "normal":
            raise ValueError(f"proj_type is {kind!r}, but must be 'normal': the entries are Gaussian")
        self.proj_type = proj_type
        self.device = device
        self._device = None if device is None else torch.device(device)
        self._digits = _check.integer("digits", digits, 1, MAX_DIGITS)
        self._block = _check.integer("block_size", block_size, _BLOCK_STEP, 1 << 24)
        if self._block % _BLOCK_STEP:
            raise ValueError(f"block_size is {block_size}, but must be a multiple of {_BLOCK_STEP}")
        self._threads = _check.threads(threads)
        self._progress = bool(progress)

    def __repr__(self) -> str:
        spec = self._spec
        return f"GradientProjector({spec.n_inputs}, {spec.n_outputs}, seed={spec.seed}, ensemble={spec.ensemble!r})"

    def project(self, grads: Gradients, model_id: int = 0) -> torch.Tensor:
        """Project a batch of gradients.

        Parameters
        ----------
        grads : Tensor of shape (n, grad_dim), or mapping of names to Tensors of shape (n, ...)
            The gradients of n examples, of float16, bfloat16, float32 or float64. The tensors of a mapping are
            flattened and follow each other in its order. They are never concatenated as a whole.
        model_id : int, default 0
            The number of the model or checkpoint: each has a matrix of its own.

        Returns
        -------
        Tensor of shape (n, proj_dim)
            The projections, detached, in the dtype of the gradients. Sums are computed in float32, or in float64 for
            gradients of float64.

        Raises
        ------
        ValueError
            If the gradients have another number of elements or are not finite. The message says where.
        TypeError
            If they are no floating-point tensors.
        """
        parts = _parts(grads, self.grad_dim)
        n, dtype = len(parts[0]), functools.reduce(torch.promote_types, (part.dtype for part in parts))
        device = parts[0].device if self._device is None else self._device
        computed = torch.float64 if dtype == torch.float64 else torch.float32
        model = _check.integer("model_id", model_id, 0, 2**63 - 1)
        spec = self._spec.with_shape(self.grad_dim, self.proj_dim, str(computed).removeprefix("torch."))
        spec = spec.changed(seed=(self.seed + model * _SEED_STEP) % 2**64)
        if spec.ensemble == "structured":
            whole = torch.cat([part.to(device, torch.float32) for part in parts], dim=1)
            return self._projected(spec, vectors(whole, None, spec.ensemble), 0).to(dtype)
        result = torch.zeros(n, self.proj_dim, dtype=computed, device=device)
        with _progress.reported(self._progress, n * self.proj_dim) as advance:
            for start, block in _blocks(parts, self._block, device):
                name = "grads" if block.shape[1] == self.grad_dim else f"grads[:, {start}:]"
                rows = digit_rows(name, block, digits=self._digits)
                result += self._projected(spec.changed(n_inputs=rows.n_inputs), rows, start)
                if advance is not None:
                    advance((start + block.shape[1]) / self.grad_dim)
        return result.to(dtype)

    def free_memory(self) -> None:
        """Do nothing: no matrix is stored."""

    def _projected(self, spec: Spec, rows: Rows, start: int) -> torch.Tensor:
        """Project gradients whose elements belong to the columns of the matrix from `start` on."""
        found = apply(spec, rows, threads=self._threads, column_start=start)
        return found if isinstance(found, torch.Tensor) else torch.from_numpy(found)


def _parts(grads: Gradients, grad_dim: int) -> list[torch.Tensor]:
    """Return gradients as tensors of shape (n, elements), whose elements follow each other; check them."""
    named = dict(grads) if isinstance(grads, Mapping) else {"": grads}
    parts = []
    for name, tensor in named.items():
        what = f"grads[{name!r}]" if isinstance(grads, Mapping) else "grads"
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{what} is a {type(tensor).__name__}, but must be a torch.Tensor")
        if tensor.dtype not in _FLOATS:
            raise TypeError(f"{what} is of {tensor.dtype}, but must be of a floating-point dtype")
        if tensor.ndim == 0 or (tensor.ndim != 2 and not isinstance(grads, Mapping)):
            raise ValueError(f"{what} has shape {tuple(tensor.shape)}, but must have shape (n, {grad_dim})")
        parts.append(tensor.detach().reshape(len(tensor), math.prod(tensor.shape[1:])))
        if len(parts[0]) != len(parts[-1]):
            raise ValueError(f"{what} has {len(parts[-1])} examples, but the first tensor has {len(parts[0])}")
    n_elements = sum(part.shape[1] for part in parts)
    if n_elements != grad_dim or not parts:
        raise ValueError(f"grads has {n_elements:,} elements for each example, but grad_dim is {grad_dim:,}")
    return parts


def _blocks(parts: Sequence[torch.Tensor], size: int, device: torch.device) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield blocks of `size` columns of the parts side by side, on a device, and where they begin."""
    bounds = [0]
    for part in parts:
        bounds.append(bounds[-1] + part.shape[1])
    first = 0  # the first part that has columns of the block
    for start in range(0, bounds[-1], size):
        stop = min(start + size, bounds[-1])
        while bounds[first + 1] <= start:
            first += 1
        cut = []
        for at, part in zip(bounds[first:], parts[first:], strict=False):
            if at >= stop:
                break
            cut.append(part[:, max(0, start - at) : stop - at].to(device))
        yield start, cut[0] if len(cut) == 1 else torch.cat(cut, dim=1)
