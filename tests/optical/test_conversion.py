"""Conversion of models: which layers, shared parameters, calibration, refusals that leave the model as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from opuproj import optical
from opuproj.optical import OpticalLinear
from torch import nn


class Nested(nn.Module):
    """Two blocks that share a layer, an attention, and a head tied to an embedding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        shared = nn.Linear(8, 8)
        self.embedding = nn.Embedding(11, 8)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh(), shared) for _ in range(2))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = x + block(x)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        result: torch.Tensor = self.head(x)
        return result


TOKENS = torch.arange(10).reshape(2, 5)
EXACT: dict[str, Any] = {"weight_bits": None, "activation_bits": None, "output_bits": None}


def test_all_linear_layers_are_converted_once_and_the_result_stays() -> None:
    model = Nested().eval()
    before, parameters = model(TOKENS), {name: id(p) for name, p in model.named_parameters()}
    assert optical.convert(model, **EXACT) == ["blocks.0.0", "blocks.0.2", "blocks.1.0", "head"]
    assert model.blocks[0][2] is model.blocks[1][2]  # type: ignore[index]
    assert isinstance(model.blocks[0][2], OpticalLinear)  # type: ignore[index]
    assert type(model.attention.out_proj) is not OpticalLinear
    assert model.head.weight is model.embedding.weight
    assert {name: id(p) for name, p in model.named_parameters()} == parameters
    torch.testing.assert_close(model(TOKENS), before)


def test_only_the_named_layers_are_converted() -> None:
    model = Nested()
    assert optical.convert(model, layers=["blocks.1.0", "head"]) == ["blocks.1.0", "head"]
    assert type(model.blocks[0][0]) is nn.Linear  # type: ignore[index]


def test_a_converted_model_loads_the_parameters_of_the_unconverted_one() -> None:
    model, other = Nested(), Nested()
    optical.convert(model)
    missing, unexpected = model.load_state_dict(other.state_dict(), strict=False)
    assert all(name.endswith("_range") for name in missing)
    assert not unexpected


def test_a_table_of_levels_reaches_every_layer() -> None:
    model = Nested()
    optical.convert(model, levels=[0.0, 0.25, 1.0], **EXACT)
    tables = [m.levels for m in model.modules() if isinstance(m, OpticalLinear)]
    assert len(tables) == 4
    assert all(table is not None and table.tolist() == [0.0, 0.25, 1.0] for table in tables)


def test_photons_can_be_set_afterwards() -> None:
    model = Nested()
    optical.convert(model, photons=10.0)
    assert optical.set_photons(model, 1e4) == 4
    assert {m.photons for m in model.modules() if isinstance(m, OpticalLinear)} == {1e4}
    optical.set_photons(model, None)
    assert torch.equal(model(TOKENS), model(TOKENS))
    with pytest.raises(ValueError, match="photons is -1"):
        optical.set_photons(model, -1)


def test_calibration_fixes_the_ranges_that_the_batches_have() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    optical.convert(model, photons=7.0)
    batches = [torch.tensor([[1.0, -2.0, 0.5, 0.0]]), torch.tensor([[0.0, 0.1, 0.2, 3.0]])]
    model.train()
    optical.calibrate(model, batches)
    layer = model[0]
    assert isinstance(layer, OpticalLinear)
    assert float(layer.input_range) == 3.0
    assert layer.photons == 7.0
    assert layer.training
    layer.photons, layer.output_bits = None, None
    # Beyond the range there is no more light.
    torch.testing.assert_close(model(torch.full((1, 4), 9.0)), model(torch.full((1, 4), 3.0)))
    optical.calibrate(model, batches, percentile=50.0)
    assert float(layer.input_range) == 0.5


def test_a_failed_calibration_leaves_ranges_and_modes() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    optical.convert(model)
    optical.calibrate(model, [torch.ones(1, 4)])
    for batches in ([], [torch.ones(1, 5)]):
        with pytest.raises(ValueError, match=r"batches is empty|in_features = 4"):
            optical.calibrate(model, batches)
        assert float(model[0].input_range) == 1.0  # type: ignore[arg-type]
        assert not model[0]._forward_pre_hooks
        assert model.training


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"layers": ["blocks.7"]}, ValueError, "layers names 'blocks.7'"),
        ({"layers": "head"}, TypeError, "must be a collection"),
        ({"layers": []}, ValueError, "no layer of type"),
        ({"weight_bits": 0}, ValueError, "weight_bits is 0"),
        ({"photons": 0.0}, ValueError, "photons is 0"),
    ],
)
def test_bad_arguments_leave_the_model_as_it_was(settings: dict[str, Any], error: type[Exception], words: str) -> None:
    model = Nested()
    with pytest.raises(error, match=words):
        optical.convert(model, **settings)
    assert not any(isinstance(module, OpticalLinear) for module in model.modules())


def test_models_without_layers_are_refused() -> None:
    with pytest.raises(TypeError, match="model is a linear layer itself"):
        optical.convert(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="model is str"):
        optical.convert("model")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has no layer"):
        optical.convert(nn.Sequential(nn.Tanh()))
    with pytest.raises(ValueError, match="has no OpticalLinear"):
        optical.set_photons(nn.Tanh(), 1.0)
    with pytest.raises(ValueError, match="has no OpticalLinear"):
        optical.calibrate(nn.Tanh(), [])
