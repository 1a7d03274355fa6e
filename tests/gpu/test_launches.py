"""The number of launches of a projection on a GPU: for few vectors, they take longer than the work."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import standin_backend
from opuproj import backends
from opuproj._spec import Spec
from opuproj.backends import Request
from opuproj.inputs.arrays import vectors

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(standin_backend.DEVICE not in backends.registered(), reason="needs g++")

# Functions of torch that only make a view, or take memory.
FREE = (
    "empty",
    "view",
    "slice",
    "select",
    "split",
    "unbind",
    "as_strided",
    "detach",
    "alias",
    "_unsafe_view",
    "t.",
    "transpose",
)
ONCE = Counter({"pack_int8": 1, "zeros": 1, "copy_": 1})
BY_PATH = Counter({"choose": 1, "lists_or_rows": 1, "field_lists": 1})


class CountingGpu(standin_backend.StandIn):
    """Counts launches of kernels, and does not run them."""

    def __init__(self) -> None:
        self.launches: Counter[str] = Counter()

    def launch(self, file: str, kernel: str, *arguments: Any, **options: Any) -> None:
        self.launches[kernel] += 1

    def product(self, *arguments: Any) -> None:
        self.launches["product"] += 1


def launches(n_vectors: int, n: int, mode: Any) -> Counter[str]:
    """The kernels that one projection launches, with those of torch."""
    from opuproj.backends.cuda._backend import Cuda
    from torch.utils._python_dispatch import TorchDispatchMode

    gpu = CountingGpu()

    class Counting(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
            name = str(function).removeprefix("aten.")
            if not name.startswith(FREE):
                gpu.launches[name.partition(".")[0]] += 1
            return function(*arguments, **(options or {}))

    spec = Spec.checked(n, 400, seed=9, mode=mode, dtype=np.float32)
    rows = vectors(torch.ones(n_vectors, n, dtype=torch.int8), None, "gaussian")
    backend = Cuda(lambda device: gpu)
    backend.project(spec, rows, None, Request())
    gpu.launches.clear()
    with Counting():
        backend.project(spec, rows, None, Request())
    return gpu.launches


@pytest.fixture(autouse=True)
def on_the_standin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", standin_backend.tensor_rows)


@pytest.mark.parametrize(("n_vectors", "size"), [(1, 8), (16, 16), (32, 32)])
@pytest.mark.parametrize("mode", ["real", "linear"])
def test_launches_for_few_vectors(n_vectors: int, size: int, mode: str) -> None:
    read = {f"{'scaled' if mode == 'real' else mode}_int32_float32": 1}
    expected = ONCE + Counter({f"field_{size}": 1, **read})
    if mode == "linear":
        expected["field_of_ones"] = 1
    assert launches(n_vectors, 300, mode) == expected
    # Long vectors are multiplied in one of three ways, which the GPU chooses. Slices of them are added to zeros.
    expected += BY_PATH + Counter({f"field_bytes_{size}": 1, "zeros": 1})
    assert launches(n_vectors, 2500, mode) == expected


def test_words_of_the_host_are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    empty = torch.empty

    def counted(*arguments: Any, **options: Any) -> Any:
        taken.append("pin_memory" in options)
        return empty(*arguments, **options)

    monkeypatch.setattr("opuproj.backends.cuda._words.torch.empty", counted)
    from opuproj.backends.cuda._backend import Cuda

    backend = Cuda(lambda device: CountingGpu())
    spec = Spec.checked(300, 16, seed=9, mode="real", dtype=np.float32)
    for _ in range(200):
        backend.project(spec, vectors(torch.ones(1, 300, dtype=torch.int8), None, "gaussian"), None, Request())
    assert sum(taken) == 1
