"""The code on pages runs and prints what they show, their commands exist, and they name everything public."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from helpers import ROOT

DOCS = ROOT / "docs"
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
PAGES = [page for page in TEXTS if "```python" in page.read_text()]
API = {page.stem: page.read_text() for page in (DOCS / "api").glob("*.rst")}
# A block under this comment cannot run; the comment says why.
SHOWN_ONLY = re.compile(r"<!-- not run: .+? -->\n+```python\n.*?```", re.DOTALL)
# A block, and the output below it. "numbers within 0.02" stands above an output whose numbers depend on the machine.
RUN = re.compile(r"```python\n(.*?)```(?:\n\n(?:<!-- numbers within ([\d.]+) -->\n)?```text\n(.*?)```)?", re.DOTALL)
NUMBER = re.compile(r"[-+−]?\b\d+(?:\.\d+)?(?:e[-+]\d+)?")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture
def torch_threads() -> Iterator[None]:
    """Restore PyTorch's number of threads, which a page may set."""
    torch = importlib.import_module("torch") if importlib.util.find_spec("torch") else None
    before = torch.get_num_threads() if torch else 0
    yield
    if torch:
        torch.set_num_threads(before)


@pytest.mark.long
@pytest.mark.usefixtures("torch_threads")
@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_code_of_a_page_runs(
    page: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As torchrun sets them for the only process of a program.
    for variable, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(variable, value)
    text = SHOWN_ONLY.sub("", page.read_text())
    code = RUN.findall(text)
    for library in ("torch", "sklearn", "scipy", "dask"):
        if any(library in block for block, _, _ in code):
            pytest.importorskip(library)
    names: dict[str, object] = {}
    for block, tolerance, shown in code:
        capsys.readouterr()
        exec(compile(block, str(page), "exec"), names)
        if shown:
            agree(capsys.readouterr().out, shown, float(tolerance or 0))


def agree(printed: str, shown: str, tolerance: float) -> None:
    """Compare what a block printed with what its page shows; numbers may differ by a tolerance."""
    if tolerance:
        assert numbers_in(printed) == pytest.approx(numbers_in(shown), rel=tolerance, abs=tolerance), printed
        # Neither a sign nor the width of a column is part of the text.
        printed, shown = (" ".join(NUMBER.sub("#", text).split()) for text in (printed, shown))
    assert printed == shown, printed


def numbers_in(text: str) -> list[float]:
    return [float(number.replace("−", "-")) for number in NUMBER.findall(text)]


def test_outputs_are_compared() -> None:
    page = "```python\nprint('a 1.02')\n```\n\n<!-- numbers within 0.05 -->\n```text\na 1.0\n```\n"
    assert RUN.findall(page) == [("print('a 1.02')\n", "0.05", "a 1.0\n")]
    agree("a 1.02\n", "a 1.0\n", 0.05)
    for printed, tolerance in (("a 1.02\n", 0.0), ("a 1.2\n", 0.05), ("b 1.0\n", 0.05), ("a 1.0 2.0\n", 0.05)):
        with pytest.raises(AssertionError):
            agree(printed, "a 1.0\n", tolerance)


@pytest.mark.parametrize("page", TEXTS, ids=name)
def test_the_code_of_a_page_is_not_clipped(page: Path) -> None:
    """A column of the site shows 88 characters of code on a screen of 1,366 pixels."""
    blocks = re.findall(r"^```\w*\n.*?^```", page.read_text(), re.DOTALL | re.MULTILINE)
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    # Indented lines are code after an empty line, and part of a list otherwise.
    indented = re.findall(r"(?<=\n\n)(?: {4}.*\n+)+", prose)
    for line in "\n".join([*blocks, *(f"\n{block}".replace("\n    ", "\n") for block in indented)]).splitlines():
        assert len(line) <= 88, line


def commands(text: str) -> list[str]:
    """The commands of shell blocks, of indented blocks and of code in lines."""
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines()
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    lines = shell + re.findall(r"^ {4,}(\S.*)$", text, re.MULTILINE) + re.findall(r"`([^`\n]+)`", text)
    return [part.strip() for line in lines for part in line.split("#")[0].split("&&")]


PYTHON = r"(?:^|/)python (?:-m )?((?:examples/|docs/|benches\.)\w+)(.*)"


@pytest.mark.parametrize("page", TEXTS, ids=name)
def test_the_commands_of_a_page_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    of_all = (ROOT / "examples" / "common" / "runs.py").read_text() + (ROOT / "benches" / "table.py").read_text()
    for command in commands(page.read_text()):
        words = command.split()
        if words[:1] == ["make"]:
            assert {word for word in words[1:] if "=" not in word} <= targets, command
        if words[:1] == ["opuproj"] and len(words) > 1 and words[1].isidentifier():
            assert (ROOT / "python" / "opuproj" / "cli" / f"{words[1]}.py").exists(), command
        program = re.search(PYTHON, command)
        if program:
            path = ROOT / (program[1].replace(".", "/") + ".py")
            assert path.exists(), command
            for option in re.findall(r"--[a-z][a-z-]*", program[2]):
                assert option in path.read_text() + of_all or option == "--help", command


@pytest.mark.parametrize("page", TEXTS, ids=name)
def test_the_files_that_a_page_links_to_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s#]+)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", TEXTS, ids=name)
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    folders = "benches|docs|examples|python|release|rust|tests"
    for path in re.findall(rf"`(?:pytest |python )?((?:{folders})/[\w./-]*\w)", page.read_text()):
        assert (ROOT / path).exists(), path


def test_the_road_through_the_code_is_there() -> None:
    """CONTRIBUTING's steps: each names a file of the folder above it, and names that the file has."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## One input through the code")[2].partition("\n## ")[0]
    folder, steps = ROOT, 0
    for paragraph in re.split(r"\n(?=\d+\. )|\n\n", section):
        below = re.search(r"[Uu]nder `([^`]+)`:", paragraph)
        if below:
            folder = ROOT / below[1]
        elif re.match(r"\d+\. ", paragraph):
            file, *names = re.findall(r"`([^`]+)`", paragraph)
            words = set(re.findall(r"\w+", (folder / file).read_text()))
            for each in names:
                assert (folder / each).exists() or set(re.findall(r"\w+", each)) <= words, (file, each)
            steps += 1
    assert steps > 10


def test_the_gallery_shows_every_example() -> None:
    gallery = (DOCS / "gallery.md").read_text()
    for program in (ROOT / "examples").glob("*.py"):
        assert f"python examples/{program.name}" in gallery


# Every module with a public name and a list of its public names.
PACKAGE = ROOT / "python" / "opuproj"
FILES = [*PACKAGE.glob("[a-z]*.py"), *PACKAGE.glob("[a-z]*/__init__.py")]
NAMES = sorted(
    (path.parent if path.stem == "__init__" else path).stem for path in FILES if "__all__ = " in path.read_text()
)
MODULES = ["opuproj", *(f"opuproj.{each}" for each in NAMES)]


@pytest.mark.parametrize("module", MODULES)
def test_the_reference_has_every_public_name(module: str) -> None:
    try:
        public = importlib.import_module(module)
    except ImportError as missing:
        pytest.skip(str(missing))
    texts = [API[module.rpartition(".")[2]], *([API["torch"]] if module == "opuproj.dfa" else [])]
    for each in public.__all__:
        if not isinstance(getattr(public, each), ModuleType):
            entry = re.compile(rf"^\.\. (?:auto)?(?:function|class|data):: {each}\b", re.MULTILINE)
            assert any(entry.search(text) for text in texts), each


def test_the_diagrams_are_those_that_their_program_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("diagrams", DOCS / "diagrams.py")
    assert spec is not None
    assert spec.loader is not None
    diagrams = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "diagrams", diagrams)
    spec.loader.exec_module(diagrams)
    monkeypatch.setattr(diagrams, "OUT", tmp_path)
    diagrams.draw()
    for drawn in (DOCS / "images" / "diagrams").glob("*.svg"):
        assert (tmp_path / drawn.name).read_text() == drawn.read_text(), drawn.name
    assert len(list(tmp_path.iterdir())) == len(list((DOCS / "images" / "diagrams").iterdir()))


def test_the_definition_has_the_golden_values() -> None:
    golden = json.loads((ROOT / "tests" / "data" / "golden.json").read_text())
    section = (DOCS / "definition.md").read_text().partition("## Test vectors")[2]
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in section.splitlines() if line[:1] == "|"]
    known = golden["ars4x32_10_known_answers_from_random123"]
    expected = [[case["counter"], case["key"], case["bytes"]] for case in known]
    for case in golden["blocks"]:
        expected.append([case["seed"], case["row_block"], case["column"], case["bytes"]])
    for case in golden["entries"]:
        for row, (re_, im) in enumerate(zip(case["re"], case["im"], strict=True), case["rows"][0]):
            expected.append([case["seed"], str(row), str(case["columns"][0]), numbers(re_, im)])
    for case in golden["fields"]:
        expected.append([case["seed"], str(case["n_inputs"]), str(case["rows"][0]), numbers(case["re"], case["im"])])
    for case in golden["real_entries"]:
        for row, g in enumerate(case["g"], case["rows"][0]):
            expected.append([case["seed"], str(row), str(case["columns"][0]), real_numbers(g)])
    for case in golden["real_fields"]:
        expected.append([case["seed"], str(case["n_inputs"]), str(case["rows"][0]), real_numbers(case["g"])])
    powers = {"2⁶⁴ − 1": str(2**64 - 1), "2⁶³": str(2**63), "2³³": str(2**33)}
    shown = [[powers.get(cell, cell) for cell in row] for row in rows if not {"---", "seed", "counter"} & set(row)]
    assert shown == expected


def numbers(re_: list[int], im: list[int]) -> str:
    return ", ".join(f"{a} {'−' if b < 0 else '+'} {abs(b)}i".replace("-", "−") for a, b in zip(re_, im, strict=True))


def real_numbers(g: list[int]) -> str:
    return ", ".join(map(str, g)).replace("-", "−")
