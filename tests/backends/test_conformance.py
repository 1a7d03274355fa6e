"""Each method of the contract, on every backend and instruction set, against the definition in plain NumPy.

A backend is tested here as soon as it is registered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import opuproj
import oracle
import pytest
import standin_backend
import structured_oracle
from helpers import AWKWARD, CAMERA_MODES, LINEAR_MODES, MODES, assert_same_bits, ternary
from opuproj import Camera, _core, backends
from opuproj._device_batch import DeviceBatch
from opuproj._spec import Spec
from opuproj.backends import Backend, Request
from opuproj.inputs.arrays import array_rows, digit_rows, vectors
from opuproj.inputs.rows import ArrayRows, Threshold

pytestmark = pytest.mark.every_backend

SEED = 2**64 - 3
DTYPES = (np.int8, np.uint8, np.int16, np.int64, np.float16, np.float32, np.float64)
NUMBERS = (np.float32, np.float64)


class Bench:
    """A backend and a way to bring arrays to its device."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.backend: Backend = backends.backend(device)

    def place(self, x: np.ndarray) -> Any:
        """The array on the backend's device."""
        if self.device == "cpu":
            return x
        torch = pytest.importorskip("torch")
        tensor = torch.from_numpy(np.ascontiguousarray(x))
        return tensor if self.device == standin_backend.DEVICE else tensor.to(self.device)

    def rows(self, x: np.ndarray, **options: Any) -> ArrayRows:
        return array_rows("x", self.place(x), **options)

    def finished(self, call: Callable[[Any], Any], rows: Any) -> None:
        """Call a method of the backend, and wait until its device has checked the values."""
        call(rows)
        self.backend.synchronize()

    def project(self, spec: Spec, x: np.ndarray, digits: int | None = None, **options: Any) -> np.ndarray:
        rows = vectors(self.place(x), digits, spec.ensemble)
        y = on_host(self.backend.project(spec, rows, None, Request(**options)))
        self.backend.synchronize()
        return y


@pytest.fixture
def at(backend_variant: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Bench:
    if backend_variant[0] == standin_backend.DEVICE:
        monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", standin_backend.tensor_rows)
    return Bench(backend_variant[0])


def on_host(result: Any) -> np.ndarray:
    return result if isinstance(result, np.ndarray) else result.cpu().numpy()


def core(packed: Any) -> Any:
    return packed.host() if isinstance(packed, DeviceBatch) else packed


def spec(n_inputs: int, start: int, stop: int, mode: str, **fields: Any) -> Spec:
    fields = {"seed": SEED, "dtype": np.complex128 if mode == "complex" else np.float64, **fields}
    return Spec.checked(n_inputs, max(1, stop), mode=mode, **fields).rows(start, stop)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng([seed, *shape])
    return random.standard_normal(shape) * 10.0 ** random.integers(-3, 3, (*shape[:-1], 1))


# Columns


@pytest.mark.parametrize("start", [16, 48, 4096, 2**40])
@pytest.mark.parametrize("mode", ["intensity", "linear", "complex", "real"])
@pytest.mark.parametrize("n_vectors", [1, 5, 40])
def test_digits_of_columns_that_begin_later(start: int, mode: str, n_vectors: int, at: Bench) -> None:
    x = numbers(n_vectors, 130)
    found = at.project(spec(130, 3, 90, mode), x, digits=7, column_start=start)
    if start < 2**20:
        whole = np.zeros((n_vectors, start + 130))
        whole[:, start:] = x
        assert_same_bits(found, at.project(spec(start + 130, 3, 90, mode), whole, digits=7))
    else:  # a sparse vector has few columns
        scipy_sparse = pytest.importorskip("scipy.sparse")
        row, column = np.indices(x.shape)
        sparse = scipy_sparse.csr_array((x.ravel(), (row.ravel(), column.ravel() + start)), shape=(len(x), start + 130))
        rows = vectors(sparse, 7, "gaussian")
        wanted = backends.backend("cpu").project(spec(start + 130, 3, 90, mode), rows, None, Request())
        assert_same_bits(found, wanted)


# Packing


@pytest.mark.parametrize("n", AWKWARD)
def test_pack(n: int, at: Bench) -> None:
    dtype = DTYPES[n % len(DTYPES)]
    x = ternary(3, n, seed=n)
    x = (np.abs(x) if dtype == np.uint8 else x).astype(dtype)
    packed = at.backend.pack(at.rows(x))
    for plane, expected in zip(core(packed).planes(False), (x == 1, x == -1), strict=True):
        assert_same_bits(plane, np.packbits(expected, axis=-1, bitorder="little"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", [(0, 0), (4, 63), (2, 64), (4, 129)])
def test_pack_names_the_value_that_is_not_ternary(dtype: Any, place: tuple[int, int], at: Bench) -> None:
    x = np.ones((5, 130), dtype)
    x[place] = 2
    rows = at.rows(x)
    with pytest.raises(ValueError, match=rf"^x\[{place[0]}, {place[1]}\] is 2(\.0)?, but must be -1, 0 or 1"):
        at.finished(at.backend.pack, rows)
    with pytest.raises(ValueError, match=rf"^x\[{place[0]}, {place[1]}\] is 2"):
        at.backend.check(rows)


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("n", [1, 63, 64, 65, 300])
def test_ternarize(n: int, dtype: Any, at: Bench) -> None:
    e = numbers(6, n, seed=n).astype(dtype)
    largest = np.abs(e).max(axis=1, keepdims=True)
    for threshold, t in (
        (Threshold(0.5, None), np.full((6, 1), 0.5, dtype)),
        (Threshold(None, 0.25), dtype(0.25) * largest),
        (largest[:, 0].astype(np.float64) / 2, largest / 2),
    ):
        packed = at.backend.ternarize(at.rows(e), threshold)
        for plane, expected in zip(core(packed).planes(False), (e > t, e < -t), strict=True):
            assert_same_bits(plane, np.packbits(expected, axis=-1, bitorder="little"))
    assert at.backend.largest(at.rows(e)) == np.abs(e).max()


@pytest.mark.parametrize("digits", [1, 5, 20])
@pytest.mark.parametrize("n", [1, 64, 201])
def test_encode(n: int, digits: int, at: Bench) -> None:
    x = numbers(4, n, seed=digits)
    encoded = at.backend.encode(digit_rows("x", at.place(x), digits=digits))
    scale = np.abs(x).max(axis=1, keepdims=True) / ((3**digits - 1) // 2)
    value = opuproj.EncodedBatch._of(encoded, x.shape).to_numpy()
    assert (np.abs(value - x) <= 0.5001 * scale + 1e-15 * np.abs(x)).all()
    x[3, 0] = np.nan
    rows = digit_rows("x", at.place(x), digits=digits)
    with pytest.raises(ValueError, match=r"x\[3, 0\] is NaN, but must be finite for encoding"):
        at.finished(at.backend.encode, rows)


# Projections


@pytest.mark.parametrize("n", AWKWARD)
def test_fields_are_the_integers_of_the_definition(n: int, at: Bench) -> None:
    for n_vectors in (1, 3, 17, 65):
        x = ternary(n_vectors, n, seed=n, density=(0.02, 0.3, 1.0)[n % 3])
        start, stop = n % 11, n % 11 + 29
        y = at.project(spec(n, start, stop, "complex"), x)
        re, im = oracle.field(SEED, x, range(start, stop))
        assert_same_bits(y, (re + 1j * im) / oracle.SCALE)
        y = at.project(spec(n, start, stop, "real"), x)
        assert_same_bits(y * 32, oracle.real_field(SEED, x, range(start, stop)).astype(np.float64))


@pytest.mark.parametrize("mode", ["intensity", "real"])
@pytest.mark.parametrize("n_outputs", [*AWKWARD, 0])
def test_outputs_of_any_number(n_outputs: int, mode: str, at: Bench) -> None:
    x = ternary(5, 100, seed=n_outputs)
    y = at.project(spec(100, 3, 3 + n_outputs, mode, dtype=np.float32), x)
    expected = oracle.project(SEED, x, range(3, 3 + n_outputs), mode)
    assert y.shape == expected.shape
    assert_same_bits(y, expected.astype(np.float32))


@pytest.mark.parametrize("mode", MODES)
def test_windows_that_begin_and_end_anywhere_in_a_block(mode: str, at: Bench) -> None:
    for n_vectors in (1, 20):
        x = ternary(n_vectors, 70)
        whole = at.project(spec(70, 0, 120, mode, n_anchor=9), x)
        for start in range(17):
            for stop in (start, start + 1, 16, 31, 33, 119):
                if stop >= start:
                    window = at.project(spec(70, start, stop, mode, n_anchor=9), x)
                    assert_same_bits(window, whole[:, start:stop])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("shape", [(77,), (0, 77), (1, 77), (2, 3, 77), (200, 77)])
def test_readout(mode: str, double: bool, shape: tuple[int, ...], at: Bench) -> None:
    x = ternary(*shape)
    kind = (np.complex128 if double else np.complex64) if mode == "complex" else np.float64 if double else np.float32
    y = at.project(spec(77, 5, 60, mode, dtype=kind, n_anchor=9), x)
    expected = oracle.project(SEED, x, range(5, 60), mode, n_anchor=9)
    assert (y.shape, y.dtype) == ((*shape[:-1], 55), np.dtype(kind))
    if mode == "linear":  # its phases are rounded on the way
        assert np.allclose(y, expected, rtol=1e-12 if double else 1e-6, atol=1e-9 if double else 1e-5)
    else:
        assert_same_bits(y, expected.astype(kind))


@pytest.mark.parametrize("far", [2**34 - 3, 2**62 + 1])
def test_rows_far_out(far: int, at: Bench) -> None:
    x = ternary(2, 130)
    re, im = oracle.field(SEED, x, range(far, far + 20))
    assert_same_bits(at.project(spec(130, far, far + 20, "complex"), x), (re + 1j * im) / oracle.SCALE)
    real = oracle.project(SEED, x, range(far, far + 20), "real")
    assert_same_bits(at.project(spec(130, far, far + 20, "real"), x), real)


@pytest.mark.parametrize("digits", [1, 5, 6, 15])
def test_digits_add_up_exactly(digits: int, at: Bench) -> None:
    x = numbers(7, 130)
    encoded = at.backend.encode(digit_rows("x", at.place(x), digits=digits))
    values = sum(
        3 ** (digits - 1 - k) * opuproj.TernaryBatch._of(encoded.digit(k), x.shape).to_numpy(np.int64)
        for k in range(digits)
    )
    re, im = oracle.field(SEED, values, range(40))
    y = at.project(spec(130, 0, 40, "complex"), x, digits)
    exact = (re + 1j * im) / oracle.SCALE * encoded.scales()[:, None]
    assert np.allclose(y, exact, rtol=1e-13, atol=0)
    real = at.project(spec(130, 3, 40, "real"), x, digits)
    assert_same_bits(real, oracle.real_field(SEED, values, range(3, 40)) * (encoded.scales()[:, None] / 32))


@pytest.mark.parametrize("mode", CAMERA_MODES)
def test_a_camera_makes_the_noise_of_its_seed(mode: str, at: Bench) -> None:
    x, camera = ternary(6, 90), Camera(photons=200, read_noise=0.01)
    one = spec(90, 0, 70, mode, n_anchor=30, camera=camera)
    y = at.project(one, x, noise_seed=5)
    assert_same_bits(at.project(one, x, noise_seed=5, threads=1), y)
    assert_same_bits(at.project(one.rows(13, 40), x, noise_seed=5), y[:, 13:40])
    assert_same_bits(at.project(one, x[2:], noise_seed=5, first_vector=2), y[2:])
    assert (at.project(one, x, noise_seed=6) != y).any()
    portable = opuproj.Projector(90, 70, seed=SEED, mode=mode, dtype=float, n_anchor=30, camera=camera)  # type: ignore[arg-type]
    with backends.backend("cpu").using("portable"):
        assert_same_bits(y, portable(x, noise_seed=5))


@pytest.mark.parametrize("n", [1, 255, 256, 257, 1000])
def test_the_structured_ensemble(n: int, at: Bench) -> None:
    for x in (ternary(3, n), numbers(3, n)):
        for mode, start, stop in (("complex", 2, 300), ("real", 2, 600), ("real", 3, 599)):
            y = at.project(spec(n, start, stop, mode, ensemble="structured"), x)
            assert_same_bits(y, structured_oracle.project(SEED, x, range(start, stop), mode))


# Back


@pytest.mark.parametrize("mode", LINEAR_MODES)
@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 64), (3, 70), (8, 200), (15, 31)])
def test_the_adjoint(mode: str, start: int, stop: int, at: Bench) -> None:
    one = spec(90, start, stop, mode, n_anchor=9)
    y = numbers(5, stop - start)
    rows = at.rows(y, complex_too=mode == "complex")
    read = "complex" if mode == "complex" else "real"
    options: dict[str, Any] = {"conjugated": True, "n_digits": 20, "out": None, "request": Request()}
    x = on_host(at.backend.adjoint(one, rows, read, **options))  # type: ignore[arg-type]
    matrix = on_host(at.backend.entries(one, range(stop - start), range(90), Request(), at.device))
    assert np.allclose(x, y @ np.conj(matrix), rtol=1e-7, atol=1e-7 * np.abs(y).max())
    with backends.backend("cpu").using("portable"):
        expected = opuproj.Projector(90, stop, seed=SEED, mode=mode, n_anchor=9, dtype=float)[start:].H(y, digits=20)  # type: ignore[arg-type]
    assert_same_bits(x, expected)


@pytest.mark.parametrize("mode", MODES)
def test_entries(mode: str, at: Bench) -> None:
    one = spec(500, 7, 90, mode)
    rows, columns = np.array([82, 0, 5, 5]), range(3, 400, 7)
    re, im = oracle.entries(SEED, rows + 7, np.array(columns))
    found = on_host(at.backend.entries(one, rows, columns, Request(), at.device))
    if mode == "linear":
        unit = np.eye(500, dtype=np.int8)[columns]
        assert_same_bits(found, at.project(one, unit)[:, rows].T)
    elif mode == "real":
        assert_same_bits(found, oracle.real_entries(SEED, rows + 7, np.array(columns)) / 32)
    else:
        assert_same_bits(found, (re + 1j * im) / oracle.SCALE)


# Fields of parts of the columns


@pytest.mark.parametrize("mode", MODES)
def test_fields_of_parts_add_up_to_what_is_read(mode: str, at: Bench) -> None:
    x, one = ternary(9, 333), spec(333, 4, 55, mode, n_anchor=9)
    total = np.zeros((9, (1 if mode == "real" else 2) * 51), np.int32)
    for start in (0, 64, 200):
        stop = {0: 64, 64: 200, 200: 333}[start]
        part = at.place(np.empty_like(total))
        at.backend.fields(one, at.backend.pack(at.rows(x[:, start:stop])), start, part, Request())
        if mode == "real":
            entries = oracle.real_entries(SEED, range(4, 55), range(start, stop))
        else:
            entries = np.stack(oracle.entries(SEED, range(4, 55), range(start, stop)), axis=1).reshape(2 * 51, -1)
        field = on_host(part)
        assert_same_bits(field.astype(np.int64), x[:, start:stop].astype(np.int64) @ entries.T)
        total += field
    y = at.place(np.empty((9, 51), one.dtype))
    at.backend.read_fields(one, at.place(total), y, Request())
    assert_same_bits(on_host(y), at.project(one, x))


# Ways to ask that change nothing


@pytest.mark.parametrize("mode", MODES)
def test_threads_blocks_and_batches_change_no_bit(mode: str, at: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    x, one = ternary(40, 300), spec(300, 0, 150, mode)
    y = at.project(one, x)
    for threads in (1, 2, 3):
        assert_same_bits(at.project(one, x, threads=threads), y)
    assert_same_bits(np.concatenate([at.project(one, x[i : i + 7]) for i in range(0, 40, 7)]), y)
    monkeypatch.setattr("opuproj._memory.BLOCK_BYTES", 1000)
    monkeypatch.setattr("opuproj._memory.PIECE_BYTES", 700)
    assert_same_bits(at.project(one, x), y)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("shape", "few"), [((1001,), 0), ((1, 1001), 2000), ((70, 1001), 500), ((2, 35, 1001), 0)])
@pytest.mark.parametrize("density", [0, 0.01, 0.5])
def test_slices_of_long_vectors(
    mode: str, shape: tuple[int, ...], few: int, density: float, at: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, one = ternary(*shape, density=density), spec(1001, 3, 60, mode)
    y = at.project(one, x)
    monkeypatch.setattr("opuproj.backends.cpu.slices._FEW", few)
    monkeypatch.setattr("opuproj._memory.BLOCK_BYTES", 100)
    monkeypatch.setattr("opuproj._memory.PIECE_BYTES", 5000)
    monkeypatch.setattr("opuproj.backends.cpu.slices._FIELD_BYTES", 20_000)
    seen: list[float] = []
    assert_same_bits(at.project(one, x, progress=seen.append), y)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1)
    for dtype in (bool, np.uint8, np.float16, np.float64):
        wide = np.abs(x).astype(dtype)
        assert_same_bits(at.project(one, wide), at.project(one, np.abs(x)))
    x[..., 777] = 2
    place = ", ".join([*("0" * (len(shape) - 1)), "777"])
    with pytest.raises(ValueError, match=rf"x\[{place}\] is 2, but must be -1, 0 or 1"):
        at.project(one, x)


@pytest.mark.long
def test_a_vector_of_more_nonzeros_than_fit_32_bits(at: Bench) -> None:
    if at.device == standin_backend.DEVICE:
        pytest.skip("takes minutes there; tests/gpu/test_backend.py has sums of 64 bits of short vectors")
    n = _core.INT32_NONZEROS + 1
    x, one = np.ones((1, n), np.int8), spec(n, 5, 6, "complex")
    total = np.zeros((1, 2), np.int64)
    for part in (slice(n // 2), slice(n // 2, n)):
        field = at.place(np.empty((1, 2), np.int64))
        at.backend.fields(one, at.backend.pack(at.rows(x[:, part])), part.start or 0, field, Request())
        total += on_host(field)
    y = at.place(np.empty((1, 1), one.dtype))
    at.backend.read_fields(one, at.place(total), y, Request())
    assert_same_bits(at.project(one, x), on_host(y))


def test_progress_is_reported_in_order(at: Bench) -> None:
    seen: list[float] = []
    at.project(spec(300, 0, 5000, "complex"), ternary(40, 300), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1)
