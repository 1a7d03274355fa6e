"""The layer inside of torch.func's transforms: derivatives, calls made one, stacks of layers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from helpers import assert_same_bits

torch = pytest.importorskip("torch")
from opuproj import Camera  # noqa: E402
from opuproj._check import MODES  # noqa: E402
from opuproj.torch import Projection, Ternarize  # noqa: E402
from tensors import NORMS, RULES, gaussian, vectors  # noqa: E402
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, linearize, stack_module_state, vjp  # noqa: E402

vmap = torch.vmap
CAMERA = Camera(photons=50, read_noise=0.01)
modern = pytest.mark.skipif(not hasattr(torch.library, "register_vmap"), reason="what torch.compile takes from 2.5 on")


def layer(mode: str = "linear", **options: Any) -> Projection:
    return Projection(12, 20, mode=mode, **{"seed": 3, "dtype": torch.float64, "digits": 20, **options})


def loss_of(projection: Any) -> Any:
    return lambda x: projection(x).abs().pow(3).sum()


def gradient(f: Any, x: Any) -> Any:
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(f(x), x)[0]


def close(found: Any, expected: Any, tolerance: float = 1e-7) -> None:
    largest = float(expected.detach().abs().max())
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * largest)


# Derivatives


@pytest.mark.parametrize("mode", MODES)
def test_gradients_are_those_of_autograd(mode: str) -> None:
    projection, x = layer(mode), gaussian(5, 12, dtype=torch.float64)
    loss = loss_of(projection)
    expected = gradient(loss, x)
    assert_same_bits(grad(loss)(x), expected)
    assert_same_bits(vjp(loss, x)[1](torch.tensor(1.0, dtype=torch.float64))[0], expected)
    close(vmap(grad(loss))(x), expected)
    close(vmap(grad(loss), in_dims=1, out_dims=1)(x.T), expected.T)
    close(grad(lambda x: vmap(loss)(x).sum())(x), expected)
    assert grad(loss)(x.to(torch.bfloat16)).dtype == torch.bfloat16
    # Those that autograd itself takes, of calls made one.
    close(gradient(lambda x: vmap(loss)(x).sum(), x), expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("chunk_size", [None, 3])
def test_jacobians_are_those_of_autograd(mode: str, chunk_size: int | None) -> None:
    projection, x = layer(mode), gaussian(12, dtype=torch.float64)

    def parts(x: Any) -> Any:
        y = projection(x)
        return torch.cat([y.real, y.imag]) if y.is_complex() else y

    close(jacrev(parts, chunk_size=chunk_size)(x), torch.autograd.functional.jacobian(parts, x))
    if mode in ("linear", "real"):
        matrix = torch.autograd.functional.jacobian(projection, x)
        close(vmap(jacrev(projection))(x.expand(4, 12)), matrix.expand(4, 20, 12))


@pytest.mark.parametrize("mode", MODES)
def test_second_derivatives_are_those_of_autograd(mode: str) -> None:
    loss, x = loss_of(layer(mode)), gaussian(3, 12, dtype=torch.float64)
    expected = torch.stack([torch.autograd.functional.hessian(loss, v) for v in x])
    for second in (jacrev(jacrev(loss)), jacrev(grad(loss))):
        close(second(x[0]), expected[0])
        close(vmap(second)(x), expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # which torch itself calls there
@pytest.mark.parametrize("mode", MODES)
def test_forward_mode_is_refused_however_deep(mode: str) -> None:
    projection, x = layer(mode), gaussian(5, 12, dtype=torch.float64)
    loss = loss_of(projection)
    for derivative in (
        lambda: hessian(loss)(x[0]),
        lambda: jacfwd(projection)(x[0]),
        lambda: jvp(vmap(projection), (x,), (x,)),
        lambda: vmap(lambda x: jvp(projection, (x,), (x,)))(x),
        lambda: jvp(grad(loss), (x,), (x,)),
        lambda: grad(lambda x: jvp(loss, (x,), (x,))[1])(x),
        lambda: linearize(projection, x),
        lambda: jvp(lambda y: vjp(projection, x)[1](y)[0], (projection(x),), (projection(x),)),
    ):
        with pytest.raises(NotImplementedError, match=r"a projection has no forward-mode .* jacrev of jacrev"):
            derivative()


def test_a_cotangent_of_forward_mode_is_refused_and_not_zero() -> None:
    from torch.autograd import forward_ad

    x = gaussian(5, 12, dtype=torch.float64).requires_grad_()
    y = layer()(x)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(torch.ones_like(y), torch.ones_like(y))
        with pytest.raises(NotImplementedError, match="a projection has no forward-mode"):
            torch.autograd.grad(y, x, dual)


def test_the_structured_ensemble_has_no_gradient_here_either() -> None:
    projection, x = Projection(12, 20, ensemble="structured"), gaussian(5, 12)
    assert_same_bits(vmap(projection)(x), projection(x))
    with pytest.raises(NotImplementedError, match=r"'structured' has no gradient"):
        grad(lambda x: projection(x).sum())(x)


# Calls made one


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [{}, {"rows": (3, 17), "dtype": torch.float32, "digits": 5}], ids=str)
def test_calls_made_one_have_the_bits_of_each(mode: str, options: dict[str, Any]) -> None:
    projection, x = layer(mode, **options), gaussian(3, 4, 5, 12)
    y = projection(x)
    assert_same_bits(vmap(projection)(x), y)
    assert_same_bits(vmap(vmap(projection))(x), y)
    assert_same_bits(vmap(projection, in_dims=2, out_dims=1)(x), y.movedim(2, 1))
    assert_same_bits(vmap(projection, in_dims=-1)(x.movedim(0, -1)), y)
    assert_same_bits(vmap(vmap(projection, in_dims=1), in_dims=2)(x), y.permute(2, 1, 0, 3))
    assert_same_bits(vmap(projection, chunk_size=2)(x), y)
    assert_same_bits(vmap(lambda a: a * projection(x[0, 0]))(torch.ones(3)), projection(x[0, 0]).expand(3, 5, -1))


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("norm", NORMS)
def test_a_rule_looks_at_the_vectors_of_its_own_call(rule: Any, norm: Any) -> None:
    projection, x = Projection(12, 20, ternarize=Ternarize(rule, norm=norm)), gaussian(4, 5, 12)
    torch.testing.assert_close(vmap(projection)(x), torch.stack([projection(v) for v in x]), rtol=1e-6, atol=1e-6)
    assert torch.equal(grad(lambda x: projection(x).sum())(x), torch.zeros_like(x))  # the result is detached


def test_ternary_values_are_still_checked() -> None:
    x = vectors(4, 12)
    assert_same_bits(vmap(Projection(12, 20))(x), Projection(12, 20)(x))
    x[2, 3] = 5
    with pytest.raises(ValueError, match=r"x\[2, 3\] is 5\.0, but must be -1, 0 or 1"):
        vmap(Projection(12, 20))(x)
    with pytest.raises(ValueError, match=r"x has shape \(11,\), but must have shape \(\.\.\., 12\)"):
        vmap(Projection(12, 20))(x[:, 1:])


def equal(y: Any) -> bool:
    return all(torch.equal(y[0], other) for other in y[1:])


def test_noise_is_as_random_as_vmap_is_told() -> None:
    projection = Projection(12, 20, camera=CAMERA, digits=3)
    x, one = gaussian(5, 12).expand(4, 5, 12), gaussian(5, 12)
    with pytest.raises(RuntimeError, match="'same' or 'different' randomness"):
        vmap(projection)(x)
    for call in (projection, lambda x: projection(one)):
        assert equal(vmap(call, randomness="same")(x))
        different = vmap(call, randomness="different")(x)
        assert len({y.numpy().tobytes() for y in different}) == 4
    torch.manual_seed(1)
    same = vmap(projection, randomness="same")(x)
    torch.manual_seed(1)
    assert_same_bits(same[3], projection(x[3]))
    # One within the other.
    x = x.expand(3, 4, 5, 12)
    within = vmap(vmap(projection, randomness="same"), randomness="different")(x)
    assert all(map(equal, within))
    assert not equal(within)
    within = vmap(vmap(projection, randomness="different"), randomness="same")(x)
    assert equal(within)
    assert not equal(within[0])


def test_noise_changes_no_gradient_here_either() -> None:
    x = gaussian(5, 12)
    expected = vmap(grad(lambda x: layer(digits=3)(x).sum()))(x)
    for randomness in ("same", "different"):
        projection = layer(digits=3, camera=CAMERA)
        found = vmap(grad(lambda x, f=projection: f(x).sum()), randomness=randomness)(x)
        close(found, expected, 1e-6)


# Stacks of layers


SEEDS = (2**64 - 1, 0, 2**63)


def members(mode: str = "linear") -> list[Any]:
    torch.manual_seed(0)
    return [torch.nn.Sequential(torch.nn.Linear(8, 12).double(), layer(mode, seed=seed)) for seed in SEEDS]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_members_of_a_stack_have_their_own_seeds(mode: str, device: str) -> None:
    models, x = members(mode), gaussian(7, 8, dtype=torch.float64)
    base = copy.deepcopy(models[0]).to(device)
    stack = stack_module_state(models)
    expected = torch.stack([model(x) for model in models])

    def call(parameters: Any, buffers: Any, x: Any) -> Any:
        return functional_call(base, (parameters, buffers), (x,))

    def loss(parameters: Any, buffers: Any, x: Any) -> Any:
        return call(parameters, buffers, x).abs().pow(2).sum()

    close(vmap(call, (0, 0, None))(*stack, x), expected, 1e-8)
    close(vmap(call)(*stack, x.expand(3, 7, 8)), expected, 1e-8)
    close(vmap(vmap(call, (None, None, 0)), (0, 0, None))(*stack, x), expected, 1e-8)
    close(vmap(vmap(call, (0, 0, None)), (None, None, 0))(*stack, x), expected.transpose(0, 1), 1e-8)
    gradients = []
    for model in models:
        model.zero_grad()
        model(x).abs().pow(2).sum().backward()
        gradients.append(model[0].weight.grad)
    gradients = torch.stack(gradients)
    close(vmap(grad(loss), (0, 0, None))(*stack, x)["0.weight"], gradients)
    close(grad(lambda p: vmap(loss, (0, 0, None))(p, stack[1], x).sum())(stack[0])["0.weight"], gradients)
    by_sample = vmap(vmap(grad(loss), (None, None, 0)), (0, 0, None))(*stack, x)["0.weight"]
    close(by_sample.sum(1), gradients)
    # What casts and averages of equal stacks leave.
    for buffers in (
        {k: v.bfloat16() for k, v in stack[1].items()},
        {k: 0.9 * v + 0.1 * v for k, v in stack[1].items()},
    ):
        close(vmap(call, (0, 0, None))(stack[0], buffers, x), expected, 1e-8)


def test_a_stack_within_a_stack() -> None:
    models, x = members(), gaussian(7, 8, dtype=torch.float64)
    parameters, buffers = stack_module_state(models)
    twice = [{k: torch.stack([v, v.flip(0)]) for k, v in state.items()} for state in (parameters, buffers)]

    def call(p: Any, b: Any) -> Any:
        return functional_call(models[0], (p, b), (x,))

    found = vmap(vmap(call))(*twice)
    expected = torch.stack([model(x) for model in models])
    close(found, torch.stack([expected, expected.flip(0)]), 1e-8)


def test_members_of_one_seed_are_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    from opuproj.torch import _ops

    models = [layer(seed=5) for _ in range(4)]
    _, buffers = stack_module_state(models)
    calls: list[Any] = []
    project = _ops.apply
    monkeypatch.setattr(_ops, "apply", lambda *a: calls.append(1) or project(*a))
    x = gaussian(3, 12)
    y = vmap(lambda b: functional_call(models[0], ({}, b), (x,)))(buffers)
    assert_same_bits(y, models[0](x).expand(4, 3, 20))
    assert len(calls) == 2  # one for the stack, one for the layer itself


def test_another_layer_in_its_place_counts_without_vmap_too() -> None:
    one, other = members()[:2]
    x = gaussian(7, 8, dtype=torch.float64)
    state = {**dict(other.named_parameters()), **dict(other.named_buffers())}
    assert_same_bits(functional_call(one, state, (x,)).detach(), other(x).detach())
    assert not torch.equal(one(x), other(x))


def test_a_seed_that_is_set_is_that_of_the_member() -> None:
    one, other = layer(seed=1), layer(seed=2)
    other.seed = 2**64 - 2
    x = gaussian(3, 12)
    y = vmap(lambda b: functional_call(one, ({}, b), (x,)))(stack_module_state([one, other])[1])
    assert_same_bits(y[1], layer(seed=2**64 - 2)(x))
    with pytest.raises(ValueError, match="seed is -1, but must be from 0"):
        other.seed = -1


@pytest.mark.parametrize(
    "unlike",
    [
        {"rows": (0, 19)},
        {"rows": (1, 20)},
        {"mode": "intensity"},
        {"n_anchor": 63},
        {"digits": 19},
        {"digits": None, "ensemble": "structured"},
        {"digits": None, "ternarize": Ternarize()},
        {"camera": Camera.ideal()},
    ],
    ids=str,
)
def test_members_that_differ_in_more_than_their_seeds_are_refused(unlike: dict[str, Any]) -> None:
    models, x = [layer(), layer(**unlike)], gaussian(3, 12)
    _, buffers = stack_module_state(models)
    with pytest.raises(
        ValueError,
        match=r"'_seed_tensor' belongs to a Projection with other settings: .* must share n_inputs, rows",
    ):
        vmap(lambda b: functional_call(models[0], ({}, b), (x,)))(buffers)


def test_a_stack_of_what_is_no_seed_is_refused() -> None:
    models, x = [layer(seed=1), layer(seed=2)], gaussian(3, 12)
    _, buffers = stack_module_state(models)
    for wrong in (torch.zeros(2, 32), buffers["_seed_tensor"].mean(0).expand(2, 32), buffers["_seed_tensor"][:, :20]):
        with pytest.raises(ValueError, match="'_seed_tensor' of a Projection does not fit its check value"):
            vmap(lambda b: functional_call(models[0], ({}, b), (x,)))({"_seed_tensor": wrong})


# Compiled


@pytest.mark.long
@modern
@pytest.mark.parametrize("mode", MODES)
def test_transforms_compile_into_one_graph(mode: str) -> None:
    projection, x = layer(mode), gaussian(5, 12, dtype=torch.float64)
    loss = loss_of(projection)
    models = members(mode)
    stack, v = stack_module_state(models), gaussian(7, 8, dtype=torch.float64)

    def ensemble(parameters: Any, buffers: Any) -> Any:
        return vmap(lambda p, b: functional_call(models[0], (p, b), (v,)))(parameters, buffers)

    for f, arguments in (
        (lambda x: vmap(projection)(x), (x,)),
        (grad(loss), (x,)),
        (lambda x: jacrev(lambda x: projection(x).abs())(x), (x[0],)),
        (ensemble, stack),
    ):
        torch._dynamo.reset()
        close(torch.compile(f, fullgraph=True, backend="aot_eager")(*arguments), f(*arguments))
    torch._dynamo.reset()
