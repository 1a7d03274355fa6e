"""The code in the documentation runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if "```python" in page.read_text()
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs(
    page: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As torchrun sets them for the only process of a program.
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    codes = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    for library in ("torch", "sklearn", "dask", "scipy"):
        if any(library in code for code in codes):
            pytest.importorskip(library)
    names: dict[str, object] = {}
    for code in codes:
        exec(compile(code, str(page), "exec"), names)
