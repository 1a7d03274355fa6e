"""Users' hooks, torch.compile in any order, transforms and sharding work, or raise an error that names them."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from dfa_models import F, examples, gradients, mlp, nn, torch
from helpers import assert_same_bits
from opuproj import dfa
from opuproj.dfa import Feedback
from ranks import on_ranks

BLOCKS = ["hidden.0", "hidden.1"]
RULE = dfa.Ternarize(dfa.RowMax(0.3), norm="row")


def loss_of(model: Any) -> Any:
    x, y = examples()
    return F.cross_entropy(model(x), y)


def attached_gradients(**options: Any) -> dict[str, Any]:
    model = mlp(13, 17)
    dfa.attach(model, BLOCKS, ternarize=RULE, **options)
    loss_of(model).backward()
    return gradients(model)


# Backward hooks


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
@pytest.mark.parametrize("kind", ["full", "pre", "old"])
def test_backward_hooks_of_a_block_get_its_feedback(kind: str) -> None:
    model, seen = mlp(13, 17), {}

    def hook(name: str) -> Any:
        if kind == "pre":
            return lambda module, given: seen.__setitem__(name, given[0].clone())
        return lambda module, inputs, given: seen.__setitem__(name, given[0].clone())

    register = {
        "full": "register_full_backward_hook",
        "pre": "register_full_backward_pre_hook",
        "old": "register_backward_hook",
    }[kind]
    dfa.attach(model, BLOCKS, ternarize=RULE)
    fed = {}
    for name in BLOCKS:
        getattr(model.get_submodule(name), register)(hook(name))

        def keep(module: Any, args: Any, output: Any, name: str = name) -> None:
            output.register_hook(lambda gradient: fed.__setitem__(name, gradient))

        model.get_submodule(name).register_forward_hook(keep)
    loss_of(model).backward()
    assert list(seen) == list(reversed(BLOCKS))
    for name in BLOCKS:
        assert_same_bits(seen[name], fed[name])
    for name, gradient in attached_gradients().items():
        assert_same_bits(gradients(model)[name], gradient)


def test_a_full_backward_hook_gets_and_may_change_the_gradient_at_the_input_of_its_block() -> None:
    model = nn.Sequential(nn.Linear(20, 12), nn.Linear(12, 13), nn.Linear(13, 10))
    seen = []

    def hook(module: Any, inputs: Any, given: Any) -> Any:
        seen.append((inputs[0], given[0] @ module.weight))
        return (inputs[0] * 2,)

    x, y = examples()
    dfa.attach(model, ["1"], ternarize=RULE)
    F.cross_entropy(model(x), y).backward()
    plain = model[0].weight.grad.clone()
    model.zero_grad()
    model[1].register_full_backward_hook(hook)
    F.cross_entropy(model(x), y).backward()
    ((found, wanted),) = seen
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(model[0].weight.grad, 2 * plain)


# Auxiliary losses


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_gradient_of_an_auxiliary_loss_in_a_hook_is_added_to_the_feedback(when: str) -> None:
    model, activations = mlp(13, 17), []

    def hook(module: Any, args: Any, output: Any) -> None:
        activations.append(output)

    def add() -> None:
        for name in BLOCKS:
            model.get_submodule(name).register_forward_hook(hook)

    if when == "before":
        add()
    feedback = dfa.attach(model, BLOCKS, ternarize=RULE)
    if when == "after":
        add()

    def penalty() -> Any:
        return sum(activation.square().sum() for activation in activations)

    (loss_of(model) + penalty()).backward()
    together = gradients(model)
    activations.clear()
    model.zero_grad()
    loss_of(model)
    penalty().backward()
    alone, fed = gradients(model), attached_gradients()
    for name in together:
        if name.startswith("top"):
            assert alone[name] is None
            continue
        torch.testing.assert_close(together[name], fed[name] + alone[name])
        assert alone[name].any()
    activations.clear()

    def closure() -> Any:
        activations.clear()
        return loss_of(model) + penalty()

    report = feedback.check(closure)
    assert report.auxiliary == tuple(BLOCKS)
    assert "besides the feedback: hidden.0, hidden.1" in str(report)


@pytest.mark.parametrize("when", ["before", "after", "prepend"])
def test_a_loss_that_a_hook_makes_of_the_output_is_part_of_the_error(when: str) -> None:
    def trained(in_hook: bool) -> dict[str, Any]:
        model, (x, y), outputs = mlp(13, 17), examples(), []
        hook = lambda module, args, output: outputs.append(output)  # noqa: E731
        if in_hook and when == "before":
            model.register_forward_hook(hook)
        feedback = dfa.attach(model, BLOCKS, method="dfa")
        if in_hook and when != "before":
            model.register_forward_hook(hook, prepend=when == "prepend")

        def loss() -> Any:
            z = model(x)
            return F.cross_entropy(z, y) + (outputs.pop() if in_hook else z).square().sum()

        loss().backward()
        feedback.check(loss)
        return gradients(model)

    for name, gradient in trained(in_hook=False).items():
        torch.testing.assert_close(trained(in_hook=True)[name], gradient)


def test_a_loss_of_a_second_output_is_said_to_be_no_part_of_the_error() -> None:
    class Actor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.policy, self.value = nn.Linear(20, 13), nn.Linear(13, 10), nn.Linear(13, 1)

        def forward(self, x: Any) -> Any:
            h = self.body(x)
            return self.policy(h), self.value(h)

    model, (x, y) = Actor(), examples()
    dfa.attach(model, ["body"], ternarize=RULE)
    F.cross_entropy(model(x)[0], y).backward()  # an output without a loss is allowed
    with pytest.warns(UserWarning, match="a loss depends on a tensor of the model's output other than the first"):
        model(x)[1].square().sum().backward()
    model(x)[1].square().sum().backward()  # warns only once


def test_a_backward_hook_hides_no_parameter_that_trains_nowhere() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mu, self.spread = nn.Linear(20, 6), nn.Linear(20, 6)

        def forward(self, x: Any) -> Any:
            return self.mu(x), self.spread(x)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.top = Encoder(), nn.Linear(6, 10)

        def forward(self, x: Any) -> Any:
            return self.top(sum(self.encoder(x)))

    model, (x, y) = Model(), examples()
    model.encoder.register_full_backward_pre_hook(lambda *_: None)
    dfa.attach(model, ["encoder"])
    with pytest.warns(UserWarning, match=r"parameters 'encoder.spread.weight', 'encoder.spread.bias' are not trained"):
        F.cross_entropy(model(x), y).backward()


# Double backward, torch.func


@pytest.mark.parametrize("method", ["odfa", "dfa"])
def test_a_gradient_of_gradients_is_refused(method: Any) -> None:
    model, (x, _) = mlp(13, 17), examples()
    feedback = dfa.attach(model, BLOCKS, method=method)
    x.requires_grad_()
    with pytest.raises(RuntimeError, match=r"create_graph=True asks for a gradient of the gradients.*method = 'bp'"):
        torch.autograd.grad(model(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="create_graph=True"):
        loss_of(model).backward(create_graph=True)
    feedback.method = "bp"
    (gradient,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    gradient.norm().backward()
    assert model.hidden[0][0].weight.grad.any()


def test_transforms_of_torch_func_are_refused_and_functional_calls_are_not() -> None:
    model, (x, y) = mlp(13, 17), examples()
    feedback = dfa.attach(model, BLOCKS, ternarize=RULE)
    parameters = dict(model.named_parameters())

    def loss(p: Any, x: Any, y: Any) -> Any:
        return F.cross_entropy(torch.func.functional_call(model, p, (x,)), y)

    refused = pytest.raises(RuntimeError, match=r"a model with feedback ran inside a transform of torch.func")
    with refused:
        torch.func.grad(loss)(parameters, x, y)
    with refused:
        torch.vmap(lambda x: model(x))(x)
    with torch.no_grad():
        torch.testing.assert_close(torch.vmap(lambda x: model(x))(x), model(x))
    loss(parameters, x, y).backward()  # works after the error, without a transform
    for name, gradient in attached_gradients().items():
        assert_same_bits(gradients(model)[name], gradient)
    feedback.method = "bp"
    torch.func.grad(loss)(parameters, x, y)


# torch.compile, in any order


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", ["model", "in place", "blocks", "function", "step"])
def test_a_model_that_was_compiled_and_trained_before_gets_its_feedback(what: str) -> None:
    model, wanted = mlp(13, 17), attached_gradients()
    x, y = examples()
    torch.compiler.reset()
    run: Any = model
    if what == "model":
        run = torch.compile(model, backend="aot_eager")
    elif what == "in place":
        model.compile(backend="aot_eager")
    elif what == "blocks":
        for block in model.hidden:
            block.compile(backend="aot_eager")
    elif what == "function":
        run = torch.compile(lambda x: model(x), backend="aot_eager")

    def loss(x: Any, y: Any) -> Any:
        return F.cross_entropy(run(x), y)

    if what == "step":
        loss = torch.compile(loss, backend="aot_eager")
    plain = mlp(13, 17)
    loss_of(plain).backward()
    loss(x, y).backward()
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, gradients(plain)[name])
    feedback = dfa.attach(model, BLOCKS, ternarize=RULE)
    for _ in range(2):
        model.zero_grad()
        loss(x, y).backward()
        for name, gradient in gradients(model).items():
            torch.testing.assert_close(gradient, wanted[name])
    feedback.remove()
    model.zero_grad()
    loss(x, y).backward()
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, gradients(plain)[name])


@pytest.mark.filterwarnings("ignore")
def test_a_step_with_the_gradients_of_a_traced_model_is_refused() -> None:
    model, (x, y) = nn.Sequential(nn.Linear(20, 13), nn.Tanh(), nn.Linear(13, 10)), examples()
    traced = torch.jit.trace(model, x)
    F.cross_entropy(model(x), y).backward()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    dfa.attach(model, ["1"])
    optimizer.step()  # with the gradients from before
    optimizer.zero_grad()
    F.cross_entropy(traced(x), y).backward()
    with pytest.raises(RuntimeError, match=r"about to change blocks '1', but no error reached them: .*backpropagation"):
        optimizer.step()
    torch.optim.SGD(model[2].parameters(), 0.1).step()  # only the top
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


# Sharding


def sharded(rank: int, world: int) -> Any:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10))
    dfa.attach(model, ["1", "3"], method="dfa", rank=0)
    plain = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10))
    plain.load_state_dict(model.state_dict())
    dfa.attach(plain, ["1", "3"], method="dfa", rank=0)
    mesh = init_device_mesh("cpu", (world,))
    for name in ("0", "2", "4"):
        fully_shard(model.get_submodule(name), mesh=mesh)
    fully_shard(model, mesh=mesh)
    x, y = torch.randn(8, 20, generator=torch.Generator().manual_seed(0)), torch.arange(8)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="no parameter of the model lies above")
        F.cross_entropy(model(x), y).backward()
    optimizer.step()
    F.cross_entropy(plain(x), y).backward()
    off = max(
        float((p.grad.full_tensor() - q.grad).abs().max())
        for p, q in zip(model.parameters(), plain.parameters(), strict=True)
    )
    assert "2 sharded parameters above the last block were not compared" in str(
        Feedback.of(model).check(lambda: F.cross_entropy(model(x), y))
    )
    return off, forgotten(model, optimizer, x), whole(mesh)


def forgotten(model: Any, optimizer: Any, x: Any) -> str:
    model(x)
    try:
        optimizer.step()
    except RuntimeError as error:
        return str(error)
    return "a forgotten backward pass was not noticed"


def whole(mesh: Any) -> str:
    """The same for a model that is sharded as a whole: its parameters stay gathered until the backward pass."""
    from torch.distributed.fsdp import fully_shard

    model = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10))
    dfa.attach(model, ["1", "3"], method="dfa")
    fully_shard(model, mesh=mesh)
    x, optimizer = torch.randn(8, 20), torch.optim.SGD(model.parameters(), 0.1)
    F.cross_entropy(model(x), torch.arange(8)).backward()
    optimizer.step()
    return forgotten(model, optimizer, x)


@pytest.mark.skipif(torch.__version__ < (2, 6), reason="fully_shard is public from torch 2.6 on")
def test_fully_shard_gets_the_same_gradients_no_false_warning_and_the_same_watch() -> None:
    for off, in_units, as_one in on_ranks(sharded, 2):
        assert off < 1e-6
        for refusal in (in_units, as_one):
            assert "blocks '1', '3', but no error reached them" in refusal
