"""Tensors whose memory the kernels cannot read as it is: views that negate it, and tensors of other devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import opuproj
import pytest
import standin_backend
from opuproj import backends

torch = pytest.importorskip("torch")
from opuproj.torch import Ternarize  # noqa: E402

pytestmark = pytest.mark.skipif(standin_backend.DEVICE not in backends.registered(), reason="needs g++")


@pytest.fixture(autouse=True)
def on_the_standin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", standin_backend.tensor_rows)


CALLS: dict[str, Callable[[Any], Any]] = {
    "ternary": lambda x: opuproj.project(x, 40, mode="real"),
    "digits": lambda x: opuproj.project(x, 40, mode="real", digits=5),
    "structured": lambda x: opuproj.project(x, 40, mode="real", ensemble="structured"),
    "packed": lambda x: opuproj.pack(x).to_torch(),
    "ternarized": lambda x: opuproj.ternarize(x, 0.5).to_torch(),
    "relative": lambda x: opuproj.ternarize(x, relative=0.5).to_torch(),
    "encoded": lambda x: opuproj.project(opuproj.encode(x, digits=5), 40, mode="real"),
    "adjoint": lambda x: opuproj.Projector(9, x.shape[-1], mode="real").H(x),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("n", [1, 50])
def test_the_imaginary_part_of_a_conjugate(call: str, n: int) -> None:
    numbers = torch.arange(3 * n).reshape(3, n).remainder(3).sub(1).float()
    x = torch.complex(torch.zeros(3, n), -numbers).conj().imag
    assert x.is_neg()
    for view in (x, torch._neg_view(-numbers)):
        assert torch.equal(CALLS[call](view), CALLS[call](numbers))


def test_thresholds_of_another_device_are_copied() -> None:
    class Elsewhere:
        """A rule whose thresholds are on another device, here on one that cannot be read."""

        def thresholds(self, rows: Any) -> Any:
            return torch.ones(len(rows), 1, device="meta")

    with pytest.raises(NotImplementedError, match="meta"):
        Ternarize(Elsewhere(), norm="none").pack(torch.ones(3, 50))
