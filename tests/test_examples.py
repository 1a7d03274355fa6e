"""The example programs explain themselves, and a killed run goes on to the same result."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

EXAMPLES = Path(__file__).parent.parent / "examples"
APPLICATIONS = ["kernel_ridge", "randomized_linear_algebra", "reservoir", "private_training"]
PROGRAMS = ["fashion_dfa", "gpt_dialogue", "climate_vit", "scaling", *APPLICATIONS]


def command(program: str, *arguments: Any) -> list[str]:
    return [sys.executable, str(EXAMPLES / f"{program}.py"), *map(str, arguments)]


def run(program: str, *arguments: Any) -> str:
    done = subprocess.run(
        command(program, *arguments),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def images(folder: Path) -> Path:
    """Write four files as those of Fashion-MNIST: images whose class decides which rows are bright."""
    random = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for part, n in (("train", 2000), ("t10k", 300)):
        labels = random.integers(10, size=n, dtype=np.uint8)
        pixels = random.integers(0, 100, size=(n, 28, 28), dtype=np.uint8)
        pixels[np.arange(n), 2 * labels + 2] += 150
        for name, array in ((f"{part}-images-idx3-ubyte", pixels), (f"{part}-labels-idx1-ubyte", labels)):
            head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            (folder / f"{name}.gz").write_bytes(gzip.compress(head + array.tobytes(), 1))
    return folder


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_tells_what_a_program_does_and_how_to_use_it(program: str) -> None:
    text = run(program, "--help")
    assert "examples:" in text
    assert "--quick" in text


def curves(folder: Path) -> dict[str, Any]:
    return {path.name: json.loads(path.read_text())["curve"] for path in sorted(folder.rglob("*seed*.json"))}


def test_a_killed_training_goes_on_to_the_same_result(tmp_path: Path) -> None:
    data = images(tmp_path / "data")
    options = [
        "--quick",
        "--threads",
        1,
        "--no-progress",
        "--data",
        data,
        "--methods",
        "odfa,shallow",
        "--save-seconds",
        0,
    ]
    run("fashion_dfa", *options, "--out", tmp_path / "whole")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen(command("fashion_dfa", *options, "--out", tmp_path / "killed"), env=environment)
    deadline = time.monotonic() + 120
    # What is being written has a name that begins with a dot.
    while not list((tmp_path / "killed").rglob("[!.]*.pt")):
        assert killed.poll() is None, "ended before its first checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert list((tmp_path / "killed").rglob("[!.]*.pt"))
    assert not curves(tmp_path / "killed")
    run("fashion_dfa", *options, "--out", tmp_path / "killed")
    whole = curves(tmp_path / "whole")
    assert len(whole) == 2
    assert curves(tmp_path / "killed") == whole
    assert not list((tmp_path / "killed").rglob("[!.]*.pt"))
    assert list((tmp_path / "killed").glob("*.png"))
