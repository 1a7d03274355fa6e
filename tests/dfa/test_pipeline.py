"""A model that is divided over ranks: one packed error, and the same bits as in one process."""

from __future__ import annotations

import itertools
import os
import signal
from typing import Any

import pytest
from helpers import assert_same_bits
from ranks import on_ranks

torch = pytest.importorskip("torch")
dist = pytest.importorskip("torch.distributed")
if not dist.is_available():
    pytest.skip("torch without torch.distributed", allow_module_level=True)

from opuproj import Camera, dfa  # noqa: E402
from torch import nn  # noqa: E402

WIDTHS = (20, 13, 17, 9, 30, 12)  # of the inputs and outputs of five layers, the last of which is the top
N_BLOCKS = len(WIDTHS) - 2
CAMERA = Camera(photons=100, read_noise=0.01)


def whole_model() -> Any:
    torch.manual_seed(0)
    pairs = itertools.pairwise(WIDTHS)
    layers = [nn.Sequential(nn.Linear(i, o), nn.Tanh()) for i, o in pairs]
    return nn.Sequential(*layers[:-1], layers[-1][0])


def stage(rank: int, world: int) -> range:
    """The layers of a rank, by their indices in the whole model. The last rank also has the top."""
    share = -(-N_BLOCKS // world)
    start, stop = min(rank * share, N_BLOCKS), min((rank + 1) * share, N_BLOCKS)
    return range(start, stop + (rank == world - 1))


def batch(step: int) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(6, WIDTHS[0], generator=generator), torch.randint(WIDTHS[-1], (6,), generator=generator)


class Part:
    """One rank's part of the model, its optimizer and feedback. With one rank, the whole model without a group."""

    def __init__(self, rank: int, world: int, **arguments: Any) -> None:
        model = whole_model()
        self.rank, self.world, self.layers = rank, world, stage(rank, world)
        self.model = nn.Sequential(*(model[i] for i in self.layers))
        blocks = {str(i): self.model[at] for at, i in enumerate(self.layers) if i < N_BLOCKS}
        spread = {} if world == 1 else {"process_group": dist.group.WORLD}
        self.feedback = dfa.attach(self.model, blocks, **{"seed": 7, **arguments, **spread})
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-2)

    @property
    def last(self) -> bool:
        return self.rank == self.world - 1

    def forward(self, step: int) -> Any:
        """Run this part; return the loss on the last rank."""
        x, y = batch(step)
        if self.rank > 0:
            x = torch.empty(6, WIDTHS[self.layers.start])
            dist.recv(x, self.rank - 1)
        z = self.model(x)
        if self.last:
            return nn.functional.cross_entropy(z, y)
        dist.send(z, self.rank + 1)
        return None

    def backward(self, loss: Any) -> None:
        if loss is None:
            self.feedback.backward()
        else:
            loss.backward()

    def step(self, step: int) -> None:
        torch.manual_seed(step)
        self.optimizer.zero_grad()
        self.backward(self.forward(step))
        self.optimizer.step()

    def parameters(self) -> dict[str, Any]:
        """Return the parameters by their names in the whole model."""
        return {
            f"{i}.{name}": p.detach()
            for at, i in enumerate(self.layers)
            for name, p in self.model[at].named_parameters()
        }


def trained(rank: int, world: int, arguments: Any) -> Any:
    part = Part(rank, world, **arguments)
    for step in range(4):
        part.step(step)
    return part.parameters(), part.feedback.state_dict(), {name: list(r) for name, r in part.feedback.rows.items()}


def merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    together = {name: value for part in parts for name, value in part.items()}
    assert len(together) == sum(map(len, parts))
    return together


def assert_same(parts: list[dict[str, Any]], expected: dict[str, Any]) -> None:
    together = merged(parts)
    assert list(together) == list(expected)
    for name, value in together.items():
        assert_same_bits(value, expected[name])


@pytest.mark.long
@pytest.mark.parametrize(
    "arguments",
    [
        {"method": "odfa"},
        {"method": "dfa"},
        {"method": "odfa", "camera": CAMERA, "gain": 0.5},
        {"method": "odfa", "ternarize": dfa.Ternarize(dfa.RowMax(0.3), norm="row"), "n_anchor": 3},
        {"method": "odfa", "mode": "real"},
    ],
    ids=["odfa", "dfa", "camera", "options", "real"],
)
def test_a_model_over_several_ranks_trains_to_the_bits_of_one_process(arguments: Any) -> None:
    ((alone, state, rows),) = on_ranks(trained, 1, arguments)
    assert not torch.equal(alone["0.0.weight"], whole_model()[0][0].weight)
    for world in (2, 4):
        parts, states, theirs = zip(*on_ranks(trained, world, arguments), strict=True)
        assert_same(list(parts), alone)
        assert all(other == state for other in states)
        assert merged(list(theirs)) == rows


def resumed(rank: int, world: int, saved: Any, steps: range) -> Any:
    part = Part(rank, world)
    if saved is not None:
        with torch.no_grad():
            for at, i in enumerate(part.layers):
                for name, p in part.model[at].named_parameters():
                    p.copy_(saved["parameters"][f"{i}.{name}"])
        part.feedback.load_state_dict(saved["feedback"])
    part.optimizer = torch.optim.SGD(part.model.parameters(), 0.1)
    for step in steps:
        part.step(step)
    return part.parameters(), part.feedback.state_dict()


@pytest.mark.long
def test_a_run_resumed_with_another_number_of_ranks_goes_on_as_it_was() -> None:
    ((uninterrupted, _),) = on_ranks(resumed, 1, None, range(4))
    for before, after in ((2, 4), (4, 1), (1, 2)):
        results = on_ranks(resumed, before, None, range(2))
        saved = {"parameters": merged([parameters for parameters, _ in results]), "feedback": results[0][1]}
        assert_same([parameters for parameters, _ in on_ranks(resumed, after, saved, range(2, 4))], uninterrupted)


def in_microbatches(rank: int, world: int, backwards: list[int]) -> Any:
    part = Part(rank, world, method="dfa")
    for first in (0, 3):
        part.optimizer.zero_grad()
        losses = [part.forward(first + i) for i in range(3)]
        for i in backwards:
            part.backward(losses[i])
        part.optimizer.step()
    assert part.feedback.statistics.projections == 6
    assert not part.feedback._engine.pending
    return part.parameters()


@pytest.mark.long
def test_errors_may_come_in_another_order_than_their_passes() -> None:
    for order in ([0, 1, 2], [2, 0, 1]):
        (alone,) = on_ranks(in_microbatches, 1, order)
        assert_same(on_ranks(in_microbatches, 2, order), alone)


def with_data_parallel(rank: int, world: int) -> dict[str, Any]:
    """Two parts of the model, each on two ranks that have half of the vectors."""
    parts = [dist.new_group(ranks) for ranks in ([0, 1], [2, 3])]
    copies = [dist.new_group(ranks) for ranks in ([0, 2], [1, 3])]
    model, half, place = whole_model(), rank // 2, rank % 2
    part = nn.Sequential(*(model[i] for i in stage(place, 2)))
    blocks = {str(i): part[at] for at, i in enumerate(stage(place, 2)) if i < N_BLOCKS}
    feedback = dfa.attach(part, blocks, process_group=parts[half], method="dfa")
    wrapped = nn.parallel.DistributedDataParallel(part, process_group=copies[place])
    optimizer = torch.optim.SGD(part.parameters(), 0.1)
    for step in range(3):
        x, y = (tensor[3 * half :][:3] for tensor in batch(step))
        optimizer.zero_grad()
        if place == 0:
            dist.send(wrapped(x), rank + 1)
            feedback.backward()
        else:
            x = torch.empty(3, WIDTHS[stage(1, 2).start])
            dist.recv(x, rank - 1)
            nn.functional.cross_entropy(wrapped(x), y).backward()
        optimizer.step()
    names = {f"{i}.{name}": p for at, i in enumerate(stage(place, 2)) for name, p in part[at].named_parameters()}
    return {name: p.detach() for name, p in names.items()}


@pytest.mark.long
def test_parts_of_a_model_may_each_be_data_parallel() -> None:
    first, last, also_first, also_last = on_ranks(with_data_parallel, 4)
    assert_same([also_first, also_last], merged([first, last]))
    ((alone, _, _),) = on_ranks(trained_in_sgd, 1)
    for name, p in merged([first, last]).items():
        torch.testing.assert_close(p, alone[name], rtol=1e-4, atol=1e-6)


def trained_in_sgd(rank: int, world: int) -> Any:
    part = Part(rank, world, method="dfa", seed=0)
    part.optimizer = torch.optim.SGD(part.model.parameters(), 0.1)
    for step in range(3):
        part.step(step)
    return part.parameters(), None, None


# Errors


def mistakes(rank: int, world: int) -> None:
    last = rank == world - 1
    part = Part(rank, world)
    for call in (part.feedback.check, part.feedback.alignment):
        with pytest.raises(RuntimeError, match="divided over the ranks of process_group: diagnose it in one process"):
            call(lambda: None)
    for method in ("bp", "fitted"):
        with pytest.raises(ValueError, match=f"method is '{method}', but the ranks of process_group exchange no"):
            part.feedback.method = method
    with pytest.raises(
        RuntimeError,
        match="this rank takes the error: call loss.backward"
        if last
        else "no forward pass on rank .* is awaiting an error",
    ):
        part.feedback.backward()
    if not last:
        with pytest.raises(ValueError, match="output is '0' on rank 0 of 2, but the error is taken on the last rank"):
            dfa.attach(whole_model(), ["0"], output="0", process_group=dist.group.WORLD)
        tail = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        dfa.attach(tail, ["0"], process_group=dist.group.WORLD)
        with pytest.raises(RuntimeError, match="move them to the rank of the next block"):
            tail(torch.zeros(2, 3))
        part.forward(0)
        with pytest.raises(
            RuntimeError, match="is about to change blocks '0', '1', but no error reached them: the feedback's"
        ):
            part.optimizer.step()
    else:
        part.forward(0)
    # If ranks disagree, all of them raise an error.
    for arguments, message in (
        ({"seed": rank}, "seed is 1 on rank 1, but 0 on rank 0"),
        ({"mode": "real" if last else "linear"}, "mode is 'real' on rank 1, but 'linear' on rank 0"),
        ({"ensemble": "structured" if last else "gaussian"}, "ensemble is 'structured' on rank 1, but 'gaussian' on"),
        ({"method": "dfa" if last else "odfa"}, "method is 'dfa' on rank 1, but 'odfa' on rank 0"),
    ):
        part = Part(rank, world, **arguments)
        loss = part.forward(0)
        with pytest.raises(ValueError, match=message):
            part.backward(loss)
    same = nn.Sequential(nn.Linear(3, 3))
    top = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    feedback = dfa.attach(top if last else same, ["0"], process_group=dist.group.WORLD)
    loss = (top if last else same)(torch.zeros(2, 3)).sum()
    with pytest.raises(ValueError, match="block '0' of rank 1 has the same name as a block of another rank"):
        loss.backward() if last else feedback.backward()

    class Refusing:
        def thresholds(self, e: Any) -> Any:
            raise ArithmeticError("no thresholds today")

    part = Part(rank, world, ternarize=dfa.Ternarize(Refusing()))
    loss = part.forward(0)
    with pytest.raises(ArithmeticError if last else RuntimeError, match="no thresholds today"):
        part.backward(loss)


@pytest.mark.long
def test_mistakes_are_named_on_all_ranks() -> None:
    on_ranks(mistakes, 2)


def deserted(rank: int, world: int) -> str | None:
    part = Part(rank, world)
    part.step(0)
    loss = part.forward(1)
    if rank == world - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    with pytest.raises(RuntimeError) as caught:
        part.backward(loss)
    return str(caught.value)


@pytest.mark.long
def test_a_killed_rank_is_an_error_on_all_others() -> None:
    for rank, message in enumerate(on_ranks(deserted, 3, timeout=10, lost=(2,))[:2]):
        assert f"rank {rank} of 3 could not finish the broadcast of the error: another rank has ended" in message


def shallow(rank: int, world: int) -> dict[str, Any]:
    part = Part(rank, world, method="shallow")
    part.step(0)
    return part.parameters()


@pytest.mark.long
def test_shallow_training_sends_nothing_back() -> None:
    parts = merged(on_ranks(shallow, 2))
    for name, p in whole_model().named_parameters():
        assert torch.equal(parts[name], p) is not name.startswith("4")


def with_steps_first(rank: int, world: int, batch_dim: Any) -> Any:
    """A recurrent block of (steps, examples, features) and one of (examples, features), on one rank or two."""
    torch.manual_seed(0)
    rnn, hidden, top = nn.GRU(5, 6), nn.Linear(6, 7), nn.Linear(7, 4)
    x, y = torch.randn(3, 4, 5), torch.arange(4)
    layers = [rnn, hidden] if world == 1 else [rnn] if rank == 0 else [hidden]

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts, self.top = nn.ModuleList(layers), top if rank == world - 1 else nn.Identity()

        def forward(self, z: Any) -> Any:
            for part in self.parts:
                z = part(z)[0][-1] if part is rnn else part(z)
            return self.top(z)

    model = Model()
    blocks = {("rnn" if part is rnn else "hidden"): part for part in layers}
    if isinstance(batch_dim, dict):
        batch_dim = {name: dim for name, dim in batch_dim.items() if name in (*blocks, "output")}
    spread = {} if world == 1 else {"process_group": dist.group.WORLD}
    feedback = dfa.attach(model, blocks, method="dfa", batch_dim=batch_dim, **spread)
    if world == 1:
        nn.functional.cross_entropy(model(x), y).backward()
    elif rank == 0:
        dist.send(model(x).detach(), 1)
        feedback.backward()
    else:
        z = torch.empty(4, 6)
        dist.recv(z, 0)
        nn.functional.cross_entropy(model(z), y).backward()
    found = {name: part.weight_ih_l0.grad if part is rnn else part.weight.grad for name, part in blocks.items()}
    return found, feedback.rows


@pytest.mark.long
@pytest.mark.parametrize("batch_dim", [1, {"rnn": 1, "hidden": 0}])
def test_ranks_agree_on_the_axes_that_count_vectors(batch_dim: Any) -> None:
    ((alone, rows),) = on_ranks(with_steps_first, 1, batch_dim)
    parts = on_ranks(with_steps_first, 2, batch_dim)
    assert merged([part for _, part in parts]) == rows == {"rnn": range(18), "hidden": range(18, 25)}
    for name, gradient in merged([part for part, _ in parts]).items():
        assert_same_bits(gradient, alone[name])
