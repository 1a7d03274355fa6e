"""The example programs compute on the device that the command line chooses, and say on which one they did."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ROOT

torch = pytest.importorskip("torch")
tqdm = pytest.importorskip("tqdm").tqdm
pytest.importorskip("matplotlib")

PROGRAMS = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
TRAINING = {
    "accumulation",
    "climate_vit",
    "diffusion",
    "fashion_dfa",
    "fitted_feedback",
    "gpt_dialogue",
    "optical_transformers",
    "private_training",
    "scaling",
    "tuning",
}
CPU_ONLY = {"plan", "text_classification"}
GPU = "Imaginary GPU"


pytestmark = pytest.mark.usefixtures("examples")


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch say that there is a GPU, and this package that it can be used."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: GPU)
    monkeypatch.setattr(devices(), "Projector", lambda *arguments, **options: None)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def devices() -> Any:
    return importlib.import_module("common.devices")


def parser(program: str) -> argparse.ArgumentParser:
    try:
        made: argparse.ArgumentParser = importlib.import_module(program).parser()
    except ModuleNotFoundError as error:
        pytest.skip(f"needs {error.name}")
    return made


def options(made: argparse.ArgumentParser) -> set[str]:
    return {option for action in made._actions for option in action.option_strings}


@pytest.mark.parametrize("program", PROGRAMS)
def test_all_programs_take_the_same_common_options(program: str, no_gpu: None) -> None:
    made = parser(program)
    assert options(made) >= {"--device", "--out", "--no-progress", "--threads", "--quick"}
    assert (options(made) >= {"--autocast", "--compile"}) == (program in TRAINING)
    assert made.parse_args([]).device == "cpu"
    assert made.parse_args(["--device", "cpu"]).device == "cpu"


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_gpu_is_used_where_there_is_one(program: str, one_gpu: None) -> None:
    made = parser(program)
    assert made.parse_args([]).device == ("cpu" if program in CPU_ONLY else "cuda")
    assert made.parse_args(["--device", "cpu"]).device == "cpu"


@pytest.mark.parametrize("use", ["train", "project", "cpu"])
@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "mps", ""])
def test_a_text_that_is_no_device_is_refused(
    use: str, name: str, one_gpu: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"argument --device: {name!r} is not cpu, cuda or one such as cuda:1" in refusal(use, name, capsys)


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        ("train", "torch finds no GPU that it can use"),
        ("project", "torch finds no GPU that it can use"),
        ("cpu", "this program computes on the CPU only"),
    ],
)
def test_a_gpu_that_is_not_there_is_refused(
    use: str, reason: str, no_gpu: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"argument --device: 'cuda' cannot be used: {reason}" in refusal(use, "cuda", capsys)


def test_a_gpu_beyond_the_last_is_refused(one_gpu: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert "argument --device: 'cuda:1' cannot be used: there are 1 GPUs" in refusal("train", "cuda:1", capsys)


def test_a_gpu_that_only_torch_can_use_trains_and_does_not_project(
    one_gpu: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("the extra is missing")

    monkeypatch.setattr(devices(), "Projector", refuse)
    assert chosen("train", []).name == "cuda"
    assert chosen("project", []).name == "cpu"
    assert "argument --device: 'cuda' cannot be used: the extra is missing" in refusal("project", "cuda", capsys)


def chosen(use: str, arguments: list[str]) -> Any:
    made = argparse.ArgumentParser()
    devices().add_options(made, use)
    return devices().chosen(made.parse_args(arguments))


def refusal(use: str, name: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        chosen(use, ["--device", name])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_results_say_which_device_ran(one_gpu: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = importlib.import_module("common.runs")
    arguments = runs.parser("", "").parse_args(["--device", "cuda:0", "--autocast"])
    runs.begin(arguments)
    assert f"Device: {GPU} (cuda:0), bfloat16 autocast\n" in capsys.readouterr().out
    runs.write_json(tmp_path / "results.json", {})
    made = json.loads((tmp_path / "results.json").read_text())["made"]
    assert (made["device"], made["autocast"], made["compile"]) == (GPU, True, False)


def small_images() -> Any:
    fashion = importlib.import_module("common.fashion.data")
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(512, 784, generator=generator), torch.randint(10, (512,), generator=generator)
    return fashion.Split(x, y, x[:100], y[:100])


def trained(folder: Path, epochs: int = 1, **choices: bool) -> dict[str, Any]:
    """Train a small network on random images, unless the folder has its result."""
    training = importlib.import_module("common.fashion.training")
    trainer = training.Trainer(small_images(), folder, 1, 1e9, devices().Device("cpu", **choices))
    ternary = training.Ternary("Dither", 5.0, "batch")
    run = training.Run("fc", "odfa", 0, 1e-3, epochs, ternary)
    result: dict[str, Any] = trainer.train(run, tqdm(disable=True))
    return result


def test_a_training_on_the_cpu_is_the_plain_loop(tmp_path: Path) -> None:
    from opuproj import dfa

    training = importlib.import_module("common.fashion.training")
    data = small_images()
    torch.manual_seed(0)
    model = training.fully_connected(256)
    rule = dfa.Ternarize(dfa.Dither(5.0), norm="batch")
    dfa.attach(model, list(model)[:-1], method="odfa", ternarize=rule, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    losses = []
    for chosen in np.array_split(np.random.default_rng([0, 0]).permutation(512), 4):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(data.train_x[chosen]), data.train_y[chosen])
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(float(loss.detach()))
    result = trained(tmp_path)
    assert result["curve"][-1]["loss"] == sum(losses) / 4
    assert result["computed"] == {"devices": ["cpu"], "autocast": False, "compile": False}


def test_autocast_trains_in_bfloat16(tmp_path: Path) -> None:
    plain, cast = trained(tmp_path / "plain"), trained(tmp_path / "cast", autocast=True)
    assert cast["computed"]["autocast"]
    losses = [result["curve"][-1]["loss"] for result in (plain, cast)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.01)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's compiler reads it
@pytest.mark.long
def test_a_compiled_model_trains_alike(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("needs a C++ compiler")
    plain, compiled = trained(tmp_path / "plain"), trained(tmp_path / "compiled", compile=True)
    assert compiled["computed"]["compile"]
    assert compiled["curve"][-1]["loss"] == pytest.approx(plain["curve"][-1]["loss"], rel=1e-3)
    alignments = [result["curve"][-1]["alignment"].values() for result in (plain, compiled)]
    assert all(math.isclose(*pair, abs_tol=0.01) for pair in zip(*alignments, strict=True))


def test_results_of_another_precision_are_refused(tmp_path: Path) -> None:
    trained(tmp_path)
    with pytest.raises(SystemExit, match=r"computed without --autocast.*choose another --out"):
        trained(tmp_path, autocast=True)


def test_results_of_another_device_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = trained(tmp_path)
    assert trained(tmp_path)["curve"] == result["curve"]
    assert "was computed on" not in capsys.readouterr().out
    (path,) = tmp_path.glob("*.json")
    path.write_text(json.dumps({**result, "computed": {**result["computed"], "devices": [GPU]}}))
    assert trained(tmp_path)["computed"]["devices"] == [GPU]
    assert f"{path} was computed on {GPU} before, not on cpu" in capsys.readouterr().out


def test_a_run_that_goes_on_elsewhere_records_both_devices(one_gpu: None, capsys: pytest.CaptureFixture[str]) -> None:
    cpu, gpu = devices().CPU, devices().Device("cuda")
    record = gpu.computing(cpu.beginning(), Path("run.pt"))
    assert record == {"devices": ["cpu", GPU], "autocast": False, "compile": False}
    assert f"run.pt was computed on cpu before, not on {GPU}" in capsys.readouterr().out
    assert gpu.computing(record, Path("run.pt")) == record
    assert gpu.computing(None, Path("run.pt")) == record  # an older checkpoint was computed on the CPU
    assert devices().names([{"computed": record}, {}]) == [GPU, "cpu"]


def test_a_table_of_several_devices_says_so(one_gpu: None, capsys: pytest.CaptureFixture[str]) -> None:
    cpu, gpu = ({"computed": device.beginning()} for device in (devices().CPU, devices().Device("cuda")))
    devices().tell_mixture([cpu, cpu])
    assert not capsys.readouterr().out
    devices().tell_mixture([cpu, gpu])
    assert f"computed on different devices: {GPU}, cpu" in capsys.readouterr().out


@pytest.mark.parametrize("program", ["optical_kernel", "photons", "reservoirs", "retrieval"])
def test_projections_are_computed_on_the_device(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"common.{program}")
    calls: dict[str, Any] = {
        "optical_kernel": lambda: next(module.grams(np.ones((2, 9), np.uint8), 1, [4], seed=0, device="cuda")),
        "photons": lambda: module.measured_errors(16, [10.0], 2, 8, "cuda"),
        "reservoirs": lambda: module.OpticalReservoir(
            4, levels=1, input_pixels=3, input_range=(0.0, 1.0), seed=0, device="cuda"
        ),
        "retrieval": lambda: module.operator(4, 8, 0, "cuda"),
    }

    def project(*arguments: Any, device: str | None = None, **options: Any) -> None:
        raise NotImplementedError(device)

    monkeypatch.setattr(module.opuproj, "Projector", project)
    monkeypatch.setattr(module.opuproj, "project", project)
    with pytest.raises(NotImplementedError, match="cuda"):
        calls[program]()
