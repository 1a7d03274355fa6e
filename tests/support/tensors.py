"""What the tests of opuproj.torch share: tensors, and rules that make floats ternary."""

from __future__ import annotations

from typing import Any

import numpy as np
import opuproj
import pytest
from helpers import ternary

torch = pytest.importorskip("torch")

from opuproj._spec import Spec  # noqa: E402
from opuproj.torch import BatchMax, Dither, Fixed, RowMax, RowStd, Ternarize, TopK  # noqa: E402
from opuproj.torch._ops import Call  # noqa: E402

RULES = (Fixed(0.5), RowMax(0.25), RowStd(0.67), BatchMax(0.25), Dither(1.5), Dither("auto"), TopK(5))
BY_VECTOR = Ternarize(RowMax(0.25), norm="row")
NORMS = ("row", "batch", "none")
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def vectors(*shape: int, dtype: Any = torch.float32, seed: int = 0) -> Any:
    """Random -1, 0 and 1."""
    return torch.from_numpy(ternary(*shape, seed=seed)).to(dtype)


def gaussian(*shape: int, dtype: Any = torch.float32, seed: int = 0) -> Any:
    """Gaussian numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def call(
    start: int,
    stop: int,
    *,
    n_inputs: int = 20,
    adjoint: bool = False,
    threads: Any = None,
    digits: Any = None,
    **fields: Any,
) -> str:
    """The argument of the custom op: rows start to stop - 1 of an operator."""
    spec = Spec.checked(n_inputs, max(1, stop), **fields).rows(start, stop)
    return Call(spec, adjoint=adjoint, threads=threads, digits=digits).encode()


def errors(*shape: int, dtype: Any = torch.float32, seed: int = 0) -> Any:
    """Gaussian errors whose rows differ in size."""
    generator = torch.Generator().manual_seed(seed)
    e = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (e * torch.rand((*shape[:-1], 1), generator=generator, dtype=torch.float64)).to(dtype)


def rounded(e: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The definition of t, in NumPy."""
    return np.where(e > thresholds, 1, np.where(e < -thresholds, -1, 0)).astype(np.int8)


def unpacked(packed: Any, shape: Any) -> np.ndarray:
    """The elements of a packed t."""
    return opuproj.TernaryBatch._of(packed, tuple(shape)).to_numpy()
