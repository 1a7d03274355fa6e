"""GradientProjector against products with the entries of its matrix, on every backend."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import opuproj
import pytest

torch = pytest.importorskip("torch")

from helpers import assert_same_bits  # noqa: E402
from opuproj.attribution import GradientProjector  # noqa: E402

N, DIM, OUT = 3, 1000, 37


def gradients(n: int = N, dim: int = DIM, seed: int = 0) -> Any:
    """Return gradients whose sizes span many orders of magnitude, in runs of 100 elements."""
    random = torch.Generator().manual_seed(seed)
    sizes = 10.0 ** (-6 * torch.rand(-(-dim // 100), generator=random))
    return torch.randn(n, dim, generator=random) * sizes.repeat_interleave(100)[:dim]


def dense(grads: Any, seed: int = 0, out: int = OUT) -> Any:
    """Return the product with the stored matrix, in float64."""
    op = opuproj.Projector(grads.shape[1], out, seed=seed, mode="real", dtype="float64")
    return grads.double() @ torch.from_numpy(op.matrix()).T


def error(found: Any, wanted: Any) -> float:
    return float((found.double() - wanted).norm() / wanted.norm())


@pytest.mark.every_backend
@pytest.mark.parametrize("block", [16, 48, 512, 65_536])
@pytest.mark.parametrize("dim", [1, 16, 17, 1000, 1537])
def test_it_multiplies_by_the_matrix(block: int, dim: int) -> None:
    grads = gradients(dim=dim)
    projector = GradientProjector(dim, OUT, seed=5, block_size=block)
    assert error(projector.project(grads, 0), dense(grads, 5)) < 1e-4


@pytest.mark.every_backend
def test_one_block_gives_the_bits_of_the_operator() -> None:
    grads = gradients()
    found = GradientProjector(DIM, OUT, seed=3, digits=7).project(grads, 0)
    wanted = opuproj.project(grads, OUT, seed=3, mode="real", digits=7)
    assert_same_bits(found.numpy(), wanted.numpy())


@pytest.mark.every_backend
@pytest.mark.parametrize("digits", [1, 5, 10, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blocks_add_up_exactly(digits: int, dtype: Any) -> None:
    """Each block has the bits of a projection of a vector that is 0 outside of it."""
    grads, block = gradients().to(dtype), 144
    found = GradientProjector(DIM, OUT, block_size=block, digits=digits).project(grads, 0)
    wanted = torch.zeros(N, OUT, dtype=dtype)
    for start in range(0, DIM, block):
        alone = torch.zeros_like(grads)
        alone[:, start : start + block] = grads[:, start : start + block]
        name = str(dtype).removeprefix("torch.")
        wanted += opuproj.project(alone, OUT, mode="real", digits=digits, dtype=name)
    assert_same_bits(found.numpy(), wanted.numpy())


def test_small_gradients_survive_a_large_one() -> None:
    grads = 1e-5 * gradients() / gradients().abs().max()
    grads[:, 17] = 1.0
    other = grads.clone()
    other[:, 17] = 0.0
    column = dense(torch.eye(DIM)[17:18])
    found = GradientProjector(DIM, OUT, block_size=32).project(grads, 0) - column * grads[:, 17:18]
    coarse = opuproj.project(grads, OUT, mode="real", digits=10) - column * grads[:, 17:18]
    assert error(found, dense(other)) < 0.1
    assert error(coarse, dense(other)) > 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_results_have_the_dtype_of_the_gradients(dtype: Any) -> None:
    grads = gradients().to(dtype)
    found = GradientProjector(DIM, OUT, block_size=64).project(grads, 0)
    assert found.dtype == dtype
    assert found.shape == (N, OUT)
    assert error(found, dense(grads)) < {torch.float16: 1e-3, torch.bfloat16: 1e-2}.get(dtype, 1e-4)


def test_a_mapping_is_its_tensors_side_by_side() -> None:
    grads = gradients()
    named = {
        "weight": grads[:, :600].reshape(N, 20, 30),
        "bias": grads[:, 600],
        "empty": grads[:, 601:601].reshape(N, 0, 7),
        "head": grads[:, 601:].reshape(N, 399, 1),
    }
    for block in (16, 304, 65_536):
        projector = GradientProjector(DIM, OUT, block_size=block)
        assert_same_bits(projector.project(named, 0).numpy(), projector.project(grads, 0).numpy())


def test_a_mapping_may_mix_dtypes() -> None:
    grads = gradients()
    named = {"a": grads[:, :300].to(torch.bfloat16), "b": grads[:, 300:]}
    found = GradientProjector(DIM, OUT, block_size=64).project(named, 0)
    assert found.dtype == torch.float32
    assert error(found, dense(torch.cat([named["a"].float(), named["b"]], dim=1))) < 1e-4


def test_each_model_has_a_matrix_of_its_own() -> None:
    grads, projector = gradients(), GradientProjector(DIM, OUT, seed=2**64 - 1)
    found = [projector.project(grads, model) for model in range(3)]
    assert error(found[0], dense(grads, 2**64 - 1)) < 1e-4
    assert error(found[2], dense(grads, (2**64 - 1 + 2 * 0x9E3779B97F4A7C15) % 2**64)) < 1e-4
    assert error(found[1], found[2].double()) > 0.5
    assert_same_bits(projector.project(grads).numpy(), found[0].numpy())


def test_the_structured_ensemble() -> None:
    grads = gradients()
    found = GradientProjector(DIM, OUT, seed=1, ensemble="structured").project(
        {"a": grads[:, :1], "b": grads[:, 1:]}, 0
    )
    wanted = opuproj.project(grads, OUT, seed=1, mode="real", ensemble="structured")
    assert_same_bits(found.numpy(), wanted.numpy())


def test_inner_products_are_kept() -> None:
    """The estimate of TRAK: inner products of projections, over proj_dim."""
    grads, out = gradients(8), 4096
    found = GradientProjector(DIM, out, block_size=256).project(grads, 0).double()
    norms = grads.double().norm(dim=1)
    cosines = (found @ found.T / out) / torch.outer(norms, norms)
    true = (grads.double() @ grads.double().T) / torch.outer(norms, norms)
    assert float((cosines - true).abs().max()) < 6 / math.sqrt(out)


def test_no_examples_and_gradients_that_need_gradients() -> None:
    projector = GradientProjector(DIM, OUT)
    assert projector.project(torch.empty(0, DIM), 0).shape == (0, OUT)
    named = {"weight": torch.empty(0, 9, 111), "bias": torch.empty(0)}
    assert projector.project(named, 0).shape == (0, OUT)
    found = projector.project(gradients().requires_grad_(), 0)
    assert not found.requires_grad
    projector.free_memory()
    assert_same_bits(projector.project(gradients(), 0).numpy(), found.numpy())


def test_progress_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    GradientProjector(DIM, OUT, block_size=16, progress=True).project(gradients(), 0)
    assert "100%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "text", "arguments"),
    [
        (ValueError, "grad_dim is 0", {"grad_dim": 0}),
        (TypeError, "proj_dim is 1.5", {"proj_dim": 1.5}),
        (ValueError, "seed is -1", {"seed": -1}),
        (ValueError, "proj_type is 'rademacher', but must be 'normal'", {"proj_type": "rademacher"}),
        (ValueError, "ensemble is 'sparse'", {"ensemble": "sparse"}),
        (ValueError, "digits is 21, but must be from 1 to 20", {"digits": 21}),
        (ValueError, "block_size is 8, but must be from 16", {"block_size": 8}),
        (ValueError, "block_size is 100, but must be a multiple of 16", {"block_size": 100}),
        (ValueError, "threads is 0", {"threads": 0}),
    ],
)
def test_bad_arguments(kind: Any, text: str, arguments: Any) -> None:
    with pytest.raises(kind, match=text):
        GradientProjector(**{"grad_dim": DIM, "proj_dim": OUT, **arguments})


@pytest.mark.parametrize(
    ("kind", "text", "grads"),
    [
        (TypeError, "grads is a ndarray, but must be a torch.Tensor", np.zeros((2, DIM))),
        (TypeError, r"grads\['a'\] is a list", {"a": [1.0]}),
        (
            TypeError,
            "grads is of torch.int64, but must be of a floating-point dtype",
            torch.zeros(2, DIM, dtype=torch.int64),
        ),
        (ValueError, r"grads has shape \(1000,\), but must have shape \(n, 1000\)", torch.zeros(DIM)),
        (ValueError, "grads has 999 elements for each example, but grad_dim is 1,000", torch.zeros(2, DIM - 1)),
        (ValueError, "grads has 0 elements for each example", {}),
        (
            ValueError,
            r"grads\['b'\] has 3 examples, but the first tensor has 2",
            {"a": torch.zeros(2, 1), "b": torch.zeros(3, 999)},
        ),
    ],
)
def test_bad_gradients(kind: Any, text: str, grads: Any) -> None:
    with pytest.raises(kind, match=text):
        GradientProjector(DIM, OUT).project(grads, 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_has_a_place(bad: float) -> None:
    grads = gradients()
    grads[2, 70] = bad
    with pytest.raises(ValueError, match=r"grads\[:, 64:\]\[2, 6\]"):
        GradientProjector(DIM, OUT, block_size=64).project(grads, 0)
    with pytest.raises(ValueError, match="model_id is -1"):
        GradientProjector(DIM, OUT).project(gradients(), -1)
