"""Packed batches: what a TernaryBatch is, its parts, its bits."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import opuproj
import pytest
from helpers import AWKWARD, assert_same_bits, ternary
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from opuproj import TernaryBatch

# Few rows, of up to four words.
shapes = st.builds(
    lambda leading, n: (*leading, n), hnp.array_shapes(min_dims=0, max_dims=3, max_side=5), st.integers(1, 200)
)
arrays = hnp.arrays(np.int8, shapes, elements=st.sampled_from([-1, 0, 1]))


# What a batch is


@given(arrays)
def test_packing_loses_nothing(x: np.ndarray) -> None:
    batch = opuproj.pack(x)
    assert_same_bits(batch.to_numpy(), x)
    assert_same_bits(np.asarray(batch), x)
    assert (batch.shape, batch.ndim, batch.n_inputs) == (x.shape, x.ndim, x.shape[-1])
    assert batch.nnz == np.count_nonzero(x)
    assert type(batch.nnz) is int
    assert np.array_equal(batch.nnz_per_row, np.count_nonzero(x, axis=-1))
    assert batch.nnz_per_row.shape == x.shape[:-1]


@pytest.mark.every_backend
@pytest.mark.parametrize("n", AWKWARD)
def test_packing_at_awkward_sizes(n: int) -> None:
    for shape in ((n,), (3, n), (n, 3)):
        x = ternary(*shape)
        assert_same_bits(opuproj.pack(x).to_numpy(), x)


def test_two_bits_an_element() -> None:
    assert opuproj.pack(ternary(100, 6400)).nbytes == 100 * 6400 // 4


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float16, np.float32, np.float64, np.longdouble, complex])
def test_unpacking_to_a_dtype(dtype: type) -> None:
    x = ternary(40, 70)
    for y in (opuproj.pack(x).to_numpy(dtype), np.asarray(opuproj.pack(x), dtype)):
        assert y.dtype == dtype
        assert np.array_equal(y, x)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, bool])
def test_minus_one_never_becomes_something_else(dtype: type) -> None:
    x = ternary(40, 70)
    with pytest.raises(ValueError, match=r"dtype is .*-1"):
        opuproj.pack(x).to_numpy(dtype)
    assert_same_bits(opuproj.pack(np.abs(x)).to_numpy(dtype), np.abs(x).astype(dtype))


def test_equality() -> None:
    x = ternary(5, 70)
    other = x.copy()
    other[4, 69] = 1 - other[4, 69] ** 2
    assert opuproj.pack(x) == opuproj.pack(x.astype(float))
    assert opuproj.pack(x) != opuproj.pack(other)
    assert opuproj.pack(x) != opuproj.pack(x.reshape(5, 1, 70))
    assert opuproj.pack(x) != "x"
    with pytest.raises(TypeError):
        hash(opuproj.pack(x))


def test_a_batch_is_immutable_and_made_by_functions_only() -> None:
    batch = opuproj.pack(ternary(5, 70))
    with pytest.raises(AttributeError):
        batch.shape = (5, 70)  # type: ignore[misc]
    with pytest.raises(AttributeError):
        batch._shape = (70, 5)
    with pytest.raises(TypeError, match=r"opuproj\.pack"):
        TernaryBatch(ternary(5, 70))


def test_it_says_what_it_is() -> None:
    assert repr(opuproj.pack([[1, 0], [0, 0]])) == "TernaryBatch(shape=(2, 2), nnz=1)"


def test_pickle_and_copies() -> None:
    for shape in ((70,), (5, 70), (0, 3), (2, 3, 9)):
        batch = opuproj.pack(ternary(*shape))
        assert pickle.loads(pickle.dumps(batch)) == batch
        assert copy.copy(batch) == batch
        assert copy.deepcopy([batch]) == [batch]


def test_packing_a_batch_gives_that_batch() -> None:
    batch = opuproj.pack(ternary(5, 70))
    assert opuproj.pack(batch) is batch


def test_a_batch_is_read_as_one_block_however_few_rows_are_asked_for() -> None:
    from opuproj.inputs.arrays import vectors

    batch = opuproj.pack(ternary(5, 4, 70))
    rows = vectors(batch, None, "gaussian")
    blocks = [*rows.blocks(1)]  # type: ignore[attr-defined]
    assert blocks == [batch._packed]
    assert rows.position(7, 3) == "x[1, 3, 3]"


def test_an_empty_batch() -> None:
    batch = opuproj.pack(np.zeros((0, 70)))
    assert (batch.shape, len(batch), batch.nnz) == ((0, 70), 0, 0)
    assert list(batch) == []
    assert batch.to_numpy().shape == (0, 70)
    assert batch.to_numpy(float).shape == (0, 70)


# Parts and wholes


@given(st.data())
def test_indexing_is_that_of_numpy(data: st.DataObject) -> None:
    leading = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5))
    x = ternary(*leading, data.draw(st.integers(1, 130)))
    index = data.draw(hnp.basic_indices(leading, allow_ellipsis=False, allow_newaxis=True))
    assert_same_bits(opuproj.pack(x)[index].to_numpy(), x[index])


@pytest.mark.parametrize(
    "index",
    [
        0,
        -1,
        np.int64(2),
        slice(1, 4),
        slice(None, None, -2),
        slice(9, 3),
        [0, 0, 3],
        [],
        np.array([[1, 2], [3, -4]]),
        np.array([True, False, True, False, True, False]),
        [True, False, True, False, True, False],
        (slice(None), 1),
        (2, [0, 3]),
        np.arange(24).reshape(6, 4) % 3 == 0,
        None,
    ],
    ids=str,
)
def test_indexing(index: object) -> None:
    x = ternary(6, 4, 90)
    expected = x[index if not isinstance(index, list) or index else np.array([], int)]
    assert_same_bits(opuproj.pack(x)[index].to_numpy(), expected)


def test_bad_indices() -> None:
    batch = opuproj.pack(ternary(6, 90))
    for index in (6, -7, [0, 6], (0, 5), (slice(None), 5), np.ones((6, 90), bool)):
        with pytest.raises(IndexError):
            batch[index]
    with pytest.raises(IndexError, match="to_numpy"):
        batch[..., 5]
    with pytest.raises(IndexError, match="to_numpy"):
        batch[0][5]


def test_iteration_and_length() -> None:
    x = ternary(6, 4, 90)
    batch = opuproj.pack(x)
    assert len(batch) == 6
    assert [row.shape for row in batch] == [(4, 90)] * 6
    assert_same_bits(np.stack([row.to_numpy() for row in batch]), x)
    with pytest.raises(TypeError):
        len(batch[0, 0])
    with pytest.raises(TypeError):
        iter(batch[0, 0])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(1, 130))
def test_concatenation(lengths: list[int], n: int) -> None:
    parts = [ternary(length, 2, n, seed=i) for i, length in enumerate(lengths)]
    batch = TernaryBatch.concatenate([opuproj.pack(part) for part in parts])
    assert_same_bits(batch.to_numpy(), np.concatenate(parts))


def test_bad_concatenations() -> None:
    a = opuproj.pack(ternary(2, 5))
    with pytest.raises(ValueError, match="at least one"):
        TernaryBatch.concatenate([])
    with pytest.raises(TypeError, match=r"batches\[1\]"):
        TernaryBatch.concatenate([a, ternary(2, 5)])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"batches\[1\] has shape \(2, 6\)"):
        TernaryBatch.concatenate([a, opuproj.pack(ternary(2, 6))])
    with pytest.raises(ValueError, match=r"reshape\(1, 5\)"):
        TernaryBatch.concatenate([a[0]])
    with pytest.raises(TypeError, match="batches is None, but must be a sequence of TernaryBatch"):
        TernaryBatch.concatenate(None)  # type: ignore[arg-type]


def test_reshape() -> None:
    x = ternary(6, 4, 9)
    batch = opuproj.pack(x)
    for shape in ((24, 9), (2, 3, 4, 9), (-1, 9), (3, -1, 9), (1, 24, 1, 9)):
        assert_same_bits(batch.reshape(*shape).to_numpy(), x.reshape(shape))
        assert_same_bits(batch.reshape(shape).to_numpy(), x.reshape(shape))
    assert batch[0, 0].reshape(1, 9).shape == (1, 9)
    for wrong in ((6, 36), (5, -1, 9), (-1, -1, 9), (23, 9), (-1,), ()):
        with pytest.raises(ValueError, match="shape is"):
            batch.reshape(wrong)


# Planes


@given(arrays, st.sampled_from(["big", "little"]))
def test_planes_are_those_of_packbits(x: np.ndarray, bitorder: str) -> None:
    positive, negative = opuproj.pack(x).planes(bitorder)
    assert_same_bits(positive, np.packbits(x == 1, axis=-1, bitorder=bitorder))
    assert_same_bits(negative, np.packbits(x == -1, axis=-1, bitorder=bitorder))
    assert TernaryBatch.from_planes(positive, negative, x.shape[-1], bitorder) == opuproj.pack(x)


def test_planes_of_whole_bytes_need_no_length() -> None:
    x = ternary(3, 24)
    planes = [np.packbits(x == sign, axis=-1) for sign in (1, -1)]
    assert TernaryBatch.from_planes(*planes) == opuproj.pack(x)
    assert TernaryBatch.from_planes(*[np.asfortranarray(plane) for plane in planes]) == opuproj.pack(x)


def test_bad_planes() -> None:
    x = ternary(4, 11, density=1)
    positive, negative = (np.packbits(x == sign, axis=-1) for sign in (1, -1))
    both = negative.copy()
    both[2, 1] |= positive[2, 1] | 0b01000000
    hit = positive.copy()
    hit[2, 1] |= 0b01000000
    with pytest.raises(ValueError, match=r"both set at vector 2, input (8|9|10)$"):
        TernaryBatch.from_planes(hit, both, 11)
    stray = positive.copy()
    stray[3, 1] |= 0b00010000
    with pytest.raises(ValueError, match="vector 3 has bits set beyond its 11 inputs"):
        TernaryBatch.from_planes(stray, negative, 11)
    with pytest.raises(ValueError, match="negative has shape"):
        TernaryBatch.from_planes(positive, negative[:3], 11)
    with pytest.raises(ValueError, match="n_inputs = 17 takes 3"):
        TernaryBatch.from_planes(positive, negative, 17)
    with pytest.raises(TypeError, match="positive has dtype"):
        TernaryBatch.from_planes(positive.astype(int), negative, 11)
    with pytest.raises(ValueError, match="bitorder is 'middle'"):
        TernaryBatch.from_planes(positive, negative, 11, "middle")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="bitorder"):
        opuproj.pack(x).planes("middle")  # type: ignore[arg-type]
