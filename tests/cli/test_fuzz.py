"""Runs fuzz_cli.py for a few seconds, and checks that it finds planted bugs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("fuzz_cli.py is for Linux", allow_module_level=True)

import cli_mutations
import fuzz_cli
import numpy as np
from cli_runs import saved
from helpers import ternary
from opuproj.cli import main

Faulty = Callable[[list[str]], int]


@pytest.mark.long
def test_a_few_seconds() -> None:
    program = Path(fuzz_cli.__file__)
    done = subprocess.run(
        [sys.executable, program, "--seconds", "4", "--seed", "20"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.match(r"[1-9][\d,]* inputs; \d+% with exit code 0\n", done.stdout)
    assert "refused" in done.stdout


def test_cases_repeat() -> None:
    maker = cli_mutations.Maker(3)
    assert [maker.case(k) for k in range(50)] == [maker.case(k) for k in range(50)]
    assert maker.case(1) != maker.case(2)


def leaves_a_file(arguments: list[str]) -> int:
    Path("left").touch()
    return main(arguments)


def changes_its_input(arguments: list[str]) -> int:
    code = main(arguments)
    Path("x").write_bytes(b"")
    return code


def has_a_wrong_bit(arguments: list[str]) -> int:
    code = main(arguments)
    y = np.load("y.npy")
    np.save("y.npy", np.nextafter(y, np.float32(0)))
    return code


def says_nothing(arguments: list[str]) -> int:
    return 1


def says_two_lines(arguments: list[str]) -> int:
    print("opuproj: error: one\nopuproj: error: two", file=sys.stderr)
    return 1


def writes_nothing(arguments: list[str]) -> int:
    return 0


def leaves_half(arguments: list[str]) -> int:
    Path("y.npy").write_bytes(b"half")
    print("opuproj: error: no", file=sys.stderr)
    return 1


def raises(arguments: list[str]) -> int:
    raise KeyError


def hangs(arguments: list[str]) -> int:
    while True:
        pass


CASE = cli_mutations.Case(["project", "x", "y.npy", "--outputs", "20"], {"x": saved(ternary(3, 40))})


@pytest.mark.parametrize(
    "faulty",
    [
        leaves_a_file,
        changes_its_input,
        has_a_wrong_bit,
        says_nothing,
        says_two_lines,
        writes_nothing,
        leaves_half,
        raises,
        hangs,
    ],
)
def test_it_notices(faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_cli, "SECONDS", 1)
    assert fuzz_cli.attempt(CASE) == "projected"
    monkeypatch.setattr(fuzz_cli, "main", faulty)
    with pytest.raises(fuzz_cli.Finding):
        fuzz_cli.attempt(CASE)


def test_a_case_that_is_kept_is_the_same() -> None:
    case = cli_mutations.Maker(0).case(7)
    folder = fuzz_cli.save(case, 0, 7)
    assert fuzz_cli.load(folder) == case
    (folder / "case.json").unlink()
    folder.rmdir()
