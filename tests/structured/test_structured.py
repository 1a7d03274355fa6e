"""ensemble="structured": the matrix of its definition, bit for bit, in every way that it can be reached."""

from __future__ import annotations

import copy
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from typing import Any

import numpy as np
import opuproj
import pytest
import structured_oracle as oracle
from helpers import ISAS, MODES, assert_same_bits, ternary
from hypothesis import given, settings
from hypothesis import strategies as st
from opuproj import Camera, Projector

# Every test whose results depend on the instruction set names it.
RAGGED = [1, 2, 100, 255, 256, 257, 511, 513, 1000, 4095, 4097, 9000]


def project(x: Any, n_outputs: int, **arguments: Any) -> Any:
    return opuproj.project(x, n_outputs, ensemble="structured", **arguments)


def reals(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


# Bits


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", RAGGED)
def test_bits_are_those_of_the_definition(monkeypatch: pytest.MonkeyPatch, isa: str, n: int) -> None:
    monkeypatch.setenv("OPUPROJ_ISA", isa)
    padded = oracle.length(n)
    rows = range(padded - 70, padded + 90)
    for x in (ternary(2, n), reals(2, n), 1e-30 * reals(2, n), 1e30 * reals(2, n)):
        for mode in MODES:
            y = project(x, rows.stop, seed=n, mode=mode, rows=rows, n_anchor=3, dtype=np.float64)
            assert_same_bits(y, oracle.project(n, x, rows, mode, n_anchor=3))


@pytest.mark.parametrize("isa", ISAS)
def test_bits_of_long_transforms(monkeypatch: pytest.MonkeyPatch, isa: str) -> None:
    # From 4,096 on transforms are cut in rows and columns, here of 64 and of 256.
    monkeypatch.setenv("OPUPROJ_ISA", isa)
    for n, seed in ((200_000, 1), (1_000_000, 2**64 - 1)):
        x = ternary(n)
        rows = range(oracle.length(n) - 50_000, oracle.length(n) + 1)
        y = project(x, rows.stop, seed=seed, mode="complex", rows=rows, dtype=np.float64)
        assert_same_bits(y, oracle.project(seed, x, rows, "complex"))


@settings(max_examples=60)
@given(st.data())
def test_any_split_of_any_work(data: st.DataObject) -> None:
    n_rows = data.draw(st.sampled_from([0, 1, 2, 3, 5, 16]), "batch")
    n_inputs = data.draw(st.one_of(st.sampled_from(RAGGED), st.integers(1, 1500)), "inputs")
    n_outputs = data.draw(st.integers(1, 3000), "outputs")
    mode = data.draw(st.sampled_from(MODES), "mode")
    offset = data.draw(st.sampled_from([0, 1, 255, 256, 2**33 - 3]), "offset")
    x = data.draw(st.sampled_from([ternary, reals]), "kind")(n_rows, n_inputs)
    whole = Projector(
        n_inputs, offset + n_outputs, seed=data.draw(st.integers(0, 2**64 - 1)), mode=mode, ensemble="structured"
    )
    with pytest.MonkeyPatch.context() as m:
        m.setenv("OPUPROJ_ISA", data.draw(st.sampled_from(ISAS), "one isa"))
        m.setenv("OPUPROJ_NUM_THREADS", data.draw(st.sampled_from(["1", "2", "3", "7"]), "threads"))
        together = whole.rows(offset, offset + n_outputs)(x)

        m.setenv("OPUPROJ_ISA", data.draw(st.sampled_from(ISAS), "another isa"))
        m.setenv("OPUPROJ_NUM_THREADS", data.draw(st.sampled_from(["1", "2", "3", "7"]), "other threads"))
        i = sorted(data.draw(st.lists(st.integers(0, n_rows), max_size=3), "batch split"))
        k = sorted(data.draw(st.lists(st.integers(0, n_outputs), max_size=3), "row split"))
        pieces = np.empty_like(together)
        for a, b in zip([0, *i], [*i, n_rows], strict=True):
            for c, d in zip([0, *k], [*k, n_outputs], strict=True):
                whole.rows(offset + c, offset + d)(x[a:b], out=pieces[a:b, c:d])
    assert_same_bits(pieces, together)


@pytest.mark.parametrize("mode", MODES)
def test_threads_do_not_matter(mode: str) -> None:
    for x, n_outputs in ((ternary(1, 20_000), 100_000), (reals(7, 5000), 9000), (ternary(40, 300), 700)):
        one = project(x, n_outputs, mode=mode, threads=1)
        for threads in (2, 3, 8):
            assert_same_bits(project(x, n_outputs, mode=mode, threads=threads), one)


def test_fewer_outputs_are_the_first_of_more() -> None:
    x = reals(3, 400)
    for mode in MODES:
        assert_same_bits(project(x, 5000, mode=mode)[:, :600].copy(), project(x, 600, mode=mode))


def test_seeds_and_ensembles_differ() -> None:
    x = ternary(500)
    results = [project(x, 600, seed=seed, mode="complex") for seed in (0, 1, 2**63)]
    results.append(opuproj.project(x, 600, mode="complex"))
    for i, a in enumerate(results):
        for b in results[:i]:
            assert abs(np.vdot(a, b)) < 0.2 * np.vdot(a, a).real


def test_the_numbers_of_the_definition() -> None:
    rows = [0, 1, 2, 3, 999]
    y = {mode: project([1, 0, -1, 1], 1000, mode=mode, dtype=np.float64)[rows] for mode in MODES}
    field = [96 - 64j, 256 + 160j, 416 - 80j, -128 + 304j, -556 + 1072j]
    np.testing.assert_allclose(y["complex"] * np.sqrt(2) * 256, field, rtol=1e-15)
    intensity = ["0.10156250", "0.69531250", "1.36914062", "0.83007812", "11.12609863"]
    assert [f"{v:.8f}" for v in y["intensity"]] == intensity
    linear = ["0.43017831", "0.00436619", "-1.13155176", "-0.19962035", "-0.50009935"]
    assert [f"{v:.8f}" for v in y["linear"]] == linear


# What it takes


@pytest.mark.parametrize(
    "kind", ["int8", "int32", "uint8", "bool", "float16", "float32", "float64", ">f4", "longdouble"]
)
def test_any_real_dtype_is_taken_as_its_values(kind: str) -> None:
    x = reals(4, 300) * 3
    x = (x > 0 if kind == "bool" else np.abs(x) if kind == "uint8" else x).astype(kind)
    assert_same_bits(project(x, 300), project(x.astype(np.float64), 300))


@pytest.mark.parametrize("kind", ["int8", "int64", "float32"])
def test_ternary_vectors_are_the_same_however_they_come(kind: str) -> None:
    from scipy import sparse

    x = ternary(5, 700)
    expected = project(x.astype(np.float64), 900)
    for same in (x.astype(kind), opuproj.pack(x), sparse.csr_array(x.astype(kind)), sparse.coo_array(x.astype(kind))):
        assert_same_bits(project(same, 900), expected)


def test_sparse_real_numbers() -> None:
    from scipy import sparse

    x = reals(20, 3000) * (np.random.default_rng(0).random((20, 3000)) < 0.02)
    x[3] = 0
    for dtype in (np.float32, np.float64):
        dense = x.astype(dtype)
        twice = sparse.coo_array(
            (np.tile(dense[dense != 0] / 2, 2), [np.tile(k, 2) for k in np.nonzero(dense)]), x.shape
        )
        for matrix in (sparse.csr_array(dense), sparse.csc_array(dense), twice):
            assert_same_bits(project(matrix, 600), project(dense, 600))


def test_shapes_strides_and_orders() -> None:
    x = reals(4, 3, 500)
    expected = project(x, 600)
    assert expected.shape == (4, 3, 600)
    assert_same_bits(project(np.asfortranarray(x), 600), expected)
    assert_same_bits(project(np.repeat(x, 2, axis=2)[..., ::2], 600), expected)
    assert_same_bits(project(x[:, ::-1], 600), expected[:, ::-1])
    assert_same_bits(project(x[1, 2], 600), expected[1, 2])
    assert project(x[:0], 600).shape == (0, 3, 600)
    assert project(x, 600, rows=(5, 5)).shape == (4, 3, 0)


def test_batches_larger_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    from opuproj import _inputs, _structured

    x = reals(50, 700)
    expected = project(x, 300)
    monkeypatch.setattr(_structured, "BLOCK_BYTES", 4 * 700 * 7)
    monkeypatch.setattr(_inputs, "PIECE_BYTES", 8 * 700 * 3)
    assert_same_bits(project(x, 300), expected)
    assert_same_bits(project(x.reshape(5, 10, 700), 300), expected.reshape(5, 10, 300))


def test_results_into_given_memory(tmp_path: Any) -> None:
    x = reals(3, 500)
    expected = project(x, 700, mode="linear")
    table = np.zeros((3, 1000), np.float32)
    assert project(x, 700, mode="linear", out=table[:, 100:800]).base is table
    assert_same_bits(table[:, 100:800].copy(), expected)
    assert not table[:, :100].any()
    assert not table[:, 800:].any()
    on_disk = np.memmap(tmp_path / "y", np.float32, "w+", shape=(3, 700))
    project(x, 700, mode="linear", out=on_disk)
    assert_same_bits(np.array(on_disk), expected)


def test_numbers_of_any_size() -> None:
    x = reals(300)
    y = project(x, 400, mode="linear", dtype=np.float64)
    for exponent in (-1000, -300, -100, 100, 300, 1000):
        assert_same_bits(project(np.ldexp(x, exponent), 400, mode="linear", dtype=np.float64), np.ldexp(y, exponent))
    assert_same_bits(project(np.zeros(300), 400, mode="complex"), np.zeros(400, np.complex64))
    assert_same_bits(project(-np.zeros(300), 400, mode="linear"), np.zeros(400, np.float32))
    largest = np.full(300, np.finfo(float).max)
    assert np.isfinite(project(largest / 1000, 400, mode="linear", dtype=np.float64)).all()


# The operator


def test_it_is_linear_and_multiplies_by_its_matrix() -> None:
    x = reals(6, 300)
    for mode in ("linear", "complex"):
        op = Projector(300, 700, seed=1, mode=mode, ensemble="structured", dtype=np.float64)[200:]
        matrix = op.matrix()
        assert matrix.shape == op.shape == (500, 300)
        assert matrix.dtype == op.dtype
        np.testing.assert_allclose(op(x), x @ matrix.T, rtol=0, atol=2e-5)
        assert_same_bits(op(np.eye(300)), matrix.T)
    op = Projector(300, 700, mode="intensity", ensemble="structured")
    np.testing.assert_allclose(op(x), np.abs(x @ op.matrix().T) ** 2, rtol=1e-4, atol=1e-3)
    assert op.matrix().dtype == np.complex64


def test_windows_of_its_matrix() -> None:
    op = Projector(300, 2000, seed=3, ensemble="structured")
    whole = op.matrix()
    for rows, columns in (
        (slice(3, 1800, 100), slice(290, None)),
        ([1999, 0, 0, -1], [-300, 299, 5]),
        (np.array([700], np.uint16), None),
        ([], [1]),
        ((1, 2), []),
    ):
        i = np.arange(2000)[rows if isinstance(rows, slice) else np.array(rows, int)]
        j = np.arange(300)[
            slice(None) if columns is None else columns if isinstance(columns, slice) else np.array(columns, int)
        ]
        assert_same_bits(op.matrix(rows, columns), whole[np.ix_(i, j)])
    big = Projector(10**6, 2 * 10**6, mode="complex", ensemble="structured")
    unit = np.zeros(10**6, np.int8)
    unit[999_999] = 1
    assert_same_bits(big.matrix([5, 1_999_999], [999_999])[:, 0], big(unit)[[5, 1_999_999]])


@pytest.mark.parametrize(
    "op",
    [
        Projector(300, 20, ensemble="structured"),
        Projector(300, 2000, seed=2**64 - 1, mode="complex", ensemble="structured", dtype=np.float64, threads=2),
        Projector(300, 2000, ensemble="structured")[500:800],
    ],
    ids=repr,
)
def test_it_survives_repr_pickle_and_copies(op: Projector) -> None:
    x = ternary(300)
    for other in (eval(repr(op)), copy.copy(op), copy.deepcopy(op), pickle.loads(pickle.dumps(op)), op.seen_by(None)):
        assert other == op
        assert hash(other) == hash(op)
        assert other.ensemble == "structured"
        assert_same_bits(other(x), op(x))
    assert op != Projector(300, 20)


def test_operators_pickled_before_there_were_ensembles() -> None:
    make, (state,) = Projector(10, 20, seed=3).__reduce__()
    del state["ensemble"]
    assert make(state) == Projector(10, 20, seed=3)
    assert "ensemble" not in repr(Projector(10, 20))


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"ensemble": "fast"}, ValueError, "ensemble is 'fast', but must be one of 'gaussian', 'structured'"),
        ({"ensemble": None}, ValueError, "ensemble is None"),
        ({"digits": 5}, ValueError, "digits is 5, but ensemble is 'structured'"),
        ({"camera": Camera(photons=10)}, ValueError, "camera is Camera.*but ensemble is 'structured'"),
        ({"camera": Camera.ideal()}, ValueError, "camera is Camera"),
        ({"noise_seed": 1}, ValueError, "noise_seed is 1"),
        ({"mode": "phase"}, ValueError, "mode is 'phase'"),
        ({"dtype": np.uint8}, ValueError, "dtype is uint8"),
        ({"rows": (0, 30)}, ValueError, "rows is 0 to 30"),
    ],
    ids=lambda value: str(value),
)
def test_mistakes_are_named(arguments: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        opuproj.project(np.ones(10), 20, **{"ensemble": "structured", **arguments})


def test_numbers_that_are_not_finite_are_refused_by_position() -> None:
    x = reals(3, 4, 500)
    for value in (np.nan, np.inf, -np.inf):
        x[2, 1, 77] = value
        for given_x in (x, x.astype(np.float32)):
            with pytest.raises(ValueError, match=r"x\[2, 1, 77\] is (NaN|inf|-inf), but must be finite"):
                project(given_x, 10)


def test_what_holds_no_vectors_of_real_numbers_is_refused() -> None:
    for x, error in (
        (np.ones(3, complex), TypeError),
        (["a"], TypeError),
        (3.0, ValueError),
        (np.ones((3, 0)), ValueError),
    ):
        with pytest.raises(error, match=r"^x "):
            project(x, 10)
    with pytest.raises(TypeError, match="x is an EncodedBatch"):
        project(opuproj.encode(reals(10)), 10)
    op = Projector(10, 20, ensemble="structured")
    with pytest.raises(ValueError, match="this operator takes 10"):
        op(reals(11))
    with pytest.raises(ValueError, match="camera is Camera"):
        op.seen_by(Camera.ideal())
    with pytest.raises(ValueError, match="digits is 3"):
        op(reals(10), digits=3)
    with pytest.raises(ValueError, match=r"x.* is 2, but must be -1, 0 or 1"):
        Projector(10, 20)(np.full(10, 2))


def test_transforms_that_no_memory_holds_are_refused() -> None:
    from scipy import sparse

    x = sparse.csr_array(([1], ([0], [5])), shape=(1, 2**42))
    with pytest.raises(MemoryError, match=r"transforms on 2 threads, of shape .4398046511104,. takes .* bytes"):
        project(x, 10, threads=2)


def test_ctrl_c_returns_control_at_once() -> None:
    code = """
        import signal, time
        import numpy as np, opuproj
        signal.signal(signal.SIGINT, signal.default_int_handler)
        op = opuproj.Projector(10_000, 10_000, ensemble="structured")
        x = np.linspace(-1, 1, 10_000)
        before = op(x)
        many, out = np.broadcast_to(np.int8(1), (1, 4_000_000)), np.empty((1, 1 << 24), np.float32)
        print("ready", flush=True)
        try:
            while True:
                opuproj.project(many, 1 << 40, rows=(1 << 39, (1 << 39) + (1 << 24)), ensemble="structured", out=out)
        except KeyboardInterrupt:
            print(time.time(), flush=True)
        assert np.array_equal(op(x), before)
        print("usable", flush=True)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.5)
        sent = time.time()
        child.send_signal(signal.SIGINT)
        output, _ = child.communicate(timeout=30)
    finally:
        child.kill()
    lines = output.split()
    assert lines[-1:] == ["usable"], output
    assert float(lines[0]) - sent < 0.3


# What only the Gaussian ensemble has


def test_there_is_no_adjoint_yet() -> None:
    op = Projector(300, 500, ensemble="structured")
    assert not hasattr(op, "H")
    assert not hasattr(op, "T")
    with pytest.raises(ValueError, match=r"ensemble is 'structured', which has no adjoint"):
        opuproj.Adjoint(op)


def test_solvers_may_multiply_by_it() -> None:
    op, x = Projector(300, 500, ensemble="structured"), np.random.default_rng(0).standard_normal(300)
    assert_same_bits(op.matvec(x), op(x))
    assert_same_bits(op.matmat(np.stack([x, -x], 1)), op(np.stack([x, -x])).T)


# torch


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(3, 4, 300)
    expected = project(x.numpy(), 500)
    y = project(x, 500)
    assert isinstance(y, torch.Tensor)
    assert_same_bits(y.numpy(), expected)
    assert_same_bits(project(x.bfloat16(), 500).numpy(), project(x.bfloat16().float().numpy(), 500))
    assert_same_bits(project(x.transpose(0, 1), 500).numpy(), expected.transpose(1, 0, 2))
    small = torch.randint(-1, 2, (3, 300), dtype=torch.int8)
    assert_same_bits(project(small, 500).numpy(), project(small.double(), 500).numpy())


def test_the_layer() -> None:
    torch = pytest.importorskip("torch")
    from opuproj.torch import Projection, RowMax, Ternarize

    x = torch.randn(5, 300)
    layer = Projection(300, 700, seed=2, rows=(100, 600), ensemble="structured")
    expected = project(x.numpy(), 700, seed=2, rows=(100, 600), mode="linear")
    assert_same_bits(layer(x).numpy(), expected)
    assert "ensemble='structured'" in repr(layer)
    assert "ensemble" not in repr(Projection(300, 700))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert_same_bits(compiled(x).numpy(), expected)
    assert_same_bits(torch.export.export(layer, (x,)).module()(x).numpy(), expected)

    other = Projection(300, 700, rows=(100, 600))
    other.load_state_dict(layer.state_dict())
    assert other.ensemble == "structured"
    assert_same_bits(other(x).numpy(), expected)
    old = Projection(300, 700, seed=9).state_dict()
    del old["_extra_state"]["ensemble"]
    loaded = Projection(300, 700, ensemble="structured")
    loaded.load_state_dict(old)
    assert loaded.ensemble == "gaussian"

    rule = Ternarize(RowMax(0.25))
    t, a = rule(x)
    made = Projection(300, 700, seed=2, ensemble="structured", ternarize=rule)(x)
    assert_same_bits(made.numpy(), (torch.from_numpy(project(t.numpy(), 700, seed=2, mode="linear")) * a).numpy())
    with pytest.raises(NotImplementedError, match="no gradient"):
        layer(x.requires_grad_()).sum().backward()


@pytest.mark.parametrize("method", ["dfa", "odfa"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_feedback(method: Any, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    from opuproj import dfa

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(20, 300), torch.nn.Tanh(), torch.nn.Linear(300, 200), torch.nn.Tanh())
    model.append(torch.nn.Linear(200, 10)).to(getattr(torch, dtype))
    x, y = torch.randn(8, 20, dtype=getattr(torch, dtype)), torch.arange(8)
    feedback = dfa.attach(model, ["1", "3"], method=method, ensemble="structured", seed=4)
    found = feedback.check(lambda: torch.nn.functional.cross_entropy(model(x), y))
    assert all(off < 1e-4 for off in found.blocks.values())
    assert feedback.operator(10).ensemble == "structured"
    assert feedback.state_dict()["ensemble"] == "structured"
    with pytest.raises(ValueError, match="camera is Camera"):
        feedback.camera = Camera.ideal()
    gaussian = {**feedback.state_dict(), "ensemble": "gaussian"}
    with pytest.raises(ValueError, match="ensemble 'gaussian'"):
        feedback.load_state_dict(gaussian)
    with pytest.raises(ValueError, match="ensemble is 'fast'"):
        dfa.attach(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh()), ["1"], ensemble="fast")


def test_errors_that_are_not_finite_stay_so() -> None:
    torch = pytest.importorskip("torch")
    from opuproj import dfa

    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))
    dfa.attach(model, ["1"], method="dfa", ensemble="structured")
    (model(torch.randn(2, 4)) * torch.tensor([[1.0], [torch.inf]])).sum().backward()
    assert model[0].weight.grad.isnan().any()


def test_no_gradient_flows_through_it() -> None:
    torch = pytest.importorskip("torch")
    from opuproj.torch import Projection

    y = Projection(300, 500, ensemble="structured")(torch.randn(2, 300, requires_grad=True))
    with pytest.raises(NotImplementedError, match="ensemble 'structured'"):
        y.sum().backward()
