"""Results are never written over what they are computed from: `out` that overlaps the input is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import opuproj
import pytest
from helpers import assert_same_bits, ternary

REFUSED = "^out overlaps {} in memory, but"


def tail(x: np.ndarray, n_outputs: int) -> np.ndarray:
    """The last bytes of an array as an `out` of float32."""
    return x.reshape(-1).view(np.float32)[-len(x) * n_outputs :].reshape(len(x), n_outputs)


def filled(dtype: Any) -> np.ndarray:
    return ternary(200, 400).astype(dtype)


CALLS: dict[str, tuple[str, Any, Callable[[Any, Any], Any]]] = {
    "ternary": ("x", np.int8, lambda x, out: opuproj.project(x, 8, out=out)),
    "operator": ("x", np.int8, lambda x, out: opuproj.Projector(400, 8)(x, out=out)),
    "digits": ("x", np.float32, lambda x, out: opuproj.project(x, 8, digits=5, out=out)),
    "structured": ("x", np.float32, lambda x, out: opuproj.project(x, 8, ensemble="structured", out=out)),
    "structured, ternary": ("x", np.int8, lambda x, out: opuproj.project(x, 8, ensemble="structured", out=out)),
    "camera": ("x", np.int8, lambda x, out: opuproj.project(x, 8, camera=opuproj.Camera(), out=out)),
    "adjoint": ("y", np.float64, lambda y, out: opuproj.Projector(8, 400).H(y, out=out)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_out_that_overlaps_the_input_is_refused_by_name_and_left_alone(call: Any) -> None:
    name, dtype, f = call
    x = filled(dtype)
    before = x.copy()
    out = tail(x, 8)
    if name == "y":
        out = tail(x, 16).view(np.float64)
    f(x.copy(), np.empty_like(out))
    with pytest.raises(ValueError, match=REFUSED.format(name)):
        f(x, out)
    assert_same_bits(x, before)


def test_every_block_is_right_where_memory_is_shared_but_not_overlapping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opuproj._memory, "BLOCK_BYTES", 1 << 10)
    whole = np.zeros((200, 440), np.float32)
    x, out = whole[:, :400], whole[:, 400:]
    x[...] = ternary(200, 400)
    expected = opuproj.project(x.copy(), 40)
    assert opuproj.project(x, 40, out=out) is out
    assert_same_bits(out, expected)
    with pytest.raises(ValueError, match=REFUSED.format("x")):
        opuproj.project(x, 40, out=whole[:, 399:439])


def test_packed_batches_are_no_longer_read() -> None:
    x = filled(np.float32)
    expected = opuproj.project(x, 8)
    packed, encoded = opuproj.pack(x), opuproj.encode(x)
    assert_same_bits(opuproj.project(packed, 8, out=tail(x, 8)), expected)
    opuproj.project(encoded, 8, out=tail(x, 8))


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(filled(np.float32))
    out = x.view(-1)[-1600:].view(200, 8)
    for same in (x, x.view(torch.bfloat16), x.view(torch.bfloat16)[:, ::2], x.requires_grad_()):
        with pytest.raises(ValueError, match=REFUSED.format("x")):
            opuproj.project(same, 8, digits=5, out=out.detach())
    with pytest.raises(ValueError, match=REFUSED.format("x")):  # one library's memory as another's array
        opuproj.project(x.detach().numpy(), 8, digits=5, out=out.detach())
    with pytest.raises(ValueError, match=REFUSED.format("x")):
        opuproj.project(x, 8, digits=5, out=out.detach().numpy())
    whole = torch.zeros(20, 100)
    y = opuproj.project(whole[:, :60], 40, out=whole[:, 60:])
    assert y.data_ptr() == whole[:, 60:].data_ptr()
    assert opuproj.project(torch.zeros(0, 5), 4, out=torch.zeros(0, 4)).shape == (0, 4)


def test_arrays_of_other_libraries() -> None:
    class Foreign:
        """Speaks DLPack and nothing else."""

        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def __dlpack__(self, **kwargs: Any) -> Any:
            return self.array.__dlpack__(**kwargs)

        def __dlpack_device__(self) -> Any:
            return self.array.__dlpack_device__()

    x = filled(np.float32)
    for same in (Foreign(x), memoryview(x)):
        with pytest.raises(ValueError, match=REFUSED.format("x")):
            opuproj.project(same, 8, out=tail(x, 8))


def test_components_of_sparse_matrices() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    dense = ternary(20, 400, density=0.5).astype(np.float32)
    dense[:, 60:] = 0  # SciPy warns of many diagonals
    for form, parts in {
        "csr": ("data", "indices", "indptr"),
        "csc": ("data", "indices", "indptr"),
        "bsr": ("data", "indices"),
        "coo": ("data", "row", "col"),
        "dia": ("data", "offsets"),
    }.items():
        x = getattr(sparse, f"{form}_array")(dense)
        for part in parts:
            # SciPy may copy what it is given: here it cannot.
            out = getattr(x, part).reshape(-1).view(np.float32)[:20].reshape(20, 1)
            with pytest.raises(ValueError, match=REFUSED.format("x")):
                opuproj.project(x, 1, out=out)


def test_two_maps_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    x = ternary(200, 400).astype(np.float32)
    np.save(path, x)
    mapped, other = (np.load(path, mmap_mode="r+") for _ in range(2))
    with pytest.raises(ValueError, match=REFUSED.format("x")):
        opuproj.project(mapped, 8, out=tail(other, 8))
    plain = np.memmap(path, np.float32, "r+", offset=path.stat().st_size - 4 * 1600, shape=(200, 8))
    for same in (mapped, np.asarray(mapped)[:, ::-1]):
        with pytest.raises(ValueError, match=REFUSED.format("x")):
            opuproj.project(same, 8, out=plain)
    assert_same_bits(np.load(path), x)
    # What is apart in the file, and what never gets there.
    expected = opuproj.project(x[:196], 8)
    assert_same_bits(opuproj.project(mapped[:196], 8, out=plain[4:]), expected)
    private = np.load(path, mmap_mode="c")
    assert_same_bits(opuproj.project(mapped[:196], 8, out=private.reshape(-1)[: 196 * 8].reshape(196, 8)), expected)
