"""The diffusion model of the examples: process, patches, what is equal for all methods, a training that is cut off."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
tqdm = pytest.importorskip("tqdm").tqdm
pytest.importorskip("matplotlib")


pytestmark = pytest.mark.usefixtures("examples")


def module(name: str) -> Any:
    return importlib.import_module(f"common.diffusion.{name}")


def task(n: int = 1200) -> Any:
    """Return the task with random images, whose bright rows repeat."""
    fashion, devices = importlib.import_module("common.fashion.data"), importlib.import_module("common.devices")
    random = torch.Generator().manual_seed(3)
    x = torch.rand(n, 28, 28, generator=random) + (torch.arange(28) % 4 == 0)
    y = torch.zeros(n, dtype=torch.int64)
    return module("training").Task(fashion.Split(x.flatten(1), y, x[:20].flatten(1), y[:20]), devices.CPU, quick=True)


def job(method: str, blocks: str = "one", steps: int = 6, seed: int = 0) -> Any:
    sizes = module("model").Sizes(width=16, layers=2, heads=2)
    rule = importlib.import_module("diffusion").TERNARIZE
    return module("training").Job(method, seed, (2e-3, 2e-3), steps, blocks, True, rule, sizes)


def test_the_last_step_is_noise_and_the_first_is_the_image() -> None:
    process = module("process").Process()
    assert torch.allclose(process.signal**2 + process.noise**2, torch.ones(1000), atol=1e-6)
    # Of DDPM's schedule: 1e-4 of the variance after the first step, and 4e-5 of the signal's power after the last.
    assert float(process.noise[0] ** 2) == pytest.approx(1e-4, rel=1e-3)
    assert float(process.signal[-1] ** 2) == pytest.approx(4.04e-5, rel=0.01)


def test_sampling_with_the_true_noise_returns_the_image() -> None:
    process, steps = module("process").Process(), module("process").STEPS
    random = torch.Generator().manual_seed(0)
    image = torch.rand(3, 28, 28, generator=random) * 2 - 1

    def knows(noisy: Any, times: Any) -> Any:
        step = (times * steps).round().long()
        return (noisy - process.signal[step, None, None] * image) / process.noise[step, None, None]

    found = process.sample(knows, torch.randn(3, 28, 28, generator=random), 20)
    assert torch.allclose(found, image, atol=1e-3)


def test_patches_are_joined_as_they_were_cut() -> None:
    model = module("model")
    pictures = torch.arange(2 * 28 * 28.0).view(2, 28, 28)
    patches = model.cut(pictures)
    assert patches.shape == (2, 49, 16)
    assert torch.equal(patches[0, 8], pictures[0, 4:8, 4:8].flatten())
    assert torch.equal(model.join(patches), pictures)


def test_the_output_depends_on_the_time_only_after_training() -> None:
    model = module("model").Denoiser(module("model").Sizes(width=16, layers=2, heads=2))
    pictures, times = torch.randn(2, 28, 28), torch.tensor([0.1, 0.9])
    assert torch.equal(model(pictures, times), model(pictures, times.flip(0)))
    for part in model.modules():
        if isinstance(part, module("model").Modulated):
            torch.nn.init.normal_(part.modulation.weight)
    assert not torch.allclose(model(pictures, times), model(pictures, times.flip(0)))


def test_the_distance_of_two_sets_is_that_of_their_gaussians() -> None:
    frechet = module("quality").frechet
    random = np.random.default_rng(0)
    some = random.normal(size=(900, 28, 28))
    assert frechet(some, some[::-1], some) == pytest.approx(0, abs=1e-6)
    # A shift of all pixels by d has the square norm 784 d², of which the components keep a part.
    once, twice = frechet(some, some + 0.1, some), frechet(some, some + 0.2, some)
    assert twice == pytest.approx(4 * once, rel=1e-6)
    assert 0 < once < 784 * 0.01
    # Half the deviation: (1 − ½)² of the trace of the covariance.
    trace = frechet(some, 0 * some, some) - np.square(some.mean(0)).sum()
    assert frechet(some, some / 2, some) == pytest.approx(trace / 4, rel=0.05)


@pytest.mark.parametrize("blocks", ["each", "one"])
def test_all_methods_begin_with_the_same_weights_aligned_with_the_feedback(blocks: str) -> None:
    training, one = module("training"), task()
    losses, cosines = set(), {}
    for method in ("bp", "dfa", "odfa", "shallow"):
        network, feedback = training.make(job(method, blocks))
        losses.add(float(one.fixed_loss(network.model).detach()))
        if method == "dfa":
            cosines = feedback.alignment(lambda model=network.model: one.fixed_loss(model), of="outputs")
    assert len(losses) == 1
    least = {"one": 0.6, "each": 0.3}[blocks]
    assert len(cosines) == {"one": 1, "each": 2}[blocks]
    assert min(float(cosine) for cosine in cosines.values()) > least


def test_held_out_images_have_the_same_noise_in_every_call() -> None:
    one, model = task(), module("model").Denoiser(module("model").Sizes(width=16, layers=2, heads=2))
    torch.manual_seed(1)
    first = one.squares(model, one.test)
    torch.manual_seed(2)
    assert torch.equal(task().squares(model, one.test), first)
    assert len(first) == 20
    assert torch.equal(one.test.steps, torch.arange(20) * 50)


def test_a_training_that_was_cut_off_ends_with_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training, one = module("training"), task()
    bar = tqdm(disable=True)
    whole = training.train(job("odfa", "each"), one, tmp_path / "whole", 0.0, bar)

    class StoppedError(Exception):
        pass

    calls = []

    def loss(model: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise StoppedError
        return type(one).loss(one, model)

    monkeypatch.setattr(one, "loss", loss)
    with pytest.raises(StoppedError):
        training.train(job("odfa", "each"), one, tmp_path / "cut", 0.0, bar)
    assert (tmp_path / "cut" / "odfa-0.pt").exists()
    monkeypatch.undo()
    continued = training.train(job("odfa", "each"), one, tmp_path / "cut", 0.0, bar)
    for key in ("curve", "test", "levels", "frechet", "alignment"):
        assert continued[key] == whole[key], key
    assert not (tmp_path / "cut" / "odfa-0.pt").exists()
    before = (tmp_path / "cut" / "odfa-0.json").stat().st_mtime_ns
    assert training.train(job("odfa", "each"), one, tmp_path / "cut", 0.0, bar)["test"] == whole["test"]
    assert (tmp_path / "cut" / "odfa-0.json").stat().st_mtime_ns == before
