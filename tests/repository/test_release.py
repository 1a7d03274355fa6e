"""What is published: the README of the package index, and the links of the project."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from release import readme

ROOT = Path(__file__).resolve().parents[2]


def test_the_readme_of_the_index_has_no_relative_link() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    made = readme.absolute(text, "v1.2.3")
    prose = re.sub(r"```.*?```", "", made, flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", prose)
    assert len(targets) > 20
    bases = (f"{readme.REPOSITORY}/blob/v1.2.3/", f"{readme.IMAGES}/v1.2.3/")
    for target in targets:
        assert "://" in target or target.startswith("#"), target
        for base in bases:
            if target.startswith(base):
                assert (ROOT / target.removeprefix(base).partition("#")[0]).exists(), target
    assert sum(target.startswith(bases[0]) for target in targets) > 15
    assert sum(target.startswith(bases[1]) for target in targets) == text.count("![")
    assert re.findall(r"```.*?```", made, re.DOTALL) == re.findall(r"```.*?```", text, re.DOTALL)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("[a](docs/a.md#b)", f"[a]({readme.REPOSITORY}/blob/v1/docs/a.md#b)"),
        ("![a](docs/a.png)", f"![a]({readme.IMAGES}/v1/docs/a.png)"),
        ("[method `x[0]`](a.md)", f"[method `x[0]`]({readme.REPOSITORY}/blob/v1/a.md)"),
        ("[a](#b), [c](https://d.e/f)", "[a](#b), [c](https://d.e/f)"),
        ("```\n[a](b)\n```\n[a](b)", f"```\n[a](b)\n```\n[a]({readme.REPOSITORY}/blob/v1/b)"),
    ],
)
def test_links(given: str, expected: str) -> None:
    assert readme.absolute(given, "v1") == expected


def test_the_project_names_its_repository() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    urls = dict(
        re.findall(r'^(\w+) = "(https://[^"]+)"', text.partition("[project.urls]")[2].partition("\n[")[0], re.M)
    )
    assert {"Documentation", "Repository", "Changelog", "Issues"} <= urls.keys()
    assert urls["Repository"] == readme.REPOSITORY
    for url in urls.values():
        path = url.partition("/blob/main/")[2]
        assert not path or (ROOT / path).exists(), url
