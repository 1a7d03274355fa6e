"""The custom op of torch: what torch asks of one, compiled and exported."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import assert_same_bits

torch = pytest.importorskip("torch")
from opuproj import Camera  # noqa: E402
from opuproj._check import MODES  # noqa: E402
from opuproj.torch import Dither, Projection, RowMax, Ternarize, TopK, _ops  # noqa: E402
from tensors import BY_VECTOR, RULES, call, gaussian, vectors  # noqa: E402

CAMERA = Camera(photons=50, read_noise=0.01)
compiler = pytest.mark.skipif(
    not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))), reason="no C++ compiler"
)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("x", "arguments"),
    [
        (vectors(4, 20), (call(0, 6, seed=2**64 - 1), None)),
        (
            vectors(2, 3, 20, dtype=torch.int8),
            (call(2, 8, seed=5, mode="complex", n_anchor=7, dtype="complex128", threads=2), None),
        ),
        (
            vectors(20, 4).T,
            (call(2**40, 2**40 + 6, seed=2**63, mode="intensity", n_anchor=7, dtype="float64", threads=1), None),
        ),
        (vectors(20, dtype=torch.bfloat16), (call(3, 3, seed=2**63 - 1, mode="complex"), None)),
        (vectors(4, 20), (call(0, 6, n_anchor=4, camera=CAMERA), torch.tensor(7))),
        (vectors(0, 20, dtype=torch.int64), (call(0, 6, n_anchor=1, dtype="float64"), None)),
        (gaussian(3, 20), (call(5, 11, n_anchor=9, digits=7), None)),
    ],
    ids=["4, 20", "2, 3, 20", "transposed", "1-D", "camera", "empty", "digits"],
)
def test_the_op_is_what_torch_asks_of_an_op(x: Any, arguments: tuple) -> None:
    found = torch.library.opcheck(_ops.apply, (x, *arguments, None))
    assert set(found.values()) == {"SUCCESS"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ternarize", [None, BY_VECTOR])
@pytest.mark.parametrize("shape", [(50,), (4, 50), (2, 0, 3, 50)])
def test_shapes_are_known_without_values(mode: Any, ternarize: Any, shape: tuple[int, ...]) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    layer = Projection(50, 10**14, mode=mode, dtype=torch.float64, rows=(5, 10**14), ternarize=ternarize)
    y = layer(torch.empty(shape, device="meta"))
    assert (y.shape, y.dtype, y.device.type) == ((*shape[:-1], 10**14 - 5), layer.dtype, "meta")
    with FakeTensorMode():
        y = layer(torch.empty(shape))
    assert (y.shape, y.dtype, y.device.type) == ((*shape[:-1], 10**14 - 5), layer.dtype, "cpu")


@pytest.mark.parametrize("mode", MODES)
def test_it_compiles_into_one_graph(mode: Any, fresh_compiler: None) -> None:
    layer = Projection(50, 20, seed=2**64 - 1, mode=mode, rows=(3, 20))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for n in (4, 9, 0):
        assert_same_bits(compiled(vectors(n, 50)), layer(vectors(n, 50)))
    with pytest.raises(ValueError, match=r"x\[0, 0\] is 0\.5"):
        compiled(torch.full((4, 50), 0.5))
    # What is compiled is no copy of the seed: a state that is loaded counts.
    layer.load_state_dict(Projection(50, 20, seed=8, mode="intensity", rows=(3, 20)).state_dict())
    assert_same_bits(
        compiled(vectors(4, 50)), Projection(50, 20, seed=8, mode="intensity", rows=(3, 20))(vectors(4, 50))
    )


@pytest.mark.parametrize("rule", [RowMax(0.25), Dither(1.5), Dither("auto"), TopK(5)], ids=repr)
def test_it_compiles_into_one_graph_with_a_rule(rule: Any, fresh_compiler: None) -> None:
    layer = Projection(50, 20, seed=2**63, ternarize=Ternarize(rule))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for n in (4, 9):
        assert_same_bits(compiled(gaussian(n, 50)), layer(gaussian(n, 50)))


@compiler
def test_it_compiles_by_default(fresh_compiler: None) -> None:
    import torch._inductor.config as config

    layer = Projection(50, 20, seed=2**64 - 1, mode="complex")
    with config.patch(compile_threads=1, fx_graph_cache=False):
        compiled = torch.compile(layer, fullgraph=True, dynamic=True)
        for n in (4, 9):
            assert_same_bits(compiled(vectors(n, 50)), layer(vectors(n, 50)))


class Head(torch.nn.Module):
    """Random features of a hidden layer, and a readout."""

    def __init__(self, projection: Projection) -> None:
        super().__init__()
        self.hidden = torch.nn.Linear(12, projection.n_inputs)
        self.projection = projection
        self.readout = torch.nn.Linear(projection.rows[1] - projection.rows[0], 3)

    def forward(self, x: Any) -> Any:
        h = self.hidden(x)
        return self.readout(self.projection(h if self.projection.ternarize else h.detach().sign()).relu())


def exported(model: Any, x: Any) -> Any:
    """Export with any batch size, write to a file, and read it back."""
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return torch.export.load(file).module()


def test_it_exports_with_any_batch_size() -> None:
    layer = Projection(50, 20, seed=2**64 - 1, mode="complex", rows=(3, 20))
    program = exported(layer, vectors(4, 50))
    for n in (9, 4, 1, 0):
        assert_same_bits(program(vectors(n, 50)), layer(vectors(n, 50)))


@pytest.mark.long
@pytest.mark.parametrize("ternarize", [None, *(Ternarize(rule) for rule in RULES)], ids=repr)
def test_a_model_with_the_layer_exports_with_any_batch_size(ternarize: Any) -> None:
    torch.manual_seed(0)
    model = Head(Projection(50, 20, seed=2**63, mode="intensity", ternarize=ternarize)).eval()
    program = exported(model, gaussian(4, 12))
    for n in (9, 4, 1, 0):
        assert torch.allclose(program(gaussian(n, 12)), model(gaussian(n, 12)), rtol=1e-6)
