"""Every way of holding the same numbers gives the same result: dtypes, strides, byte orders, libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import opuproj
import pytest
from helpers import MODES, assert_same_bits, ternary
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

X = ternary(6, 70)
Y = opuproj.project(X, 40, seed=1)

DTYPES = ["b", "h", "i", "l", "q", "e", "f", "d", "g", ">i2", ">i8", ">f4", ">f8", "<f4"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype: str) -> None:
    assert_same_bits(opuproj.pack(X.astype(dtype)).to_numpy(), X)
    assert_same_bits(opuproj.project(X.astype(dtype), 40, seed=1), Y)


@pytest.mark.parametrize("dtype", ["?", "B", "H", "I", "L", "Q", ">u2"])
def test_unsigned_dtypes(dtype: str) -> None:
    assert_same_bits(opuproj.pack(np.abs(X).astype(dtype)).to_numpy(), np.abs(X))


def test_the_same_values_in_other_clothes(tmp_path: Path) -> None:
    wide = np.zeros((12, 140), np.int8)
    wide[::2, 1::2] = X
    file = tmp_path / "x"
    X.tofile(file)
    unaligned = np.frombuffer(b"?" + X.astype(np.float64).tobytes(), np.uint8)[1:].view(np.float64).reshape(X.shape)
    assert not unaligned.flags.aligned
    read_only = X.copy()
    read_only.flags.writeable = False
    for same in (
        X.tolist(),
        tuple(map(tuple, X.tolist())),
        list(X),
        np.asfortranarray(X),
        wide[::2, 1::2],
        X[::-1, ::-1].copy()[::-1, ::-1],
        X.T.copy().T,
        read_only,
        unaligned,
        np.memmap(file, np.int8, "r", shape=X.shape),
        opuproj.pack(X),
    ):
        assert_same_bits(opuproj.project(same, 40, seed=1), Y)
        assert_same_bits(opuproj.pack(same).to_numpy(), X)


def test_broadcast_vectors() -> None:
    same = np.broadcast_to(X[0], (5, 70))
    assert_same_bits(opuproj.project(same, 40, seed=1), np.broadcast_to(Y[0], (5, 40)))


@given(st.data())
def test_any_view(data: st.DataObject) -> None:
    base = ternary(*data.draw(hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=9)))
    view = base.transpose(data.draw(st.permutations(range(base.ndim))))
    view = view[data.draw(hnp.basic_indices(view.shape, min_dims=1, allow_newaxis=True))]
    if view.ndim and view.shape[-1]:
        assert_same_bits(opuproj.pack(view).to_numpy(), np.ascontiguousarray(view))


@pytest.mark.long
@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float32, np.dtype(">f8")])
def test_arrays_of_many_pieces(dtype: np.dtype) -> None:
    x = ternary(9, 37, 40_001).astype(dtype)
    batch = opuproj.pack(x)
    assert batch.nnz == np.count_nonzero(x)
    assert batch == opuproj.pack(np.ascontiguousarray(x.transpose(1, 0, 2)).transpose(1, 0, 2))
    assert batch == opuproj.pack(np.asfortranarray(x))
    x[8, 36, 40_000] = 3
    with pytest.raises(ValueError, match=r"x\[8, 36, 40000\] is 3"):
        opuproj.pack(x)


def test_a_batch_of_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    scipy_sparse = pytest.importorskip("scipy.sparse")
    from opuproj import _memory

    x = ternary(37, 300, density=0.3)
    expected = {mode: opuproj.project(x, 50, mode=mode) for mode in MODES}
    monkeypatch.setattr(_memory, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(_memory, "PIECE_BYTES", 700)
    assert _memory.rows_within(37, _memory.packed_bytes(37, 300)) < 37 / 2
    for mode, y in expected.items():
        for same in (x, x.astype(np.float32), scipy_sparse.csr_array(x), opuproj.pack(x)):
            assert_same_bits(opuproj.project(same, 50, mode=mode), y)
    out = np.full((37, 50), 7, np.float32)
    x[36, 299] = 5
    with pytest.raises(ValueError, match=r"x\[36, 299\] is 5"):
        opuproj.project(x, 50, out=out)
    assert (out == 7).all()  # nothing was computed before the last value was seen


def test_neither_torch_nor_scipy_is_imported() -> None:
    code = "import sys, opuproj; opuproj.project([1, 0], 3); print([m for m in ('torch', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class TestScipy:
    sparse = pytest.importorskip("scipy.sparse")

    @pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dok", "dia", "bsr"])
    @pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32, np.float64])
    def test_every_format(self, form: str, dtype: type) -> None:
        x = ternary(20, 90, density=0.1)
        for container in (self.sparse.csr_array, self.sparse.csr_matrix):
            given = container(x.astype(dtype)).asformat(form)
            assert opuproj.pack(given) == opuproj.pack(x)
            y = opuproj.project(given, 30)
            assert type(y) is np.ndarray
            assert_same_bits(y, opuproj.project(x, 30))

    def test_duplicates_are_summed_and_the_matrix_left_alone(self) -> None:
        rows, columns, values = [0, 0, 0, 1], [2, 2, 1, 0], [1, -1, 1, -1]
        expected = [[0, 1, 0], [-1, 0, 0]]
        for dtype in (np.int8, np.float64):
            coo = self.sparse.coo_array((np.array(values, dtype), (rows, columns)), shape=(2, 3))
            assert opuproj.pack(coo).to_numpy().tolist() == expected
            csr = self.sparse.csr_array((np.array(values, dtype), columns, [0, 3, 4]), shape=(2, 3))
            assert opuproj.pack(csr).to_numpy().tolist() == expected
            assert csr.data.tolist() == values
        wraps = self.sparse.coo_array((np.array([127, 127, 2], np.int8), ([0, 0, 0], [1, 1, 1])), shape=(1, 3))
        with pytest.raises(ValueError, match=r"x\[0, 1\] is 256"):
            opuproj.pack(wraps)

    def test_explicit_zeros_and_empty_rows(self) -> None:
        csr = self.sparse.csr_array((np.array([0, 1]), [0, 2], [0, 0, 2, 2]), shape=(3, 3))
        assert opuproj.pack(csr).to_numpy().tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]
        assert opuproj.project(self.sparse.csr_array((0, 5)), 4).shape == (0, 4)
        assert not opuproj.project(self.sparse.csr_array((2, 5)), 4).any()

    def test_bad_values(self) -> None:
        x = ternary(5, 30, density=0.2).astype(np.float64)
        x[3, 17] = 0.5
        for form in ("csr", "csc", "coo"):
            with pytest.raises(ValueError, match=r"x\[3, 17\] is 0.5, but must be -1, 0 or 1; use opuproj.ternarize"):
                opuproj.pack(self.sparse.csr_array(x).asformat(form))
        x[3, 17] = np.nan
        with pytest.raises(ValueError, match=r"x\[3, 17\] is NaN"):
            opuproj.pack(self.sparse.csr_array(x))
        with pytest.raises(TypeError, match="complex"):
            opuproj.pack(self.sparse.csr_array(ternary(2, 2).astype(complex)))

    def test_a_matrix_that_is_far_too_large_to_be_dense(self) -> None:
        x = self.sparse.csr_array((np.array([1, -1]), [7, 9_999_999], [0, 1, 2]), shape=(2, 10_000_000))
        y = opuproj.project(x, 20, mode="complex", dtype=complex)
        op = opuproj.Projector(10_000_000, 20, mode="complex", dtype=complex)
        assert np.array_equal(y.T, op.matrix(columns=[7, 9_999_999]) * [1, -1])


class TestTorch:
    torch = pytest.importorskip("torch")

    def test_every_dtype(self) -> None:
        torch = self.torch
        x = torch.from_numpy(X.copy())
        for dtype in (
            torch.int8,
            torch.int16,
            torch.int32,
            torch.int64,
            torch.float16,
            torch.bfloat16,
            torch.float32,
            torch.float64,
        ):
            y = opuproj.project(x.to(dtype), 40, seed=1)
            assert isinstance(y, torch.Tensor)
            assert y.dtype == torch.float32
            assert_same_bits(y.numpy(), Y)
        assert_same_bits(opuproj.pack(x.bool()).to_numpy(), np.abs(X))
        assert_same_bits(opuproj.pack(x.abs().to(torch.uint8)).to_numpy(), np.abs(X))

    def test_strides_and_gradients(self) -> None:
        x = self.torch.from_numpy(X.astype(np.float32))
        for same in (x.T.contiguous().T, x.clone().requires_grad_(), self.torch.nn.Parameter(x.clone())):
            y = opuproj.project(same, 40, seed=1)
            assert not y.requires_grad
            assert_same_bits(y.numpy(), Y)
        many = ternary(3, 50, 10_000)
        view = self.torch.from_numpy(many).to(self.torch.bfloat16).permute(1, 0, 2)
        assert_same_bits(opuproj.pack(view).to_numpy(), many.transpose(1, 0, 2).copy())

    def test_dtypes_of_torch_are_understood(self) -> None:
        x = self.torch.from_numpy(X.copy())
        assert opuproj.project(x, 40, dtype=self.torch.float64).dtype == self.torch.float64
        assert opuproj.project(x, 40, mode="complex").dtype == self.torch.complex64
        assert opuproj.project(x, 40, mode="complex", dtype=self.torch.float64).dtype == self.torch.complex128
        assert opuproj.Projector(4, 4, dtype=self.torch.float32) == opuproj.Projector(4, 4)
        with pytest.raises(ValueError, match="bfloat16"):
            opuproj.project(x, 40, dtype=self.torch.bfloat16)

    def test_out(self) -> None:
        x = self.torch.from_numpy(X.copy())
        out = self.torch.empty(6, 40)
        assert opuproj.project(x, 40, seed=1, out=out) is out
        assert_same_bits(out.numpy(), Y)
        wide = self.torch.zeros(6, 100)
        opuproj.project(x, 40, seed=1, out=wide[:, 10:50])
        assert_same_bits(wide[:, 10:50].numpy(), Y)
        assert not wide[:, :10].any()
        with pytest.raises(ValueError, match="out requires grad"):
            opuproj.project(x, 40, out=self.torch.empty(6, 40, requires_grad=True))
        with pytest.raises(ValueError, match=r"out has dtype torch\.bfloat16"):
            opuproj.project(x, 40, out=self.torch.empty(6, 40, dtype=self.torch.bfloat16))
        with pytest.raises(ValueError, match="out has shape"):
            opuproj.project(x, 40, out=self.torch.empty(6, 41))

    def test_bad_tensors(self) -> None:
        torch = self.torch
        with pytest.raises(ValueError, match=r"x\[1, 2\] is 2\.0, but must be -1, 0 or 1"):
            opuproj.pack(torch.tensor([[0, 0, 0], [0, 0, 2]], dtype=torch.bfloat16))
        with pytest.raises(TypeError, match="complex64"):
            opuproj.pack(torch.zeros(3, dtype=torch.complex64))
        with pytest.raises(TypeError, match=r"x is a torch tensor of layout torch\.sparse_coo.*scipy\.sparse"):
            opuproj.pack(torch.eye(3).to_sparse())
        with pytest.raises(TypeError, match="meta"):
            opuproj.pack(torch.zeros(3, device="meta"))
        with pytest.raises(ValueError, match="single number"):
            opuproj.pack(torch.tensor(1))

    def test_ternarize_compares_in_the_dtype_of_the_tensor(self) -> None:
        torch = self.torch
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            e = torch.randn(20, 100, generator=torch.Generator().manual_seed(0)).to(dtype)
            for threshold in (0.3, float(e[0, 0].abs())):
                expected = (e > threshold).to(torch.int8) - (e < -threshold).to(torch.int8)
                assert_same_bits(opuproj.ternarize(e, threshold).to_numpy(), expected.numpy())
            t = e.abs().amax(dim=1, keepdim=True) * torch.tensor(0.3, dtype=dtype)
            expected = (e > t).to(torch.int8) - (e < -t).to(torch.int8)
            assert_same_bits(opuproj.ternarize(e.requires_grad_(), relative=0.3).to_numpy(), expected.numpy())
