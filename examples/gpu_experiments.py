"""Run every experiment that needs a GPU, one after the other, and go on where it stopped.

The steps are in order of value: time of training steps, the Transformer of 1.07 billion parameters, the climate
networks at the paper's sizes, then the other examples. Each step is a program of this folder with an --out below this
one's, and keeps its finished runs. The file steps.json says what is done and how long it took.

With --quick, every step runs at a small size. --quick --device cpu tries all of it where there is no GPU.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Literal

from common import runs

EXAMPLES = """examples:
  python examples/gpu_experiments.py                         everything that is left
  python examples/gpu_experiments.py --minutes 30            what fits in half an hour; the next call goes on
  python examples/gpu_experiments.py --list                  the steps: done, left, minutes
  python examples/gpu_experiments.py --only 1b-rates,1b-0    these steps
  python examples/gpu_experiments.py --quick --device cpu    every step at a small size, without a GPU

Ctrl-C stops it. A step that was stopped goes on from its last checkpoint or finished run."""

PROGRAMS = Path(__file__).parent
# How long a program may take to end by Ctrl-C of the terminal, and after it was stopped by this program.
OWN_ENDING_SECONDS = 5
ENDING_SECONDS = 60
State = Literal["done", "stopped", "failed"]


@dataclass(frozen=True)
class Step:
    """A program and its options.

    Attributes
    ----------
    name
        Its name on the command line and in steps.json.
    program
        The program, without .py.
    options
        Its options, besides those that all programs share.
    minutes
        How long it may take on an H100: an estimate from the number of operations, not measured.
    """

    name: str
    program: str
    options: tuple[str, ...] = ()
    minutes: float = 2.0


PAPER = ("--size", "paper", "--autocast")
BILLION = ("--size", "1b", "--autocast")
# One block of 15 layers instead of 15 blocks, for the methods that this concerns.
ONE_BLOCK = (*BILLION, "--block-layers", "15", "--methods", "dfa,odfa")
STEPS = (
    Step("requirements", "scaling", ("--requirements",), 10),
    Step("forms", "scaling", ("--forms",), 15),
    Step("deepest", "scaling", ("--deepest", "70", "--widths", "3080"), 15),
    Step("steps", "scaling", (), 15),
    Step("offloaded", "scaling", ("--offloaded",), 10),
    Step("offloaded-adam", "scaling", ("--offloaded", "--optimizer", "adam"), 10),
    Step("1b-rates", "gpt_dialogue", (*BILLION, "--tune"), 16),
    Step("1b-0", "gpt_dialogue", (*BILLION, "--tuned", "--only", "0"), 16),
    Step("climate-rates", "climate_vit", (*PAPER, "--tune"), 12),
    Step("climate-0", "climate_vit", (*PAPER, "--tuned", "--only", "0"), 4),
    Step("steps-gpt", "scaling", ("--network", "gpt"), 15),
    Step("cost", "scaling", ("--cost",), 3),
    Step("large", "scaling", ("--large",), 3),
    Step("1b-one-block-rates", "gpt_dialogue", (*ONE_BLOCK, "--tune"), 9),
    Step("1b-one-block-0", "gpt_dialogue", (*ONE_BLOCK, "--tuned", "--only", "0"), 9),
    Step("1b-1", "gpt_dialogue", (*BILLION, "--tuned", "--only", "1"), 16),
    Step("climate-1", "climate_vit", (*PAPER, "--tuned", "--only", "1"), 4),
    Step("1b-2", "gpt_dialogue", (*BILLION, "--tuned", "--only", "2"), 16),
    Step("climate-2", "climate_vit", (*PAPER, "--tuned", "--only", "2"), 4),
    Step("1b-memory", "gpt_dialogue", ("--size", "1b", "--memory"), 4),
    Step("dialogue", "gpt_dialogue", (), 30),
    Step("fashion", "fashion_dfa", (), 10),
    Step("diffusion", "diffusion", ("--steps", "20000"), 25),
    Step("diffusion-each", "diffusion", ("--steps", "20000", "--blocks", "each", "--methods", "dfa,odfa"), 15),
    Step("climate", "climate_vit", (), 10),
    Step("private", "private_training", (), 5),
    Step("accumulation", "accumulation", (), 10),
    Step("tuning", "tuning", (), 20),
    Step("optical", "optical_transformers", ("--wide",), 15),
    Step("fitted", "fitted_feedback", (), 20),
    *(
        Step(name, name)
        for name in (
            "demo",
            "kernel_ridge",
            "randomized_linear_algebra",
            "reservoir",
            "photon_budget",
            "phase_retrieval",
            "structured_statistics",
            "gradient_projection",
        )
    ),
)
# The programs that take texts or maps from a folder, and the option that names it here.
DATA = {"gpt_dialogue": "cornell", "climate_vit": "climatebench"}


def main() -> None:
    """Run the steps that the command line selects, and print what is done and left."""
    arguments = parser().parse_args()
    if arguments.device == "cpu" and not (arguments.quick or arguments.list):
        raise SystemExit("these experiments need a GPU; --quick --device cpu runs each of them at a small size")
    if arguments.quick:
        arguments.out /= "quick"
    log = Log(arguments.out / "steps.json")
    chosen = [step for step in STEPS if not arguments.only or step.name in arguments.only]
    if arguments.list:
        print_steps(chosen, log, arguments)
        return
    runs.begin(arguments)
    print_steps(chosen, log, arguments)
    end = None if arguments.minutes is None else monotonic() + 60 * arguments.minutes
    stopped = run_all(chosen, log, arguments, end)
    print()
    print_steps(chosen, log, arguments)
    if stopped:
        sys.exit(130)
    if any(log.state(step, arguments) == "failed" for step in chosen):
        sys.exit(1)


def run_all(chosen: list[Step], log: Log, arguments: Namespace, end: float | None) -> bool:
    """Run what is left until the time is over; return whether the user stopped it."""
    for number, step in enumerate(chosen, 1):
        if log.state(step, arguments) == "done":
            continue
        left = None if end is None else end - monotonic()
        needed = log.seconds_left(step, arguments)
        if left is not None and needed > left:
            print(f"\n{step.name} needs about {needed / 60:.1f} minutes, and {max(left, 0) / 60:.1f} are left: stopped")
            break
        words = command(step, arguments)
        print(f"\n== {number} of {len(chosen)}, {step.name}: {shlex.join(shown(words))}", flush=True)
        started = monotonic()
        state, by_user = run(words, left)
        log.add(step, arguments, state, monotonic() - started)
        if by_user:
            return True
    return False


def run(words: list[str], seconds: float | None) -> tuple[State, bool]:
    """Run a program, at most for so long. Return how it ended, and whether the user stopped it."""
    process = subprocess.Popen(words)
    try:
        return ("failed" if process.wait(seconds) else "done"), False
    except subprocess.TimeoutExpired:
        print("the time is over", flush=True)
        stop(process)
        return "stopped", False
    except KeyboardInterrupt:
        # A terminal has sent Ctrl-C to both programs.
        try:
            process.wait(OWN_ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            stop(process)
        return "stopped", True


def stop(process: subprocess.Popen[Any]) -> None:
    """End a program as Ctrl-C does, or at once if it does not end."""
    if os.name == "posix":
        process.send_signal(signal.SIGINT)
    else:
        process.terminate()
    try:
        process.wait(ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Log:
    """The file that says what was done. A step counts as done as long as its command stays the same."""

    def __init__(self, path: Path):
        self.path = path
        self.steps: dict[str, dict[str, Any]] = (runs.read_json(path) or {}).get("steps", {})

    def state(self, step: Step, arguments: Namespace) -> State | None:
        """Return how a step ended last; None if it was never run by this command."""
        found = self.entry(step, arguments)
        state: State | None = found["state"] if found else None
        return state

    def seconds(self, step: Step, arguments: Namespace) -> float:
        """Return the time that a step has taken until now."""
        found = self.entry(step, arguments)
        return float(found["seconds"]) if found else 0.0

    def seconds_left(self, step: Step, arguments: Namespace) -> float:
        """Return about how long a step will take."""
        minutes = min(step.minutes, 2.0) if arguments.quick else step.minutes
        return max(60 * minutes - self.seconds(step, arguments), 6.0)

    def entry(self, step: Step, arguments: Namespace) -> dict[str, Any] | None:
        """Return what is known of a step's command."""
        found = self.steps.get(step.name)
        return found if found and found["command"] == shown(command(step, arguments)) else None

    def add(self, step: Step, arguments: Namespace, state: State, seconds: float) -> None:
        """Record how a step ended, and write the file."""
        total = self.seconds(step, arguments) + seconds
        self.steps[step.name] = {"command": shown(command(step, arguments)), "state": state, "seconds": total}
        runs.write_json(self.path, {"steps": self.steps})


def command(step: Step, arguments: Namespace) -> list[str]:
    """Return the command of a step."""
    options = [option for option in step.options if not (option == "--autocast" and arguments.device == "cpu")]
    folder = getattr(arguments, DATA.get(step.program, ""), None)
    if folder is not None:
        options += ["--data", str(folder)]
    options += ["--device", arguments.device, "--out", str(arguments.out / step.program)]
    options += ["--quick"] * arguments.quick + ["--no-progress"] * arguments.no_progress
    if arguments.threads is not None:
        options += ["--threads", str(arguments.threads)]
    return [sys.executable, str(PROGRAMS / f"{step.program}.py"), *options]


def shown(words: list[str]) -> list[str]:
    """Return a command as a user writes it, without what does not change the result."""
    return ["python", f"examples/{Path(words[1]).name}", *(word for word in words[2:] if word != "--no-progress")]


def print_steps(steps: list[Step], log: Log, arguments: Namespace) -> None:
    """Print each step's state and time, and how much is left."""
    width = max(len(step.name) for step in steps)
    left = 0.0
    for step in steps:
        state = log.state(step, arguments)
        seconds = log.seconds(step, arguments)
        text = f"{state or 'left':<9}{f'{seconds / 60:.1f} min' if seconds else '':>12}"
        if state != "done":
            left += log.seconds_left(step, arguments)
            text += f"   about {log.seconds_left(step, arguments) / 60:.1f} min left"
        print(f"{step.name:<{width}}  {text}")
    done = sum(log.state(step, arguments) == "done" for step in steps)
    print(f"{done} of {len(steps)} done; about {left / 60:.0f} minutes left, estimated and not measured")


def parser() -> ArgumentParser:
    """Return the parser of the command line."""
    made = runs.parser(__doc__ or "", EXAMPLES, methods=False, use="project")
    made.add_argument(
        "--minutes",
        type=runs.positive_number,
        metavar="N",
        help="start no step that does not fit in N minutes, and stop a step that takes longer than that",
    )
    made.add_argument("--only", type=names, metavar="NAMES", help="run these steps, separated by commas")
    made.add_argument("--list", action="store_true", help="print the steps, and run nothing")
    made.add_argument("--cornell", type=Path, metavar="DIR", help="Cornell Movie-Dialogs instead of the plays")
    made.add_argument("--climatebench", type=Path, metavar="DIR", help="ClimateBench instead of North America")
    return made


def names(text: str) -> list[str]:
    """Read the names of steps from the command line."""
    given = text.split(",")
    known = [step.name for step in STEPS]
    if unknown := [name for name in given if name not in known]:
        raise SystemExit(f"--only: unknown {', '.join(unknown)}; there are {', '.join(known)}")
    return given


if __name__ == "__main__":
    main()
