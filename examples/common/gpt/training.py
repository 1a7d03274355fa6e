"""One training of the language model: settings, steps, measurements."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from opuproj import Camera, Projector, dfa
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from common import devices, energy, figures, plays, runs
from common.gpt.model import GPT, Shape, generate

RULES: dict[str, Callable[[Any], dfa.Rule]] = {
    "batchmax": dfa.BatchMax,
    "dither": dfa.Dither,
    "fixed": dfa.Fixed,
    "rowmax": dfa.RowMax,
    "rowstd": dfa.RowStd,
    "topk": dfa.TopK,
}
# Where the error is taken: after the last layer norm, or at the model's own output.
ERRORS = {"hidden": "norm", "logits": None}
# Parts of the training after which text is generated.
TEXT_AT = (0.0, 0.2, 1.0)
TEXT_LENGTH = 160
CURVE_POINTS = 40
# Windows of held-out text that a point of the curve is measured on; the final loss uses all.
CURVE_WINDOWS = 512


@dataclass(frozen=True)
class Settings:
    """All settings that determine the result of a run, besides the text.

    Attributes
    ----------
    method, error, rule, norm, gain
        How the blocks get their gradients: see opuproj.dfa. `rule` is a name of RULES and its number: "dither:3".
    seed
        Seed of the parameters, of the order of the windows and of T.
    rate, beta2, decay
        AdamW's peak learning rate, second beta and weight decay.
    block_rate
        The learning rate of the blocks, relative to `rate`. AdamW normalises the size of the feedback, so this rate and
        not a gain determines how fast the blocks learn relative to the top.
    block_layers
        The number of layers (below the last) per block. A block receives feedback at its end and is trained by
        backpropagation inside.
    turned, turn_rate
        Whether the linear map starts aligned with the feedback, in all methods, and its rate relative to `rate`.
    photons
        Photons per pixel of an 8-bit camera at the mean intensity, for ODFA; None for exact projections.
    warm_up
        The fraction of the training in which the rate rises; then it falls like a cosine to a tenth.
    batch, epochs
        Windows per step, and passes over the text.
    steps
        The number of steps, if the training ends before that many passes; None for all.
    """

    method: dfa.Method
    seed: int
    rate: float
    block_rate: float = 1.0
    block_layers: int = 3
    turned: bool = True
    turn_rate: float = 0.3
    shape: Shape = field(default_factory=Shape)
    error: str = "hidden"
    rule: str = "dither:2"
    norm: Literal["row", "batch", "none"] = "batch"
    gain: float = 1.0
    photons: float | None = None
    beta2: float = 0.98
    decay: float = 0.01
    warm_up: float = 0.05
    batch: int = 32
    epochs: int = 2
    steps: int | None = None

    @property
    def name(self) -> str:
        """The name of the run's files."""
        return f"{self.method}-{self.seed}"


def attach(model: GPT, settings: Settings) -> dfa.Feedback:
    """Attach feedback to all decoder layers except the last; the embedding is trained with the first block."""
    name, number = settings.rule.split(":")
    rule = RULES[name](json.loads(number))
    return dfa.attach(
        model,
        blocks=[f"layers.{i}" for i in reversed(range(settings.shape.n_layers - 2, -1, -settings.block_layers))],
        output=ERRORS[settings.error],
        method=settings.method,
        ternarize=dfa.Ternarize(rule, norm=settings.norm),
        seed=settings.seed,
        gain=settings.gain,
        batch_axes=2,
        camera=None if settings.photons is None else Camera(photons=settings.photons, dark_floor=0.03),
    )


def face(model: GPT, settings: Settings, n_blocks: int) -> None:
    """Start the turn at the transpose of the blocks' random matrices, summed and scaled so that it keeps norms.

    The residual stream passes the error from the last layer norm back to the map almost unchanged. If the map is Rᵗ,
    the true gradient starts as the feedback R e, so the network does not have to learn R.
    """
    width = settings.shape.width
    r = torch.from_numpy(Projector(width, n_blocks * width, seed=settings.seed, mode="linear").matrix())
    with torch.no_grad():
        model.turn.weight.copy_(r.view(n_blocks, width, width).sum(0).T / math.sqrt(n_blocks * width))


def loss_of(model: GPT, inputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the next token, in nats."""
    return cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


class Run:
    """A training that can be interrupted.

    Parameters
    ----------
    settings
        What to do.
    corpus
        The text.
    directory
        The folder of the result and, until the run is finished, of the checkpoint.
    save_seconds
        The time between two checkpoints.
    device
        The device of the model and the windows.
    """

    def __init__(
        self,
        settings: Settings,
        corpus: plays.Corpus,
        directory: Path,
        save_seconds: float,
        device: devices.Device = devices.CPU,
    ):
        self.settings, self.device = settings, device
        self.corpus, self.save_seconds = corpus, save_seconds
        self.result_file = directory / f"{settings.name}.json"
        self.inputs, self.targets = plays.windows(corpus.training.to(device.name), settings.shape.context)
        self.steps_an_epoch = len(self.inputs) // settings.batch
        if self.steps_an_epoch == 0:
            raise SystemExit(f"a batch of {settings.batch} windows is more than the text has: {len(self.inputs)}")
        self.n_steps = settings.epochs * self.steps_an_epoch
        if settings.steps is not None:
            self.n_steps = min(self.n_steps, settings.steps)

    def prepare(self) -> None:
        """Make the model, its feedback, its optimizer and the checkpoint."""
        settings, device = self.settings, self.device
        runs.check_room(device, GPT(settings.shape).count(), self.result_file.parent)
        self.model = GPT(settings.shape).initialise(torch.Generator().manual_seed(settings.seed), self.corpus.training)
        self.model.to(device.name)
        self.feedback = attach(self.model, settings)
        if settings.shape.turn and settings.turned:
            face(self.model, settings, len(self.feedback.blocks))
        blocks = [*self.model.embedding.parameters(), *self.model.layers[:-1].parameters()]
        top = [*self.model.layers[-1].parameters(), *self.model.norm.parameters(), *self.model.head.parameters()]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": top, "part": 1.0},
                {"params": list(self.model.turn.parameters()), "part": settings.turn_rate, "weight_decay": 0.0},
                {"params": blocks, "part": settings.block_rate},
            ],
            betas=(0.9, settings.beta2),
            weight_decay=settings.decay,
            fused=True,
        )
        device.compiled(self.model)
        parts = {"model": self.model, "optimizer": self.optimizer, "feedback": self.feedback}
        self.checkpoint = runs.Checkpoint(self.result_file.with_suffix(".pt"), self.save_seconds, **parts)

    def finished(self) -> dict[str, Any] | None:
        """Return the result if the run was finished before; raise an error if its settings or text differ."""
        result = runs.read_json(self.result_file)
        # A setting that is newer than a result had its default then.
        defaults = asdict(Settings(self.settings.method, self.settings.seed, self.settings.rate))
        found = {**defaults, **result["settings"]} if result else {}
        if result and (found != asdict(self.settings) or result["corpus"] != self.corpus.description):
            raise SystemExit(f"{self.result_file} was made with other settings or another text: choose another --out")
        if result:
            self.device.computed(result.get("computed"), self.result_file)
        return result

    def train(self, bar: tqdm[Any]) -> dict[str, Any]:
        """Train from where the last checkpoint left off, write the result and return it."""
        self.prepare()
        record = self.checkpoint.load()
        if record is None:
            record = {"step": 0, "curve": [], "texts": [], "losses": [], "computed": self.device.beginning()}
            record |= energy.Meter(self.device).reading()
        record["computed"] = self.device.computing(record.get("computed"), self.checkpoint.path)
        earlier = record.get("statistics", {})
        measure_at = {round(i * self.n_steps / CURVE_POINTS) for i in range(CURVE_POINTS + 1)}
        text_at = {round(part * self.n_steps): part for part in TEXT_AT}
        bar.reset(self.n_steps)
        bar.update(record["step"])
        meter = energy.Meter(self.device, record)
        meter.start()
        for step in range(record["step"], self.n_steps + 1):
            if step in text_at and len(record["texts"]) < list(text_at).index(step) + 1:
                with meter.paused():
                    record["texts"].append({"part": text_at[step], "text": self.text()})
            if step in measure_at and (not record["curve"] or record["curve"][-1]["step"] < step):
                with meter.paused():
                    record["curve"].append(self.point(step, record["losses"], meter.seconds))
                record["losses"] = []
            if step == self.n_steps:
                break
            record["losses"].append(self.step(step))
            record["step"] = step + 1
            bar.update()
            if step % 20 == 0:
                epoch = step // self.steps_an_epoch + 1
                label = figures.METHOD_STYLE[self.settings.method][0]
                bar.set_description(
                    f"{label:<4} seed {self.settings.seed} epoch {epoch} loss {record['losses'][-1]:.3f}"
                )
            if self.checkpoint.due():
                with meter.paused():
                    self.checkpoint.save({**record, **meter.reading(), "statistics": self.statistics(earlier)})
        meter.stop()
        return self.finish({**record, **meter.reading(), "statistics": self.statistics(earlier)})

    def statistics(self, earlier: dict[str, float]) -> dict[str, float]:
        """Return the counts of projections, with those before an interruption."""
        return {name: n + earlier.get(name, 0) for name, n in asdict(self.feedback.statistics).items()}

    def step(self, step: int) -> float:
        """Train on one batch."""
        rate = self.settings.rate * schedule(step / self.n_steps, self.settings.warm_up)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["part"]
        with self.device.casting():
            loss = loss_of(self.model, *self.batch(step))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.item())

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the step's windows. The order depends only on the seed and the epoch, so a resumed run keeps it."""
        epoch, position = divmod(step, self.steps_an_epoch)
        if position == 0 or not hasattr(self, "order"):
            generator = torch.Generator().manual_seed(1_000_003 * self.settings.seed + epoch)
            self.order = torch.randperm(len(self.inputs), generator=generator)
        chosen = self.order[position * self.settings.batch : (position + 1) * self.settings.batch]
        return self.inputs[chosen], self.targets[chosen]

    def point(self, step: int, losses: list[float], seconds: float) -> dict[str, Any]:
        """Measure a point of the curves: losses, seconds of training, and the alignment of each block's gradient."""
        point: dict[str, Any] = {
            "step": step,
            "epoch": step / self.steps_an_epoch,
            "seconds": seconds,
            "training_loss": math.fsum(losses) / len(losses) if losses else None,
            "validation_loss": self.validate(CURVE_WINDOWS),
        }
        if self.settings.method in ("dfa", "odfa"):
            inputs, targets = self.inputs[: self.settings.batch], self.targets[: self.settings.batch]

            def loss() -> Tensor:
                with self.device.casting():
                    return loss_of(self.model, inputs, targets)

            point["alignment"] = self.feedback.alignment(loss)
        return point

    def validate(self, n_windows: int | None = None) -> float:
        """Return the loss on held-out text: on windows spread over it, or on all of it."""
        inputs, targets = plays.windows(self.corpus.validation.to(self.device.name), self.settings.shape.context)
        if n_windows is not None:
            some = torch.linspace(0, len(inputs) - 1, min(n_windows, len(inputs))).long()
            inputs, targets = inputs[some], targets[some]
        with torch.no_grad(), self.device.casting():
            sums = [
                float(loss_of(self.model, x, y)) * len(x)
                for x, y in zip(inputs.split(256), targets.split(256), strict=True)
            ]
        return math.fsum(sums) / len(inputs)

    def text(self) -> str:
        """Continue the beginning of the held-out text."""
        generator = torch.Generator().manual_seed(self.settings.seed)
        prompt = self.corpus.validation[: self.settings.shape.context // 2]
        with self.device.casting():
            tokens = generate(self.model, prompt, TEXT_LENGTH, generator)
        begun, added = (
            self.corpus.tokenizer.decode(part.tolist()) for part in tokens.split([len(prompt), TEXT_LENGTH])
        )
        return f"{begun}│{added}"

    def finish(self, record: dict[str, Any]) -> dict[str, Any]:
        """Write the result."""
        result = {
            "settings": asdict(self.settings),
            "corpus": self.corpus.description,
            "parameters": self.model.count(),
            "steps": self.n_steps,
            "validation_loss": self.validate(),
            **{name: record[name] for name in ("seconds", "joules", "peak_memory")},
            "tokens_a_second": self.n_steps * self.inputs[0].numel() * self.settings.batch / record["seconds"],
            "curve": record["curve"],
            "texts": record["texts"],
            "computed": record["computed"],
            "statistics": record["statistics"],
        }
        runs.write_json(self.result_file, result)
        self.checkpoint.remove()
        return result


def schedule(part: float, warm_up: float) -> float:
    """Return the learning rate after a part of the training, relative to its peak."""
    if part < warm_up:
        return part / warm_up
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (part - warm_up) / (1 - warm_up)))
