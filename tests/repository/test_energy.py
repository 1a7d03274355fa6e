"""A meter of a training adds up seconds, joules and peak memory, over pauses and interruptions."""

from __future__ import annotations

import sys
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

UUID = "8a0f1c2e-0000-1111-2222-333344445555"


@pytest.fixture
def energy(examples: None) -> Any:
    import common.energy

    common.energy._counter.cache_clear()
    return common.energy


class Gpu:
    """A GPU whose energy and peak memory the test sets."""

    millijoules = 5_000
    peak = 100
    refuses = False


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    made = Gpu()
    nvml = ModuleType("pynvml")

    class NVMLError(Exception):
        pass

    def total_energy(handle: str) -> int:
        if made.refuses:
            raise NVMLError("Not Supported")
        assert handle == f"handle of GPU-{UUID}"
        return made.millijoules

    nvml.NVMLError = NVMLError  # type: ignore[attr-defined]
    nvml.nvmlInit = lambda: None  # type: ignore[attr-defined]
    nvml.nvmlDeviceGetHandleByUUID = lambda uuid: f"handle of {uuid}"  # type: ignore[attr-defined]
    nvml.nvmlDeviceGetTotalEnergyConsumption = total_energy  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    nvml.__spec__ = SimpleNamespace(name="pynvml")  # type: ignore[assignment]
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda name: SimpleNamespace(uuid=UUID))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda name: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda name: setattr(made, "peak", 0))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda name: made.peak)
    return made


def device(name: str = "cuda") -> Any:
    from common.devices import Device

    return Device(name)


def test_pauses_do_not_count(energy: Any, gpu: Gpu) -> None:
    meter = energy.Meter(device())
    meter.start()
    gpu.millijoules += 2_000
    gpu.peak = 800
    with meter.paused():
        gpu.millijoules += 50_000
        gpu.peak = 9_000
        time.sleep(0.2)
    gpu.millijoules += 500
    gpu.peak = 700
    meter.stop()
    reading = meter.reading()
    assert (reading["joules"], reading["peak_memory"]) == (2.5, 800)
    assert 0 < reading["seconds"] < 0.2


def test_a_part_after_an_interruption_adds_to_the_earlier_one(energy: Any, gpu: Gpu) -> None:
    meter = energy.Meter(device(), {"seconds": 10.0, "joules": 3.0, "peak_memory": 900})
    meter.start()
    gpu.millijoules += 1_000
    gpu.peak = 700
    meter.stop()
    reading = meter.reading()
    assert reading["seconds"] == pytest.approx(10, abs=1)
    assert (reading["joules"], reading["peak_memory"]) == (4.0, 900)


def test_joules_that_are_unknown_of_a_part_are_unknown_of_all(energy: Any, gpu: Gpu) -> None:
    for earlier in ({"seconds": 10.0}, {"seconds": 10.0, "joules": None}):
        meter = energy.Meter(device(), earlier)
        meter.start()
        meter.stop()
        assert meter.reading()["joules"] is None


def test_the_cpu_has_seconds_only(energy: Any) -> None:
    meter = energy.Meter(device("cpu"))
    meter.start()
    meter.stop()
    assert meter.reading() == {"seconds": meter.seconds, "joules": None, "peak_memory": None}
    assert energy.told(device("cpu")) == "Energy is not measured: the CPU computes."


def test_why_there_are_no_joules(energy: Any, gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.refuses = True
    assert energy.told(device()) == "Energy is not measured: NVML says 'Not Supported'."
    meter = energy.Meter(device())
    meter.start()
    meter.stop()
    assert meter.reading()["joules"] is None
    energy._counter.cache_clear()
    monkeypatch.setattr(energy, "find_spec", lambda name: None)
    assert energy.told(device()) == "Energy is not measured: nvidia-ml-py is not installed."
