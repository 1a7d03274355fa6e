"""torch on a GPU: compiled, exported, captured into CUDA graphs, on side streams, with autocast and gradients.

Every result is compared with the CPU's bits. All of this needs a GPU.
"""

from __future__ import annotations

import copy
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import opuproj
import pytest
from helpers import CAMERA_MODES, LINEAR_MODES, MODES, assert_same_bits, run
from opuproj import Camera, Projector, backends

torch = pytest.importorskip("torch")
from opuproj.torch import Projection, RowMax, Ternarize, _ops  # noqa: E402
from tensors import gaussian, vectors  # noqa: E402

on_gpu = torch.cuda.is_available() and backends.backend("cuda").name == "cuda"
pytestmark = [
    pytest.mark.skipif(not on_gpu, reason="no GPU that opuproj can use"),
    pytest.mark.filterwarnings("default"),  # compilers and graphs warn about much that is not of this package
]
needs_tag = pytest.mark.skipif(_ops._UNSAFE is None, reason="this torch cannot divide a graph around an op")
two_gpus = pytest.mark.skipif(not on_gpu or torch.cuda.device_count() < 2, reason="needs two GPUs")
CAMERA = Camera(photons=50, read_noise=0.01)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    opuproj.synchronize()
    yield
    torch._dynamo.reset()
    opuproj.synchronize()


def same(y: Any, expected: Any) -> None:
    """The bits of the CPU, on the GPU."""
    assert y.is_cuda
    assert_same_bits(y.detach().cpu().numpy(), expected.detach().numpy() if torch.is_tensor(expected) else expected)


def moved(layer: Any) -> Any:
    """A copy of a layer on the GPU."""
    return copy.deepcopy(layer).cuda()


# Compiled and exported


@pytest.mark.parametrize("how", ["default", "reduce-overhead"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n_vectors", [3, 64])
def test_a_compiled_layer_gives_the_same_bits(how: str, mode: Any, n_vectors: int) -> None:
    layer = Projection(2100, 90, seed=3, mode=mode)
    compiled = torch.compile(moved(layer), mode=how, fullgraph=True)
    for i in range(5):  # with reduce-overhead: a first call, a capture, and replays
        torch.compiler.cudagraph_mark_step_begin()
        x = vectors(n_vectors, 2100, seed=i)
        same(compiled(x.cuda()), layer(x))


@pytest.mark.parametrize("options", [{"digits": 5}, {"ternarize": Ternarize(RowMax(0.25), norm="none")}], ids=str)
def test_a_compiled_model_is_one_graph_that_is_replayed(options: Any) -> None:
    from torch._dynamo.utils import counters

    layer = Projection(300, 90, seed=3, mode="real", **options)
    on_device = moved(layer)
    compiled = torch.compile(lambda x: on_device(x * 2).relu(), mode="reduce-overhead", fullgraph=True)
    counters.clear()
    for i in range(5):
        torch.compiler.cudagraph_mark_step_begin()
        x = gaussian(7, 300, seed=i)
        same(compiled(x.cuda()), layer(x * 2).relu())
    assert counters["inductor"]["cudagraph_skips"] == 0


@needs_tag
@pytest.mark.parametrize("mode", CAMERA_MODES)
def test_a_camera_has_new_noise_in_every_compiled_call(mode: Any) -> None:
    layer = Projection(300, 90, seed=3, mode=mode, camera=CAMERA).cuda()
    compiled = torch.compile(lambda x: layer(x.sign()) * 2, mode="reduce-overhead", fullgraph=True)
    x, seen = gaussian(4, 300).cuda(), []
    for _ in range(5):
        torch.compiler.cudagraph_mark_step_begin()
        seen.append(compiled(x).cpu())
    assert all(y.isfinite().all() for y in map(torch.abs, seen))
    assert all(not torch.equal(seen[i], seen[j]) for i in range(5) for j in range(i))


@pytest.mark.parametrize("mode", MODES)
def test_an_exported_layer(mode: Any) -> None:
    layer = Projection(300, 90, seed=2**64 - 1, mode=mode, rows=(3, 80), digits=5)
    program = torch.export.export(
        moved(layer), (gaussian(4, 300).cuda(),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    assert "apply_on_device" in str(program.graph)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for n in (9, 4, 70):
        same(loaded(gaussian(n, 300).cuda()), layer(gaussian(n, 300)))


# CUDA graphs

Function = Callable[[Any], Any]
FUNCTIONS: dict[str, tuple[Function, Callable[..., Any], tuple[int, int]]] = {
    **{
        f"{n} vectors, {mode}": (
            lambda x, mode=mode: opuproj.project(x, 90, seed=3, mode=mode, rows=(5, 80)),
            vectors,
            (n, 2100),
        )
        for mode in MODES
        for n in (1, 20, 64)
    },
    **{
        f"digits, {mode}": (lambda x, mode=mode: opuproj.project(x, 90, mode=mode, digits=7), gaussian, (40, 300))
        for mode in MODES
    },
    **{
        f"camera, {mode}": (
            lambda x, mode=mode: opuproj.project(x, 90, mode=mode, camera=CAMERA, noise_seed=4),
            vectors,
            (7, 300),
        )
        for mode in CAMERA_MODES
    },
    **{
        f"structured, {mode}": (
            lambda x, mode=mode: opuproj.project(x, 5000, mode=mode, ensemble="structured"),
            gaussian,
            (20, 3000),
        )
        for mode in MODES
    },
    **{
        f"adjoint, {mode}": (lambda x, mode=mode: Projector(300, 90, mode=mode).H(x), gaussian, (7, 90))
        for mode in LINEAR_MODES
    },
}


def graph_of(function: Function, x: Any, warm: bool = True) -> tuple[Any, Any]:
    """A CUDA graph of a call, and the tensor that it fills."""
    if warm:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            function(x)
        torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.Stream()):  # torch's own stream is one of the first GPU used
        y = function(x)
    return graph, y


@pytest.mark.parametrize(("function", "numbers", "shape"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_graph_is_replayed_with_other_vectors(function: Function, numbers: Any, shape: tuple[int, int]) -> None:
    x = numbers(*shape).cuda()
    graph, y = graph_of(function, x)
    for seed in (1, 2):
        other = numbers(*shape, seed=seed)
        x.copy_(other)
        graph.replay()
        same(y, function(other))
        # Calls between replays use memory of their own.
        same(function(numbers(*shape, seed=9).cuda()), function(numbers(*shape, seed=9)))
        same(y, function(other))


def test_very_sparse_vectors_in_a_graph() -> None:
    x = torch.zeros(64, 5000).cuda()
    graph, y = graph_of(lambda x: opuproj.project(x, 90, seed=3), x)
    other = torch.zeros(64, 5000)
    other[range(64), range(0, 64 * 70, 70)] = -1
    x.copy_(other)
    graph.replay()
    same(y, opuproj.project(other, 90, seed=3))


@pytest.mark.parametrize("mode", MODES)
def test_a_graph_of_a_layer_and_its_gradient(mode: Any) -> None:
    layer = Projection(300, 90, seed=3, mode=mode, digits=10)
    on_device = moved(layer)
    g = gaussian(7, 90, dtype=on_device.dtype, seed=5)
    x, g_device = gaussian(7, 300).cuda().requires_grad_(), g.cuda()

    def step(x: Any) -> Any:
        return torch.autograd.grad(on_device(x), x, g_device)[0]

    graph, gradient = graph_of(step, x)
    other = gaussian(7, 300, seed=1).requires_grad_()
    with torch.no_grad():
        x.copy_(other)
    graph.replay()
    same(gradient, torch.autograd.grad(layer(other), other, g)[0])


@pytest.mark.parametrize("n_vectors", [3, 64])
def test_a_graph_without_a_call_before_it(n_vectors: int) -> None:
    printed = run(
        f"""
        import opuproj, torch
        x = torch.ones({n_vectors}, 2100, device="cuda")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = opuproj.project(x, 90, mode="linear")
        x[:, 0] = -1
        graph.replay()
        opuproj.synchronize()
        print(torch.equal(y.cpu(), opuproj.project(x.cpu(), 90, mode="linear")))
        """,
        timeout=600,
    )
    assert printed.split()[-1] == "True"


def test_a_bad_value_in_a_graph() -> None:
    x = torch.ones(3, 300).cuda()
    graph, y = graph_of(lambda x: opuproj.project(x, 90, seed=3), x)
    graph.replay()
    opuproj.synchronize()
    for _ in range(2):
        x[1, 7] = 2
        graph.replay()
        with pytest.raises(ValueError, match=r"^x\[1, 7\] is not -1, 0 or 1"):
            opuproj.synchronize()
        assert y[1].isnan().all()
        assert y[[0, 2]].isfinite().all()
        opuproj.synchronize()  # an error is raised once
        x[1, 7] = 1
        graph.replay()
        opuproj.synchronize()
        assert y.isfinite().all()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda x: opuproj.project(x, 30, mode="linear", camera=CAMERA, digits=3, noise_seed=1),
            "x is a CUDA tensor, but this call is computed on the CPU",
        ),
        (lambda x: Projection(300, 30, camera=CAMERA)(x), "the seed of a camera's noise is read on the CPU"),
        (lambda x: opuproj.project(x, 30, out=np.empty((3, 30), np.float32)), "out is in the memory of the host"),
    ],
    ids=["digits of a camera", "noise", "out"],
)
def test_what_goes_through_the_host_is_refused(function: Function, message: str) -> None:
    x = vectors(3, 300).cuda()
    with pytest.raises(RuntimeError, match=message):
        graph_of(function, x, warm=False)
    torch.cuda.synchronize()
    same(opuproj.project(x, 30), opuproj.project(x.cpu(), 30))
    same(graph_and_replay(lambda x: opuproj.project(x, 30), x), opuproj.project(x.cpu(), 30))


def graph_and_replay(function: Function, x: Any) -> Any:
    graph, y = graph_of(function, x)
    graph.replay()
    torch.cuda.synchronize()
    return y.clone()


# Streams, threads and devices


def test_a_call_does_not_wait() -> None:
    x, real, layer = vectors(3, 2100).cuda(), gaussian(40, 300).cuda(), Projection(300, 90, digits=5).cuda()
    operator = Projector(300, 90, mode="linear")

    def calls() -> list[Any]:
        return [opuproj.project(x, 90, mode="linear"), opuproj.project(real, 90, digits=5), layer(real),
                operator.H(real[:, :90]), opuproj.project(real, 90, ensemble="structured")]  # fmt: skip

    calls()
    torch.cuda.set_sync_debug_mode("error")
    try:
        calls()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("digits", [None, 5])
def test_side_streams(digits: int | None) -> None:
    numbers = vectors if digits is None else gaussian
    layer = Projection(2100, 90, seed=3, digits=digits)
    on_device, streams, results = moved(layer), [torch.cuda.Stream() for _ in range(3)], []
    for i in range(12):
        x, stream = numbers(9, 2100, seed=i).cuda(), streams[i % 3]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            y = on_device(x)
        x.record_stream(stream)
        del x
        torch.full((9, 2100), 7.0, device="cuda")  # would take the memory of x if that was free
        results.append(y)
    for stream in streams:
        torch.cuda.current_stream().wait_stream(stream)
    for i, y in enumerate(results):
        y.record_stream(torch.cuda.current_stream())
        same(y, layer(numbers(9, 2100, seed=i)))


def test_a_packed_batch_on_a_side_stream() -> None:
    side = torch.cuda.Stream()
    for make, numbers in ((opuproj.pack, vectors), (lambda x: opuproj.encode(x, digits=5), gaussian)):
        for seed in range(5):
            batch = make(numbers(9, 2100, seed=seed).cuda())
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                torch.cuda._sleep(10**8)
                y = opuproj.project(batch, 90)
            del batch
            for _ in range(20):  # would take the memory of the batch if that was free
                make(numbers(9, 2100, seed=77).cuda())
            torch.cuda.current_stream().wait_stream(side)
            same(y, opuproj.project(make(numbers(9, 2100, seed=seed)), 90))


def test_results_on_a_side_stream_wait_for_nothing_else() -> None:
    x, side = vectors(9, 300).cuda(), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        opuproj.project(x, 90)  # the side stream has memory of its own from now on
    torch.cuda.synchronize()
    torch.cuda._sleep(4 * 10**9)  # the default stream is busy for a second or two
    with torch.cuda.stream(side):
        y = opuproj.project(x, 90)
    side.synchronize()
    done = torch.cuda.Event()
    done.record()
    assert not done.query()
    with torch.cuda.stream(side):
        found = y.to("cpu")
    assert_same_bits(found.numpy(), opuproj.project(vectors(9, 300), 90).numpy())


def test_other_threads() -> None:
    found: dict[int, Any] = {}

    def project(i: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            found[i] = opuproj.project(vectors(40, 2100, seed=i).cuda(), 90, mode="linear").cpu()

    threads = [threading.Thread(target=project, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        assert_same_bits(found[i].numpy(), opuproj.project(vectors(40, 2100, seed=i), 90, mode="linear").numpy())


@two_gpus
def test_two_gpus() -> None:
    layer = Projection(2100, 90, seed=3, mode="linear")
    for index in (1, 0, 1):
        place, x = torch.device("cuda", index), vectors(40, 2100)
        for current in (0, 1):
            with torch.cuda.device(current):
                y = copy.deepcopy(layer).to(place)(x.to(place))
                assert y.device == place
                assert torch.cuda.current_device() == current
                same(y, layer(x))
    with torch.cuda.device(1):
        x = vectors(40, 2100).cuda()
        graph, y = graph_of(lambda x: opuproj.project(x, 90, seed=3), x)
    opuproj.project(vectors(3, 50).to("cuda:0"), 20)
    x.copy_(vectors(40, 2100, seed=1))
    with torch.cuda.device(1):
        graph.replay()
    torch.cuda.synchronize(1)
    same(y, opuproj.project(vectors(40, 2100, seed=1), 90, seed=3))


# Autocast, gradients and training


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_changes_no_bit(dtype: Any) -> None:
    layer, x = Projection(300, 90, seed=3, digits=5), gaussian(7, 300)
    with torch.autocast("cuda", dtype=dtype):
        y = moved(layer)(x.cuda())
        half = moved(layer)(x.to(dtype).cuda())
    same(y, layer(x))
    same(half, layer(x.to(dtype)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients(mode: Any, dtype: Any) -> None:
    layer = Projection(300, 90, seed=3, mode=mode, digits=10, dtype=dtype)
    found = []
    for device, one in (("cuda", moved(layer)), ("cpu", layer)):
        x = gaussian(7, 300, dtype=dtype).to(device).requires_grad_()
        g = gaussian(7, 90, dtype=layer.dtype, seed=1).to(device).requires_grad_()
        (first,) = torch.autograd.grad(one(x), x, g, create_graph=True)
        (second,) = torch.autograd.grad(first, g, gaussian(7, 300, dtype=dtype, seed=2).to(device))
        found.append((first, second))
    (first, second), (expected, other) = found
    same(first, expected)
    if mode == "intensity":  # torch itself multiplies the second one
        torch.testing.assert_close(second.cpu(), other)
    else:
        same(second, other)


def test_a_gradient_that_is_not_finite() -> None:
    layer = Projection(300, 90, digits=5).cuda()
    x = gaussian(3, 300).cuda().requires_grad_()
    g = torch.ones(3, 90).cuda()
    g[1, 4] = torch.inf
    (found,) = torch.autograd.grad(layer(x), x, g)
    assert found[1].isnan().all()
    assert found[[0, 2]].isfinite().all()
    opuproj.synchronize()


def train(model: Any, run_model: Any) -> list[float]:
    """The losses of three steps."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = []
    for step in range(3):
        torch.compiler.cudagraph_mark_step_begin()
        x, target = gaussian(32, 20, seed=step).cuda(), gaussian(32, 5, seed=10 + step).cuda()
        loss = (run_model(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("how", ["default", "reduce-overhead"])
@pytest.mark.parametrize("mode", ["linear", "intensity"])
def test_a_compiled_model_is_trained(how: str, mode: Any) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(20, 60), torch.nn.Tanh(), Projection(60, 128, mode=mode, digits=8), torch.nn.LayerNorm(128),
        torch.nn.ReLU(), torch.nn.Linear(128, 5),
    ).cuda()  # fmt: skip
    plain = copy.deepcopy(model)
    before = [p.detach().clone() for p in model.parameters()]
    compiled = torch.compile(model, mode=how, fullgraph=True)
    np.testing.assert_allclose(train(model, compiled), train(plain, plain), rtol=1e-4)
    for parameter, old, other in zip(model.parameters(), before, plain.parameters(), strict=True):
        assert not torch.equal(parameter, old)
        torch.testing.assert_close(parameter, other, rtol=1e-3, atol=1e-5)
    opuproj.synchronize()
