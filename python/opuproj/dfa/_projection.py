"""The projection of an error, from which the feedback of each block is read when the block needs it."""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch

from ..backends import Activation, Unread, backend_for
from ..inputs.rows import PackedRows
from ..projector import Projector
from ._error import Error, FloatError, TernaryError, has_backend, is_on_gpu

# A GPU multiplies more vectors than this by a panel of the matrix, of so many columns, one byte an entry.
_FUSED_VECTORS, _PANEL_COLUMNS = 32, 1 << 15


class Projection(Protocol):
    """R t or R e, of shape (n, n_rows)."""

    def part(
        self, start: int, stop: int, factor: float | torch.Tensor, device: torch.device, dtype: torch.dtype
    ) -> torch.Tensor:
        """Return columns start to stop - 1 times a factor, or a factor for each vector, of shape (n, 1).

        Their dtype is `dtype` or a wider one.
        """

    def layers(
        self, start: int, factor: float | torch.Tensor, outputs: torch.Tensor, activation: Activation
    ) -> torch.Tensor:
        """Return the gradients before the activation function of equal layers whose columns begin at `start`.

        `outputs`, of shape (n_layers, n, width), are what the function returned. The results have its shape and dtype.
        """


class _Computed:
    """Results."""

    def __init__(self, results: torch.Tensor) -> None:
        self._results = results

    def part(
        self, start: int, stop: int, factor: float | torch.Tensor, device: torch.device, dtype: torch.dtype
    ) -> torch.Tensor:
        part = self._results[:, start:stop].to(device)
        return part * (factor.to(device) if isinstance(factor, torch.Tensor) else factor)

    def layers(
        self, start: int, factor: float | torch.Tensor, outputs: torch.Tensor, activation: Activation
    ) -> torch.Tensor:
        n_layers, _, width = outputs.shape
        part = self.part(start, start + n_layers * width, factor, outputs.device, outputs.dtype)
        return _through(part, outputs, activation)


class _Unread:
    """Exact fields on a GPU, which are read once, in the dtype of the block."""

    def __init__(self, fields: Unread) -> None:
        self._fields = fields

    def part(
        self, start: int, stop: int, factor: float | torch.Tensor, device: torch.device, dtype: torch.dtype
    ) -> torch.Tensor:
        return cast(torch.Tensor, self._fields.read(start, stop, factor, dtype)).to(device)

    def layers(
        self, start: int, factor: float | torch.Tensor, outputs: torch.Tensor, activation: Activation
    ) -> torch.Tensor:
        read = self._fields.read_layers(start, factor, outputs, activation)
        if read is not None:
            return cast(torch.Tensor, read)
        n_layers, _, width = outputs.shape
        part = self._fields.read(start, start + n_layers * width, factor, outputs.dtype)
        return _through(part, outputs, activation)


def _through(part: torch.Tensor, outputs: torch.Tensor, activation: Activation) -> torch.Tensor:
    """Multiply the feedback of layers, side by side in a part of a projection, by the derivative of their function."""
    n_layers, n, width = outputs.shape
    feedback = part.reshape(n, n_layers, width).transpose(0, 1).to(outputs.dtype)
    if activation is None:
        return feedback
    if activation == "relu":
        return torch.ops.aten.threshold_backward(feedback, outputs, 0)  # type: ignore[no-any-return]
    derivative = {"tanh": torch.ops.aten.tanh_backward, "sigmoid": torch.ops.aten.sigmoid_backward}[activation]
    return derivative(feedback, outputs)  # type: ignore[no-any-return]


def project(error: Error, operator: Projector) -> Projection:
    """Project an error, on the GPU where it is, else on the CPU."""
    content = error.content
    if not isinstance(content, TernaryError):
        return _Computed(_of_floats(error, operator))
    if error.camera is None:
        rows = PackedRows("the error", content.batch._packed, content.batch.shape)
        fields = backend_for(rows).unread(operator._spec, rows)
        if fields is not None:
            return _Unread(fields)
    return _Computed(_as_tensor(operator.with_camera(error.camera)(content.batch, noise_seed=content.noise_seed)))


def project_by(matrix: torch.Tensor, error: Error) -> Projection:
    """Project a floating-point error by a stored matrix, of shape (n_rows, n_inputs), on its device."""
    content = _floats(error)
    return _Computed(_with_nonfinite(content.numbers @ matrix.T, content))


def _of_floats(error: Error, operator: Projector) -> torch.Tensor:
    content = _floats(error)
    if content.encoded:
        result = cast(torch.Tensor, sum(_as_tensor(operator(part)) for part in content.encoded))
    else:
        result = cast(torch.Tensor, operator(content.numbers))
    return _with_nonfinite(result, content)


def _floats(error: Error) -> FloatError:
    assert isinstance(error.content, FloatError)
    return error.content


def _with_nonfinite(result: torch.Tensor, content: FloatError) -> torch.Tensor:
    # Gradient scalers look for values that are not finite, so they must stay.
    if not has_backend(content.numbers) and bool(content.finite.all()):  # a GPU is not waited for
        return result
    return torch.where(content.finite, result, torch.nan)


def _as_tensor(result: Any) -> torch.Tensor:
    return result if isinstance(result, torch.Tensor) else torch.from_numpy(result)


def bytes_a_row(error: Error, components: int) -> int:
    """Return the memory that one row of a projection takes while it is computed and kept."""
    n, n_inputs = error.content.shape
    if isinstance(error.content, TernaryError) and is_on_gpu(error):
        panel = min(n_inputs, _PANEL_COLUMNS) if n > _FUSED_VECTORS else 0
        return components * (4 * n + panel)
    return n * int(error.content.dtype.itemsize)
