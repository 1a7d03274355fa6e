"""Layers of torch in models that are saved, loaded and copied."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
from helpers import MODES, assert_same_bits

torch = pytest.importorskip("torch")
from opuproj.torch import Projection, Ternarize, TopK  # noqa: E402
from tensors import BY_VECTOR, gaussian, vectors  # noqa: E402


def saved(state: Any) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def loaded(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), weights_only=True)


def test_there_is_nothing_to_train_and_nothing_stored() -> None:
    layer = Projection(10**6, 2 * 10**6, ternarize=BY_VECTOR)
    assert [*layer.parameters(), *layer.buffers()] == []
    assert len(pickle.dumps(layer)) < 2000


def test_the_state_is_tiny_and_comes_back() -> None:
    given = {"seed": 2**64 - 1, "mode": "complex", "rows": (3, 2 * 10**6 - 1), "n_anchor": 4096}
    layer = Projection(10**6, 2 * 10**6, **given)
    data = saved(layer.state_dict())
    assert len(data) < 2000
    again = Projection(10**6, 2 * 10**6, rows=(3, 2 * 10**6 - 1))
    assert again.load_state_dict(loaded(data)) == torch.nn.Module().load_state_dict({})  # all keys match
    for name, value in given.items():
        assert getattr(again, name) == value
    assert saved(again.state_dict()) == data


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("before", MODES)
def test_loading_takes_on_the_matrix(mode: Any, before: Any) -> None:
    layer = Projection(50, 20, seed=2**63 + 5, mode=mode, n_anchor=9, rows=(4, 15))
    model = torch.nn.Sequential(torch.nn.Identity(), layer)
    other = torch.nn.Sequential(torch.nn.Identity(), Projection(50, 20, seed=1, mode=before, rows=range(4, 15)))
    x = vectors(3, 50)
    assert not torch.equal(other(x), model(x))
    other.load_state_dict(loaded(saved(model.state_dict())))
    assert_same_bits(other(x), model(x))
    assert other[1].dtype == layer.dtype
    assert other[1].state_dict() == layer.state_dict()


def test_loading_keeps_what_tells_no_matrices_apart() -> None:
    state = Projection(50, 20, seed=7).state_dict()
    layer = Projection(50, 20, dtype=torch.float64, threads=2, ternarize=Ternarize(TopK(3)))
    layer.load_state_dict(state)
    assert (layer.seed, layer.dtype, layer.threads, layer.ternarize) == (7, torch.float64, 2, Ternarize(TopK(3)))


@pytest.mark.parametrize(
    ("before", "after", "dtype"),
    [
        ("linear", "intensity", torch.float64),
        ("linear", "complex", torch.complex128),
        ("complex", "linear", torch.float64),
    ],
)
def test_loading_keeps_double_precision(before: Any, after: Any, dtype: Any) -> None:
    layer = Projection(50, 20, mode=before, dtype=torch.float64)
    layer.load_state_dict(Projection(50, 20, mode=after).state_dict())
    assert layer.dtype == dtype


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Projection(51, 20), r"shape is \(20, 51\), but this Projection's is \(20, 50\)"),
        (Projection(50, 21), r"shape is \(21, 50\)"),
        (Projection(50, 20, rows=(0, 19)), r"rows is \(0, 19\), but this Projection's is \(0, 20\)"),
    ],
)
def test_a_state_of_another_shape_is_refused_and_changes_nothing(other: Any, message: str) -> None:
    layer = Projection(50, 20, seed=1)
    before = layer.state_dict()
    for model, state in (
        (layer, other.state_dict()),
        (torch.nn.Sequential(layer), torch.nn.Sequential(other).state_dict()),
    ):
        with pytest.raises(ValueError, match=f"the state's {message}"):
            model.load_state_dict(state)
    assert layer.state_dict() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "the state's version is 2, but this Projection's is 1"),
        ({"seed": -1}, "seed is -1"),
        ({"mode": "Linear"}, "mode is 'Linear'"),
        ({"n_anchor": 0}, "n_anchor is 0"),
    ],
    ids=str,
)
def test_a_damaged_state_is_refused_and_changes_nothing(change: dict, message: str) -> None:
    layer = Projection(50, 20, seed=1)
    before = layer.state_dict()
    with pytest.raises(ValueError, match=message):
        layer.load_state_dict({"_extra_state": {**before["_extra_state"], **change}})
    assert layer.state_dict() == before


def test_a_state_without_the_layer_is_refused() -> None:
    with pytest.raises(RuntimeError, match="Missing key"):
        torch.nn.Sequential(Projection(50, 20)).load_state_dict({})


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_are_the_same_layer_and_independent(copied: Any) -> None:
    layer = Projection(
        50, 20, seed=2**64 - 1, mode="complex", rows=(2, 9), dtype=torch.complex128, threads=1, ternarize=BY_VECTOR
    )
    again = copied(layer)
    e = gaussian(4, 50)
    y = layer(e)
    assert repr(again) == repr(layer)
    assert_same_bits(again(e), y)
    again.load_state_dict(Projection(50, 20, rows=(2, 9)).state_dict())
    assert_same_bits(layer(e), y)


def test_what_print_shows() -> None:
    assert repr(Projection(50, 20)) == "Projection(50, 20, seed=0, mode='linear')"
    layer = Projection(50, 20, seed=2**64 - 1, mode="complex", rows=(2, 9), ternarize=Ternarize(TopK(3)))
    for part in ("seed=18446744073709551615", "mode='complex'", "rows=(2, 9)", "TopK(k=3)"):
        assert part in repr(layer)
