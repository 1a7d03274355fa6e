"""Build twice in different folders and compare the files byte by byte.

python -m release.reproducible
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import zipfile
from pathlib import Path

from .build import build


def main() -> None:
    """Build into a temporary folder; print differences and end with exit code 1 if there are any."""
    parser = argparse.ArgumentParser(description="Build again, and compare.")
    parser.add_argument("dist", type=Path, help="the folder of what was built before")
    dist = parser.parse_args().dist
    with tempfile.TemporaryDirectory(prefix="opuproj-built-again-") as place:
        for again in build(Path(place, "dist"), Path(place, "work")):
            before = dist / again.name
            if not before.exists():
                raise SystemExit(f"{before} is not there: make wheel")
            if _sha256(before) != _sha256(again):
                raise SystemExit(f"{again.name} differs: {', '.join(_differing(before, again))}")
            print(f"sha256 {_sha256(again)} {again.name}, twice")


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
