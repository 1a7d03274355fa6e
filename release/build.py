"""Build a source distribution that contains its crates, and from that alone a wheel.

    python -m release.build dist

It also writes the wheel's list of crates (CycloneDX) beside them; the wheel contains the same list.

The wheel is built from the unpacked source distribution, offline and with an empty cargo cache, which shows that the
published files build. On Linux zig links it against glibc 2.17, the oldest version that Rust supports. The files
contain no paths or times of the machine.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from .readme import absolute

ROOT = Path(__file__).resolve().parent.parent
GLIBC = "manylinux_2_17"

# Take crates only from the folder beside it.
CARGO_CONFIG = """\
[source.crates-io]
replace-with = "vendored-sources"

[source.vendored-sources]
directory = "vendor"

[net]
offline = true
"""


def run(*command: str | os.PathLike[str], cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a command and return its standard output; its standard error is ours."""
    done = subprocess.run(command, cwd=cwd, env=env, check=True, text=True, stdout=subprocess.PIPE)
    return done.stdout


def build(out: Path, work: Path) -> tuple[Path, Path]:
    """Build both into `out`, with intermediate files in `work`; return the source distribution and the wheel."""
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    sdist = build_sdist(out, work / "stage")
    return sdist, build_wheel(sdist, out, work)


def build_sdist(out: Path, stage: Path) -> Path:
    """Build the source distribution from the present files that git tracks and the crates of Cargo.lock."""
    for name in run("git", "ls-files", "-z", cwd=ROOT).split("\0"):
        if name and (ROOT / name).is_file():
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, stage / name)
    subprocess.run(
        ["cargo", "vendor", "--quiet", "--locked", "--versioned-dirs", "vendor"],
        cwd=stage,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    version = re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    assert version is not None
    readme = stage / "README.md"
    readme.write_text(absolute(readme.read_text(encoding="utf-8"), f"v{version[1]}"), encoding="utf-8")
    (stage / ".cargo").mkdir()
    (stage / ".cargo" / "config.toml").write_text(CARGO_CONFIG)
    return _made("*.tar.gz", out, [maturin(), "sdist", "--out", out], stage, dict(os.environ))


def build_wheel(sdist: Path, out: Path, work: Path) -> Path:
    """Build the wheel from the source distribution in separate folders."""
    with tarfile.open(sdist) as archive:
        archive.extractall(work / "source", filter="data")
    (source,) = (work / "source").iterdir()
    cargo_home = work / "cargo"
    cargo_home.mkdir()
    env = os.environ | {
        "CARGO_HOME": str(cargo_home),
        "CARGO_TARGET_DIR": str(work / "target"),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),  # where maturin looks for zig
        "RUSTFLAGS": f"--remap-path-prefix={source.resolve()}=/opuproj",
    }
    command: list[str | Path] = [maturin(), "build", "--release", "--locked", "--out", out]
    if sys.platform == "linux":
        command += ["--zig", "--compatibility", GLIBC, "--auditwheel", "check"]
    wheel = _made("*.whl", out, [*without_network(), *command], source, env)
    hide_path(wheel, str(source.resolve()), work / "unpacked")
    return wheel


def hide_path(wheel: Path, path: str, work: Path) -> None:
    """Remove the build folder from the wheel's list of crates, and copy the list beside the wheel."""
    tool = [sys.executable, "-m", "wheel"]
    run(*tool, "unpack", "--dest", work, wheel, cwd=wheel.parent)
    (unpacked,) = work.iterdir()
    for found in unpacked.glob("*.dist-info/sboms/*.json"):
        found.write_text(found.read_text(encoding="utf-8").replace(path, "/opuproj"), encoding="utf-8")
        shutil.copy(found, wheel.with_name(f"{unpacked.name}.cyclonedx.json"))
    run(*tool, "pack", "--dest-dir", wheel.parent, unpacked, cwd=work, env=_dated(dict(os.environ)))


def maturin() -> Path:
    """Return the build tool of the environment that runs this."""
    return Path(sys.executable).with_name("maturin.exe" if os.name == "nt" else "maturin")


def without_network() -> list[str]:
    """Return a prefix that runs a command without a network, if the system allows it."""
    cut = ["unshare", "--net"]
    if shutil.which(cut[0]) and not subprocess.run([*cut, "true"], check=False, stderr=subprocess.DEVNULL).returncode:
        return cut
    return []


def _made(pattern: str, out: Path, command: list[str | Path], cwd: Path, env: dict[str, str]) -> Path:
    with tempfile.TemporaryDirectory(dir=out) as fresh:
        command[command.index(out)] = Path(fresh)
        run(*command, cwd=cwd, env=_dated(env))
        (made,) = Path(fresh).glob(pattern)
        return made.replace(out / made.name)


def _dated(env: dict[str, str]) -> dict[str, str]:
    """Return an environment in which builds date files to the last commit."""
    return {"SOURCE_DATE_EPOCH": run("git", "log", "-1", "--format=%ct", cwd=ROOT).strip()} | env


def main() -> None:
    """Build into the folder of the command line."""
    parser = argparse.ArgumentParser(description="Build a source distribution and a wheel.")
    parser.add_argument("out", type=Path, help="the folder to put them in")
    with tempfile.TemporaryDirectory(prefix="opuproj-build-") as work:
        for made in build(parser.parse_args().out, Path(work)):
            print(f"{made} {made.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
