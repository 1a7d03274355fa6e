"""What a CUDA graph may capture: which op is traced, and that nothing in a captured call waits for the GPU.

The stand-in for a GPU says that its stream is captured, and reading a tensor is an error.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import opuproj
import pytest
import standin_backend
from helpers import CAMERA_MODES, LINEAR_MODES, MODES, assert_same_bits, ternary
from opuproj import Camera, Projector, backends

torch = pytest.importorskip("torch")
from captures import nothing_waits  # noqa: E402
from opuproj.backends.cuda import _gpu, _words  # noqa: E402
from opuproj.backends.cuda._backend import Cuda  # noqa: E402
from opuproj.torch import Projection, RowMax, Ternarize, _ops  # noqa: E402
from tensors import call, gaussian, vectors  # noqa: E402

needs_standin = pytest.mark.skipif(standin_backend.DEVICE not in backends.registered(), reason="needs g++")
FIELDS = "opuproj.backends.cuda._fields"
CAMERA = Camera(photons=50, read_noise=0.01)


class Captured(standin_backend.StandIn):
    """A GPU whose stream is captured."""

    def capturing(self) -> bool:
        return True


@pytest.mark.parametrize("read", [int, bool, float, list, np.asarray, lambda x: x.tolist(), lambda x: x.cpu().numpy()])
def test_reading_a_tensor_is_found(read: Callable[[Any], Any]) -> None:
    x = torch.ones(1)
    with pytest.raises(AssertionError, match="would wait"), nothing_waits():
        read(x if read is not list else [0.0, *map(float, x)])


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], Any]:
    """A function that makes a call on the stand-in as if its stream was captured, and returns the call's results."""
    if standin_backend.DEVICE not in backends.registered():
        pytest.skip("needs g++")
    captured_backend = Cuda(lambda device: Captured())
    monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", standin_backend.tensor_rows)
    capturable = _ops._capturable

    def run(function: Callable[[], Any]) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(backends._registered, standin_backend.DEVICE, captured_backend)
            patch.setattr(_ops, "_capturable", lambda device, text: capturable(standin_backend.DEVICE, text))
            captured_backend._values._words.take(False, captured=False)  # as a call before the capture leaves it
            with nothing_waits():
                result = function()
            opuproj.synchronize()
        return result

    return run


# Captured calls


@needs_standin
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n_vectors", [1, 32, 64])
@pytest.mark.parametrize("density", [0.01, 0.7])
def test_a_projection(mode: Any, n_vectors: int, density: float, captured: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(f"{FIELDS}._CHOICE_INPUTS", 16)
    x = ternary(n_vectors, 300, density=density)
    tensor, options = torch.from_numpy(x), {"seed": 3, "mode": mode, "dtype": np.float64, "rows": (5, 90)}
    y = captured(lambda: opuproj.project(tensor, 90, **options))
    assert_same_bits(y.numpy(), opuproj.project(x, 90, **options))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n_vectors", [3, 40])
def test_digits(mode: Any, n_vectors: int, captured: Any) -> None:
    x = np.random.default_rng(0).standard_normal((n_vectors, 130))
    for tensor in (torch.from_numpy(x), torch.from_numpy(x).to(torch.bfloat16), torch.from_numpy((9 * x).astype(int))):
        y = captured(lambda tensor=tensor: opuproj.project(tensor, 70, mode=mode, digits=7))
        assert_same_bits(y.numpy(), opuproj.project(tensor.double().numpy(), 70, mode=mode, digits=7))


@pytest.mark.parametrize("mode", CAMERA_MODES)
def test_a_camera_with_a_seed(mode: Any, captured: Any) -> None:
    x, options = ternary(7, 130), {"mode": mode, "camera": CAMERA, "noise_seed": 4, "n_anchor": 30}
    tensor = torch.from_numpy(x)
    y = captured(lambda: opuproj.project(tensor, 70, **options))
    assert_same_bits(y.numpy(), opuproj.project(x, 70, **options))
    if mode != "intensity":
        y = captured(lambda: opuproj.project(tensor, 70, digits=3, **options))
        assert_same_bits(y.numpy(), opuproj.project(x, 70, digits=3, **options))


@pytest.mark.parametrize("mode", LINEAR_MODES)
def test_the_adjoint(mode: Any, captured: Any) -> None:
    op = Projector(90, 70, seed=3, mode=mode)[3:]
    y = np.random.default_rng(0).standard_normal((5, 67))
    for x in (y.astype(np.float32), y, *([y + 1j * y[::-1]] if mode == "complex" else [])):
        tensor = torch.from_numpy(x)
        assert_same_bits(captured(lambda tensor=tensor: op.H(tensor)).numpy(), op.H(x))


@pytest.mark.parametrize("mode", MODES)
def test_structured(mode: Any, captured: Any) -> None:
    x = np.random.default_rng(0).standard_normal((5, 300))
    tensor, options = torch.from_numpy(x), {"mode": mode, "ensemble": "structured", "rows": (7, 700)}
    y = captured(lambda: opuproj.project(tensor, 700, **options))
    assert_same_bits(y.numpy(), opuproj.project(x, 700, **options))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rule", [None, Ternarize(RowMax(0.25), norm="row")], ids=["digits", "rule"])
def test_a_layer_and_its_gradient(mode: Any, rule: Any, captured: Any) -> None:
    layer = Projection(60, 50, seed=4, mode=mode, digits=None if rule else 10, ternarize=rule)
    x = gaussian(6, 60)

    def step(x: Any) -> Any:
        y = layer(x)
        if rule is None:
            y.abs().square().sum().backward()
        return y.detach()

    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    y = captured(lambda: step(one))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("opuproj.inputs.tensors.tensor_rows", opuproj.inputs.tensors.TensorRows)
        assert_same_bits(y, step(other))
    if rule is None:
        assert_same_bits(one.grad, other.grad)


def test_packed_batches(captured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # It rounds a number of the host, by tensors that are always on the CPU.
    in_precision = lambda _, values: values.astype(np.float32).astype(np.float64)  # noqa: E731
    monkeypatch.setattr("opuproj.inputs.tensors.TensorRows.in_precision", in_precision)
    x = np.random.default_rng(0).standard_normal((5, 300)).astype(np.float32)
    tensor, t = torch.from_numpy(x), torch.from_numpy(ternary(5, 300))
    for make, numbers in (
        (lambda x: opuproj.pack(x), t),
        (lambda x: opuproj.ternarize(x, 0.5), tensor),
        (lambda x: opuproj.ternarize(x, relative=0.3), tensor),
        (lambda x: opuproj.encode(x, digits=6), tensor),
    ):
        y = captured(lambda make=make, numbers=numbers: opuproj.project(make(numbers), 70, mode="linear"))
        assert_same_bits(y.numpy(), opuproj.project(make(numbers.numpy()), 70, mode="linear"))
    batch = captured(lambda: opuproj.pack(t))
    y = captured(lambda: opuproj.project(batch, 70, mode="linear"))
    assert_same_bits(y.numpy(), opuproj.project(t.numpy(), 70, mode="linear"))


def test_the_memory_of_a_batch_is_kept_for_the_stream_that_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from opuproj.backends.cuda import packed

    seen: list[Any] = []
    monkeypatch.setattr(packed, "used_here", lambda *tensors: seen.extend(tensors))
    monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", standin_backend.tensor_rows)
    if standin_backend.DEVICE not in backends.registered():
        pytest.skip("needs g++")
    for batch in (opuproj.pack(vectors(3, 40)), opuproj.encode(gaussian(3, 40), digits=3)):
        seen.clear()
        opuproj.project(batch, 30)
        held = [part for part in vars(batch._packed.vectors).values() if torch.is_tensor(part)]
        held += [part for part in vars(batch._packed).values() if torch.is_tensor(part)]
        assert len(held) >= 3
        assert {part.data_ptr() for part in held} == {part.data_ptr() for part in seen}
    recorded: list[Any] = []
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the stream of {device}")
    fake = SimpleNamespace(is_cuda=True, device="cuda:1", record_stream=recorded.append)
    _gpu.used_here(fake, fake)
    assert recorded == ["the stream of cuda:1"] * 2


CALLS: dict[str, Callable[[], Any]] = {
    "few": lambda: opuproj.project(vectors(3, 2100), 20),
    "many": lambda: opuproj.project(vectors(40, 2100), 20, mode="linear"),
    "digits": lambda: opuproj.project(gaussian(3, 40), 30, digits=5),
    "camera": lambda: opuproj.project(vectors(3, 40), 30, mode="linear", camera=CAMERA, noise_seed=1),
    "digits of a camera": lambda: opuproj.project(
        gaussian(3, 40), 30, mode="linear", camera=CAMERA, digits=5, noise_seed=1
    ),
    "structured": lambda: opuproj.project(gaussian(3, 40), 30, mode="linear", ensemble="structured"),
    "adjoint": lambda: Projector(30, 40, mode="linear").H(gaussian(3, 40)),
    "layer": lambda: Projection(40, 30, digits=5)(gaussian(3, 40)),
}


@pytest.mark.parametrize("made", CALLS.values(), ids=CALLS)
def test_no_memory_of_a_graph_is_kept(made: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    if standin_backend.DEVICE not in backends.registered():
        pytest.skip("needs g++")
    monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", standin_backend.tensor_rows)
    monkeypatch.setitem(backends._registered, standin_backend.DEVICE, Cuda(lambda device: Captured()))
    made()
    gc.collect()
    before = sum(issubclass(type(found), torch.Tensor) for found in gc.get_objects())
    for _ in range(3):
        made()
    gc.collect()
    assert sum(issubclass(type(found), torch.Tensor) for found in gc.get_objects()) <= before


# Errors about values


def test_a_bad_value_in_a_graph_is_found_after_a_wait(captured: Any) -> None:
    x = torch.ones(3, 40)
    x[1, 7] = 2
    with pytest.raises(ValueError, match=r"^x\[1, 7\] is not -1, 0 or 1"):
        captured(lambda: opuproj.project(x, 30))
    captured(lambda: opuproj.project(torch.ones(3, 40), 30))  # an error is raised once


@needs_standin
def test_every_replay_reports_its_own_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", standin_backend.tensor_rows)
    backend = Cuda(lambda device: Captured())
    monkeypatch.setitem(backends._registered, standin_backend.DEVICE, backend)
    opuproj.project(torch.ones(3, 40), 30)
    (graph,) = backend._values._pending
    for _ in range(2):
        backend._values.raise_found(every=True)
        graph.word.tensor.fill_(~45)  # a replay
        backend._values.raise_found()  # a call that does not wait may not look
        with pytest.raises(ValueError, match=r"^x\[1, 5\] is not"):
            backend._values.raise_found(every=True)
    other = torch.full((1, 40), 3.0)
    backend._gpu_of = lambda device: standin_backend.StandIn()
    opuproj.project(other, 30)
    with pytest.raises(ValueError, match=r"^x\[0, 0\] is 3"):  # found although the graph was not replayed since
        backend._values.raise_found()


def test_words_are_used_again() -> None:
    words = _words.Words()
    first = [words.take(False, captured=False) for _ in range(3)]
    places = {word.tensor.data_ptr() for word in first}
    assert len(places) == 3
    first[1].tensor.fill_(7)
    assert first[1].value == 7
    assert first[0].value == first[2].value == _words.NOT_YET
    words.give_back(first[1])
    again = words.take(False, captured=True)
    assert again.tensor.data_ptr() == first[1].tensor.data_ptr()
    assert again.value == _words.NOT_YET


def test_words_of_a_call_in_inference_mode_serve_other_calls() -> None:
    words = _words.Words()
    with torch.inference_mode(), torch.device("meta"):  # the default device is not that of the words
        word = words.take(False, captured=False)
    word.tensor.copy_(torch.tensor([5]))
    assert word.value == 5


def test_some_words_are_kept_for_graphs() -> None:
    words, allocated = _words.Words(), []
    add = words._add
    words._add = lambda pinned: allocated.append(1) or add(pinned)  # type: ignore[method-assign, func-returns-value]
    for _ in range(_words._ALLOCATED):
        words.take(False, captured=False)
    before = len(allocated)
    for _ in range(_words._RESERVE):
        words.take(False, captured=True)
    assert len(allocated) == before
    for _ in range(_words._ALLOCATED + 1):
        words.take(False, captured=True)
    assert len(allocated) > before


# What goes through the host is refused


@pytest.fixture
def all_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every device says that its stream is captured."""
    monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", standin_backend.tensor_rows)
    for module in ("inputs.tensors", "backends.cuda._results", "torch._ops", "torch._autograd"):
        monkeypatch.setattr(f"opuproj.{module}.captured", lambda device: True)


@pytest.mark.parametrize("known", [False, True])
def test_the_cpu_cannot_serve_a_captured_tensor(known: bool, all_captured: None, monkeypatch: Any) -> None:
    if not known:  # none of the extras is installed
        monkeypatch.setitem(backends._registered, standin_backend.DEVICE, backends.backend("cpu"))
    elif standin_backend.DEVICE not in backends.registered():
        pytest.skip("needs g++")
    monkeypatch.setattr("opuproj.backends.cuda.structured.LONGEST", 5)  # of the vectors that a GPU transforms
    calls: list[Callable[[], Any]] = [lambda: opuproj.project(gaussian(3, 40), 30, ensemble="structured")]
    if not known:
        calls += [
            lambda: opuproj.project(vectors(3, 40), 30),
            lambda: opuproj.project(gaussian(3, 40), 30, digits=4),
            lambda: opuproj.project(gaussian(3, 40), 30, mode="linear", camera=CAMERA, digits=3, noise_seed=1),
            lambda: Projector(30, 40, mode="linear").H(gaussian(3, 40)),
            lambda: opuproj.ternarize(gaussian(3, 40), 0.5),
            lambda: Projection(40, 30)(vectors(3, 40)),
        ]
    for made in calls:
        with pytest.raises(RuntimeError, match=r"is a CUDA tensor, but this call is computed on the CPU, which a CUDA"):
            made()


@needs_standin
def test_memory_of_the_host_cannot_receive_captured_results(all_captured: None) -> None:
    with pytest.raises(RuntimeError, match="out is in the memory of the host, to which a CUDA graph cannot copy"):
        opuproj.project(vectors(3, 40), 30, out=np.empty((3, 30), np.float32))


def test_numbers_that_are_read_on_the_host_are_refused(all_captured: None) -> None:
    with pytest.raises(RuntimeError, match=r"^the seed of a camera's noise is read on the CPU, which a CUDA graph"):
        Projection(40, 30, camera=CAMERA)(vectors(3, 40))
    one, other = Projection(40, 30, seed=1), Projection(40, 30, seed=2)
    with pytest.raises(RuntimeError, match=r"^the seeds of a stack of layers are read on the CPU, which a CUDA graph"):
        torch.func.functional_call(one, dict(other.named_buffers()), (vectors(3, 40),))
    _, buffers = torch.func.stack_module_state([one, other])
    with pytest.raises(RuntimeError, match="the seeds of a stack of layers are read on the CPU"):
        torch.func.vmap(lambda b: torch.func.functional_call(one, ({}, b), (vectors(3, 40),)))(buffers)


# Which op is traced


@pytest.mark.skipif(_ops._UNSAFE is None, reason="this torch has no such tag")
def test_the_op_of_calls_through_the_host_has_a_tag() -> None:
    assert _ops._UNSAFE in torch.ops.opuproj.apply.default.tags
    assert _ops._UNSAFE not in torch.ops.opuproj.apply_on_device.default.tags


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
@pytest.mark.parametrize(
    ("x", "text"),
    [
        (vectors(4, 20), call(0, 6, seed=2**64 - 1)),
        (vectors(20, 4).T, call(2, 8, seed=5, mode="complex", n_anchor=7, dtype="complex128")),
        (gaussian(3, 20).requires_grad_(), call(5, 11, mode="intensity", digits=7)),
        (gaussian(3, 6), call(5, 11, mode="linear", adjoint=True)),
    ],
    ids=["real", "transposed", "gradient", "adjoint"],
)
def test_the_op_is_what_torch_asks_of_an_op(x: Any, text: str) -> None:
    assert set(torch.library.opcheck(_ops.apply_on_device, (x, text, None, None)).values()) == {"SUCCESS"}
    assert_same_bits(_ops.apply_on_device(x, text, None, None).detach(), _ops.apply(x, text, None, None).detach())


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CUDA backend is there. What is traced has no values, so nothing is launched."""
    monkeypatch.setitem(backends._registered, "cuda", Cuda(lambda device: standin_backend.StandIn()))


def ops_of(layer: Any, device: str, backward: bool = False) -> list[str]:
    """The ops of opuproj that a call, and its gradient, are traced as."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    def traced(x: Any) -> Any:
        y = layer(x)
        return torch.autograd.grad(y.abs().sum(), x)[0] if backward else y

    with FakeTensorMode(allow_non_fake_inputs=True):
        graph = make_fx(traced)(torch.empty(4, layer.n_inputs, device=device, requires_grad=backward)).graph
    return [node.target.name() for node in graph.nodes if "opuproj" in str(node.target)]


HOST, DEVICE = "opuproj::apply", "opuproj::apply_on_device"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, DEVICE),
        ({"mode": "complex", "digits": 5}, DEVICE),
        pytest.param(
            {"ternarize": Ternarize(RowMax(0.25))},
            DEVICE,
            marks=pytest.mark.skipif(torch.__version__ < (2, 5), reason="torch 2.4 calls CUDA to index a tensor"),
        ),
        ({"ensemble": "structured"}, DEVICE),
        ({"camera": Camera.ideal()}, DEVICE),
        ({"camera": CAMERA}, HOST),
        ({"camera": CAMERA, "digits": 5}, HOST),
    ],
    ids=str,
)
def test_a_layer_is_traced_as_an_op_that_a_graph_may_capture(options: Any, expected: str, with_gpu: None) -> None:
    layer = Projection(50, 20, **options)
    assert ops_of(layer, "cuda") == [expected]
    assert ops_of(layer, "cpu") == [HOST]


def test_too_long_vectors_go_through_the_host(with_gpu: None) -> None:
    assert ops_of(Projection(2**34, 20, ensemble="structured"), "cuda") == [DEVICE]
    assert ops_of(Projection(2**34 + 1, 20, ensemble="structured"), "cuda") == [HOST]


def test_without_a_gpu_a_cuda_tensor_goes_through_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backends._registered, "cuda", backends.backend("cpu"))
    assert ops_of(Projection(50, 20), "cuda") == [HOST]


@pytest.mark.parametrize(("mode", "n"), [("linear", 2), ("real", 2), ("complex", 2), ("intensity", 3)])
def test_a_gradient_is_traced_as_an_op_that_a_graph_may_capture(
    mode: Any, n: int, with_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = Projection(50, 20, mode=mode, digits=5)
    assert ops_of(layer, "cpu", backward=True) == [HOST] * n
    # torch follows no gradient of a fake CUDA tensor without a GPU, so the CPU stands for one.
    capturable = _ops._capturable
    monkeypatch.setattr(_ops, "_capturable", lambda _, text: capturable("cuda", text))
    assert ops_of(layer, "cpu", backward=True) == [DEVICE] * n


def test_another_layers_seed_is_read_on_the_host(with_gpu: None) -> None:
    one, other = Projection(50, 20, seed=1), Projection(50, 20, seed=2)

    class Replaced(torch.nn.Module):
        n_inputs = 50

        def forward(self, x: Any) -> Any:
            return torch.func.functional_call(one, dict(other.named_buffers()), (x,))

    assert ops_of(Replaced(), "cuda") == [HOST]


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_the_compiler_chooses_the_op_when_it_traces(device: str, with_gpu: None, monkeypatch: Any) -> None:
    capturable = _ops._capturable
    monkeypatch.setattr(
        _ops, "_capturable", torch.compiler.assume_constant_result(lambda _, text: capturable(device, text))
    )
    found: list[str] = []

    def backend(module: Any, _: Any) -> Any:
        found.extend(str(node.target) for node in module.graph.nodes if "opuproj" in str(node.target))
        return module.forward

    torch._dynamo.reset()
    layer = Projection(50, 20)
    assert_same_bits(torch.compile(layer, backend=backend, fullgraph=True)(vectors(4, 50)), layer(vectors(4, 50)))
    torch._dynamo.reset()
    assert found == [f"opuproj.{'apply_on_device' if device == 'cuda' else 'apply'}.default"]


@needs_standin
def test_what_a_capture_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", standin_backend.tensor_rows)
    backend = Cuda(lambda device: Captured())
    monkeypatch.setitem(backends._registered, standin_backend.DEVICE, backend)
    x, camera = torch.ones(3, 40), opuproj.Camera(photons=1e3)
    with pytest.raises(
        RuntimeError, match="noise_seed is None, but a CUDA graph, which is being captured, would repeat"
    ):
        opuproj.project(x, 30, camera=camera)
    opuproj.project(x, 30, camera=camera, noise_seed=3)
    batch = opuproj.pack(x)
    for read in (batch.to_numpy, batch.to_torch, lambda: batch.nnz, lambda: batch.to("cpu")):
        with pytest.raises(
            RuntimeError, match="a packed batch on a GPU cannot be copied to the host while a CUDA graph"
        ):
            read()
