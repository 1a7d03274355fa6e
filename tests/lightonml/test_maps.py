"""The classes OPUMap work where scikit-learn and PyTorch expect them to."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import numpy as np
import pytest
from helpers import assert_same_bits
from lightonml_opus import binary, fitted, new
from opuproj import Camera
from opuproj.lightonml import set_verbose_level
from opuproj.lightonml.encoding.base import (
    BinaryThresholdEncoder,
    ConcatenatedBitPlanEncoder,
    MultiThresholdEncoder,
    NoDecoding,
    SequentialBaseTwoEncoder,
)

ARGUMENTS = "n_components opu ndims n_2d_features packed simulated max_n_features verbose_level"


def maps() -> list[Any]:
    found = []
    for library in ("sklearn", "torch"):
        try:
            found.append(pytest.importorskip(f"opuproj.lightonml.projections.{library}").OPUMap)
        except pytest.skip.Exception:
            continue
    return found


def sklearn_map(n_components: int = 50, max_n_features: int | None = 40, **options: Any) -> Any:
    pytest.importorskip("sklearn")
    from opuproj.lightonml.projections.sklearn import OPUMap

    return OPUMap(n_components, simulated=True, max_n_features=max_n_features, **options)


def torch_map(n_components: int = 50, max_n_features: int | None = 40, **options: Any) -> Any:
    pytest.importorskip("torch")
    from opuproj.lightonml.projections.torch import OPUMap

    return OPUMap(n_components, simulated=True, max_n_features=max_n_features, **options)


# Both


@pytest.mark.parametrize("make", maps(), ids=lambda make: make.__module__)
def test_arguments(make: Any) -> None:
    parameters = inspect.signature(make).parameters.values()
    assert " ".join(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD) == ARGUMENTS
    assert [*inspect.signature(make.fit).parameters] == ["self", "X", "y", "n_features", "packed", "online"]
    with pytest.raises(ValueError, match="When using simulated=True, you need to provide max_n_features"):
        make(50, simulated=True)
    with pytest.raises(RuntimeError, match="simulated is False"):
        make(50)
    with pytest.raises(ValueError, match="ndims is 3, but the number of input dimensions must be 1 or 2"):
        make(50, ndims=3, simulated=True, max_n_features=40)
    with pytest.raises(TypeError, match="opu is 7, but must be an"):
        make(50, opu=7)
    with pytest.raises(ValueError, match="seed is -1, but must be from 0"):
        make(50, opu=new(), seed=-1)


@pytest.mark.parametrize("make", maps(), ids=lambda make: make.__module__)
def test_an_opu_of_one_s_own(make: Any) -> None:
    opu = new(10, open_at_init=False)
    mapping = make(50, opu=opu, seed=3)
    assert mapping.opu is opu
    assert (opu.n_components, mapping.n_components, opu.seed) == (50, 50, 3)
    mapping.n_components = 20
    assert opu.n_components == 20
    with mapping:
        assert opu.device.active
    assert not opu.device.active


def test_verbose_level_is_set_for_all() -> None:
    try:
        assert sklearn_map(verbose_level=1).verbose_level == 1
        assert sklearn_map().verbose_level == 1
    finally:
        set_verbose_level(0)


# scikit-learn


def test_features_are_those_of_the_opu() -> None:
    X = binary(6, 40)
    y = sklearn_map(seed=2).fit_transform(X)
    assert type(y) is np.ndarray
    assert_same_bits(y, np.asarray(fitted(seed=2).transform(X)))
    assert_same_bits(sklearn_map(seed=2, ndims=2).fit_transform(X.reshape(6, 8, 5)), y)
    bits = np.packbits(X, axis=1)
    assert_same_bits(sklearn_map(seed=2, packed=True).fit_transform(bits), y)
    two_d = sklearn_map(seed=2, packed=True, ndims=2, n_2d_features=[8, 5])
    assert_same_bits(two_d.fit_transform(bits), y)
    assert_same_bits(sklearn_map(seed=2).fit(n_features=40, online=True).transform(X[0]), y[0])


def test_it_fits_itself_where_nobody_did(capsys: pytest.CaptureFixture[str]) -> None:
    X = binary(6, 40)
    mapping = sklearn_map()
    mapping.transform(X)
    mapping.transform(X)
    assert capsys.readouterr().out.count("OPUMap was not fit to data") == 1


def test_clones_copies_and_pickles_give_the_same() -> None:
    sklearn_base = pytest.importorskip("sklearn.base")
    X = binary(6, 40)
    mapping = sklearn_map(seed=5, ndims=1)
    y = mapping.fit_transform(X)
    clone = sklearn_base.clone(mapping)
    assert not clone.fitted
    assert clone.opu is not mapping.opu
    assert_same_bits(clone.fit_transform(X), y)
    for again in (copy.deepcopy(mapping), pickle.loads(pickle.dumps(mapping))):
        assert_same_bits(again.transform(X), y)
    clone.set_params(n_components=20)
    assert_same_bits(clone.transform(X), y[:, :20])
    assert mapping.n_components == 50


def test_parameters_that_are_set_change_the_features() -> None:
    X = binary(6, 40)
    camera = Camera(bits=4)
    mapping = sklearn_map(seed=5).fit(X)
    for change, seen in (({"seed": 6}, None), ({"max_n_features": 60}, None), ({"camera": camera}, camera)):
        mapping.set_params(**change)
        parameters = mapping.get_params()
        assert {name: parameters[name] for name in change} == change
        expected = fitted(seed=6, max_n_features=mapping.max_n_features, camera=seen)
        assert_same_bits(mapping.transform(X), np.asarray(expected.transform(X)))
    without = fitted(seed=6, max_n_features=60)
    assert_same_bits(mapping.set_params(camera=None).transform(X), np.asarray(without.transform(X)))
    with pytest.raises(ValueError, match="seed is -1, but must be from 0"):
        mapping.set_params(seed=-1)
    with pytest.raises(TypeError, match=r"camera is 8, but must be an opuproj\.Camera"):
        mapping.set_params(camera=8)


@pytest.mark.long
@pytest.mark.parametrize(
    "encoder",
    [BinaryThresholdEncoder(8), BinaryThresholdEncoder(), MultiThresholdEncoder(n_bins=4), SequentialBaseTwoEncoder(8)],
    ids=repr,
)
def test_a_pipeline_and_a_search_through_it(encoder: Any) -> None:
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_digits
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    X, y = load_digits(return_X_y=True)
    pipe = make_pipeline(encoder, sklearn_map(300, 1000), NoDecoding(), RidgeClassifier())
    search = GridSearchCV(pipe, {"opumap__n_components": [5, 300], "ridgeclassifier__alpha": [0.1, 1.0]}, cv=2)
    search.fit(X[:1000], y[:1000])
    assert search.best_params_["opumap__n_components"] == 300
    assert search.score(X[1000:], y[1000:]) > 0.75


def test_a_cloned_encoder_is_as_it_was_made() -> None:
    sklearn_base = pytest.importorskip("sklearn.base")
    encoder = BinaryThresholdEncoder(greater_is_one=False).fit(np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert encoder.threshold_enc.tolist() == [2, 3]
    clone = sklearn_base.clone(encoder)
    assert (clone.threshold_enc, clone.greater_is_one) == ("auto", False)
    assert sklearn_base.clone(ConcatenatedBitPlanEncoder(3, starting_bit=2)).starting_bit == 2


# PyTorch


def test_a_layer_gives_float32_without_a_gradient() -> None:
    torch = pytest.importorskip("torch")
    X = binary(6, 40)
    layer = torch_map(seed=2)
    layer.fit(torch.from_numpy(X))
    y = layer(torch.from_numpy(X).float().requires_grad_())
    assert (y.dtype, y.requires_grad) == (torch.float32, False)
    assert_same_bits(y.numpy(), np.asarray(fitted(seed=2).transform(X)))
    images = torch_map(seed=2, ndims=2)
    images.fit(n_features=(8, 5))
    assert_same_bits(images(torch.from_numpy(X).reshape(6, 8, 5)).numpy(), y.numpy())
    assert [*layer.parameters()] == []
    assert repr(layer) == "OPUMap(out_features=50, n_dims=1, packed=False, simulated=True)"
    for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert_same_bits(again(torch.from_numpy(X)).numpy(), y.numpy())


def test_online_does_not_round_to_integers(capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    X = torch.from_numpy(binary(6, 40))
    layer, online = torch_map(), torch_map()
    online.fit(X, online=True)
    assert online.online
    assert_same_bits(online(X).numpy(), layer(X).numpy())
    assert "Performing fit on the first batch" in capsys.readouterr().out


def test_a_layer_in_a_network_that_learns() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    X = torch.from_numpy(binary(64, 40))
    target = (X.float() @ torch.randn(40) > 0).long()
    layer = torch_map(200)
    layer.fit(X)
    model = torch.nn.Sequential(layer, torch.nn.Linear(200, 2))
    optimizer = torch.optim.Adam(model.parameters(), 0.03)
    losses = []
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(model(X), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_a_verbose_layer_says_that_gradients_end(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        set_verbose_level(1)
        torch_map()
    finally:
        set_verbose_level(0)
    assert "OPU output is detached from the computational graph." in capsys.readouterr().out
