"""Feedback matrices that are fitted to the gradients of occasional passes by backpropagation."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

# The weight of the matrices before the first fit, relative to that of the first pass.
_PRIOR = 0.1
# Added to the second moments of the errors, relative to their mean: errors of a softmax sum to 0, for instance.
_RIDGE = 1e-3
# A fit solves a system of as many equations as an error has elements.
MOST_INPUTS = 8192


class Fit(NamedTuple):
    """What a block needs for its fit to one pass.

    Attributes
    ----------
    errors : Tensor of shape (n, n_inputs)
        The errors, without the scaler's scale.
    weights : Tensor of shape (n, n_inputs)
        The errors times the inverse of the second moments.
    scale : float
        The gradient scaler's scale.
    """

    errors: torch.Tensor
    weights: torch.Tensor
    scale: float


class FittedMatrices:
    """The matrix M_i of each block, of shape (width, n_inputs). Its feedback is gain_i / √width · M_i e.

    It starts as the block's rows of the random matrix. Recursive least squares with exponential forgetting then
    minimise the sum of ‖g - M_i e / √width‖² over the passes by backpropagation, where g is the block's gradient.

    Parameters
    ----------
    begin : callable
        Returns a block's rows of the random matrix, of shape (width, n_inputs), for errors like the given ones.
    """

    def __init__(self, begin: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
        self._begin = begin
        self._moments: torch.Tensor | None = None
        self._matrices: dict[str, torch.Tensor] = {}
        self._lock = threading.Lock()

    def matrix(self, name: str, errors: torch.Tensor) -> torch.Tensor:
        """Return a block's matrix, in the dtype and on the device of the errors."""
        with self._lock:
            matrix = self._matrices.get(name)
            if matrix is None:
                matrix = self._begin(name, errors)
            matrix = self._matrices[name] = matrix.to(errors)
            return matrix

    def begin_fit(self, errors: torch.Tensor, scale: float, memory: float) -> Fit | None:
        """Add the errors of a pass to the second moments. Return None if they determine nothing."""
        new = errors.T @ errors
        size = float(new.diagonal().mean()) if errors.numel() else 0.0
        if not size or not math.isfinite(size):
            return None
        unit = torch.eye(errors.shape[1], dtype=errors.dtype, device=errors.device)
        with self._lock:
            before = _PRIOR * size * unit if self._moments is None else self._moments.to(errors)
            self._moments = moments = (1 - 1 / memory) * before + new
        ridge = _RIDGE * float(moments.diagonal().mean())
        return Fit(errors, torch.linalg.solve(moments + ridge * unit, errors.T).T, scale)

    def fit(self, name: str, gradients: torch.Tensor, fit: Fit) -> None:
        """Fit a block's matrix to its gradients, of shape (n, width), unless one is not finite."""
        matrix = self.matrix(name, fit.errors)
        wanted = gradients.to(matrix) * (math.sqrt(max(1, len(matrix))) / fit.scale)
        fitted = matrix.addmm((wanted - fit.errors @ matrix.T).T, fit.weights)
        if bool(fitted.isfinite().all()):
            with self._lock:
                self._matrices[name] = fitted

    def state(self) -> dict[str, Any] | None:
        """Return the matrices and the moments, or None before the first fit."""
        if self._moments is None:
            return None
        return {"moments": self._moments, "matrices": dict(self._matrices)}

    def load(self, state: Mapping[str, Any] | None, widths: Mapping[str, int]) -> None:
        """Load a state; check it against the widths of the blocks."""
        if state is None:
            self._moments, self._matrices = None, {}
            return
        moments, matrices = state["moments"], dict(state["matrices"])
        for name, matrix in matrices.items():
            if name not in widths or tuple(matrix.shape) != (widths[name], len(moments)):
                raise ValueError(
                    f"the state has a fitted matrix of shape {tuple(matrix.shape)} for block {name!r}, but it must "
                    f"have ({widths.get(name, 0)}, {len(moments)})"
                )
        self._moments, self._matrices = moments, matrices

    # Copies of a model have matrices of their own.

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
