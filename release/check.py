"""Install the built files into empty environments and check that they work there.

    python -m release.check dist

The wheel on the oldest and on the newest Python that is found, with the oldest and the newest NumPy that the package
takes, without torch and with it; the source distribution offline, compiled from the crates that it carries.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from .build import run, without_network

OLDEST = (3, 10)
SMOKE = Path(__file__).with_name("smoke.py").resolve()
UV = Path(sys.executable).with_name("uv")


def main() -> None:
    """Check everything in the folder of the command line."""
    parser = argparse.ArgumentParser(description="Check a wheel and a source distribution in empty environments.")
    parser.add_argument("dist", type=Path, help="the folder that they are in")
    dist = parser.parse_args().dist.resolve()
    wheel, sdist = (_only(dist.glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    if sys.platform == "linux":
        print(run(_tool("auditwheel"), "show", wheel, cwd=dist).strip())
    print(run(_tool("twine"), "check", "--strict", wheel, sdist, cwd=dist).strip())
    run(_tool("abi3audit"), "--strict", wheel, cwd=dist)
    print(f"{wheel.name} keeps to the stable ABI")

    found = pythons()
    oldest, newest = found[min(found)], found[max(found)]
    if min(found) != OLDEST:
        print(f"no Python 3.{OLDEST[1]} is found: the oldest here is {oldest}")
    with tempfile.TemporaryDirectory(prefix="opuproj-check-") as work:
        place = Path(work)
        oldest_packages = ["numpy==1.26.*", "tqdm==4.60.*"] if min(found) <= (3, 12) else []
        check_wheel(place / "oldest", oldest, [wheel, *oldest_packages])
        check_wheel(place / "newest", newest, [wheel])
        check_wheel(place / "torch", Path(sys.executable), [wheel, "torch"], "--torch")
        check_sdist(place / "sdist", newest, sdist)


def pythons() -> dict[tuple[int, int], Path]:
    """Return the supported interpreters of PATH and of pyenv by their version."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    folders += sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions").glob("*/bin"))
    found: dict[tuple[int, int], Path] = {}
    for path in chain.from_iterable(folder.glob("python3*") for folder in folders):
        named = re.fullmatch(r"python3\.(\d+)(\.exe)?", path.name)
        if named and (version := (3, int(named[1]))) >= OLDEST and version not in found and _runs(path):
            found[version] = path
    return found


def _runs(path: Path) -> bool:
    """Whether the program runs: pyenv puts programs on PATH that only print that they are not installed."""
    return not subprocess.run([path, "-c", "import venv"], check=False, capture_output=True).returncode


def check_wheel(place: Path, python: Path, packages: list[str | Path], *arguments: str) -> None:
    """Install built packages only, nothing from source."""
    run(UV, "venv", "--quiet", "--python", python, place, cwd=place.parent)
    run(*_install(place), "--only-binary", ":all:", *packages, cwd=place.parent)
    _smoke(place, *arguments)


def check_sdist(place: Path, python: Path, sdist: Path) -> None:
    """Compile the source distribution with the network cut off and an empty cargo cache."""
    run(UV, "venv", "--quiet", "--python", python, place, cwd=place.parent)
    run(*_install(place), "--only-binary", ":all:", "maturin>=1.9,<2", "numpy", "tqdm", cwd=place.parent)
    cargo_home = place / "cargo"
    cargo_home.mkdir()
    env = os.environ | {
        "CARGO_HOME": str(cargo_home),
        "CARGO_NET_OFFLINE": "true",
        "CARGO_TARGET_DIR": str(place / "target"),
        # The question is whether it compiles; the bits are the same.
        "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
        "CARGO_PROFILE_RELEASE_LTO": "off",
        "PATH": os.pathsep.join([str(_programs(place)), os.environ["PATH"]]),
    }
    offline = ["--offline", "--no-index", "--no-deps", "--no-build-isolation"]
    run(*without_network(), *_install(place), *offline, sdist, cwd=place.parent, env=env)
    print("from source, offline: ", end="", flush=True)
    _smoke(place)


def _install(place: Path) -> list[str | Path]:
    return [UV, "pip", "install", "--quiet", "--python", place]


def _smoke(place: Path, *arguments: str) -> None:
    """Run the smoke test without access to the checkout or another environment."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OPUPROJ_"))}
    print(run(_programs(place) / "python", "-I", SMOKE, *arguments, cwd=place, env=env), end="", flush=True)


def _programs(place: Path) -> Path:
    return place / ("Scripts" if os.name == "nt" else "bin")


def _tool(name: str) -> Path:
    return Path(sys.executable).with_name(name)


def _only(paths: Iterator[Path]) -> Path:
    found = sorted(paths)
    if len(found) != 1:
        raise SystemExit(f"there must be one wheel and one source distribution, but found {[p.name for p in found]}")
    return found[0]


if __name__ == "__main__":
    main()
