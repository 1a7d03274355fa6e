"""Sends the vectors of a call to the device that the user names with `device=`, and its results back."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .foreign import ForeignRows
from .rows import ArrayRows, PackedRows
from .sparse import SparseRows

if TYPE_CHECKING:
    from .._batch import Batch

# Dtypes that torch before 2.3 lacks.
_WIDER = {"uint16": np.int32, "uint32": np.int64, "uint64": np.float64}
_LONG = ("longdouble", "clongdouble")


def on_device(rows: ArrayRows, device: str) -> ArrayRows:
    """Return rows on a device such as ``"cpu"`` or ``"cuda:1"``. Their results return to where the rows were."""
    kind, _, index = device.partition(":")
    if kind == "cpu":
        rows.device = "cpu"  # the CPU backend also reads tensors of other devices
        return rows
    if isinstance(rows, SparseRows):
        raise TypeError(
            f"{rows.name} is a sparse matrix, but device is {device!r}, where none is supported yet: leave device out, "
            f"or pass an array such as {rows.name}.toarray()"
        )
    if rows.device == kind:
        where = rows.array.device
        if index and where.index is not None and int(index) != where.index:
            raise ValueError(
                f"device is {device!r}, but {rows.name} is on {where}: move {rows.name} there, or leave device out"
            )
        return rows
    if rows.device != "cpu":
        raise ValueError(f"device is {device!r}, but {rows.name} is on {rows.device!r}: move it to the CPU first")
    return _sent(rows, device)


def packed_rows(name: str, batch: Batch, device: str | None) -> PackedRows[Any]:
    """Return the rows of a packed batch, on a device if one is named. Results return to where the batch is."""
    if device is None:
        return PackedRows(name, batch._packed, batch.shape)
    there = batch.to(device)
    if there is batch:
        return PackedRows(name, batch._packed, batch.shape)
    to_batch = to_numpy if batch.device == "cpu" else partial(to_device, device=batch.device)
    return PackedRows(name, there._packed, batch.shape, to_batch)


def _sent(rows: ArrayRows, device: str) -> ArrayRows:
    """Return rows of the CPU's memory on a GPU."""
    import torch

    from . import tensors

    kind = device.partition(":")[0]
    if isinstance(rows, tensors.TensorRows):
        return tensors.SentRows(rows, tensors.copied(rows.array, device), kind, to_cpu)
    array = rows.array
    if rows.dtype_name in _LONG or array.dtype.itemsize > (16 if array.dtype.kind == "c" else 8):
        raise TypeError(
            f"{rows.name} has dtype {array.dtype}, but a GPU takes at most float64 or complex128: convert it first"
        )
    numbers = rows.to_numpy(array)
    wider = _WIDER.get(numbers.dtype.name)
    if wider is not None:
        numbers = numbers.astype(wider)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writ", UserWarning)  # it is only copied
        tensor = torch.from_numpy(numbers)
    if isinstance(rows, ForeignRows) and rows.own_dtype.name == "bfloat16":
        tensor = tensor.to(torch.bfloat16)  # so that the GPU rounds thresholds to the same precision
    back = rows.result_wrapper() if isinstance(rows, ForeignRows) else to_numpy
    return tensors.SentRows(rows, tensors.copied(tensor, device), kind, back)


def to_numpy(result: Any) -> Any:
    """Return a tensor as a NumPy array; an array unchanged."""
    return result if isinstance(result, np.ndarray) else result.cpu().numpy()


def to_cpu(result: Any) -> Any:
    """Return a tensor in the CPU's memory."""
    return result.cpu()


def to_device(result: Any, device: str) -> Any:
    """Return a result as a tensor on a device."""
    import torch

    return torch.as_tensor(result).to(device)
