"""The page of the papers' numbers: its programs accept the options and steps of its commands."""

from __future__ import annotations

import importlib
import re
import shlex
from argparse import ArgumentParser
from pathlib import Path

import pytest
from helpers import ROOT
from opuproj import cli

pytest.importorskip("torch")
pytest.importorskip("tqdm")
pytest.importorskip("matplotlib")

pytestmark = pytest.mark.usefixtures("examples")

PAGE = (ROOT / "docs" / "papers.md").read_text()
COMMANDS = sorted(set(re.findall(r"`((?:python|pytest|opuproj) [^`\n]+)`", PAGE)))


def parse(command: str) -> None:
    """Read a command as its program does; raise SystemExit if the program refuses it."""
    name, *words = shlex.split(command)
    if name == "pytest":
        missing = [word for word in words if not (ROOT / word).exists()]
        if missing:
            raise SystemExit(f"there is no {missing[0]}")
        return
    parser: ArgumentParser = cli.parser()
    if name == "python":
        program = Path(words.pop(0))
        if not (ROOT / program).exists():
            raise SystemExit(f"there is no {program}")
        try:
            parser = importlib.import_module(program.stem).parser()
        except ModuleNotFoundError as error:
            pytest.skip(f"{program} needs {error.name}")
    parser.parse_args(words)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_program_accepts_its_command(command: str) -> None:
    try:
        parse(command)
    except SystemExit as refusal:
        pytest.fail(f"{command}: {refusal}")


@pytest.mark.parametrize(
    "command",
    [
        "python examples/nothing.py",
        "python examples/scaling.py --nothing",
        "python examples/gpu_experiments.py --only steps,nothing",
        "opuproj bench --nothing",
        "opuproj nothing",
        "pytest tests/repository/test_nothing.py",
    ],
)
def test_what_does_not_exist_is_refused(command: str) -> None:
    with pytest.raises(SystemExit):
        parse(command)


def test_every_program_of_the_page_is_there() -> None:
    named = set(re.findall(r"\bprogram (\d)\b", PAGE))
    assert set(re.findall(r"^Program (\d):$", PAGE, re.MULTILINE)) == named
    assert len(named) > 1


def test_the_rows_of_a_table_have_as_many_cells_as_its_head() -> None:
    for table in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE):
        rows = [len(re.split(r"(?<!\\)\|", row)) for row in table.splitlines()]
        assert set(rows) == {6}, table.splitlines()[0]
