"""The studies at the paper's sizes, run small: a run that stops in the middle goes on to the same result."""

from __future__ import annotations

import importlib
import json
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
tqdm = pytest.importorskip("tqdm").tqdm
pytest.importorskip("matplotlib")
pytest.importorskip("tokenizers")

PROGRAMS = ("gpt_dialogue", "climate_vit", "gpu_experiments")


@pytest.fixture(autouse=True)
def one_thread(examples: None) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def module(name: str) -> Any:
    return importlib.import_module(name)


def arguments(program: str, *options: str) -> Any:
    made = module(program).parser().parse_args([*options, "--device", "cpu"])
    made.on = module("common.devices").CPU
    return made


def dialogues() -> Any:
    """Return a small text, without the packages that hold plays."""
    plays = module("common.plays")
    text = "".join(f"JACK: I have {i} apples and {i * i} pears.\nJILL: So {i + 1} more?\n" for i in range(300))
    tokenizer = plays.byte_pairs([text], 300)
    tokens = torch.tensor(tokenizer.encode(text).ids)
    return plays.Corpus(tokens[:-500], tokens[-500:], tokenizer, "apples and pears")


def small(method: str, *options: str) -> Any:
    """Return the settings of the study at the paper's size, with a small network."""
    program = module("gpt_dialogue")
    chosen = arguments("gpt_dialogue", "--size", "1b", "--quick", "--width", "16", "--batch", "4", *options)
    some = program.of(program.settings(chosen), method, 0, chosen)
    return replace(some, shape=replace(some.shape, vocabulary=300))


def gpt_run(method: str, folder: Path, *options: str) -> Any:
    return module("common.gpt.training").Run(small(method, *options), dialogues(), folder, 0.0)


def test_the_paper_s_size() -> None:
    at_size, model = module("common.gpt.at_size"), module("common.gpt.model")
    assert model.GPT(at_size.PAPER).count() == 1_070_123_816
    program = module("gpt_dialogue")
    chosen = arguments("gpt_dialogue", "--size", "1b")
    settings = program.of(program.settings(chosen), "odfa", 2, chosen)
    assert settings.shape == at_size.STUDY
    assert f"{model.GPT(settings.shape).count():.2e}" == "1.07e+09"
    assert (settings.epochs, settings.steps, settings.block_layers, settings.seed) == (2, None, 1, 2)
    assert settings.rate == pytest.approx(6e-3 * 128 / 2040)


@pytest.mark.parametrize("method", ["bp", "dfa", "odfa", "shallow"])
def test_a_training_that_stops_goes_on_to_the_same_result(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module("common.gpt.training"), "TEXT_LENGTH", 20)
    whole = gpt_run(method, tmp_path / "whole").train(tqdm(disable=True))
    run = gpt_run(method, tmp_path / "stopped")
    step = type(run).step

    def stopping(self: Any, number: int) -> float:
        if number == 11:
            raise KeyboardInterrupt
        return float(step(self, number))

    with monkeypatch.context() as patch:
        patch.setattr(type(run), "step", stopping)
        # As often as there are steps, however long saving takes.
        patch.setattr(module("common.runs").Checkpoint, "due", lambda self: True)
        with pytest.raises(KeyboardInterrupt):
            run.train(tqdm(disable=True))
    assert [path.name for path in (tmp_path / "stopped").iterdir()] == [f"{method}-0.pt"]
    steps: list[int] = []
    monkeypatch.setattr(type(run), "step", lambda self, number: steps.append(number) or step(self, number))
    result = gpt_run(method, tmp_path / "stopped").train(tqdm(disable=True))
    assert steps == list(range(11, 20))
    assert len(whole["curve"]) == 21
    assert [text["part"] for text in whole["texts"]] == [0.0, 0.2, 1.0]
    assert comparable(result) == comparable(whole)
    assert [path.name for path in (tmp_path / "stopped").iterdir()] == [f"{method}-0.json"]
    assert gpt_run(method, tmp_path / "stopped").finished()["validation_loss"] == whole["validation_loss"]


def comparable(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result without seconds."""
    kept = {key: value for key, value in result.items() if key not in ("seconds", "tokens_a_second", "made")}
    kept["statistics"] = {key: value for key, value in result["statistics"].items() if key != "seconds"}
    kept["curve"] = [{key: value for key, value in point.items() if key != "seconds"} for point in result["curve"]]
    return json.loads(json.dumps(kept))  # type: ignore[no-any-return]


def test_results_older_than_a_setting_are_kept_and_others_refused(tmp_path: Path) -> None:
    run = gpt_run("bp", tmp_path)
    settings = {key: value for key, value in asdict(run.settings).items() if key != "steps"}
    stored = {"settings": {**settings, "steps": 20}, "corpus": run.corpus.description, "computed": None}
    run.result_file.write_text(json.dumps(stored))
    assert run.finished() is not None
    run.result_file.write_text(json.dumps({**stored, "settings": settings}))
    with pytest.raises(SystemExit, match="other settings"):
        run.finished()
    all_steps = module("common.gpt.training").Run(replace(run.settings, steps=None), run.corpus, tmp_path, 0.0)
    assert all_steps.finished() is not None


def test_room_is_checked_before_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = gpt_run("bp", tmp_path)
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(module("common.runs"), "disk_usage", lambda folder: usage(9, 9, 1000))
        with pytest.raises(SystemExit, match="1 kB are free: choose another --out"):
            run.train(tqdm(disable=True))
    monkeypatch.setattr(module("common.memory"), "available", lambda: 1000)
    with pytest.raises(SystemExit, match="cpu has 1 kB available"):
        run.train(tqdm(disable=True))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--memory"], "--memory is for --size 1b"),
        (["--report"], "--report is for --size 1b"),
        (["--size", "1b", "--photons", "1"], "--photons is for --size small"),
        (["--size", "1b", "--tuned", "--rate", "1"], "leave out --tune and --rate"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        module("gpt_dialogue").check(arguments("gpt_dialogue", *options))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(SystemExit, match="--heads 20 must divide --width 64"):
        module("gpt_dialogue").settings(arguments("gpt_dialogue", "--size", "1b", "--width", "64"))


def test_tuned_rates_are_those_of_the_least_loss(tmp_path: Path) -> None:
    program = module("gpt_dialogue")
    chosen = arguments("gpt_dialogue", "--size", "1b", "--tuned", "--out", str(tmp_path))
    with pytest.raises(SystemExit, match="has no rates of dfa: run --tune"):
        program.of(program.settings(chosen), "dfa", 0, chosen)
    (tmp_path / "tune.json").write_text(json.dumps({"losses": {"dfa": {"0.001": 4.0, "0.002": 3.5, "0.004": 3.9}}}))
    assert program.of(program.settings(chosen), "dfa", 0, chosen).rate == 0.002


def test_a_search_leaves_its_rates_for_the_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = module("gpt_dialogue")
    chosen = arguments("gpt_dialogue", "--size", "1b", "--quick", "--tune", "--methods", "bp", "--out", str(tmp_path))
    base = replace(small("bp", "--steps", "5"), rate=0.0)
    program.tune(chosen, base, dialogues())
    losses = json.loads((tmp_path / "tune.json").read_text())["losses"]["bp"]
    # RATES × 128 / 16, and half of it.
    assert sorted(map(float, losses)) == [0.016, 0.032]
    shown = capsys.readouterr().out
    assert all(f"{loss:.4f}" in shown for loss in losses.values())
    chosen.tune, chosen.tuned = False, True
    assert program.of(base, "bp", 0, chosen).rate == float(min(losses, key=losses.get))


def test_the_report_shows_what_is_not_measured_yet() -> None:
    report = module("common.gpt.report")
    rows = report.table([]).splitlines()[2:]
    assert [row.count("not measured yet") for row in rows] == [1, 1, 1, 1]
    assert ["about 2 h" in row for row in rows] == [True, False, False, False]
    common = {"seconds": 120.0, "joules": 50_000.0, "peak_memory": 21.4e9, "settings": {"method": "bp", "seed": 0}}
    results = [{**common, "validation_loss": 3.5}]
    for seed, loss in enumerate((3.75, 3.85)):
        results.append({**common, "settings": {"method": "odfa", "seed": seed}, "validation_loss": loss})
    rows = report.table(results).splitlines()[2:]
    assert rows[0] == "| BP | 3.5000 |  | 2.0 | 50.0 | 21.4 GB | 0 | about 2 h |"
    assert rows[2] == "| ODFA | 3.8000 ± 0.0500 | +0.2500 | 2.0 | 50.0 | 21.4 GB | 0, 1 | about 20 h |"
    assert "not measured yet" in rows[1]
    assert "not measured yet" in rows[3]


def climate(rows: int = 24, height: int = 9, breadth: int = 14, scalars: int = 6) -> Any:
    """Return a small climate whose temperature follows the first forcing."""
    random = np.random.default_rng(0)
    forcing = random.standard_normal((rows, scalars)).astype(np.float32)
    pattern = random.standard_normal((height, breadth)).astype(np.float32)
    return module("common.climate.data").Climate(
        "a small climate",
        np.full(rows, "A"),
        np.arange(1900, 1900 + rows),
        np.resize(["train", "train", "validate", "test"], rows),
        forcing,
        np.empty((rows, 0, height, breadth), np.float32),
        280 + forcing[:, 0, None, None] * pattern,
        np.linspace(20, 60, height, dtype=np.float32),
        np.linspace(0, 90, breadth, dtype=np.float32),
    )


def test_maps_have_the_paper_s_sizes() -> None:
    data = climate()
    large = module("common.climate.data").on_paper_grid(data)
    assert large.maps[0].size == 55_296
    assert large.temperature[0].size == 13_824
    assert (large.maps == data.scalars[:, [0, 1, 4, 5], None, None]).all()
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        np.testing.assert_allclose(large.temperature[(..., *corner)], data.temperature[(..., *corner)], rtol=1e-6)
    # Linear interpolation changes no map that is linear.
    plane = data.latitude[:, None] + 2 * data.longitude
    made = module("common.climate.data").on_paper_grid(replace(data, temperature=np.stack([plane] * 24)))
    np.testing.assert_allclose(made.temperature[0], made.latitude[:, None] + 2 * made.longitude, rtol=1e-5)


def test_networks_have_the_paper_s_sizes() -> None:
    networks = module("common.climate.networks")
    data = module("common.climate.data").on_paper_grid(climate())
    counts = {}
    for kind in ("vit", "mlp"):
        with torch.device("meta"):
            made = networks.make(kind, data, networks.PAPER)
        counts[kind] = sum(parameter.numel() for parameter in made.model.parameters())
    assert counts == {"vit": 202_378_384, "mlp": 1_294_516_736}


def climate_job(network: str, method: str) -> Any:
    program = module("climate_vit")
    chosen = arguments("climate_vit", "--size", "paper", "--quick")
    rates = program.rates_of(chosen, network, method)
    return module("common.climate.training").Job(
        network, method, 0, rates, 4, program.TERNARIZE, program.sizes_of(chosen)
    )


@pytest.mark.parametrize(("network", "method"), [("vit", "odfa"), ("mlp", "bp"), ("mlp", "dfa"), ("vit", "shallow")])
def test_a_climate_training_that_stops_goes_on_to_the_same_result(
    network: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = module("common.climate.training")
    task, job = training.Task(climate()), climate_job(network, method)

    def train(folder: str) -> Any:
        return training.train(job, task, tmp_path / folder, "run", 0.0, tqdm(disable=True))

    whole = train("whole")
    one_epoch, done = training.one_epoch, []

    def stopping(*given: Any) -> float:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(one_epoch(*given))
        return float(done[-1])

    with monkeypatch.context() as patch:
        patch.setattr(training, "one_epoch", stopping)
        patch.setattr(module("common.runs").Checkpoint, "due", lambda self: True)
        with pytest.raises(KeyboardInterrupt):
            train("stopped")
    assert [path.name for path in (tmp_path / "stopped").iterdir()] == ["run.pt"]
    rest: list[float] = []
    monkeypatch.setattr(training, "one_epoch", lambda *given: rest.append(one_epoch(*given)) or rest[-1])
    result = train("stopped")
    assert [*done, *rest] == whole["loss"] == result["loss"]
    assert len(rest) == 2
    for name in ("rmse", "validate", "alignment", "settings"):
        assert result[name] == whole[name]
    assert sorted(path.name for path in (tmp_path / "stopped").iterdir()) == ["run.json", "run.npz"]
    # A result of these sizes is kept, and one of others is not.
    assert train("stopped")["loss"] == whole["loss"]
    assert len(rest) == 2
    job = replace(job, sizes=module("common.climate.networks").SMALL)
    train("stopped")
    assert len(rest) == 6


def test_results_of_the_small_networks_stay_valid() -> None:
    program = module("climate_vit")
    chosen = arguments("climate_vit")
    rates = program.rates_of(chosen, "vit", "odfa")
    job = module("common.climate.training").Job(
        "vit", "odfa", 0, rates, 30, program.TERNARIZE, program.sizes_of(chosen)
    )
    assert job.settings() == {
        "rates": [3e-4, 3e-2],
        "epochs": 30,
        "batch": 16,
        "ternarize": str(program.TERNARIZE),
    }


def test_rates_of_larger_networks_are_scaled_or_tuned(tmp_path: Path) -> None:
    program = module("climate_vit")
    chosen = arguments("climate_vit", "--size", "paper", "--out", str(tmp_path))
    assert program.rates_of(chosen, "vit", "dfa") == (8e-5, 3e-3)  # × 96 / 1024, one digit
    assert program.rates_of(chosen, "mlp", "bp") == (9e-6, 3e-6)  # × 512 / 16384
    chosen.tuned = True
    with pytest.raises(SystemExit, match="has no rates of mlp bp: run --tune"):
        program.rates_of(chosen, "mlp", "bp")
    tried = [{"rates": [1e-5, 1e-5], "validate_rmse": 0.9}, {"rates": [2e-5, 1e-5], "validate_rmse": 0.8}]
    (tmp_path / "tune.json").write_text(json.dumps({"found": {"mlp bp": tried}}))
    assert program.rates_of(chosen, "mlp", "bp") == (2e-5, 1e-5)


def test_the_climate_report_shows_what_is_not_measured_yet() -> None:
    report = module("common.climate.report")
    rows = report.table([]).splitlines()[2:]
    assert [row.count("not measured yet") for row in rows] == [1] * 8
    result = {"network": "mlp", "method": "odfa", "seed": 1, "parameters": 1_294_516_736, "rmse": 0.7, "seconds": 31.0}
    result |= {"decade_rmse": 0.3, "joules": 9_000.0, "peak_memory": 25e9, "computed": {"devices": ["A GPU"]}}
    lines = report.table([result]).splitlines()
    assert lines[8] == (
        "| fully connected, ODFA | 1,294,516,736 | 1.3 billion, 1.03 with feedback "
        "| 0.700 | 0.300 | 31 | 9.0 | 25.0 GB | 1 |"
    )
    assert lines[-1] == "A GPU"
