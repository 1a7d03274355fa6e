"""The benchmarks of the GPU run, at small sizes on the CPU that stands in for one, and say what is missed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import standin_backend
from opuproj import backends

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(standin_backend.DEVICE not in backends.registered(), reason="needs g++")

from benches.benchmarks import gpu as asv  # noqa: E402
from benches.gpu import __main__ as program  # noqa: E402
from benches.gpu import picture, timing  # noqa: E402
from benches.gpu.cases import CASES, Case  # noqa: E402


class Small(timing.Gpu):
    """The stand-in, as a GPU that is timed."""

    device = standin_backend.DEVICE
    smaller = 500

    def __init__(self) -> None:
        self.name, self.memory = "a stand-in", 1 << 30

    def seconds(self, work: timing.Work) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def host_seconds(self, work: timing.Work) -> float:
        return self.seconds(work)

    def kernels(self) -> Any:
        return standin_backend.StandIn()


@pytest.fixture(autouse=True)
def on_the_standin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", standin_backend.tensor_rows)


RUN_HERE = [name for name in CASES if name != "first_use"]  # which starts a process that needs a GPU


@pytest.mark.parametrize("name", RUN_HERE)
def test_every_case_runs(name: str) -> None:
    found = list(CASES[name](Small()))
    assert found
    for case in found:
        assert case.value > 0, case
        assert str(case)


def test_what_is_measured_is_printed_and_saved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def cases(gpu: timing.Gpu) -> Iterator[Case]:
        yield Case("fast", 2.0, "T entries/s", least=1.0)
        yield Case("slow", 9.0, "times", most=8)
        yield Case("free", 1.0, "s")

    monkeypatch.setitem(CASES, "some", cases)
    assert program.measure(Small(), ["some"], tmp_path / "gpu.json") == 1
    printed = capsys.readouterr().out
    assert "1 requirements missed" in printed
    assert [line[:6] for line in printed.splitlines()[1:4]] == ["  fast", "! slow", "  free"]
    saved = json.loads((tmp_path / "gpu.json").read_text())
    assert [case["value"] for case in saved["cases"]] == [2.0, 9.0, 1.0]
    assert saved["gpu"] == "a stand-in"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([]) == 0
    assert capsys.readouterr().out == "No GPU is measured: there is no GPU.\n"
    with pytest.raises(NotImplementedError):
        asv.Case().setup("largest")


def test_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    names = ["generation into memory"]
    names += [f"10^6 inputs, 10^5 rows, batch {batch}" for batch in (1, 8, 16)]
    for batch in (64, 256, 1024):
        names += [f"32,768 inputs, batch {batch}", f"32,768 inputs, batch {batch}, the int8 product alone"]
    for batch in (1, 32, 256, 4096):
        names += [
            f"10^4 -> 2 10^4 real, batch {batch}, against stored {dtype}" for dtype in ("bfloat16", "float32", "int8")
        ]
    made = {"gpu": "a GPU", "cases": [Case(name, 1.5, "times")._asdict() for name in names]}
    (tmp_path / "gpu.json").write_text(json.dumps(made))
    picture.main([str(tmp_path / "gpu.json"), str(tmp_path / "gpu.png")])
    assert (tmp_path / "gpu.png").stat().st_size > 10_000
