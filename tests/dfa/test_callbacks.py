"""The callbacks log what the feedback says, when they should, and leave no trace in the training.

Small fakes of both libraries' interfaces run everywhere; the real libraries run where they are installed.
"""

from __future__ import annotations

import importlib
import json
import random
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from dfa_models import F, examples, mlp, nn, torch
from helpers import assert_same_bits
from opuproj import dfa

BLOCKS = ["hidden.0", "hidden.1"]
ALIGNMENT = [f"dfa/alignment/{name}" for name in BLOCKS]
MODULES = {"huggingface": "transformers", "lightning": "lightning.pytorch"}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a function that imports a module of callbacks with a fake of its library, or with none."""
    loaded = []

    def load(name: str, *, missing: bool = False) -> Any:
        for library in ("transformers", "lightning", "lightning.pytorch", "pytorch_lightning"):
            monkeypatch.setitem(sys.modules, library, None)
        if not missing:
            module: Any = ModuleType(MODULES[name])
            module.TrainerCallback = module.Callback = type("Callback", (), {})
            monkeypatch.setitem(sys.modules, "lightning", ModuleType("lightning"))
            monkeypatch.setitem(sys.modules, MODULES[name], module)
        loaded.append(f"opuproj.dfa.{name}")
        sys.modules.pop(loaded[-1], None)
        return importlib.import_module(loaded[-1])

    yield load
    for name in loaded:  # the next import finds the real library
        sys.modules.pop(name, None)


class Model(nn.Module):
    """Returns its loss from a batch, as models of transformers do; it has buffers and draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(16, 12)
        self.net.hidden[0].append(nn.Dropout(0.2))
        self.net.hidden[1].append(nn.BatchNorm1d(12))

    def forward(self, x: Any, labels: Any) -> Any:
        # Models that use NumPy's or Python's numbers must see the same ones in both passes of an alignment.
        return {"loss": F.cross_entropy(self.net(x * (1 + random.random() + np.random.rand())), labels)}  # noqa: NPY002


def batches(n: int = 12) -> list[dict[str, Any]]:
    return [dict(zip(("x", "labels"), examples(8, seed), strict=True)) for seed in range(n)]


def seed_all() -> None:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002


class FakeTrainer:
    """Trains as transformers.Trainer does, and calls callbacks and log as it does."""

    def __init__(self, model: Any) -> None:
        self.model, self.callbacks = model, []
        self.history: list[dict[str, Any]] = []
        self.state, self.control = SimpleNamespace(global_step=0), SimpleNamespace(should_log=False)

    def compute_loss(self, model: Any, inputs: Any, **kwargs: Any) -> Any:
        return model(inputs["x"], inputs.pop("labels"))["loss"]  # a label smoother removes the labels

    def compute_loss_context_manager(self) -> Any:
        return nullcontext()

    def _prepare_inputs(self, inputs: Any) -> Any:
        return inputs

    def log(self, logs: dict[str, float]) -> None:
        self.control.should_log = False
        self.history.append({**logs, "step": self.state.global_step})

    def train(self, data: list[Any], accumulate: int = 1, log_every: int = 2) -> None:
        optimizer = torch.optim.Adam(self.model.parameters(), 1e-2)
        self._call("on_train_begin")
        for i, inputs in enumerate(data, 1):
            self.model.train()
            loss = self.compute_loss(self.model, dict(inputs), num_items_in_batch=None)
            loss.backward()
            if i % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
                self.state.global_step += 1
                self.control.should_log = self.state.global_step % log_every == 0
                self._call("on_step_end")
                if self.control.should_log:
                    self.log({"loss": float(loss.detach())})

    def _call(self, event: str) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(None, self.state, self.control)


def trained(module: Any, method: Any = "odfa", accumulate: int = 1, **options: Any) -> tuple[FakeTrainer, Any]:
    """Train with a callback, or without one if `module` is None."""
    model = Model()
    feedback = dfa.attach(model.net, BLOCKS, method=method)
    trainer = FakeTrainer(model)
    if module is not None:
        trainer.callbacks.append(module.FeedbackCallback(trainer, every=2, **options))
    seed_all()
    trainer.train(batches(), accumulate)
    return trainer, feedback


def diagnoses(trainer: FakeTrainer) -> list[dict[str, Any]]:
    return [entry for entry in trainer.history if "loss" not in entry]


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_callback_leaves_no_trace(fake: Any, accumulate: int) -> None:
    with_callback, feedback = trained(fake("huggingface"), accumulate=accumulate)
    states = random.random(), np.random.rand(), torch.rand(())  # noqa: NPY002
    without, other = trained(None, accumulate=accumulate)
    assert states == (random.random(), np.random.rand(), torch.rand(()))  # noqa: NPY002
    for mine, theirs in zip(
        with_callback.model.state_dict().values(), without.model.state_dict().values(), strict=True
    ):
        assert_same_bits(mine.numpy(), theirs.numpy())
    assert feedback.statistics.nonzeros == other.statistics.nonzeros
    assert [entry for entry in with_callback.history if "loss" in entry] == without.history
    assert "compute_loss" not in vars(with_callback)
    assert with_callback.model.training


def test_the_trainer_gets_alignment_and_share_by_block(fake: Any) -> None:
    trainer, _ = trained(fake("huggingface"))
    found = diagnoses(trainer)
    assert [entry["step"] for entry in found] == [2, 4, 6, 8, 10, 12]
    assert all(set(entry) == {*ALIGNMENT, "dfa/nonzero", "step"} for entry in found)
    assert len({entry["dfa/nonzero"] for entry in found}) > 1  # of the steps since the last log, not of all


def test_the_share_is_that_since_the_last_log(fake: Any) -> None:
    trainer, feedback = trained(fake("huggingface"))
    shares = [entry["dfa/nonzero"] for entry in diagnoses(trainer)]
    assert np.mean(shares) == pytest.approx(feedback.statistics.nonzeros / feedback.statistics.elements)


def test_the_first_batch_is_kept_whole(fake: Any) -> None:
    module = fake("huggingface")
    kept, _ = trained(module)
    given, _ = trained(module, batch=batches(1)[0])
    other, _ = trained(module, batch=batches(2)[1])
    assert diagnoses(kept) == diagnoses(given)
    assert diagnoses(kept) != diagnoses(other)


def test_the_alignment_is_that_of_the_closure(fake: Any) -> None:
    module, model = fake("huggingface"), Model()
    feedback = dfa.attach(model, [f"net.{name}" for name in BLOCKS], output="net.top")
    inputs, trainer = batches(1)[0], FakeTrainer(model)

    def loss() -> Any:
        random.seed(5)
        np.random.seed(5)  # noqa: NPY002
        return model(**inputs)["loss"]

    callback = module.FeedbackCallback(trainer, every=1, closure=loss)
    trainer.callbacks.append(callback)
    trainer.train(batches(1))
    torch.manual_seed(0)
    expected = feedback.alignment(loss)
    torch.manual_seed(0)
    callback.on_step_end(None, trainer.state, trainer.control)
    found = diagnoses(trainer)[-1]
    assert {name: found[f"dfa/alignment/{name}"] for name in expected} == expected


@pytest.mark.parametrize(("method", "names"), [("dfa", ALIGNMENT), ("bp", []), ("shallow", [])])
def test_only_what_a_method_defines_is_logged(fake: Any, method: Any, names: list[str]) -> None:
    trainer, _ = trained(fake("huggingface"), method)
    assert [set(entry) - {"step"} for entry in diagnoses(trainer)] == [set(names)] * (6 if names else 0)
    assert len(trainer.history) - len(diagnoses(trainer)) == 6


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"every": 0}, ValueError, "every is 0, but must be from 1"),
        ({"every": 0.5}, TypeError, "every is 0.5, but must be an integer"),
        ({"closure": 3}, TypeError, "closure is 3, but must be a function"),
        ({"feedback": "net"}, TypeError, "feedback is 'net', but must be"),
        ({"batch": {}, "closure": print}, ValueError, "give one of them"),
    ],
)
def test_wrong_arguments(fake: Any, options: Any, error: Any, message: str) -> None:
    for name, arguments in (("huggingface", [FakeTrainer(Model())]), ("lightning", [])):
        with pytest.raises(error, match=message):
            fake(name).FeedbackCallback(*arguments, **options)


def test_a_trainer_is_needed(fake: Any) -> None:
    with pytest.raises(TypeError, match=r"trainer is 50, but must be a transformers\.Trainer"):
        fake("huggingface").FeedbackCallback(50)


def test_a_model_has_one_feedback_or_it_is_named(fake: Any) -> None:
    module, model = fake("huggingface"), Model()
    callback = module.FeedbackCallback(FakeTrainer(model))
    with pytest.raises(ValueError, match=r"Model has 0 feedbacks.*attach before"):
        callback.on_train_begin(None, None, None)
    feedback = dfa.attach(model.net, BLOCKS)
    model.other = mlp(16, 12)
    dfa.attach(model.other, BLOCKS)
    with pytest.raises(ValueError, match=r"Model has 2 feedbacks.*feedback="):
        callback.on_train_begin(None, None, None)
    module.FeedbackCallback(FakeTrainer(model), feedback=feedback).on_train_begin(None, None, None)


@pytest.mark.parametrize(("name", "install"), [("huggingface", "transformers accelerate"), ("lightning", "lightning")])
def test_a_missing_library_is_named(fake: Any, name: str, install: str) -> None:
    with pytest.raises(ImportError, match=f"pip install {install}"):
        fake(name, missing=True)


class FakeModule(nn.Module):
    """A LightningModule of which the callback needs as much."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.automatic_optimization = Model(), True
        self.logged: list[str] = []

    def log(self, name: str, value: Any) -> None:
        self.logged.append(name)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.model(batch["x"], batch.pop("labels"))["loss"]
        self.log("loss", loss)
        return {"loss": loss}


class FakeLightning:
    """Trains as Lightning's Trainer does, and calls one callback as it does."""

    def __init__(self, *, main: bool = True) -> None:
        self.global_step, self.is_global_zero = 0, main
        self.fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(_batches_that_stepped=0))
        self.precision_plugin = SimpleNamespace(train_step_context=nullcontext)
        self.strategy = SimpleNamespace(batch_to_device=lambda batch: batch)
        self.history: list[tuple[int, dict[str, float]]] = []
        self.loggers = [SimpleNamespace(log_metrics=lambda values, step: self.history.append((step, values)))]

    def fit(self, module: Any, callback: Any, accumulate: int = 1) -> None:
        optimizer = torch.optim.Adam(module.parameters(), 1e-2)
        if callback:
            callback.on_train_start(self, module)
        for i, batch in enumerate(batches(), 1):
            batch = dict(batch)
            if callback:
                callback.on_train_batch_start(self, module, batch, i - 1)
            module.training_step(batch, i - 1)["loss"].backward()
            if i % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
                self.global_step += 1
            if callback:
                callback.on_train_batch_end(self, module, None, batch, i - 1)
            self.fit_loop.epoch_loop._batches_that_stepped += i % accumulate == 0


def fitted(module: Any, accumulate: int = 1, *, main: bool = True, **options: Any) -> tuple[FakeLightning, Any]:
    net, trainer = FakeModule(), FakeLightning(main=main)
    dfa.attach(net.model.net, BLOCKS)
    seed_all()
    trainer.fit(net, module and module.FeedbackCallback(every=2, **options), accumulate)
    return trainer, net


@pytest.mark.parametrize(("accumulate", "steps"), [(1, [1, 3, 5, 7, 9, 11]), (3, [1, 3])])
def test_lightning_logs_and_trains_as_before(fake: Any, accumulate: int, steps: list[int]) -> None:
    module = fake("lightning")
    trainer, net = fitted(module, accumulate)
    _, without = fitted(None, accumulate)
    assert [step for step, _ in trainer.history] == steps
    assert all(set(values) == {*ALIGNMENT, "dfa/nonzero"} for _, values in trainer.history)
    for mine, theirs in zip(net.state_dict().values(), without.state_dict().values(), strict=True):
        assert_same_bits(mine.numpy(), theirs.numpy())
    assert net.logged == without.logged == ["loss"] * 12
    given, _ = fitted(module, accumulate, batch=batches(1)[0])
    assert given.history == trainer.history


def test_only_the_main_process_logs_to_lightning(fake: Any) -> None:
    trainer, _ = fitted(fake("lightning"), main=False)
    assert trainer.history == []


def test_lightning_needs_a_closure_for_manual_optimization(fake: Any) -> None:
    module, net = fake("lightning"), FakeModule()
    dfa.attach(net.model.net, BLOCKS)
    net.automatic_optimization = False
    with pytest.raises(ValueError, match=r"FakeModule optimizes by itself.*closure="):
        module.FeedbackCallback().on_train_start(FakeLightning(), net)
    module.FeedbackCallback(closure=print).on_train_start(FakeLightning(), net)


@pytest.mark.filterwarnings("ignore")  # those of the library about itself
def test_the_real_trainer(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from opuproj.dfa.huggingface import FeedbackCallback

    def run(*, diagnose: bool) -> Any:
        model = Model()
        dfa.attach(model.net, BLOCKS)
        arguments = transformers.TrainingArguments(
            str(tmp_path),
            max_steps=4,
            logging_steps=2,
            gradient_accumulation_steps=2,
            per_device_train_batch_size=8,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        x, labels = examples(64)
        data = [{"x": a, "labels": b} for a, b in zip(x, labels, strict=True)]
        trainer = transformers.Trainer(model, arguments, train_dataset=data)
        if diagnose:
            trainer.add_callback(FeedbackCallback(trainer, every=2))
        seed_all()
        trainer.train()
        return trainer

    mine, without = run(diagnose=True), run(diagnose=False)
    assert [entry["step"] for entry in mine.state.log_history if ALIGNMENT[0] in entry] == [2, 4]
    losses = [[entry["loss"] for entry in one.state.log_history if "loss" in entry] for one in (mine, without)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 2


@pytest.mark.filterwarnings("ignore")  # those of the library about itself
def test_the_real_lightning(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch")
    from opuproj.dfa.lightning import FeedbackCallback

    class Module(lightning.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = Model()

        def training_step(self, batch: Any) -> Any:
            loss = self.model(*batch)["loss"]
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), 1e-2)

    class Logged(lightning.loggers.CSVLogger):  # type: ignore[misc,name-defined]
        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            lines.append(json.dumps({"step": step} | {name: float(value) for name, value in metrics.items()}))

    def run(*, diagnose: bool) -> Any:
        module = Module()
        dfa.attach(module.model.net, BLOCKS)
        data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*examples(64)), 8)
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=1,
            accumulate_grad_batches=2,
            log_every_n_steps=2,
            logger=Logged(str(tmp_path)),
            callbacks=[FeedbackCallback(every=2)] if diagnose else [],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        seed_all()
        trainer.fit(module, data)
        return module

    lines: list[str] = []
    mine = run(diagnose=True)
    found = [json.loads(line) for line in lines]
    without = run(diagnose=False)
    assert [entry["step"] for entry in found if ALIGNMENT[0] in entry] == [1, 3]
    assert [entry["step"] for entry in found if "loss" in entry] == [1, 3]
    for a, b in zip(mine.state_dict().values(), without.state_dict().values(), strict=True):
        assert_same_bits(a.numpy(), b.numpy())
