"""Build twice in different folders, and compare the files byte for byte.

python -m release.reproducible
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import zipfile
from pathlib import Path

from .build import build


def main() -> None:
    """Build twice; end with exit code 1, and say where, if anything differs."""
    with tempfile.TemporaryDirectory(prefix="opuproj-first-") as a, tempfile.TemporaryDirectory(prefix="second-") as b:
        first, second = (build(Path(place, "dist"), Path(place, "work")) for place in (a, b))
        for one, other in zip(first, second, strict=True):
            if _sha256(one) != _sha256(other):
                print(f"{one.name} differs: {', '.join(_differing(one, other))}")
                sys.exit(1)
            print(f"sha256 {_sha256(one)} {one.name}, twice")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _differing(one: Path, other: Path) -> list[str]:
    """Return the names of the files of two wheels that differ."""
    if not zipfile.is_zipfile(one):
        return [one.name]
    with zipfile.ZipFile(one) as a, zipfile.ZipFile(other) as b:
        names = sorted({*a.namelist(), *b.namelist()})
        return [name for name in names if a.NameToInfo.get(name) is None or a.read(name) != b.read(name)]


if __name__ == "__main__":
    main()
