"""Layers of torch in models that are saved, loaded and copied."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
from helpers import assert_same_bits

torch = pytest.importorskip("torch")
from opuproj._check import MODES  # noqa: E402
from opuproj.torch import Projection, Ternarize, TopK, _numbers, _state  # noqa: E402
from tensors import BY_VECTOR, gaussian, vectors  # noqa: E402


def saved(state: Any) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def loaded(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), weights_only=True)


def same_state(a: Any, b: Any) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_there_is_nothing_to_train_and_nothing_stored() -> None:
    layer = Projection(10**6, 2 * 10**6, ternarize=BY_VECTOR)
    assert [*layer.parameters()] == []
    assert sum(buffer.numel() for buffer in layer.buffers()) == 32
    assert [*layer.state_dict()] == ["_extra_state"]
    assert len(pickle.dumps(layer)) < 2000


def test_the_state_is_tiny_and_comes_back() -> None:
    given = {"seed": 2**64 - 1, "mode": "complex", "rows": (3, 2 * 10**6 - 1), "n_anchor": 4096}
    layer = Projection(10**6, 2 * 10**6, **given)
    data = saved(layer.state_dict())
    assert len(data) < 2500
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
    assert same_state(other[1].state_dict(), layer.state_dict())


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
        ("complex", "real", torch.float64),
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
    assert same_state(layer.state_dict(), before)


# The state of a Projection(50, 20, seed=1) of versions that had no tensor for it.
BEFORE = {"version": 1, "shape": (20, 50), "rows": (0, 20), "seed": 1, "mode": "linear", "n_anchor": 64}


def test_a_state_of_an_earlier_version_loads() -> None:
    layer = Projection(50, 20, seed=9, mode="complex", ensemble="structured")
    for state in (BEFORE, {**BEFORE, "ensemble": "gaussian"}, {**BEFORE, "shape": [20, 50], "rows": [0, 20]}):
        layer.set_extra_state(state)
        assert same_state(layer.state_dict(), Projection(50, 20, seed=1).state_dict())
        layer.seed = 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "the state's version is 2, but this Projection's is 1"),
        ({"seed": -1}, "seed is -1"),
        ({"mode": "Linear"}, "mode is 'Linear'"),
        ({"n_anchor": 0}, "n_anchor is 0"),
        ({"shape": 20}, "the state's shape is 20"),
    ],
    ids=str,
)
def test_a_damaged_state_is_refused_and_changes_nothing(change: dict, message: str) -> None:
    layer = Projection(50, 20, seed=1)
    before = layer.state_dict()
    with pytest.raises(ValueError, match=message):
        layer.load_state_dict({"_extra_state": {**BEFORE, **change}})
    assert same_state(layer.state_dict(), before)


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


# A state is a tensor


def test_the_format_of_the_state_is_fixed() -> None:
    layer = Projection(50, 300, seed=2**63 + 10, mode="complex", rows=(3, 258), n_anchor=4096, ensemble="structured")
    numbers = layer.state_dict()["_extra_state"]
    assert (numbers.dtype, numbers.device.type) == (torch.float32, "cpu")
    assert "".join(f"{int(n):x}" for n in numbers) == (
        "10c210000000000000230000000000000030000000000000002010000000000000a00000000000000820000110fce380f9"
    )


def test_each_mode_has_its_number_in_the_state() -> None:
    numbers = {mode: _state.tensor_of(Projection(5, 4, mode=mode)._spec, 4)[82:84].tolist() for mode in MODES}
    assert numbers == {"intensity": [0, 0], "linear": [1, 0], "complex": [2, 0], "real": [3, 0]}


def averaged(state: Any, other: Any, how: str) -> Any:
    if how == "moving":
        for _ in range(100):
            state = state.mul(0.9).add(0.1 * other)
        return state
    if how == "sum":
        return sum([state] * 4 + [other]) / 5
    return torch.lerp(state, other, 0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("how", ["moving", "sum", "lerp"])
def test_a_mean_of_equal_states_is_that_state_and_of_unequal_ones_an_error(how: str, dtype: Any) -> None:
    layer = Projection(50, 20, seed=2**64 - 1, mode="intensity", n_anchor=1234)
    state = layer.get_extra_state().to(dtype)
    other = Projection(50, 20)
    other.set_extra_state(averaged(state, state, how))
    assert same_state(other.state_dict(), layer.state_dict())
    for seed in (0, 1, 2**64 - 3, 2**32):
        unlike = Projection(50, 20, seed=seed, mode="intensity", n_anchor=1234).get_extra_state().to(dtype)
        mean = averaged(state, unlike, how)
        if how == "moving":  # of which nothing of the first is left
            mean = state * 0.5 + mean * 0.5
        with pytest.raises(ValueError, match=r"the state of a Projection does not fit .* a mean over different"):
            other.set_extra_state(mean)
    assert same_state(other.state_dict(), layer.state_dict())


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (torch.full((98,), torch.nan), ValueError, "the state of a Projection does not fit its check value"),
        (torch.full((98,), torch.inf), ValueError, "does not fit its check value"),
        (torch.empty(0), ValueError, "does not fit its check value"),
        (torch.empty(98, device="meta"), ValueError, "the state of a Projection is a tensor on the device 'meta'"),
        (_numbers.tensor_of(b"\2 and more"), ValueError, "the state's version is 2, but this Projection's is 1"),
        (
            _numbers.tensor_of(b"\1 and more"),
            ValueError,
            "the state has 28 numbers: it does not belong",
        ),
        (_numbers.tensor_of(b"\1" + bytes(44)), ValueError, r"the state's shape is \(0, 0\)"),
        ([1, 2], TypeError, "the state is a list, but must be a tensor, or a dict"),
        ({}, ValueError, "the state has no 'version'"),
    ],
)
def test_what_is_no_state_is_refused(state: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        Projection(50, 20).set_extra_state(state)


def test_each_damaged_number_is_noticed() -> None:
    state = Projection(50, 20, seed=77).get_extra_state()
    for i in range(len(state)):
        damaged = state.clone()
        damaged[i] = (damaged[i] + 1) % 16
        with pytest.raises(ValueError, match="does not fit its check value"):
            Projection(50, 20).set_extra_state(damaged)


def test_a_state_is_checked_as_a_new_operator_is() -> None:
    spec = Projection(50, 20)._spec
    for change, message in (({"n_anchor": 5000}, "n_anchor is 5000"), ({"n_anchor": 0}, "n_anchor is 0")):
        with pytest.raises(ValueError, match=message):
            Projection(50, 20).set_extra_state(_state.tensor_of(spec.changed(**change), 20))


def network(**options: Any) -> Any:
    torch.manual_seed(0)
    layer = Projection(8, 20, digits=5, **options)
    return torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.BatchNorm1d(8), layer, torch.nn.Linear(20, 3)).eval()


def test_safetensors_hold_a_model(tmp_path: Any) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    x, model = gaussian(4, 8), network(seed=2**64 - 1, mode="intensity")
    safetensors.save_file(model.state_dict(), tmp_path / "file")
    safetensors.save_model(model, str(tmp_path / "model"))
    for load in (
        lambda other: other.load_state_dict(safetensors.load_file(tmp_path / "file")),
        lambda other: safetensors.load_model(other, str(tmp_path / "model")),
    ):
        other = network()
        load(other)
        assert_same_bits(other(x).detach(), model(x).detach())


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("decay", [None, 0.9])
def test_weights_are_averaged(decay: float | None, use_buffers: bool) -> None:
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    x, model = gaussian(4, 8), network(seed=2**64 - 1)
    how = {} if decay is None else {"multi_avg_fn": get_ema_multi_avg_fn(decay)}
    average = AveragedModel(model, use_buffers=use_buffers, **how)
    for _ in range(3):
        average.update_parameters(model)
    assert average.module[2].seed == 2**64 - 1
    torch.testing.assert_close(average(x), model(x), rtol=1e-4, atol=1e-4)


def test_a_layer_pickled_by_an_earlier_version_comes_back() -> None:
    layer = Projection(50, 20, seed=2**64 - 1, dtype=torch.float64)
    state = {**layer.__dict__, "seed": layer.seed, "_buffers": {}, "_non_persistent_buffers_set": set()}
    for name in ("_spec", "_call", "_real", "_own_seed_tensor", "_fingerprint"):
        del state[name]
    again = Projection.__new__(Projection)
    again.__setstate__(state)
    assert_same_bits(again(vectors(3, 50)), layer(vectors(3, 50)))
    assert same_state(again.state_dict(), layer.state_dict())
    assert again.seed == 2**64 - 1
    assert len([*again.buffers()]) == 1


def test_a_loader_may_fill_the_buffer_with_anything() -> None:
    # transformers' from_pretrained: a model on the device "meta", its state, and then memory for the other buffers.
    with torch.device("meta"):
        model = network()
    model[2].set_extra_state(Projection(8, 20, seed=77).get_extra_state())
    model[2]._seed_tensor = torch.full_like(model[2]._seed_tensor, torch.nan, device="cpu")
    x = gaussian(4, 8)
    assert_same_bits(model[2](x), Projection(8, 20, seed=77, digits=5)(x))
    _, stack = torch.func.stack_module_state([model[2], Projection(8, 20, seed=5, digits=5).eval()])
    y = torch.vmap(lambda buffers: torch.func.functional_call(model[2], buffers, (x,)))(stack)
    assert_same_bits(y[0], Projection(8, 20, seed=77, digits=5)(x))
    assert_same_bits(y[1], Projection(8, 20, seed=5, digits=5)(x))
