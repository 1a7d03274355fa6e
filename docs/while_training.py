"""Train a small network by ternary direct feedback in Hugging Face's Trainer; draw what FeedbackCallback logged.

    python docs/while_training.py           train (half a minute of one core), then draw
    python docs/while_training.py --draw    draw what docs/data/while-training.json has

The network learns scikit-learn's digits. Needs transformers, accelerate and scikit-learn.
"""

from __future__ import annotations

import json
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
DATA, PICTURE = DOCS / "data" / "while-training.json", DOCS / "images" / "while-training.png"
BLOCKS, WIDTH, STEPS, EVERY = 3, 128, 600, 15


def train() -> dict[str, Any]:
    """Train, and return what the Trainer logged."""
    import torch
    from opuproj import dfa
    from opuproj.dfa.huggingface import FeedbackCallback
    from sklearn.datasets import load_digits
    from torch import nn
    from transformers import Trainer, TrainingArguments, set_seed

    class Classifier(nn.Module):
        """Blocks of a linear layer and tanh, a top, and the loss, as the Trainer expects it."""

        def __init__(self) -> None:
            super().__init__()
            widths = [64, *[WIDTH] * BLOCKS]
            pairs = pairwise(widths)
            self.hidden = nn.Sequential(*(nn.Sequential(nn.Linear(a, b), nn.Tanh()) for a, b in pairs))
            self.top = nn.Linear(WIDTH, 10)

        def forward(self, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = self.top(self.hidden(images))
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    torch.set_num_threads(1)
    set_seed(0)
    model = Classifier()
    blocks = [f"hidden.{i}" for i in range(BLOCKS)]
    dfa.attach(model, blocks, output="top", method="odfa", seed=0)
    images, labels = load_digits(return_X_y=True)
    rows = zip(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels), strict=True)
    data = [{"images": image, "labels": label} for image, label in rows]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=STEPS,
            per_device_train_batch_size=64,
            learning_rate=1e-3,
            logging_steps=EVERY,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
        )
        trainer = Trainer(model, arguments, train_dataset=data)
        trainer.add_callback(FeedbackCallback(trainer, every=EVERY))
        trainer.train()
    return {"log": trainer.state.log_history[:-1], "blocks": blocks}  # the last entry sums up


def draw(results: dict[str, Any]) -> None:
    """Draw the loss, the alignment of each block and the share of nonzero errors over the steps."""
    sys.path.insert(0, str(DOCS.parent / "examples"))
    from common import figures

    figures.style()
    from matplotlib import pyplot as plt

    figure, (loss, alignment, nonzero) = plt.subplots(1, 3, figsize=(11, 3.6))
    loss.plot(*series(results, "loss"), color="#d55e00")
    loss.set(title="loss", xlabel="step")
    loss.set_ylim(bottom=0)
    looks = zip(("#0072b2", "#009e73", "#e69f00"), ("-", "--", "-."), strict=True)
    for block, (colour, line) in zip(results["blocks"], looks, strict=True):
        alignment.plot(*series(results, f"dfa/alignment/{block}"), color=colour, linestyle=line, label=block)
    alignment.axhline(0, color="#7f7f7f", linewidth=0.8)
    alignment.set(title="dfa/alignment/…", xlabel="step")
    alignment.legend(fontsize=9)
    steps, shares = series(results, "dfa/nonzero")
    nonzero.plot(steps, [100 * share for share in shares], color="#d55e00")
    nonzero.set(title="dfa/nonzero (%)", xlabel="step")
    nonzero.set_ylim(bottom=0)
    figures.save(figure, PICTURE)


def series(results: dict[str, Any], name: str) -> tuple[list[int], list[float]]:
    """Return the steps and values of a name in the log."""
    entries = [entry for entry in results["log"] if name in entry]
    return [entry["step"] for entry in entries], [entry[name] for entry in entries]


if __name__ == "__main__":
    if "--draw" not in sys.argv[1:]:
        DATA.write_text(json.dumps(train(), indent=1) + "\n")
    draw(json.loads(DATA.read_text()))
