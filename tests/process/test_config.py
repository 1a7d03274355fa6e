"""Instruction sets, threads, and what show_config says about them."""

from __future__ import annotations

import os

import numpy as np
import opuproj
import pytest
from helpers import ISAS, ternary
from opuproj import _core
from opuproj.backends.cpu import machine

SETS = _core.instruction_sets()


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPUPROJ_ISA", raising=False)
    monkeypatch.delenv("OPUPROJ_NUM_THREADS", raising=False)


def test_the_portable_one_is_always_there() -> None:
    assert [name for name, _ in SETS][-1] == "portable"
    assert {name for name, _ in SETS} >= {"portable", "avx2", "avx512", "amx"}
    assert ISAS[-1] == "portable"


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert opuproj.show_config() is None  # type: ignore[func-returns-value]
    shown = capsys.readouterr().out
    assert opuproj.__version__ in shown
    assert np.__version__ in shown
    assert f"{ISAS[0]} (the best found)" in shown
    for name, _ in SETS:
        assert name in shown
    assert "the cores this process may use" in shown


def test_show_config_says_what_the_environment_chose(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPUPROJ_ISA", "portable")
    monkeypatch.setenv("OPUPROJ_NUM_THREADS", "3")
    opuproj.show_config()
    shown = capsys.readouterr().out
    assert "portable (OPUPROJ_ISA)" in shown
    assert "3 (OPUPROJ_NUM_THREADS)" in shown


@pytest.mark.parametrize("name", ["sse9", "AVX2 ", "none"])
def test_an_unknown_instruction_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("OPUPROJ_ISA", name)
    op = opuproj.Projector(2, 3)
    for call in (opuproj.show_config, lambda: op([1, 0]), lambda: op[:0]([1, 0])):
        with pytest.raises(ValueError, match=rf"OPUPROJ_ISA is '{name}', but must be one of .*portable"):
            call()


@pytest.mark.parametrize("name", [name for name, found in SETS if not found])
def test_an_instruction_set_that_the_cpu_lacks(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("OPUPROJ_ISA", name)
    with pytest.raises(RuntimeError, match=f"OPUPROJ_ISA is '{name}', which this CPU lacks; it has .*portable"):
        opuproj.project([1, 0], 3)


def test_an_empty_variable_is_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPUPROJ_ISA", "")
    monkeypatch.setenv("OPUPROJ_NUM_THREADS", "")
    assert machine.isa() is None
    opuproj.project([1, 0], 3)


def test_threads_are_chosen_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.n_threads(None) >= 1
    monkeypatch.setenv("OPUPROJ_NUM_THREADS", "5")
    assert machine.n_threads(None) == 5
    assert machine.n_threads(3) == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_cores_that_the_process_may_not_use_do_not_count() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert machine.n_threads(None) == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert machine.n_threads(None) == len(allowed)


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "5000"])
def test_a_bad_number_of_threads(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("OPUPROJ_NUM_THREADS", text)
    with pytest.raises(ValueError, match=f"OPUPROJ_NUM_THREADS is '{text}', but must be an integer from 1"):
        opuproj.project(ternary(10), 3)
    assert opuproj.project(ternary(10), 3, threads=1).shape == (3,)  # what is not asked is not read


def test_the_environment_is_read_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    op = opuproj.Projector(10, 3)
    op(ternary(10))
    monkeypatch.setenv("OPUPROJ_ISA", "nonsense")
    with pytest.raises(ValueError, match="OPUPROJ_ISA"):
        op(ternary(10))


def test_the_version_is_a_version() -> None:
    assert opuproj.__version__ == _core.__version__
    assert all(part.isdigit() for part in opuproj.__version__.split(".")[:2])
