"""The energy of a forward pass against calculations by hand."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from opuproj.optical import energy

ROUND = energy.Constants(
    wavelength=500e-9, efficiency=0.5, rate=1e9, dac=2e-12, adc=3e-12, memory=1e-12, hold=1e-6, bits=8, passes=4
)
SMALL = energy.Transformer(width=10, layers=2, context=3)


def test_counts_of_a_small_model() -> None:
    # A layer has four matrices of 10 × 10 for attention and two of 10 × 40.
    assert SMALL.parameters == 2 * (4 * 100 + 2 * 400)
    assert SMALL.macs == 3 * 2400
    # Queries, keys and values share 10 inputs; then 10, 10 and 40.
    assert SMALL.inputs == 3 * 2 * (10 + 10 + 10 + 40)
    assert SMALL.outputs == 3 * 2 * (30 + 10 + 40 + 10)
    # 3 × 3 scores of 10 products, and as many for the values.
    assert SMALL.attention_macs == 2 * 2 * 3 * 3 * 10


def test_energies_by_hand() -> None:
    cost = energy.forward(SMALL, 100.0, ROUND, attention=True)
    assert ROUND.photon == pytest.approx(3.97289e-19, rel=1e-5)
    assert cost.light == pytest.approx(540 * 100 * 3.97289e-19 / 0.5, rel=1e-5)
    assert cost.dac == pytest.approx(4 * 420 * 2e-12)
    assert cost.adc == pytest.approx(4 * 540 * 3e-12)
    assert cost.memory == pytest.approx(960 * 8 * 1e-12)
    assert cost.hold == pytest.approx(7200 * 4 * 1e-15)
    assert cost.attention == pytest.approx(360 * 300e-15)
    assert cost.digital == pytest.approx((7200 + 360) * 300e-15)
    parts = cost.light + cost.dac + cost.adc + cost.memory + cost.hold + cost.attention
    assert cost.total == pytest.approx(parts)
    assert cost.advantage == pytest.approx(cost.digital / parts)


def test_improvements_are_those_of_the_paper() -> None:
    before, after = energy.forward(SMALL, 100.0, ROUND), energy.forward(SMALL, 100.0, ROUND.improved())
    assert before.memory / after.memory == pytest.approx(5 * 2)
    # Twice as good converters, and a sixteenth of the levels.
    assert before.dac / after.dac == pytest.approx(2 * 16)
    assert before.adc / after.adc == pytest.approx(2 * 16)
    assert before.light == after.light
    assert before.hold == after.hold


def test_light_and_electronics_of_a_multiply_accumulate_fall_with_the_width() -> None:
    narrow, wide = (energy.forward(energy.Transformer(d, 2, 3), 100.0, ROUND) for d in (64, 640))
    macs = 100  # times as many in the wide model
    for part in ("light", "dac", "adc", "memory"):
        assert getattr(narrow, part) / (getattr(wide, part) / macs) == pytest.approx(10)
    assert narrow.hold == pytest.approx(wide.hold / macs)


def test_under_which_constants_the_statements_of_the_paper_hold() -> None:
    today, gpt3 = energy.Constants(), energy.Transformer(12_288, 96)
    free = replace(today, hold=0.0)

    def advantage(width: int, constants: energy.Constants) -> float:
        return energy.forward(energy.Transformer(width, 1), 1000.0, constants).advantage

    assert 100 < energy.forward(gpt3, 1000.0, today).advantage < 150
    # Holding weights takes a fixed energy a multiply-accumulate, which the other statements do not allow.
    limit = 300e-15 / (4 * today.hold / today.rate)
    assert limit == pytest.approx(3840)
    for constants in (today, today.improved()):
        assert advantage(10**9, constants) == pytest.approx(limit, rel=0.01)
    assert advantage(780_000, free) < 8000 < advantage(785_000, free)
    assert advantage(685_000, free.improved()) < 100_000 < advantage(689_000, free.improved())
    # A memory of 32 KB takes a fifth of the energy.
    near = replace(free, memory=20e-12 / 64)
    assert energy.forward(gpt3, 1000.0, near).advantage == pytest.approx(229, abs=1)
    assert advantage(650_000, near) > 8000
    assert advantage(650_000, near.improved()) > 100_000
    # If light does not fall with the width, but stays at 2.5 photons a multiply-accumulate.
    large = energy.Transformer(650_000, 200)
    photons = 2.5 * large.macs / large.outputs
    assert 300e-15 / (2.5 * today.photon) == pytest.approx(321_378, abs=1)
    assert energy.forward(large, photons, free.improved()).advantage == pytest.approx(72_994, abs=1)
    assert energy.forward(large, photons, near.improved()).advantage == pytest.approx(145_728, abs=1)


def test_every_constant_has_a_source() -> None:
    assert {field.name for field in fields(energy.Constants)} == set(energy.SOURCES)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"efficiency": 1.5}, ValueError, "efficiency is 1.5"),
        ({"wavelength": 0}, ValueError, "wavelength is 0"),
        ({"hold": -1.0}, ValueError, "hold is -1"),
        ({"bits": 8.0}, TypeError, "bits is 8.0"),
    ],
)
def test_bad_constants_are_refused(settings: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        energy.Constants(**settings)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="model is 7"):
        energy.forward(7, 1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="constants is 7"):
        energy.forward(SMALL, 1.0, 7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="photons is -1"):
        energy.forward(SMALL, -1.0)
    with pytest.raises(ValueError, match="width is 0"):
        energy.Transformer(0, 1)
