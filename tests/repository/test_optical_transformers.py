"""The study of light for Transformers: its fits against exact laws, its training and measuring on a small text."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
tqdm = pytest.importorskip("tqdm").tqdm
pytest.importorskip("matplotlib")
pytest.importorskip("tokenizers")

pytestmark = pytest.mark.usefixtures("examples")


def program() -> Any:
    return importlib.import_module("optical_transformers")


def losses() -> Any:
    return importlib.import_module("common.optical.losses")


def test_the_photons_of_a_given_excess_are_found() -> None:
    photons = 2.0 ** np.arange(4, 15)
    needed, slope = program().crossing(photons, 3 / photons, 0.01)
    assert needed == pytest.approx(300)
    assert slope == pytest.approx(-1)
    # Far from the fraction, nothing is known.
    assert all(math.isnan(value) for value in program().crossing(photons, 1e-5 / photons, 0.01))


def test_a_power_of_the_width_is_found_with_its_error() -> None:
    exact = program().power_law([32, 64, 128], [5 * width**-0.8 for width in (32, 64, 128)])
    assert exact["exponent"] == pytest.approx(-0.8)
    assert exact["error"] == pytest.approx(0, abs=1e-12)
    # Of each width two values, a factor e^(±0.1) around the law: residuals ±0.1, two parameters.
    widths = [32, 32, 64, 64, 128, 128]
    values = [width * math.exp(0.1 * sign) for width, sign in zip(widths, [1, -1] * 3, strict=True)]
    found = program().power_law(widths, values)
    assert found["exponent"] == pytest.approx(1)
    assert found["error"] == pytest.approx(math.sqrt(6 * 0.01 / 4 / (4 * math.log(2) ** 2)))


def test_the_width_of_a_statement_is_the_smallest() -> None:
    energy = importlib.import_module("opuproj.optical.energy")
    free = replace(energy.Constants(), hold=0.0)
    width = program().needed_width(8000.0, free)
    found = [energy.forward(energy.Transformer(w, 1), 1000.0, free).advantage for w in (width - 1, width)]
    assert found[0] < 8000 <= found[1]
    assert program().needed_width(8000.0, energy.Constants()) is None


def test_the_cancellation_of_terms_is_measured() -> None:
    optical = importlib.import_module("opuproj.optical")
    model = torch.nn.Sequential(torch.nn.Linear(4, 2))
    optical.convert(model, weight_bits=None, activation_bits=None, output_bits=None)
    for signs, expected in (([1, 1, 1, 1], 1.0), ([1, 1, 1, -1], 4.0)):
        model[0].weight.data = torch.tensor([signs, signs], dtype=torch.float32)
        with losses().cancellations(model) as found:
            model(torch.ones(3, 4))
        lit, signal = found["0"]
        assert lit / signal == pytest.approx(expected)
    model(torch.ones(3, 4))
    assert found["0"] == [lit, signal]


def corpus() -> Any:
    plays = importlib.import_module("common.plays")
    text = "".join(f"JACK: I have {i} apples and {i * i} pears.\nJILL: So {i + 1} more?\n" for i in range(300))
    tokenizer = plays.byte_pairs([text], 300)
    tokens = torch.tensor(tokenizer.encode(text).ids)
    return plays.Corpus(tokens[:-1500], tokens[-1500:], tokenizer, "apples and pears")


@pytest.mark.long
def test_less_light_costs_loss_and_a_finished_run_is_kept(tmp_path: Path) -> None:
    device = importlib.import_module("common.devices").CPU
    chosen = losses().Measurement(32, 2, seed=0, epochs=1, windows=40, photons=(2.0, 16.0, 1e6))
    text = corpus()
    bar = tqdm(disable=True)
    found = losses().measured(chosen, text, tmp_path, device, 60.0, bar)
    assert found["rounded_loss"] == pytest.approx(found["float_loss"], rel=0.02)
    few, some, many = (loss - found["rounded_loss"] for loss in found["losses"])
    assert few > 2 * some > 0
    assert abs(many) < 0.1 * some
    assert len(found["cancellation"]) == 8
    # Nothing is trained or measured again, until the measurement differs.
    (tmp_path / "weights-0.pt").unlink()
    assert losses().measured(chosen, text, tmp_path, device, 60.0, bar)["losses"] == found["losses"]
    other = losses().measured(replace(chosen, photons=(16.0,)), text, tmp_path, device, 60.0, bar)
    assert (tmp_path / "weights-0.pt").exists()
    assert len(other["losses"]) == 1


def test_options_that_cannot_be_are_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for options, words in (
        (["--fraction", "1.5"], "must be below 1"),
        (["--widths", "32", "64"], "at least 3"),
        (["--widths", "32", "64", "100"], "--widths has 100"),
        (["--layers", "1"], "at least 2"),
    ):
        monkeypatch.setattr("sys.argv", ["optical_transformers", *options])
        with pytest.raises(SystemExit, match=words):
            program().main()
