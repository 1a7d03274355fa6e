"""A camera's results by the CUDA kernels, run on the CPU, against the package's results on the CPU."""

from __future__ import annotations

import math
from typing import Any

import gpu_standin
import numpy as np
import oracle
import pytest
from helpers import CAMERA_MODES, assert_same_bits, ternary
from opuproj import Camera, backends
from opuproj._spec import Spec
from opuproj.backends import Request
from opuproj.inputs.arrays import vectors

NULL = np.uint64(0)
SEED, NOISE_SEED = 2**64 - 3, 2**63 + 11
SATURATING = {"bits": 8, "full_scale": 0.5}
UNLIMITED = {"bits": None, "full_scale": math.inf}
CAMERAS = {
    "8 bits": Camera(),
    "16 bits": Camera(bits=16, full_scale=20.0),
    "1 bit": Camera(bits=1, full_scale=1.0),
    "saturating": Camera(**SATURATING),
    "few photons": Camera(photons=0.7, **UNLIMITED),
    "few and many photons": Camera(photons=12, **UNLIMITED),
    "many photons": Camera(photons=1e6, bits=16),
    "read noise": Camera(read_noise=0.3, **UNLIMITED),
    "all noise": Camera(photons=40, read_noise=0.1, bits=12, dark_floor=0.3),
    "three frames": Camera(photons=25, read_noise=0.05, frames=3, dark_floor=0.1, anchors=5),
    "three frames without noise": Camera(frames=3, anchors=2),
    "exposure": Camera(exposure=37.5, photons=100, read_noise=0.01),
    "LightOn": Camera.lighton(anchors=4),
    "dark floor alone": Camera(dark_floor=0.9, **UNLIMITED),
}


def components(row_start: int, n: int, columns: Any) -> tuple[np.ndarray, int]:
    """The components of the row blocks that hold n rows, and the number of the first row's among them."""
    first = 2 * row_start % 16
    rows = np.arange(2 * row_start - first, -(-2 * (row_start + n) // 16) * 16, dtype=np.uint64)
    return oracle.real_entries(SEED, rows, columns), first


def measured(
    x: np.ndarray,
    spec: Spec,
    *,
    first_vector: int = 0,
    integer: Any = np.int32,
    bad_rows: Any = NULL,
    grid: int = 3,
) -> np.ndarray:
    """What the kernel gives; a gap after each row of the output must stay as it is."""
    camera = spec.camera
    assert camera is not None
    n, row_start, mode = spec.n_outputs, spec.row_start, spec.mode
    matrix, first = components(row_start, n, range(x.shape[1]))
    parts = x if mode == "intensity" else np.stack([x == 1, x == -1], axis=1).reshape(-1, x.shape[1])
    fields = (parts.astype(np.int64) @ matrix.T).astype(integer)
    counts = np.count_nonzero(parts, axis=1).astype(np.int32)
    n_anchors = {"intensity": 0, "linear": 1, "complex": camera.anchors}[mode]
    columns = np.array([2**64 - 1 - k for k in range(n_anchors * spec.n_anchor)], np.uint64)
    of_anchors = components(row_start, n, columns)[0].reshape(len(matrix), n_anchors, spec.n_anchor)
    anchors: Any = np.ascontiguousarray(of_anchors.sum(axis=2).T.astype(np.int32)) if n_anchors else NULL
    real = np.zeros(0, spec.dtype).real.dtype
    width = n * (2 if mode == "complex" else 1)
    out = np.full((len(x), width + 3), 7, real)
    gpu_standin.launch(
        "camera.cu", f"{mode}_{fields.dtype}_{real}", grid, 32, out, np.int64(width + 3), np.int64(n), np.int32(len(x)),
        fields, np.int64(fields.shape[1]), np.int32(first), anchors, np.int64(len(matrix)), np.int32(n_anchors),
        np.int32(0 if mode == "intensity" else spec.n_anchor), NULL if camera.exposure else counts,
        np.int32(camera.bits or 0), np.float64(camera.full_scale),
        np.float64(math.nan if camera.exposure is None else camera.exposure), np.float64(camera.photons),
        np.float64(camera.read_noise), np.int32(camera.frames), np.float64(camera.dark_floor), np.uint64(NOISE_SEED),
        np.uint64(first_vector), np.uint64(row_start), bad_rows,
    )  # fmt: skip
    assert (out[:, width:] == 7).all()
    return np.ascontiguousarray(out[:, :width]).view(spec.dtype)


def on_cpu(x: np.ndarray, spec: Spec, first_vector: int = 0) -> np.ndarray:
    """What the package gives on the CPU."""
    request = Request(threads=1, noise_seed=NOISE_SEED, first_vector=first_vector)
    y: np.ndarray = backends.backend("cpu").project(spec, vectors(x, None, spec.ensemble), None, request)
    return y


def spec_of(mode: str, camera: Camera, dtype: Any, n_inputs: int, n: int, row_start: int, n_anchor: int = 30) -> Spec:
    checked = Spec.checked(n_inputs, n, seed=SEED, mode=mode, n_anchor=n_anchor, camera=camera, dtype=dtype)
    return checked.changed(row_start=row_start)


@pytest.mark.parametrize("mode", CAMERA_MODES)
@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_are_those_of_the_cpu(mode: str, camera: str, dtype: Any) -> None:
    x = ternary(5, 70)
    x[1] = 0
    x[2], x[3] = np.abs(x[2]), -np.abs(x[3])
    for row_start, n, first_vector in ((0, 64, 0), (3, 41, 2**40 + 1), (2**40 + 13, 18, 5)):
        spec = spec_of(mode, CAMERAS[camera], dtype, 70, n, row_start)
        expected = on_cpu(x, spec, first_vector)
        for integer in (np.int32, np.int64):
            assert_same_bits(measured(x, spec, first_vector=first_vector, integer=integer), expected)


@pytest.mark.parametrize(
    ("camera", "dtype"),
    [
        (Camera(), np.uint8),
        (Camera(bits=3, photons=5), np.uint8),
        (Camera(read_noise=1.0, **SATURATING), np.uint8),
        (Camera(bits=12, photons=300), np.uint16),
        (Camera(bits=16, full_scale=0.3, read_noise=0.2), np.uint16),
        (Camera(exposure=3.0, photons=0.2), np.uint16),
    ],
)
def test_a_cameras_own_integers_are_those_of_the_cpu(camera: Camera, dtype: Any) -> None:
    x = ternary(4, 130)
    x[3] = 0
    spec = spec_of("intensity", camera, dtype, 130, 333, 7)
    expected = on_cpu(x, spec)
    for integer in (np.int32, np.int64):
        assert_same_bits(measured(x, spec, integer=integer), expected)


@pytest.mark.parametrize("photons", [1e-12, 0.01, 2.0, 9.99, 10.0, 11.0, 300.0, 1e9, 1e15])
def test_noise_is_that_of_the_cpu_in_its_tails(photons: float) -> None:
    # 60,000 numbers reach four standard deviations on both sides.
    x = ternary(3, 40)
    camera = Camera(photons=photons, read_noise=1e-9, exposure=27.0, **UNLIMITED)
    spec = spec_of("intensity", camera, np.float64, 40, 20_001, 1)
    assert_same_bits(measured(x, spec, grid=1), on_cpu(x, spec))


@pytest.mark.parametrize("mode", ["linear", "complex"])
@pytest.mark.parametrize("n_anchor", [1, 2, 400])
def test_pixels_that_anchors_leave_dark(mode: str, n_anchor: int) -> None:
    x = ternary(2, 50)
    n = 6000 if n_anchor == 1 else 100
    spec = spec_of(mode, Camera(bits=10, photons=1000, anchors=2), np.float64, 50, n, 2, n_anchor)
    expected = on_cpu(x, spec)
    assert_same_bits(measured(x, spec), expected)
    assert n_anchor > 1 or (expected == 0).any()


@pytest.mark.parametrize("mode", CAMERA_MODES)
def test_bad_rows_give_nan(mode: str) -> None:
    x = ternary(4, 70)
    spec = spec_of(mode, CAMERAS["all noise"], np.float32, 70, 21, 5)
    y = measured(x, spec, bad_rows=np.array([0, 1, 0, 1], np.uint8))
    assert_same_bits(y[::2], on_cpu(x, spec)[::2])
    assert np.isnan(y[1::2].view(np.float32)).all()
    if mode == "intensity":
        raw = measured(x, spec_of(mode, Camera(), np.uint8, 70, 21, 5), bad_rows=np.array([0, 1, 0, 1], np.uint8))
        assert (raw[1::2] == 0).all()


@pytest.mark.parametrize(("rows", "words"), [(1, 2), (7, 4), (5, 70)])
def test_lit_pixels(rows: int, words: int) -> None:
    random = np.random.default_rng(words)
    planes = random.integers(0, 2**32, (2, rows, words), dtype=np.uint32)
    planes[1] &= ~planes[0]
    counts = np.full((rows, 2), 7, np.int32)
    gpu_standin.launch(
        "camera.cu", "lit_pixels", 2, 64, counts, planes[0].copy(), planes[1].copy(), np.int32(rows), np.int32(words)
    )  # fmt: skip
    assert np.array_equal(counts.T, np.unpackbits(planes.view(np.uint8), axis=2).sum(axis=2))
