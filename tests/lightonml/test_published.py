"""Examples that LightOn published for its OPU still work with opuproj.lightonml in the imports."""

from __future__ import annotations

import numpy as np
import pytest
from opuproj.lightonml import OPU
from opuproj.lightonml.encoding import base

pytest.importorskip("sklearn")

encoder, decoder = base.SeparatedBitPlanEncoder, base.SeparatedBitPlanDecoder


def digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    return X[order], y[order]


# Kernels and random features


def test_ridge_regression_on_optical_features_beats_that_on_pixels() -> None:
    from opuproj.lightonml.projections.sklearn import OPUMap
    from sklearn.linear_model import RidgeClassifier

    X, y = digits()
    encoded = base.MultiThresholdEncoder(thresholds=[3.5, 7.5, 11.5]).fit_transform(X).reshape(-1, 24, 8)
    features = OPUMap(n_components=3000, ndims=2, simulated=True, max_n_features=192).fit_transform(encoded)
    pixels = RidgeClassifier().fit(X[:1200], y[:1200]).score(X[1200:], y[1200:])
    optical = RidgeClassifier(alpha=100).fit(features[:1200], y[:1200]).score(features[1200:], y[1200:])
    assert optical > 0.97
    assert optical > pixels + 0.03


def test_features_approach_the_optical_kernel() -> None:
    X, _ = digits()
    Z = base.BinaryThresholdEncoder(threshold_enc=7).fit_transform(X[:200]).astype(float)
    opu = OPU(n_components=20_000, max_n_features=64, simulated=True)
    features = opu.fit_transform1d(Z)
    dots = Z @ Z.T
    kernel = (np.outer(dots.diagonal(), dots.diagonal()) + dots**2) * (2 / 64) ** 2
    off = np.asarray(features @ features.T) / 20_000 / kernel - 1
    assert np.sqrt((off**2).mean()) < 0.03
    assert abs(off.mean()) < 0.005


@pytest.mark.long
def test_a_pipeline_of_encoder_mapping_decoder_and_classifier() -> None:
    from opuproj.lightonml.projections.sklearn import OPUMap
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import GridSearchCV, ShuffleSplit
    from sklearn.pipeline import Pipeline

    X, y = digits()
    steps = [
        ("encoder", base.BinaryThresholdEncoder(threshold_enc=7)),
        ("mapping", OPUMap(n_components=1000, simulated=True, max_n_features=1000, ndims=2)),
        ("decoding", base.NoDecoding()),
        ("classifier", RidgeClassifier()),
    ]
    pipe = Pipeline(steps).fit(X.reshape(-1, 8, 8)[:1200], y[:1200])
    assert pipe.score(X.reshape(-1, 8, 8)[1200:], y[1200:]) > 0.85
    grid = [{"classifier__alpha": 10.0 ** np.arange(-1, 2)}]
    cv = ShuffleSplit(n_splits=2, test_size=0.15, random_state=0)
    search = GridSearchCV(pipe, grid, scoring="accuracy", cv=cv, refit=False, return_train_score=True)
    search.fit(X.reshape(-1, 8, 8)[:1200], y[:1200])
    assert search.best_score_ > 0.85


# Randomized linear algebra


def scaled_sketch(opu: OPU, n: int) -> float:
    """Return the variance of projections of normal vectors, by which programs calibrate."""
    s = np.random.default_rng(1).normal(size=(100, n))
    return float(opu.linear_transform(s, encoder, decoder).var())


def sandwich(A: np.ndarray, m: int) -> np.ndarray:
    """RᵀAR, of independent columns of R with variance 1/m."""
    n = len(A)
    opu = OPU(n_components=m, max_n_features=n, simulated=True)
    opu.fit1d(A)
    AR = opu.linear_transform(A, encoder, decoder)
    return np.asarray(opu.linear_transform(AR.T, encoder, decoder)) / scaled_sketch(opu, n) * n / m


def test_trace_estimation() -> None:
    A = np.random.default_rng(0).uniform(0, 1, (500, 500))
    estimates = sandwich(A + A.T, 1000).trace()
    # Hutchinson: the variance is 2‖A‖²/m.
    assert abs(estimates - 2 * A.trace()) < 4 * np.sqrt(2 / 1000) * np.linalg.norm(A + A.T)
    assert abs(estimates / (2 * A.trace()) - 1) < 0.15


def test_triangle_estimation() -> None:
    edges = np.triu(np.random.default_rng(0).random((500, 500)) < 0.3, 1)
    A = (edges | edges.T).astype(np.uint8)
    exact = np.linalg.matrix_power(A.astype(float), 3).trace()
    estimated = np.linalg.matrix_power(sandwich(A, 1000), 3).trace()
    assert abs(estimated / exact - 1) < 0.15


@pytest.mark.long
def test_randomized_svd() -> None:
    def randomized_svd(A: np.ndarray, m: int, num_iter: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        opu = OPU(n_components=m, max_n_features=A.shape[1], simulated=True)
        opu.fit1d(A)
        Q = np.linalg.qr(opu.linear_transform(A, encoder, decoder))[0]
        for _ in range(num_iter):
            Q = np.linalg.qr(A.T @ Q)[0]
            Q = np.linalg.qr(A @ Q)[0]
        U, s, V = np.linalg.svd(Q.T @ A, full_matrices=False)
        return Q @ U, s, V

    def error(U: np.ndarray, s: np.ndarray, V: np.ndarray) -> float:
        return float(np.linalg.norm(A - (U * s) @ V) / np.linalg.norm(A))

    A = np.random.default_rng(0).normal(size=(400, 300))
    U, s, V = np.linalg.svd(A, full_matrices=False)
    truncated = error(U[:, :150], s[:150], V[:150])
    randomized = error(*randomized_svd(A, 150, num_iter=2))
    assert truncated <= randomized < 1.08 * truncated
    A = (U * 0.9 ** np.arange(300)) @ V
    _, s, _ = randomized_svd(A, 60, num_iter=1)
    np.testing.assert_allclose(s[:30], 0.9 ** np.arange(30), rtol=1e-3)


# Reservoir computing


def mackey_glass(n: int, tau: int = 17) -> np.ndarray:
    x = [1.2] * (10 * tau)
    for _ in range(10 * n + 1000):
        delayed = x[-10 * tau]
        x.append(x[-1] + 0.1 * (0.2 * delayed / (1 + delayed**10) - 0.1 * x[-1]))
    return np.array(x[-10 * n :: 10])


def error_of_readout(states: np.ndarray, targets: np.ndarray, train: int) -> float:
    """Root mean square error over the standard deviation, of a ridge regression."""
    from sklearn.linear_model import Ridge

    predicted = Ridge(alpha=1e-4).fit(states[:train], targets[:train]).predict(states[train:])
    return float(np.sqrt(((predicted - targets[train:]) ** 2).mean()) / targets[train:].std())


def test_an_echo_state_network_whose_weights_are_an_opu() -> None:
    u = mackey_glass(900)
    n_reservoir = 200
    opu = OPU(n_components=n_reservoir, max_n_features=n_reservoir + 1, simulated=True, rescale="none")
    opu.fit1d(n_features=n_reservoir + 1)
    planes = encoder(precision=6)
    state, states = np.zeros(n_reservoir), []
    for value in u:
        joint = np.concatenate([0.9 * state, [5 * (value - 0.9)]])
        state = np.tanh(np.asarray(opu.linear_transform(joint[None], planes, decoder))[0])
        states.append(state)
    ahead = 6
    inputs, targets = np.stack(states)[100:-ahead], u[100 + ahead :]
    reservoir = error_of_readout(inputs, targets, 500)
    memoryless = error_of_readout(u[100:-ahead, None], targets, 500)
    assert reservoir < 0.35
    assert reservoir < 0.5 * memoryless


def test_a_binary_reservoir_online() -> None:
    u = mackey_glass(900)
    n_reservoir, n_input = 1000, 200
    levels = np.linspace(u.min(), u.max(), n_input)
    opu = OPU(n_components=n_reservoir, max_n_features=n_reservoir + n_input, simulated=True)
    opu.fit1d(n_features=n_reservoir + n_input, online=True)
    state, states = np.zeros(n_reservoir, np.uint8), []
    for value in u:
        intensities = opu.transform(np.concatenate([state, (value > levels).astype(np.uint8)]))
        state = (intensities > np.median(intensities)).astype(np.uint8)
        states.append(state)
    targets = u[101:]
    assert error_of_readout(np.stack(states)[100:-1].astype(float), targets, 600) < 0.5


# Transfer learning


@pytest.mark.long
def test_transfer_learning_from_half_of_the_digits_to_the_others() -> None:
    torch = pytest.importorskip("torch")
    from opuproj.lightonml.projections.sklearn import OPUMap
    from sklearn.linear_model import RidgeClassifier

    torch.manual_seed(0)
    X, y = digits()
    images = torch.from_numpy(X.astype(np.float32) / 16).reshape(-1, 1, 8, 8)
    features = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 24, 3),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
    )
    model = torch.nn.Sequential(features, torch.nn.Linear(24 * 36, 5))
    source = y < 5
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(model(images[source]), torch.from_numpy(y[source]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = features(images[~source])
    encoded = (found > 0).to(torch.uint8).numpy()
    optical = OPUMap(n_components=3000, simulated=True, max_n_features=encoded.shape[1]).fit_transform(encoded)
    labels = y[~source]
    classifier = RidgeClassifier(alpha=100).fit(optical[:500], labels[:500])
    assert classifier.score(optical[500:], labels[500:]) > 0.93


def test_one_bit_of_the_exponent_says_whether_a_feature_is_two_at_least() -> None:
    X = np.random.default_rng(0).normal(scale=3, size=(20, 30)).astype(np.float32)
    bits = base.Float32Encoder(sign_bit=False, exp_bits=1, mantissa_bits=0).transform(X)
    assert np.array_equal(bits, np.abs(X) >= 2)


# Detecting changes online


def test_a_change_is_seen_in_two_moving_averages_of_features() -> None:
    random = np.random.default_rng(0)
    stream = random.random((600, 100)) < np.where(np.arange(600) < 300, 0.3, 0.4)[:, None]
    opu = OPU(n_components=2000, max_n_features=100, simulated=True)
    opu.fit1d(n_features=100, online=True)
    slow = fast = opu.transform(stream[0])
    distances = []
    for x in stream:
        features = opu.transform(x)
        slow, fast = 0.98 * slow + 0.02 * features, 0.9 * fast + 0.1 * features
        distances.append(float(np.linalg.norm(fast - slow)))
    assert 300 < np.argmax(distances[50:]) + 50 < 340


# Tours


def test_the_tour_of_inputs_and_outputs() -> None:
    def random_bin(*shape: int) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 2, shape, dtype=np.uint8).astype(bool)

    opu = OPU(n_components=100, max_n_features=1140 * 912, simulated=True)
    vectors, images = random_bin(200, 1000), random_bin(200, 13, 10)
    assert opu.fit_transform1d(vectors).shape == (200, 100)
    assert opu.linear_transform(vectors).shape == (200, 100)
    assert opu.fit_transform1d(vectors[0]).shape == (100,)
    assert opu.fit_transform2d(images).shape == (200, 100)
    assert opu.fit_transform1d(random_bin(30, 10, 300)).shape == (30, 10, 100)
    assert opu.fit_transform1d(np.packbits(vectors, axis=1), packed=True).shape == (200, 100)
    bits = np.packbits(images.reshape(200, -1), axis=1)
    assert opu.fit_transform2d(bits, packed=True, n_2d_features=(13, 10)).shape == (200, 100)
    whole = random_bin(*opu.device.input_shape)
    assert opu.fit_transform1d(whole.reshape(-1)).shape == opu.fit_transform2d(whole).shape == (100,)
    opu.fit2d(n_features=(50, 50), online=True)
    assert opu.transform(random_bin(50, 50)).shape == (100,)


def test_the_tour_of_bit_planes() -> None:
    sample = np.array([[204, 180, 73], [133, 11, 39]], dtype="uint8")
    with pytest.warns(UserWarning, match="precision=8"):
        planes = encoder(precision=8)
    encoded = planes.transform(sample)
    assert encoded.shape == (2 * 8, 3)
    assert encoded[:8, 0].tolist() == [1, 1, 0, 0, 1, 1, 0, 0]
    assert decoder(**planes.get_params()).transform(encoded).tolist() == sample.tolist()
    from_least = encoded.reshape(2, 8, 3)[:, ::-1].reshape(16, 3)
    assert base.MixingBitPlanDecoder(decoding_decay=2).transform(from_least).tolist() == sample.tolist()
