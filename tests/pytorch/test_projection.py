"""The operator as a layer of torch: the bits of opuproj.project, floats by a rule, mistakes, a camera."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import numpy as np
import opuproj
import oracle
import pytest
from helpers import assert_same_bits, examples, integers, ternary
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from opuproj import Camera  # noqa: E402
from opuproj._check import MODES  # noqa: E402
from opuproj.backends.cpu import machine  # noqa: E402
from opuproj.torch import Projection, RowMax, Ternarize, TopK  # noqa: E402
from tensors import BY_VECTOR, RULES, gaussian, vectors  # noqa: E402

CAMERA = Camera(photons=50, read_noise=0.01)
SEEDS = (0, 1, 2**63 - 1, 2**63, 2**64 - 1)
DTYPES = {
    "intensity": ("float32", "float64"),
    "linear": ("float32", "float64"),
    "real": ("float32", "float64"),
    "complex": ("complex64", "complex128"),
}
INPUT_DTYPES = (
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
)


# The bits of opuproj.project


@pytest.mark.every_backend
@examples(60)
@given(data=st.data(), mode=st.sampled_from(MODES), seed=st.sampled_from(SEEDS) | st.integers(0, 2**64 - 1))
def test_the_layer_is_the_operator_bit_for_bit(data: Any, mode: Any, seed: int) -> None:
    leading = data.draw(st.lists(st.integers(0, 4), max_size=3))
    n_inputs, n_outputs = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 60))
    stop = data.draw(st.integers(1, n_outputs))
    arguments = {
        "seed": seed,
        "mode": mode,
        "rows": data.draw(st.none() | st.tuples(st.integers(0, stop), st.just(stop))),
        "n_anchor": data.draw(st.integers(1, 100)),
        "dtype": data.draw(st.sampled_from(DTYPES[mode])),
        "threads": data.draw(st.sampled_from([None, 1, 2])),
    }
    x = ternary(*leading, n_inputs, seed=data.draw(st.integers(0, 99)))
    layer = Projection(n_inputs, n_outputs, **arguments)
    y = layer(torch.from_numpy(x).to(data.draw(st.sampled_from(INPUT_DTYPES))))
    assert_same_bits(y, opuproj.project(x, n_outputs, **arguments))
    assert y.dtype == layer.dtype


@pytest.mark.parametrize("seed", SEEDS)
def test_every_seed_is_its_own_matrix_of_the_definition(seed: int) -> None:
    x = ternary(3, 40)
    y = Projection(40, 21, seed=seed, mode="complex", dtype=torch.complex128)(torch.from_numpy(x))
    for got, expected in zip(integers(y.numpy()), oracle.field(seed, x, range(21)), strict=True):
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(50,), (1, 50), (0, 50), (2, 0, 50), (5, 50), (2, 3, 50), (2, 1, 3, 50)])
def test_leading_shapes(mode: Any, shape: tuple[int, ...]) -> None:
    y = Projection(50, 20, seed=3, mode=mode)(vectors(*shape))
    assert y.shape == (*shape[:-1], 20)
    assert_same_bits(y, opuproj.project(ternary(*shape), 20, seed=3, mode=mode))


@pytest.mark.parametrize(
    ("rows", "start", "stop"),
    [
        ((3, 17), 3, 17),
        ([3, 17], 3, 17),
        (slice(3, 17), 3, 17),
        (range(3, 17), 3, 17),
        (slice(None, 7), 0, 7),
        (slice(13, None), 13, 20),
        (slice(-5, -1), 15, 19),
        (slice(None), 0, 20),
        (None, 0, 20),
        ((np.int64(19), np.int64(20)), 19, 20),
        ((8, 8), 8, 8),
        ((20, 20), 20, 20),
        pytest.param((0, 0), 0, 0),
    ],
)
def test_rows(rows: Any, start: int, stop: int) -> None:
    x = ternary(4, 50)
    layer = Projection(50, 20, seed=3, rows=rows)
    assert layer.rows == (start, stop)
    assert_same_bits(layer(torch.from_numpy(x)), opuproj.project(x, 20, seed=3, mode="linear")[:, start:stop])


def test_shards_side_by_side_are_the_whole() -> None:
    x = vectors(4, 50)
    shards = [Projection(50, 100, seed=3, rows=(i, i + 25))(x) for i in range(0, 100, 25)]
    assert_same_bits(torch.cat(shards, dim=1), Projection(50, 100, seed=3)(x))


def test_few_rows_of_a_matrix_that_no_memory_holds() -> None:
    layer = Projection(10**6, 2**63 - 1, seed=2**64 - 1, rows=(2**63 - 4, 2**63 - 1))
    x = torch.zeros(10**6, dtype=torch.int8)
    x[7] = 1
    assert_same_bits(layer(x), opuproj.project(x.numpy(), 2**63 - 1, seed=2**64 - 1, mode="linear", rows=layer.rows))


def test_strides_of_the_input_do_not_matter() -> None:
    x = vectors(6, 50)
    layer = Projection(50, 20)
    expected = layer(x)
    assert_same_bits(layer(x.T.contiguous().T), expected)
    assert_same_bits(layer(torch.cat([x, x], dim=1)[:, 50:]), expected)
    assert_same_bits(layer(x[:1].expand(6, 50)), expected[:1].expand(6, 20))
    assert_same_bits(layer(x.repeat(2, 1)[::2]), expected.repeat(2, 1)[::2])


@pytest.mark.parametrize("mode", MODES)
def test_any_name_of_a_dtype(mode: Any) -> None:
    for name in DTYPES[mode]:
        kind = getattr(torch, name)
        for dtype in (name, kind, np.dtype(name), getattr(np, name)):
            layer = Projection(8, 3, mode=mode, dtype=dtype)
            assert layer.dtype == layer(vectors(2, 8)).dtype == kind
    assert Projection(8, 3, mode="complex").dtype == torch.complex64
    assert Projection(8, 3, mode="complex", dtype=torch.float64).dtype == torch.complex128


def test_threads_are_those_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    n_threads = machine.n_threads
    monkeypatch.setattr(machine, "n_threads", lambda n: asked.append(n) or n_threads(n))
    for threads in (None, 1, 2):
        Projection(50, 20, threads=threads)(vectors(3, 50))
    assert asked == [None, 1, 2]


# Floats


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(50,), (0, 50), (5, 50), (2, 1, 3, 50)])
@pytest.mark.parametrize("norm", ["row", "batch", "none"])
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_floats_give_a_r_t(mode: Any, shape: tuple[int, ...], norm: Any, rule: Any) -> None:
    ternarize = Ternarize(rule, norm=norm)
    e = gaussian(*shape)
    t, a = (tensor.numpy() for tensor in ternarize(e))
    y = Projection(50, 20, seed=3, mode=mode, rows=(2, 19), ternarize=ternarize)(e)
    factor = a * a if mode == "intensity" else a
    assert_same_bits(y, opuproj.project(t, 20, seed=3, mode=mode, rows=(2, 19)) * factor)


def test_floats_are_projected_as_a_matrix_would() -> None:
    e = gaussian(5, 50)
    t, a = Ternarize(TopK(9))(e)
    x = (a * t).numpy().astype(float)
    for mode in ("linear", "real", "complex"):
        matrix = opuproj.Projector(50, 20, seed=3, mode=mode).matrix()
        y = Projection(50, 20, seed=3, mode=mode, ternarize=Ternarize(TopK(9)))(e)
        assert np.allclose(y, x @ matrix.T, rtol=1e-5, atol=1e-4)
    y = Projection(50, 20, seed=3, mode="intensity", ternarize=Ternarize(TopK(9)))(e)
    assert np.allclose(y, np.abs(x @ matrix.T) ** 2, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("mode", "e_dtype"),
    [
        ("complex", torch.float32),
        ("complex", torch.float64),
        ("linear", torch.float32),
        ("real", torch.float64),
        pytest.param("linear", torch.float64),
        pytest.param("intensity", torch.float32),
        pytest.param("intensity", torch.float64),
    ],
)
@pytest.mark.parametrize("size", [1.0, 1e-30, 1e30])
def test_a_result_in_double_precision_has_a_factor_in_double_precision(mode: Any, e_dtype: Any, size: float) -> None:
    ternarize = Ternarize(RowMax(0.3))
    e = size / 3 * gaussian(4, 50, dtype=e_dtype)
    t, a = ternarize(e)
    factor = a.double() ** 2 if mode == "intensity" else a.double()
    expected = opuproj.project(t, 20, mode=mode, dtype=torch.float64) * factor
    y = Projection(50, 20, mode=mode, dtype=torch.float64, ternarize=ternarize)(e)
    assert torch.allclose(y, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("mode", MODES)
def test_the_dtype_of_the_floats_is_not_that_of_the_result(dtype: Any, mode: Any) -> None:
    layer = Projection(50, 20, mode=mode, ternarize=BY_VECTOR)
    e = gaussian(4, 50).to(dtype)
    y = layer(e)
    assert y.dtype == layer.dtype
    assert torch.allclose(y, layer(e.float()), rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_gives_nan_and_leaves_the_others_alone(mode: Any, bad: float) -> None:
    layer = Projection(50, 20, mode=mode, ternarize=BY_VECTOR)
    e = gaussian(5, 50)
    before = layer(e)
    e[2, 7] = bad
    after = layer(e)
    assert after[2].isnan().all()
    assert_same_bits(after[[0, 1, 3, 4]], before[[0, 1, 3, 4]])


def test_integers_are_taken_as_they_are_by_a_layer_with_a_rule() -> None:
    x = vectors(5, 50, dtype=torch.int8)
    with_rule = Projection(50, 20, ternarize=Ternarize(TopK(3)))
    assert_same_bits(with_rule(x), Projection(50, 20)(x))
    with pytest.raises(ValueError, match=r"x\[1, 2\] is 3, but must be -1, 0 or 1"):
        with_rule(x.index_put((torch.tensor(1), torch.tensor(2)), torch.tensor(3, dtype=torch.int8)))


def test_floats_without_a_rule_are_refused_by_name_unless_they_are_ternary() -> None:
    layer = Projection(50, 20)
    x = vectors(2, 3, 50)
    layer(x)
    for value, shown in ((0.5, "0.5"), (-2, "-2"), (1 + 2**-23, "1.0000001"), (np.inf, "inf"), (np.nan, "(?i:nan)")):
        x[1, 0, 49] = value
        with pytest.raises(ValueError, match=rf"^x\[1, 0, 49\] is {shown}\d*(\.0)?, but must be -1, 0 or 1"):
            layer(x)


def test_the_advice_for_floats_can_be_followed() -> None:
    with pytest.raises(ValueError, match="ternarize="):
        Projection(50, 20)(gaussian(2, 50))


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_inputs": 0}, ValueError, r"n_inputs is 0, but must be from 1 to 2\*\*63 - 1"),
        ({"n_inputs": 5.0}, TypeError, r"n_inputs is 5\.0, but must be an integer"),
        ({"n_outputs": -5}, ValueError, "n_outputs is -5"),
        ({"n_outputs": True}, TypeError, "n_outputs is True"),
        ({"seed": -1}, ValueError, r"seed is -1, but must be from 0 to 2\*\*64 - 1"),
        ({"seed": 2**64}, ValueError, "seed is 18446744073709551616"),
        ({"seed": None}, TypeError, "seed is None"),
        ({"mode": "Linear"}, ValueError, "mode is 'Linear', but must be one of 'intensity', 'linear', 'complex'"),
        ({"rows": (0, 21)}, ValueError, "rows is 0 to 21, but must satisfy .* n_outputs, which is 20"),
        ({"rows": slice(0, 20, 2)}, ValueError, "rows has step 2"),
        ({"rows": 5}, TypeError, "rows is 5, but must be a pair"),
        ({"n_anchor": 4097}, ValueError, "n_anchor is 4097, but must be from 1 to 4096"),
        ({"dtype": torch.int32}, ValueError, "dtype is int32, but mode 'linear' gives float32 or float64"),
        ({"dtype": torch.complex64}, ValueError, "only mode 'complex' gives complex numbers"),
        ({"dtype": "no such"}, TypeError, "dtype is 'no such'"),
        ({"threads": 0}, ValueError, "threads is 0, but must be from 1"),
        ({"ternarize": RowMax(0.25)}, TypeError, r"ternarize is RowMax\(fraction=0.25\), but must be an .*Ternarize"),
        ({"ternarize": 0.25}, TypeError, r"ternarize is 0\.25"),
        ({"ternarize": Ternarize}, TypeError, "ternarize is <class"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_arguments(arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=f"^{message}|{message}$"):
        Projection(**{"n_inputs": 50, "n_outputs": 20, **arguments})


@pytest.mark.parametrize("shape", [(), (49,), (3, 51), (50, 3), (3, 0)])
def test_a_wrong_shape(shape: tuple[int, ...]) -> None:
    for layer in (Projection(50, 20), Projection(50, 20, ternarize=BY_VECTOR)):
        with pytest.raises(
            ValueError, match=rf"^x has shape {re.escape(str(shape))}, but must have shape \(\.\.\., 50"
        ):
            layer(torch.zeros(shape))


def test_what_is_no_dense_tensor_of_real_numbers() -> None:
    layer = Projection(3, 20)
    with pytest.raises(TypeError, match=r"^x has dtype torch\.complex64"):
        layer(torch.zeros(3, dtype=torch.complex64))
    error, message = TypeError, r"^x is a torch tensor of layout torch\.sparse_coo, but must be strided"
    if torch.__version__ < (2, 5):  # torch refuses it before the op can
        error, message = NotImplementedError, "Cannot access storage of SparseTensorImpl"
    with pytest.raises(error, match=message):
        layer(torch.eye(3).to_sparse())


# Gradients (those of floats are tested in test_gradients.py)


@pytest.mark.parametrize("mode", MODES)
def test_a_result_with_a_rule_is_detached_and_what_follows_trains(mode: Any) -> None:
    before, layer = torch.nn.Linear(50, 50), Projection(50, 20, mode=mode, ternarize=BY_VECTOR)
    after = torch.nn.Linear(20, 3)
    y = layer(before(gaussian(4, 50)))
    assert not y.requires_grad
    after(y.abs()).sum().backward()
    assert before.weight.grad is None
    assert_same_bits(after.weight.grad, y.abs().sum(dim=0).expand(3, 20).numpy())


# In front of a camera


def test_noise_comes_from_torchs_generator() -> None:
    layer = Projection(100, 60, seed=3, camera=CAMERA)
    x = torch.from_numpy(ternary(4, 100)).float()
    torch.manual_seed(0)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(layer(x), first)
    exact = Projection(100, 60, seed=3)(x)
    assert 0.5 < torch.corrcoef(torch.stack([first.flatten(), exact.flatten()]))[0, 1] < 0.999
    state = torch.get_rng_state()
    assert torch.equal(Projection(100, 60, seed=3, camera=Camera.ideal())(x), exact)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="dtype is uint8, but a Projection gives floating-point numbers"):
        Projection(100, 60, mode="intensity", camera=CAMERA, dtype=torch.uint8)


def test_a_camera_is_traced_copied_and_shown() -> None:
    layer = Projection(100, 60, camera=CAMERA)
    x = torch.from_numpy(ternary(4, 100)).float()
    assert copy.deepcopy(layer).camera == pickle.loads(pickle.dumps(layer)).camera == CAMERA
    assert "photons=50" in repr(layer)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.manual_seed(1)
    expected = layer(x)
    torch.manual_seed(1)
    assert torch.equal(compiled(x), expected)
    assert not torch.equal(compiled(x), expected)
    with pytest.raises(TypeError, match=r"camera is 8, but must be an opuproj\.Camera"):
        Projection(10, 5, camera=8)


def test_a_structured_real_matrix_projects_forward_only() -> None:
    e, options = gaussian(3, 50), {"seed": 3, "mode": "real", "ensemble": "structured", "rows": (3, 18)}
    layer = Projection(50, 20, **options)
    assert_same_bits(layer(e), opuproj.project(e.numpy(), 20, **options))
    matrix = opuproj.Projector(50, 20, seed=3, mode="real", ensemble="structured").matrix()
    assert np.allclose(layer(e), e.numpy() @ matrix[3:18].T, rtol=1e-5, atol=1e-4)
    with pytest.raises(NotImplementedError, match="ensemble 'structured' has no gradient"):
        layer(e.requires_grad_()).sum().backward()


def test_a_real_matrix_and_a_camera_exclude_each_other_by_name() -> None:
    refused = pytest.raises(
        ValueError, match=r"camera is Camera\(.*\), but mode is 'real', which exists in software only"
    )
    with refused:
        Projection(10, 5, mode="real", camera=CAMERA)
    real, seen = Projection(10, 5, mode="real"), Projection(10, 5, camera=CAMERA)
    with refused:
        real.camera = CAMERA
    with refused:
        seen.mode = "real"
    with refused:
        seen.load_state_dict(real.state_dict())
    assert (real.camera, seen.mode, seen.camera) == (None, "linear", CAMERA)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rows", (3, 9)),
        ("mode", "complex"),
        ("mode", "intensity"),
        ("mode", "real"),
        ("n_anchor", 9),
        ("digits", 7),
        ("camera", Camera.ideal()),
        ("threads", 1),
        ("seed", 5),
    ],
)
def test_an_attribute_that_is_set_counts(name: str, value: Any) -> None:
    options = {"digits": 5} if name == "digits" else {}
    layer, x = Projection(50, 20, **options), gaussian(4, 50) if options else vectors(4, 50)
    setattr(layer, name, value)
    other = Projection(50, 20, **{**options, name: value})
    assert_same_bits(layer(x), other(x))
    assert repr(layer) == repr(other)
    assert layer.dtype == other.dtype
    assert torch.equal(layer.get_extra_state(), other.get_extra_state())


@pytest.mark.parametrize(
    ("name", "value"), [("rows", (3, 99)), ("mode", "other"), ("n_anchor", 0), ("digits", 99), ("threads", 0)]
)
def test_an_attribute_is_checked_as_in_the_constructor(name: str, value: Any) -> None:
    layer, x = Projection(50, 20), vectors(4, 50)
    with pytest.raises(ValueError, match=name):
        setattr(layer, name, value)
    assert_same_bits(layer(x), Projection(50, 20)(x))
