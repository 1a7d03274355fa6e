"""The Triton kernel of `cuda_generated`: imported only where Triton is installed.

One call of Philox4x32-10 gives four Gaussians, the entries of four rows in one column. Its counter is (row // 4,
column). So the matrix does not depend on the tiles.
"""

# No `from __future__ import annotations`: Triton reads the annotations themselves.
import triton
import triton.language as tl


@triton.jit
def _normals(seed, row_groups, columns):  # type: ignore[no-untyped-def]
    """Four float16 tiles of shape (columns, row groups): entries of rows 4g, 4g + 1, 4g + 2 and 4g + 3."""
    counter = columns[:, None] + tl.zeros_like(row_groups)[None, :]
    group = row_groups[None, :] + tl.zeros_like(columns)[:, None]
    zero = tl.zeros_like(group)
    a, b, c, d = tl.philox(seed, group, counter, zero, zero)
    first, second = tl.pair_uniform_to_normal(tl.uint_to_uniform_float(a), tl.uint_to_uniform_float(b))
    third, fourth = tl.pair_uniform_to_normal(tl.uint_to_uniform_float(c), tl.uint_to_uniform_float(d))
    return first.to(tl.float16), second.to(tl.float16), third.to(tl.float16), fourth.to(tl.float16)


@triton.jit  # type: ignore[untyped-decorator]
def project(  # type: ignore[no-untyped-def]
    x,
    result,
    seed,
    n_vectors,
    n_inputs,
    n_outputs,
    VECTORS: tl.constexpr,
    GROUPS: tl.constexpr,
    INPUTS: tl.constexpr,
):
    """Result = x Tᵀ for row-major x (float16) and result (float32): one tile of vectors and of 4 · GROUPS outputs."""
    groups = tl.program_id(0) * GROUPS + tl.arange(0, GROUPS)
    vectors = tl.program_id(1) * VECTORS + tl.arange(0, VECTORS)
    first = tl.zeros((VECTORS, GROUPS), tl.float32)
    second = tl.zeros((VECTORS, GROUPS), tl.float32)
    third = tl.zeros((VECTORS, GROUPS), tl.float32)
    fourth = tl.zeros((VECTORS, GROUPS), tl.float32)
    rows = vectors.to(tl.int64)[:, None]
    for start in range(0, n_inputs, INPUTS):
        columns = start + tl.arange(0, INPUTS)
        # Inputs past the end are zero, so their entries do not matter.
        inside = (vectors < n_vectors)[:, None] & (columns < n_inputs)[None, :]
        inputs = tl.load(x + rows * n_inputs + columns[None, :], mask=inside, other=0.0)
        t0, t1, t2, t3 = _normals(seed, groups, columns)
        first = tl.dot(inputs, t0, first)
        second = tl.dot(inputs, t1, second)
        third = tl.dot(inputs, t2, third)
        fourth = tl.dot(inputs, t3, fourth)
    _store(result, first, rows, 4 * groups, n_vectors, n_outputs)
    _store(result, second, rows, 4 * groups + 1, n_vectors, n_outputs)
    _store(result, third, rows, 4 * groups + 2, n_vectors, n_outputs)
    _store(result, fourth, rows, 4 * groups + 3, n_vectors, n_outputs)


@triton.jit
def _store(result, sums, rows, outputs, n_vectors, n_outputs):  # type: ignore[no-untyped-def]
    inside = (rows < n_vectors) & (outputs < n_outputs)[None, :]
    tl.store(result + rows * n_outputs + outputs[None, :], sums, mask=inside)
