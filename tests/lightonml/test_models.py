"""Autoencoders of opuproj.lightonml learn codes that an OPU accepts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from opuproj.lightonml import OPU  # noqa: E402
from opuproj.lightonml.encoding import models  # noqa: E402


def data(n: int = 256) -> Any:
    """Return vectors of 16 numbers, which three numbers determine."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 3, generator=generator) @ torch.randn(3, 16, generator=generator)


def made(name: str) -> Any:
    torch.manual_seed(0)
    if name == "conv":
        return models.ConvAE(1, 6, 3, beta=1.0, flatten=True)
    return models.LinearAE(16, 40) if name == "linear" else models.EncoderDecoder(16, 64)


@pytest.mark.long
@pytest.mark.parametrize("name", ["linear", "conv", "matrix"])
def test_training_lowers_the_error_and_codes_are_binary(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    x = data().reshape(-1, 1, 4, 4) if name == "conv" else data()
    model = made(name)
    before = torch.nn.functional.mse_loss(model(x), x).item()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    batches = [[part, None] for part in x.split(32)]
    assert models.train(model.eval(), batches, optimizer, epochs=8) is model
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert lines[-1].startswith("Epoch: [8/8], Training Loss: ")
    assert model.training
    if name != "matrix":
        assert model.beta == 10
        model.beta = 1.0
    assert torch.nn.functional.mse_loss(model(x), x).item() < 0.7 * before
    code = model.eval()(x)
    assert (code.dtype, code.ndim, sorted(code.unique().tolist())) == (torch.uint8, 2, [0, 1])
    opu = OPU(50, max_n_features=100, simulated=True)
    assert opu.fit_transform1d(code).shape == (256, 50)


def test_the_one_matrix_s_reconstruction_and_code() -> None:
    x, model = data(8), made("matrix")
    w = model.proj.weight
    code = x @ w.T > 0
    assert torch.equal(model(x), code.float() @ w)
    assert torch.equal(model.eval()(x), code.to(torch.uint8))
    eye = torch.eye(16)
    torch.testing.assert_close(model.regularization(), 0.5 * ((w.T @ w - eye) ** 2).sum())


def test_codes_of_similar_inputs_are_similar() -> None:
    x = data()
    model = models.train(made("linear"), [x], torch.optim.SGD(made("linear").parameters(), 0.0), epochs=0).eval()
    code = model(x).numpy().astype(float)
    near = np.abs(model(x + 0.01 * torch.randn_like(x)).numpy() - code).mean()
    far = np.abs(np.roll(code, 1, axis=0) - code).mean()
    assert near < 0.1 * far


def test_codes_of_images_keep_their_axes_unless_flattened() -> None:
    x = data(4).reshape(4, 1, 4, 4)
    assert models.ConvAE(1, 6, 3, 1.0).eval()(x).shape == (4, 6, 2, 2)
    assert models.ConvAE(1, 6, 3, 1.0, padding=1, stride=2)(torch.zeros(4, 1, 5, 5)).shape == (4, 1, 5, 5)
