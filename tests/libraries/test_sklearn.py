"""The transformers meet scikit-learn's requirements, and return the operator's results."""

from __future__ import annotations

import base64
import copy
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import opuproj
import pytest
from helpers import assert_same_bits, ternary
from opuproj import Camera

pytest.importorskip("sklearn", minversion="1.6")
sparse = pytest.importorskip("scipy.sparse")

from opuproj.sklearn import (  # noqa: E402
    OpticalRandomFeatures,
    OpticalRandomProjection,
    _blocks,
    johnson_lindenstrauss_min_dim,
)
from sklearn.base import clone  # noqa: E402
from sklearn.exceptions import DataDimensionalityWarning, NotFittedError  # noqa: E402
from sklearn.linear_model import RidgeClassifier  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

BOTH = pytest.mark.parametrize("make", [OpticalRandomFeatures, OpticalRandomProjection])
NOISY = Camera(photons=100, read_noise=0.01)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def mixed(n_rows: int = 12, n_inputs: int = 300) -> np.ndarray:
    """Return ternary and other rows, with enough zeros for a sparse matrix."""
    X = ternary(n_rows, n_inputs, density=0.1).astype(np.float64)
    X[1::3] *= numbers(*X[1::3].shape)
    return X


def expected(X: np.ndarray, make: Any, n: int, seed: int, digits: int = 5, dtype: Any = np.float64) -> np.ndarray:
    """Return the results row by row, from the package's own functions."""
    mode = "intensity" if make is OpticalRandomFeatures else "real"
    rows = []
    for x in X:
        code = None if np.isin(x, (-1, 0, 1)).all() else digits
        rows.append(opuproj.project(x, n, seed=seed, mode=mode, digits=code, dtype=dtype))
    result = np.array(rows)
    result *= n**-0.5
    return result


# scikit-learn's requirements


@pytest.fixture
def no_advice() -> Iterator[None]:
    """Ignore warnings of scikit-learn's checks, which have fewer features than the lemma demands."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataDimensionalityWarning)
        yield


@pytest.mark.usefixtures("no_advice")
@parametrize_with_checks(
    [
        OpticalRandomFeatures(),
        OpticalRandomFeatures(20, scale="intensity", digits=10),
        OpticalRandomProjection(),
        OpticalRandomProjection(mode="linear"),
        OpticalRandomProjection(2, mode="linear", camera=Camera(bits=10)),
        OpticalRandomProjection(2, mode="linear", camera=NOISY, noise_seed=1),
    ]
)
def test_the_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize(
    "transformer",
    [
        OpticalRandomFeatures(7, random_state=5, camera=Camera.ideal()),
        OpticalRandomProjection(7, random_state=5),
        OpticalRandomProjection(7, random_state=5, mode="linear", n_anchor=9, camera=Camera.ideal()),
    ],
    ids=repr,
)
def test_clones_copies_and_pickles_give_the_same(transformer: Any) -> None:
    X = mixed()
    transformer = clone(transformer).fit(X)
    y = transformer.transform(X)
    for again in (copy.deepcopy(transformer), pickle.loads(pickle.dumps(transformer)), clone(transformer).fit(X)):
        assert_same_bits(again.transform(X), y)
        assert again.get_params() == transformer.get_params()
    with pytest.raises(NotFittedError):
        clone(transformer).transform(X)


@BOTH
def test_outputs_have_names(make: Any) -> None:
    transformer = make(3).fit(mixed())
    name = make.__name__.lower()
    assert transformer.get_feature_names_out().tolist() == [f"{name}{i}" for i in range(3)]
    assert type(transformer.set_output(transform="default").transform(mixed())) is np.ndarray


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_outputs_are_data_frames_where_asked_for(library: str) -> None:
    pytest.importorskip(library)
    X = mixed()
    transformer = OpticalRandomProjection(3, random_state=0).fit(X)
    y = transformer.transform(X)
    frame = transformer.set_output(transform=library).transform(X)
    assert list(frame.columns) == list(transformer.get_feature_names_out())
    assert_same_bits(frame.to_numpy(), y)


@pytest.mark.long
def test_a_search_in_two_processes_chooses_the_number_of_components() -> None:
    X = ternary(200, 50)
    y = (X @ numbers(50) > 0).astype(int)
    pipe = make_pipeline(OpticalRandomProjection(random_state=0, threads=1), RidgeClassifier())
    grid = {"opticalrandomprojection__n_components": [1, 40], "opticalrandomprojection__digits": [5, None]}
    search = GridSearchCV(pipe, grid, cv=2, n_jobs=2).fit(X, y)
    assert search.best_params_["opticalrandomprojection__n_components"] == 40
    assert search.score(X, y) > 0.8
    scores = search.cv_results_["mean_test_score"]
    assert_same_bits(scores[:2], scores[2:])  # ternary vectors have no digits


def test_tags() -> None:
    from sklearn.utils import get_tags

    quiet = Camera(bits=4, full_scale=3.0)
    for camera, noisy in ((None, False), (Camera.ideal(), False), (quiet, False), (NOISY, True)):
        tags = get_tags(OpticalRandomProjection(mode="linear", camera=camera))
        assert tags.input_tags.sparse
        assert tags.transformer_tags.preserves_dtype == ["float64", "float32"]
        assert tags.non_deterministic is noisy


# Results


@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_are_those_of_the_operator_row_by_row(make: Any, dtype: Any) -> None:
    X = mixed().astype(dtype)
    for x in (X, X[::3], X[1::3]):  # both kinds of rows, ternary ones, others
        assert_same_bits(make(40, random_state=3).fit_transform(x), expected(x, make, 40, 3, dtype=dtype))


@BOTH
@pytest.mark.parametrize("form", ["csr_array", "csc_matrix", "coo_array", "lil_matrix"])
def test_sparse_input_gives_the_bits_of_dense_input(make: Any, form: str) -> None:
    X = mixed()
    transformer = make(40, random_state=3).fit(X)
    for x in (X, X[::3], X[1::3]):
        assert_same_bits(transformer.transform(getattr(sparse, form)(x)), transformer.transform(x))


@BOTH
def test_a_result_depends_on_its_own_row_alone(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    X = mixed(70)
    transformer = make(40, random_state=3).fit(X)
    whole = transformer.transform(X)
    order = np.random.default_rng(0).permutation(70)
    assert_same_bits(transformer.transform(X[order]), whole[order])
    for i in range(4):
        assert_same_bits(transformer.transform(X[i : i + 1]), whole[i : i + 1])
    # Nor does it depend on the borders of blocks.
    monkeypatch.setattr(_blocks._memory, "BLOCK_BYTES", 1)
    monkeypatch.setattr(_blocks._memory, "PIECE_BYTES", 1)
    for x in (X, np.asfortranarray(X), sparse.csr_array(X)):
        assert_same_bits(transformer.transform(x), whole)


def test_a_sparse_matrix_is_never_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 10**6
    X = sparse.csr_array((np.array([1.0, -1.0]), (np.array([0, 1]), np.array([5, n - 1]))), shape=(2, n))
    monkeypatch.setattr(sparse.csr_array, "toarray", None)
    y = OpticalRandomFeatures(8, random_state=0).fit_transform(X)
    field = opuproj.Projector(n, 8, mode="complex", dtype=np.float64).matrix(columns=[5, n - 1])
    np.testing.assert_allclose(y, np.abs(field.T) ** 2 / np.sqrt(8), rtol=1e-12)
    X = sparse.random_array((50, 10_000), density=1e-3, format="csr", rng=0)
    y = OpticalRandomProjection(4, random_state=0).fit_transform(X)
    monkeypatch.undo()
    assert_same_bits(y, expected(X.toarray(), OpticalRandomProjection, 4, 0))
    for digits in (None, 5):
        noisy = OpticalRandomFeatures(8, digits=digits, camera=opuproj.Camera())
        with monkeypatch.context() as patch:
            patch.setattr(sparse.csr_array, "toarray", None)
            with pytest.raises(ValueError, match=r"^X\[0, \d+\] is 0\.\d+, but must be"):
                noisy.fit_transform(X)


def test_spare_room_of_a_sparse_matrix_is_not_read() -> None:
    dense = mixed()
    X = sparse.csr_matrix(dense)
    X.data, X.indices = np.append(X.data, [np.nan, 9]), np.append(X.indices, np.int32([0, 1000]))
    transformer = OpticalRandomFeatures(8, random_state=0).fit(X)
    assert_same_bits(transformer.transform(X), transformer.transform(dense))


def test_duplicates_of_a_sparse_matrix_are_added_up() -> None:
    # 200 + 100 in uint8 would be 44, and 2 - 1 is ternary although its parts are not.
    X = sparse.csr_array((np.array([200, 100], np.uint8), np.array([1, 1]), np.array([0, 2])), shape=(1, 3))
    Y = sparse.csr_array((np.array([2.0, -1.0]), np.array([1, 1]), np.array([0, 2])), shape=(1, 3))
    transformer = OpticalRandomFeatures(9, random_state=0, digits=None).fit(Y)
    assert_same_bits(transformer.transform(Y), transformer.transform([[0.0, 1.0, 0.0]]))
    transformer.set_params(digits=5)
    assert_same_bits(transformer.transform(X), transformer.transform(np.array([[0, 300, 0]], np.int16)))
    assert X.nnz == Y.nnz == 2


@BOTH
@pytest.mark.parametrize("dtype", ["?", "i1", "u1", "i2", "i4", "i8", "f2", "f4", "f8"])
def test_precision_follows_that_of_the_input(make: Any, dtype: str) -> None:
    X = np.abs(ternary(5, 20)).astype(dtype)
    y = make(6, random_state=1).fit_transform(X)
    wide = np.float64 if dtype in ("i4", "i8", "f8") else np.float32
    assert_same_bits(y, expected(X, make, 6, 1, dtype=wide))


def test_features_estimate_the_kernel() -> None:
    X = numbers(6, 30)
    n = 200_000
    Z = OpticalRandomFeatures(n, digits=10, random_state=0).fit_transform(X)
    squares = (X**2).sum(1)
    norms = np.outer(squares, squares)
    rho = (X @ X.T) ** 2 / norms
    error = (Z @ Z.T - norms * (1 + rho)) / norms / np.sqrt((3 + 14 * rho + 3 * rho**2) / n)
    assert np.abs(error).max() < 4.5  # standard deviations, of 21 different ones
    assert error[np.triu_indices(6)].std() > 0.3
    raw = OpticalRandomFeatures(n, scale="intensity", digits=10, random_state=0).fit_transform(X)
    assert_same_bits(raw, opuproj.project(X, n, digits=10, dtype=np.float64))


@BOTH
def test_more_components_keep_those_that_were_there(make: Any) -> None:
    X = mixed()
    few, many = (make(n, random_state=1).fit_transform(X) * np.sqrt(n) for n in (16, 64))
    np.testing.assert_allclose(many[:, :16], few, rtol=1e-14)


def test_projections_keep_distances_as_the_lemma_says() -> None:
    X = numbers(60, 5000)
    eps = 0.25
    projection = OpticalRandomProjection(eps=eps, random_state=0).fit(X)
    assert projection.n_components_ == johnson_lindenstrauss_min_dim(60, eps=eps) == 628
    y = projection.transform(X)
    pairs = np.triu_indices(60, 1)
    ratio = ((y[pairs[0]] - y[pairs[1]]) ** 2).sum(1) / ((X[pairs[0]] - X[pairs[1]]) ** 2).sum(1)
    assert np.abs(ratio - 1).max() < eps
    assert (ratio - 1).std() == pytest.approx(np.sqrt(2 / 628), rel=0.2)


def test_the_operator_is_there_to_look_at() -> None:
    X = ternary(5, 20).astype(float)
    projection = OpticalRandomProjection(6, n_anchor=100, random_state=1)
    for mode in ("real", "linear"):
        projection.set_params(mode=mode).fit(X)
        operator = opuproj.Projector(20, 6, seed=1, mode=mode, n_anchor=100, dtype=np.float64)
        assert projection.projector_ == operator
        np.testing.assert_allclose(projection.transform(X), X @ operator.matrix().T / np.sqrt(6), rtol=1e-12)


def test_a_new_estimator_has_the_real_matrix() -> None:
    X = mixed()
    y = OpticalRandomProjection(9, random_state=4).fit_transform(X)
    assert_same_bits(y, OpticalRandomProjection(9, random_state=4, mode="real").fit_transform(X))
    assert not np.array_equal(y, OpticalRandomProjection(9, random_state=4, mode="linear").fit_transform(X))


# OpticalRandomProjection(4, random_state=3, n_anchor=9), fitted to OLD_X and pickled before there was a mode.
OLD_X = np.arange(-7, 8).reshape(3, 5) / 7
OLD = base64.b64decode(
    """
    gASVhwEAAAAAAACMGm9wdXByb2ouc2tsZWFybi5wcm9qZWN0aW9ulIwXT3B0aWNhbFJhbmRvbVByb2plY3Rpb26Uk5QpgZR9lCiM
    DG5fY29tcG9uZW50c5RLBIwGZGlnaXRzlEsFjAxyYW5kb21fc3RhdGWUSwOMBmNhbWVyYZROjApub2lzZV9zZWVklE6MB3RocmVh
    ZHOUTowDZXBzlEc/uZmZmZmZmowIbl9hbmNob3KUSwmMDm5fZmVhdHVyZXNfaW5flEsFjAVzZWVkX5RLA4wNbl9jb21wb25lbnRz
    X5RLBIwKcHJvamVjdG9yX5SMEW9wdXByb2oucHJvamVjdG9ylIwIX3Jlc3RvcmWUk5R9lCiMCG5faW5wdXRzlEsFjAluX291dHB1
    dHOUSwSMBHNlZWSUSwOMBG1vZGWUjAZsaW5lYXKUjAhlbnNlbWJsZZSMCGdhdXNzaWFulGgMSwloCE6MBWR0eXBllIwHZmxvYXQ2
    NJRoCk6MCXJvd19zdGFydJRLAHWFlFKUdWIu
    """
)
OLD_Y = """
    -0x1.cc821918e5eecp-1 -0x1.da1b22a8943ffp-7 0x1.ac96df3e5c2dcp-2 -0x1.7cda56b687abep-5
    0x1.bd9aba152353dp-3 -0x1.57fb88b4ae822p-3 0x1.cc620e7f08a95p-5 0x1.c72f7dc6ca858p-4
    0x1.5607e222971f8p+0 -0x1.4e443b3d44b67p-2 -0x1.3ada20a523f2bp-2 0x1.177c1bf223a45p-2
"""


def test_an_estimator_pickled_before_there_was_a_mode_gives_the_bits_it_gave() -> None:
    old = pickle.loads(OLD)
    y = np.array([float.fromhex(value) for value in OLD_Y.split()]).reshape(3, 4)
    for same in (old, clone(old).fit(OLD_X), pickle.loads(pickle.dumps(old)), copy.copy(old), copy.deepcopy(old)):
        assert same.get_params()["mode"] == "linear"
        assert_same_bits(same.transform(OLD_X), y)


# Random numbers


@BOTH
def test_an_integer_is_the_seed_itself(make: Any) -> None:
    X = ternary(3, 20)
    for seed in (0, 2**64 - 1, np.int64(7)):
        transformer = make(6, random_state=seed).fit(X)
        assert transformer.seed_ == seed
        assert_same_bits(transformer.transform(X), expected(X, make, 6, int(seed), dtype=np.float32))


@BOTH
def test_a_generator_draws_a_seed_at_each_fit(make: Any) -> None:
    X = ternary(3, 20)
    transformer = make(6, random_state=np.random.RandomState(0))
    seeds = [transformer.fit(X).seed_ for _ in range(3)]
    again = make(6, random_state=np.random.RandomState(0))
    assert [again.fit(X).seed_ for _ in range(3)] == seeds
    assert len(set(seeds)) == 3
    fresh = make(6)
    first = fresh.fit(X).seed_
    y = fresh.transform(X)
    assert_same_bits(fresh.transform(X), y)
    assert fresh.fit(X).seed_ != first
    assert_same_bits(make(6, random_state=first).fit_transform(X), y)


# The camera


def test_a_camera_sees_ternary_vectors_as_the_operator_does() -> None:
    X = ternary(8, 40)
    camera = Camera(bits=8, full_scale=4.0)  # without noise
    y = OpticalRandomFeatures(30, scale="intensity", camera=camera, random_state=2).fit_transform(X)
    assert_same_bits(y, opuproj.project(X, 30, seed=2, camera=camera))
    assert not np.array_equal(y, opuproj.project(X, 30, seed=2))
    Y = mixed()
    projection = OpticalRandomProjection(30, mode="linear", camera=camera, random_state=2).fit(Y)
    rows = [projection.projector_(y, digits=None if np.isin(y, (-1, 0, 1)).all() else 5) for y in Y]
    assert_same_bits(projection.transform(Y), np.array(rows) * 30**-0.5)


def test_noise_is_fresh_unless_it_has_a_seed() -> None:
    X = mixed()
    projection = OpticalRandomProjection(30, mode="linear", camera=NOISY, random_state=2).fit(X)
    assert not np.array_equal(projection.transform(X), projection.transform(X))
    projection.set_params(noise_seed=4)
    y = projection.transform(X)
    assert_same_bits(projection.transform(X), y)
    assert not np.array_equal(projection.set_params(noise_seed=5).transform(X), y)


@pytest.mark.parametrize("noise_seed", [3, None])
@pytest.mark.parametrize("block_bytes", [1 << 25, 1])
def test_no_two_places_have_the_same_noise(
    block_bytes: int, noise_seed: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_blocks._memory, "BLOCK_BYTES", block_bytes)
    X = mixed(2)[np.tile([0, 1], 40)]
    projection = OpticalRandomProjection(30, mode="linear", camera=NOISY, noise_seed=noise_seed, random_state=2)
    y = projection.fit_transform(X)
    assert len(np.unique(y[::2], axis=0)) == len(np.unique(y[1::2], axis=0)) == 40


def test_noise_depends_on_a_vectors_place_and_not_on_others() -> None:
    X = ternary(6, 40).astype(np.float64)
    projection = OpticalRandomProjection(30, mode="linear", camera=NOISY, noise_seed=3, random_state=2).fit(X)
    y = projection.transform(X)
    assert_same_bits(y, projection.projector_(X, noise_seed=3) * 30**-0.5)
    for row in (0, 3):
        changed = X.copy()
        changed[row, 0] = 0.5
        for form in (changed, sparse.csr_array(changed)):
            others = np.arange(6) != row
            assert_same_bits(projection.transform(form)[others], y[others])


# Errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_components": 0}, ValueError, "n_components is 0, but must be from 1 to"),
        ({"n_components": 2.5}, TypeError, "n_components is 2.5, but must be an integer"),
        ({"digits": 0}, ValueError, "digits is 0, but must be from 1 to 20"),
        ({"digits": "auto"}, TypeError, "digits is 'auto', but must be an integer"),
        ({"random_state": -1}, ValueError, "random_state is -1, but must be from 0 to"),
        ({"random_state": "a"}, TypeError, "random_state is 'a', but must be an integer, a numpy.random.RandomState"),
        ({"camera": 8}, TypeError, "camera is 8, but must be an opuproj.Camera"),
        ({"noise_seed": 3}, ValueError, "noise_seed is 3, but there is no camera that makes noise"),
        ({"noise_seed": -3, "camera": NOISY}, ValueError, "noise_seed is -3, but must be from 0"),
        ({"threads": 0}, ValueError, "threads is 0, but must be from 1"),
    ],
)
@BOTH
def test_bad_arguments_are_named(make: Any, arguments: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make(**arguments).fit(ternary(3, 20))


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (OpticalRandomFeatures, {"scale": "variance"}, "scale is 'variance', but must be 'kernel' or 'intensity'"),
        (OpticalRandomFeatures, {"scale": None}, "scale is None, but must be"),
        (OpticalRandomProjection, {"n_components": "all"}, "n_components is 'all', but must be an integer or 'auto'"),
        (OpticalRandomProjection, {"mode": "complex"}, "mode is 'complex', but must be 'real' or 'linear'"),
        (OpticalRandomProjection, {"mode": None}, "mode is None, but must be 'real' or 'linear'"),
        (
            OpticalRandomProjection,
            {"camera": NOISY},
            "camera is Camera.*, but mode is 'real', .*: .* use mode 'linear'",
        ),
        (OpticalRandomProjection, {"eps": 1.0}, "eps is 1.0, but must be less than 1"),
        (OpticalRandomProjection, {"eps": 0}, "eps is 0.0, but must be above 0"),
        (OpticalRandomProjection, {"n_anchor": 0}, "n_anchor is 0, but must be from 1 to 4096"),
    ],
)
def test_bad_arguments_of_one_are_named(make: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**arguments).fit(ternary(3, 20))


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_values_that_cannot_be_taken_are_named(form: Any) -> None:
    X = ternary(5, 20).astype(float)
    X[3, 17] = 0.5
    with pytest.raises(ValueError, match=r"X\[3, 17\] is 0.5, but must be -1, 0 or 1: digits is None"):
        OpticalRandomProjection(6, digits=None).fit_transform(form(X))
    with pytest.raises(ValueError, match=r"X\[3, 17\] is 0.5, but must be -1, 0 or 1 in front of a camera"):
        OpticalRandomFeatures(6, camera=NOISY).fit_transform(form(X))


def test_more_components_than_features_are_advised_against() -> None:
    X = ternary(50, 20)
    with pytest.warns(DataDimensionalityWarning, match=r"'auto' with eps=0.1 gives 3353 components, more than the 20"):
        assert OpticalRandomProjection().fit(X).n_components_ == 3353
    with pytest.warns(DataDimensionalityWarning, match=r"there are 21 components, more than the 20 features of X"):
        OpticalRandomProjection(21).fit(X)
    OpticalRandomProjection(20).fit(X)
    assert OpticalRandomProjection().fit(X[:1]).n_components_ == 1
