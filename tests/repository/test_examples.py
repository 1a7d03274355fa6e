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
from helpers import ROOT

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

EXAMPLES = ROOT / "examples"
APPLICATIONS = ["kernel_ridge", "randomized_linear_algebra", "reservoir", "private_training", "photon_budget"]
APPLICATIONS += ["text_classification", "phase_retrieval", "accumulation", "tuning", "optical_transformers"]
APPLICATIONS += ["fitted_feedback", "gradient_projection"]
PROGRAMS = [
    "fashion_dfa",
    "gpt_dialogue",
    "climate_vit",
    "diffusion",
    "gpu_experiments",
    "scaling",
    "plan",
    "structured_statistics",
    "demo",
    *APPLICATIONS,
]


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


@pytest.mark.long
@pytest.mark.parametrize("program", PROGRAMS)
def test_help_tells_what_a_program_does_and_how_to_use_it(program: str) -> None:
    text = run(program, "--help")
    assert "examples:" in text
    assert "--quick" in text
    assert "--device {cuda,cpu}" in text


def curves(folder: Path) -> dict[str, Any]:
    return {path.name: json.loads(path.read_text())["curve"] for path in sorted(folder.rglob("*seed*.json"))}


@pytest.mark.long
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


@pytest.mark.long
def test_the_diffusion_program_trains_and_draws(tmp_path: Path) -> None:
    options = ["--quick", "--threads", 1, "--no-progress", "--data", images(tmp_path / "data")]
    text = run("diffusion", *options, "--out", tmp_path / "out")
    folder = tmp_path / "out" / "one" / "quick"
    found = {result["method"]: result for result in json.loads((folder / "results.json").read_text())["runs"]}
    assert set(found) == {"bp", "dfa", "odfa", "shallow"}
    assert all(result["curve"][-1]["train"] < result["curve"][0]["train"] for result in found.values())
    assert found["bp"]["test"] < found["shallow"]["test"]
    assert {path.name for path in folder.glob("*.png")} == {"losses.png", "samples.png"}
    assert "ODFA" in text
    run("diffusion", *options, "--out", tmp_path / "out", "--tune", "--blocks", "each", "--methods", "odfa")
    tried = json.loads((tmp_path / "out" / "each" / "quick" / "tune.json").read_text())["found"]
    assert len({tuple(one["rates"]) for one in tried}) == len(tried) == 3


@pytest.mark.long
def test_optical_times_are_drawn_from_what_was_measured(tmp_path: Path) -> None:
    parts = {"forward": 0.01, "backward": 0.03, "projection": 0.02, "optimizer": 0.01, "step": 0.05, "rounds": 5}
    for width, layers in ((100, 1), (2048, 96)):
        size = {"family": "mlp", "width": width, "layers": layers, "batch": 64, "parameters": 1000, "memory": {}}
        methods = {"bp": {**parts, "projection": 0.0, "ratio": 1.0}, "odfa": {**parts, "ratio": 1.1}}
        (tmp_path / f"mlp-width{width}-layers{layers}-batch64.json").write_text(
            json.dumps({**size, "methods": methods})
        )
    text = run("scaling", "--figures-only", "--hardware", "--out", tmp_path)
    # 64 errors, four frames each, at 8 kHz and 1.9 kHz: 32 and 134.7 ms in place of 20, of 50 ms.
    rows = [line.split() for line in text.splitlines() if line.split()[:2] in (["1", "100"], ["96", "2048"])]
    assert rows[-2:] == [
        ["1", "100", "0.781", "0.781", "0.312", "0.500", "0.969", "1.24"],
        ["96", "2048", "0.781", "0.781", "0.312", "2.105", "2.574", "3.29"],
    ]
    assert "faster than BP in 0 of these 2 sizes" in text
    results = json.loads((tmp_path / "mlp-hardware.json").read_text())["results"]
    assert results[1]["methods"]["odfa, optical"]["step"] == pytest.approx(0.03 + 256 / 1900)
    assert {path.name for path in tmp_path.glob("mlp-hardware-*.png")} == {
        "mlp-hardware-width.png",
        "mlp-hardware-layers.png",
    }


@pytest.mark.long
def test_a_plan_is_told_from_what_was_measured(tmp_path: Path) -> None:
    core = {"cores": 1, "entry": 1e-10, "multiply": 1e-11, "pack": 1e-10, "read": 1e-9}
    job = {"n": 1, "d": 1000, "m": 1000, "shard": "rows", "ranks": 1, "seconds": 0.5}
    measured = {"cores": 2, "node": core, "networks": {"2": {"latency": 1e-5, "bandwidth": 1e9}}, "jobs": [job]}
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(measured))
    text = run("plan", "--calibration", path, "--cores", 100, "--latency", 1e-6, "--bandwidth", 1e10)
    # 2 · 10³ · 10³ parts of 0.11 ns, 10³ elements packed and 10³ outputs read.
    assert "| 1 vectors, 1,000 → 1,000, rows | 1 | 500 ms | 0.221 ms |" in text
    # 4 · 10¹² parts of 0.11 ns on 2 cores, on 100, and on 1,000 times 100.
    assert "| 1 | rows | 3.67 min | 4.4 s (0 %) |" in text
    assert text.count("\n| 1,024 |") == 2
