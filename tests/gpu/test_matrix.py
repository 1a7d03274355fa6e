"""`op.matrix` on a GPU has the entries of the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import opuproj
import pytest
import standin_backend
from helpers import MODES, assert_same_bits
from opuproj import backends

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(standin_backend.DEVICE not in backends.registered(), reason="needs g++")

DEVICE = standin_backend.DEVICE
WINDOWS: dict[str, tuple[Any, Any]] = {
    "all": (None, None),
    "one": ([299], [519]),
    "empty": ([], slice(3, 9)),
    "slices": (slice(3, 200), slice(7, 400)),
    "lists": ([5, 299, 5, 0, 17, 64], [519, 3, 3, 128, 0]),
    "steps": (range(299, 2, -7), range(0, 520, 13)),
    "far apart": ([0, 299, 150], slice(None)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("window", WINDOWS)
def test_windows(window: str, mode: Any, dtype: Any) -> None:
    op = opuproj.Projector(520, 310, seed=2**64 - 1, mode=mode, dtype=dtype, n_anchor=3)[5:305]
    rows, columns = WINDOWS[window]
    entries = op.matrix(rows, columns, device=DEVICE)
    assert isinstance(entries, torch.Tensor)
    assert_same_bits(entries.numpy(), op.matrix(rows, columns))


@pytest.mark.parametrize("mode", MODES)
def test_little_scratch_memory(mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj.backends.cuda._backend.scratch_bytes", lambda: 10_000)
    monkeypatch.setattr("opuproj.backends.cuda.matrix._PANEL_COLUMNS", 128)
    op = opuproj.Projector(520, 300, mode=mode)
    for window in ((None, None), ([299, 0, 7, 6], [0, 400, 3])):
        assert_same_bits(op.matrix(*window, device=DEVICE).numpy(), op.matrix(*window))


def test_far_rows() -> None:
    op = opuproj.Projector(10**6, 2 * 10**6, mode="complex")
    window = (slice(1_999_990, None), [0, 999_999])
    assert_same_bits(op.matrix(*window, device=DEVICE).numpy(), op.matrix(*window))


@pytest.mark.parametrize(
    "columns",
    [
        [2**33, 2**33 + 7, 2**33 + 2],
        [2**35 + 1, 2**36, 5],
        range(2**34 + 900, 2**34, -2),
        range(5, 2**40, 2**35),
        [2**32 + 5, 6],
    ],
)
def test_far_columns(columns: Any) -> None:
    op = opuproj.Projector(2**40, 30, mode="complex")
    assert_same_bits(op.matrix([3, 20], columns, device=DEVICE).numpy(), op.matrix([3, 20], columns))


@pytest.mark.parametrize("mode", MODES)
def test_the_structured_ensemble(mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj.backends.cuda.matrix._UNIT_VECTORS", 5)
    op = opuproj.Projector(300, 1100, mode=mode, ensemble="structured")
    for window in ((slice(0, 20), slice(0, 12)), ([1099, 3, 600], [299, 0])):
        assert_same_bits(op.matrix(*window, device=DEVICE).numpy(), op.matrix(*window))


@pytest.mark.parametrize("device", ["mps", "cpu:0", "cuda:", "cuda:x", "", 3])
def test_devices_that_do_not_exist(device: Any) -> None:
    with pytest.raises(ValueError, match=r"device is .* but must be 'cpu', 'cuda' or one such as 'cuda:1'"):
        opuproj.Projector(3, 4).matrix(device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_cannot_be_used() -> None:
    with pytest.raises(RuntimeError, match="device is 'cuda:1', which cannot be used: "):
        opuproj.Projector(3, 4).matrix(device="cuda:1")
    with pytest.raises(RuntimeError, match="device is 'cuda', which cannot be used: "):
        opuproj.pack([[1]]).to("cuda")
