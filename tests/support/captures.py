"""A context in which nothing may wait for a GPU, as while a CUDA graph is captured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

# Methods that read a tensor on the host, so that a CUDA tensor would wait.
READS = ("item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__int__", "__float__", "__index__", "__contains__",
         "is_nonzero", "equal", "pin_memory", "__array__", "unique")  # fmt: skip
# Functions that do the same, or that copy from the host.
FUNCTIONS = ("nonzero", "equal", "is_nonzero", "unique", "from_numpy", "tensor", "as_tensor")


@contextmanager
def nothing_waits() -> Iterator[None]:
    """Make it an error to read a tensor on the host."""

    def refused(name: str) -> Callable[..., Any]:
        def refuse(*_: Any, **__: Any) -> Any:
            raise AssertionError(f"{name} would wait for the GPU")

        return refuse

    with pytest.MonkeyPatch.context() as patch:
        for name in READS:
            patch.setattr(torch.Tensor, name, refused(name))
        for name in FUNCTIONS:
            patch.setattr(torch, name, refused(name))
        yield
