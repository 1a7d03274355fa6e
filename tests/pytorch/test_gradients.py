"""Gradients through the layer of torch: those of the dense matrix and of finite differences, eager and compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import opuproj
import pytest
from helpers import assert_same_bits, ternary

torch = pytest.importorskip("torch")

from opuproj import Camera  # noqa: E402
from opuproj._check import MODES  # noqa: E402
from opuproj.torch import Projection, RowMax, Ternarize, _ops  # noqa: E402
from tensors import call  # noqa: E402

DIGITS = 20
# Torch's own checks look at gradients that they know are not there.
quiet = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")


def floats(*shape: int, dtype: Any = torch.float64, seed: int = 0) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def layer(mode: str, n_inputs: int = 30, n_outputs: int = 20, **options: Any) -> Projection:
    return Projection(
        n_inputs, n_outputs, mode=mode, **{"seed": 5, "dtype": torch.float64, "digits": DIGITS, **options}
    )


def dense(mode: str, x: Any, projection: Projection) -> Any:
    """What the layer computes, by the stored matrix and torch's own operations."""
    operator = opuproj.Projector(
        projection.n_inputs,
        projection.n_outputs,
        seed=projection.seed,
        mode=projection.mode,
        n_anchor=projection.n_anchor,
        dtype=np.float64,
    )
    matrix = torch.from_numpy(operator.rows(*projection.rows).matrix())
    y = x.to(matrix.dtype) @ matrix.T
    return y.abs() ** 2 if mode == "intensity" else y


def loss(y: Any) -> Any:
    """A real number that depends on every part of y, and not evenly."""
    weights = torch.linspace(-1, 2, y.shape[-1], dtype=torch.float64)
    real = y.real + 0.3 * y.imag if y.is_complex() else y
    return (weights * real + 0.01 * weights * (y * y.conj()).real).sum()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(30,), (3, 30), (2, 1, 30), (0, 30)])
def test_gradients_are_those_of_the_dense_matrix(mode: str, shape: tuple[int, ...]) -> None:
    projection = layer(mode, rows=(3, 18), n_anchor=7)
    x = floats(*shape).requires_grad_()
    loss(projection(x)).backward()
    expected = x.detach().clone().requires_grad_()
    loss(dense(mode, expected, projection)).backward()
    assert x.grad.dtype == torch.float64
    torch.testing.assert_close(x.grad, expected.grad, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_are_those_of_finite_differences(mode: str) -> None:
    # A step far above that of the digits; of linear and quadratic functions central differences are exact.
    projection = layer(mode, 6, 5)
    x = floats(2, 6).requires_grad_()
    assert torch.autograd.gradcheck(projection, (x,), eps=1e-2, atol=1e-6, rtol=1e-6)
    assert torch.autograd.gradgradcheck(projection, (x,), eps=1e-2, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_gradients_have_the_dtype_of_the_input(mode: str, dtype: Any) -> None:
    projection = layer(mode, digits=10, dtype=torch.float32)
    x = floats(4, 30).to(dtype).requires_grad_()
    loss(projection(x)).backward()
    expected = x.detach().double().requires_grad_()
    loss(dense(mode, expected, projection)).backward()
    assert x.grad.dtype == dtype
    # 10 digits forth and back, and the last rounding.
    largest = expected.grad.abs().max()
    torch.testing.assert_close(x.grad.double(), expected.grad, rtol=torch.finfo(dtype).eps, atol=2e-4 * float(largest))


def test_ternary_floats_have_gradients_and_their_bits_as_before() -> None:
    x = torch.from_numpy(ternary(4, 30)).double().requires_grad_()
    y = Projection(30, 20, seed=5)(x)
    assert_same_bits(y.detach(), opuproj.project(x.detach().numpy(), 20, seed=5, mode="linear"))
    y.sum().backward()
    matrix = opuproj.Projector(30, 20, seed=5, dtype=float).matrix()
    np.testing.assert_allclose(x.grad, np.broadcast_to(matrix.sum(axis=0), (4, 30)), atol=1e-6)
    assert not Projection(30, 20)(x.detach()).requires_grad
    assert not Projection(30, 20)(x.detach().to(torch.int8)).requires_grad


@pytest.mark.parametrize("mode", MODES)
def test_no_outputs_leave_a_gradient_of_zeros(mode: str) -> None:
    x = floats(4, 30).requires_grad_()
    y = layer(mode, rows=(8, 8))(x)
    assert y.shape == (4, 0)
    y.abs().sum().backward()
    assert torch.equal(x.grad, torch.zeros(4, 30, dtype=torch.float64))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_gradient_that_is_not_finite_is_nan_in_its_own_vector(mode: str, value: float) -> None:
    projection = layer(mode)
    x = floats(3, 30).requires_grad_()
    weights = torch.ones(3, 20, dtype=torch.float64)
    (weights * projection(x)).abs().sum().backward()
    expected, x.grad = x.grad, None
    weights[1, 7] = value
    (weights * projection(x)).abs().sum().backward()
    assert x.grad[1].isnan().all()
    assert torch.equal(x.grad[::2], expected[::2])


def test_a_second_gradient_that_is_not_finite_is_nan_in_its_own_vector() -> None:
    for mode in ("linear", "complex", "real"):
        x, y = floats(3, 30).requires_grad_(), torch.ones(3, 20, dtype=torch.float64, requires_grad=True)
        z = layer(mode)(x)
        (first,) = torch.autograd.grad(z, x, y.to(z.dtype), create_graph=True)
        weights = torch.ones(3, 30, dtype=torch.float64)
        weights[1, 7] = torch.inf
        (second,) = torch.autograd.grad((weights * first).sum(), y)
        assert second[1].isnan().all()
        assert second[::2].isfinite().all()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # which torch itself calls there
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "options", [{}, {"ensemble": "structured", "digits": None}, {"ternarize": Ternarize(), "digits": None}], ids=str
)
def test_forward_mode_is_refused_and_not_zero(mode: str, options: dict[str, Any]) -> None:
    projection, x = layer(mode, **options), floats(30)
    for derivative in (lambda: torch.func.jvp(projection, (x,), (x,)), lambda: torch.func.jacfwd(projection)(x)):
        with pytest.raises(
            NotImplementedError, match=r"no forward-mode derivative: use torch\.autograd\.functional\.jvp"
        ):
            derivative()
    with torch.autograd.forward_ad.dual_level():
        projection(x)  # depends on nothing that is differentiated


def test_the_way_around_forward_mode() -> None:
    projection, x = layer("linear"), floats(30)
    found = torch.autograd.functional.jvp(projection, x, x)[1]
    torch.testing.assert_close(found, projection(x), rtol=1e-6, atol=1e-6)


def test_a_gradient_scaler_backs_off() -> None:
    before, projection = torch.nn.Linear(8, 30), layer("linear", digits=5, dtype=torch.float32)
    weight = before.weight.detach().clone()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    optimizer = torch.optim.SGD(before.parameters(), 0.1)
    scaler.scale(projection(before(floats(4, 8, dtype=torch.float32))).pow(2).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**126
    assert torch.equal(before.weight, weight)


def test_a_layer_before_it_learns() -> None:
    torch.manual_seed(0)
    before, projection = torch.nn.Linear(8, 30, dtype=torch.float64), layer("linear")
    x, target = floats(16, 8), floats(16, 20, seed=1)
    optimizer = torch.optim.SGD(before.parameters(), lr=0.01)
    losses = []
    for _ in range(50):
        optimizer.zero_grad()
        error = (projection(before(x)) - target).pow(2).mean()
        error.backward()
        optimizer.step()
        losses.append(error.item())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("mode", ["intensity", "linear", "complex"])
def test_a_camera_leaves_the_gradient_the_exact_one(mode: str) -> None:
    x = torch.from_numpy(ternary(4, 30)).double()
    found = []
    for camera in (None, Camera(photons=100)):
        x.grad = None
        y = layer(mode, digits=None, camera=camera)(x.requires_grad_())
        (y.real if y.is_complex() else y).sum().backward()
        found.append(x.grad.clone())
    assert torch.equal(*found)


def test_no_gradient_is_asked_for_needlessly(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    adjoint = _ops._adjoint
    monkeypatch.setattr(_ops, "_adjoint", lambda *a, **k: asked.append(1) or adjoint(*a, **k))
    after = torch.nn.Linear(20, 3)
    projection = layer("linear", dtype=torch.float32)
    after(projection(floats(4, 30))).sum().backward()
    assert not asked
    after(projection(floats(4, 30).requires_grad_())).sum().backward()
    assert asked


# Digits


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("digits", [1, 5, 20])
def test_digits_give_the_bits_of_a_projection_in_digits(mode: Any, digits: int) -> None:
    x = floats(2, 3, 30)
    y = layer(mode, digits=digits, rows=(3, 17))(x)
    assert_same_bits(y, opuproj.project(x, 20, seed=5, mode=mode, digits=digits, rows=(3, 17), dtype=torch.float64))
    if mode in ("linear", "complex"):
        torch.manual_seed(3)
        noisy = layer(mode, digits=digits, camera=Camera(photons=100))(x)
        torch.manual_seed(3)
        assert_same_bits(noisy, layer(mode, digits=digits, camera=Camera(photons=100))(x))


def test_digits_of_what_takes_none_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="digits is 5, but the ensemble 'structured' uses real numbers without digits"):
        Projection(10, 4, digits=5, ensemble="structured")
    for given, other in (
        ({}, {"ensemble": "structured"}),
        ({"camera": Camera(photons=9)}, {"mode": "intensity"}),
    ):
        projection = Projection(10, 4, digits=5, **given)
        before = projection.get_extra_state()
        with pytest.raises(ValueError, match="digits is 5, but"):
            projection.load_state_dict(Projection(10, 4, **other).state_dict())
        assert torch.equal(projection.get_extra_state(), before)


def test_bad_digits_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="digits is 21, but must be from 1 to 20"):
        Projection(5, 4, digits=21)
    with pytest.raises(TypeError, match="digits is 5, but ternarize makes input ternary already"):
        Projection(5, 4, digits=5, ternarize=Ternarize(RowMax(0.25)))
    with pytest.raises(ValueError, match="digits is 5, but a camera sees digits one after the other"):
        Projection(5, 4, mode="intensity", digits=5, camera=Camera(photons=9))
    x = floats(2, 5)
    x[1, 2] = torch.nan
    with pytest.raises(ValueError, match=r"x\[1, 2\] is NaN, but must be finite"):
        Projection(5, 4, digits=5)(x)
    assert "digits=5" in repr(Projection(5, 4, digits=5))


# Compiled


@quiet
@pytest.mark.parametrize(
    ("y", "arguments"),
    [
        (floats(4, 20, dtype=torch.float32), {"rows": (0, 20), "seed": 2**64 - 1}),
        (floats(2, 3, 20), {"rows": (2, 22), "seed": 5, "mode": "complex", "dtype": "complex128", "threads": 2}),
        (
            torch.complex(floats(20, 4), floats(20, 4, seed=1)).T,
            {"rows": (3, 23), "seed": 5, "mode": "complex", "n_anchor": 7, "dtype": "complex128", "threads": 1},
        ),
        (floats(0, 20), {"rows": (0, 20), "n_anchor": 1, "dtype": "float64"}),
    ],
    ids=["4, 20", "real for complex", "transposed", "empty"],
)
def test_the_adjoint_is_what_torch_asks_of_an_op(y: Any, arguments: dict[str, Any]) -> None:
    rows = arguments.pop("rows")
    text = call(*rows, n_inputs=6, adjoint=True, **arguments)
    found = torch.library.opcheck(_ops.apply, (y.requires_grad_(), text, None, None))
    assert set(found.values()) == {"SUCCESS"}


@quiet
@pytest.mark.parametrize("mode", MODES)
def test_the_op_with_gradients_is_what_torch_asks_of_an_op(mode: str) -> None:
    dtype = "complex128" if mode == "complex" else "float64"
    x = floats(3, 20).requires_grad_()
    text = call(5, 11, mode=mode, n_anchor=9, dtype=dtype, digits=20)
    found = torch.library.opcheck(_ops.apply, (x, text, None, None))
    assert set(found.values()) == {"SUCCESS"}


@pytest.mark.parametrize("mode", MODES)
def test_it_compiles_with_its_gradient(mode: str) -> None:
    torch._dynamo.reset()
    projection = layer(mode)
    compiled = torch.compile(lambda x: loss(projection(x)), fullgraph=True, backend="aot_eager", dynamic=True)
    for n in (4, 9):
        gradients = []
        for run in (compiled, lambda x: loss(projection(x))):
            x = floats(n, 30).requires_grad_()
            run(x).backward()
            gradients.append(x.grad)
        torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
    torch._dynamo.reset()
