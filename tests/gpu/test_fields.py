"""Fields over part of the columns on a GPU, and results from their sums, are those of the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import opuproj
import pytest
import standin_backend
from helpers import MODES, assert_same_bits, ternary
from opuproj import backends
from opuproj._spec import Spec
from opuproj.backends import Request

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(standin_backend.DEVICE not in backends.registered(), reason="needs g++")

DEVICE = standin_backend.DEVICE
# The first column of the vectors: multiples of 16 and others, in the middle of 256 columns, and beyond 32 bits.
COLUMNS = [0, 16, 5, 250, 2**33 + 31]


def spec_of(mode: str, n_inputs: int, n_outputs: int, row_start: int, dtype: Any = np.float32) -> Spec:
    checked = Spec.checked(n_inputs, row_start + n_outputs, seed=2**64 - 1, mode=mode, n_anchor=9, dtype=dtype)
    return checked.rows(row_start, row_start + n_outputs)


def both(spec: Spec, x: np.ndarray, column: int, dtype: Any) -> tuple[Any, np.ndarray]:
    """The fields of a batch on the stand-in, and those on the CPU."""
    host = opuproj.pack(x)
    expected = np.empty((len(x), spec.components * spec.n_outputs), dtype)
    backends.backend("cpu").fields(spec, host._packed, column, expected, Request())
    found = torch.full((len(x), expected.shape[1] + 3), 77, dtype=getattr(torch, np.dtype(dtype).name))
    backends.backend(DEVICE).fields(spec, host.to(DEVICE)._packed, column, found[:, : expected.shape[1]], Request())
    assert (found[:, expected.shape[1] :] == 77).all()
    return found[:, : expected.shape[1]], expected


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("mode", ["linear", "real"])
@pytest.mark.parametrize(("n_vectors", "n"), [(1, 1), (3, 250), (9, 700), (40, 130)])
def test_fields(mode: str, n_vectors: int, n: int, column: int) -> None:
    for row_start, n_outputs, dtype in ((0, 40, np.int32), (13, 21, np.int64)):
        spec = spec_of(mode, n, n_outputs, row_start)
        found, expected = both(spec, ternary(n_vectors, n, density=0.5), column, dtype)
        assert np.array_equal(found.numpy(), expected)


@pytest.mark.parametrize("column", [48, 7])
@pytest.mark.parametrize("n_vectors", [2, 33])
@pytest.mark.parametrize("nonzeros", [3, 90, 2500])
def test_vectors_for_which_the_gpu_chooses_the_way(nonzeros: int, n_vectors: int, column: int) -> None:
    x = np.zeros((n_vectors, 2500), np.int8)
    for row in x:
        row[np.random.default_rng(nonzeros).permutation(2500)[:nonzeros]] = 1 - 2 * (np.arange(nonzeros) % 2)
    found, expected = both(spec_of("complex", 2500, 11, 3), x, column, np.int32)
    assert np.array_equal(found.numpy(), expected)


def test_little_scratch_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj.backends.cuda._backend.scratch_bytes", lambda: 10_000)
    monkeypatch.setattr("opuproj.backends.cuda.partial.MOST_VECTORS", 34)
    found, expected = both(spec_of("complex", 300, 50, 3), ternary(70, 300), 17, np.int32)
    assert np.array_equal(found.numpy(), expected)


def test_sums_that_need_64_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj.backends.cuda._fields.Planes.most_columns", 200)
    monkeypatch.setattr("opuproj.backends.cuda._fields._PANEL_COLUMNS", 128)
    found, expected = both(spec_of("complex", 300, 20, 3), ternary(5, 300), 17, np.int64)
    assert np.array_equal(found.numpy(), expected)


@pytest.mark.parametrize("by", [1, 15, 31])
@pytest.mark.parametrize("n", [1, 32, 33, 64, 130])
def test_zeros_before_the_elements(n: int, by: int) -> None:
    from opuproj.backends.cuda import _packing

    x = ternary(3, n, density=0.9)
    batch = opuproj.pack(x).to(DEVICE)._packed
    planes = _packing.shifted(batch.place.gpu, batch.vectors, by)
    expected = np.pad(x, ((0, 0), (by, 0)))
    assert np.array_equal(_packing.unpacked(batch.place.gpu, planes).numpy(), expected)
    assert planes.counts.tolist() == np.count_nonzero(x, axis=1).tolist()
    used = np.unpackbits(planes.used.numpy().view(np.uint8), bitorder="little")
    assert np.array_equal(used[: n + by], expected.any(axis=0))
    assert not used[n + by :].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("row_start", [0, 13])
def test_results_of_sums(row_start: int, mode: str, dtype: Any) -> None:
    x = ternary(7, 300)
    spec = spec_of(mode, 300, 45, row_start, dtype)
    for integers in (np.int32, np.int64):
        sums = sum(
            both(spec, np.ascontiguousarray(part), start, integers)[0]
            for start, part in ((0, x[:, :130]), (130, x[:, 130:]))
        )
        whole = torch.nn.functional.pad(sums, (0, 2))[:, :-2]
        out = torch.zeros((7, 50), dtype=getattr(torch, spec.dtype.name))
        backends.backend(DEVICE).read_fields(spec, whole, out[:, 2:47], Request())
        expected = opuproj.project(
            x, row_start + 45, seed=2**64 - 1, mode=mode, n_anchor=9, dtype=spec.dtype, rows=(row_start, row_start + 45)
        )
        assert_same_bits(out[:, 2:47].numpy(), expected)
        assert not out[:, :2].any()
        assert not out[:, 47:].any()


def test_empty_batches_and_ranges() -> None:
    for x, n_outputs in ((np.zeros((0, 9), np.int8), 5), (np.ones((2, 9), np.int8), 0)):
        spec, found = Spec.checked(9, 5).rows(0, n_outputs), torch.empty((len(x), 2 * n_outputs), dtype=torch.int32)
        backends.backend(DEVICE).fields(spec, opuproj.pack(x).to(DEVICE)._packed, 3, found, Request())
        backends.backend(DEVICE).read_fields(spec, found, torch.empty((len(x), n_outputs)), Request())


def test_results_in_the_memory_of_the_host() -> None:
    x = ternary(3, 50)
    spec = Spec.checked(50, 20)
    expected, found = np.empty((2, 3, 40), np.int32)
    backends.backend("cpu").fields(spec, opuproj.pack(x)._packed, 5, expected, Request())
    backends.backend(DEVICE).fields(spec, opuproj.pack(x).to(DEVICE)._packed, 5, found, Request())
    assert np.array_equal(found, expected)
    results = np.empty((2, 3, 20), np.float32)
    for name, out in zip(("cpu", DEVICE), results, strict=True):
        backends.backend(name).read_fields(spec, found, out, Request())
    assert np.array_equal(*results)
