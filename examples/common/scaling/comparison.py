"""Times and memory of all forms of a step, each in turn with backpropagation at its best, and what they must be."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from tqdm import tqdm

from common import devices, runs
from common.memory import readable
from common.scaling.forms import Form, base_of, forms, precise, step_of
from common.scaling.steps import Size, interleave, peak_of

# The paper's largest network, with 784 inputs and 1,016 outputs.
REQUIRED_WIDTH, REQUIRED_LAYERS, REQUIRED_BATCHES = 3080, 96, (64, 1024, 4096)
# The most of backpropagation's time that a step of ODFA may take on an H100 or an H200 there: for a batch of 64, and
# for larger ones.
MOST = {
    ("odfa", "TF32"): (0.80, 0.80),
    ("odfa", "bfloat16"): (1.1, 0.95),
    ("odfa stack", "TF32"): (0.75, 0.75),
    ("odfa stack", "bfloat16"): (1.0, 0.85),
}
# The most of backpropagation's memory that it may take.
MOST_MEMORY = 1.1
LEAST_ROUNDS, MOST_ROUNDS, SECONDS = 5, 25, 20.0


def required(form: Form, size: Size) -> float | None:
    """Return the most of backpropagation's time that a form may take, or None if nothing is required of it."""
    there = (size.width, size.layers) == (REQUIRED_WIDTH, REQUIRED_LAYERS) and size.batch in REQUIRED_BATCHES
    if not there or not form.best or form.mode != "real" or (form.method, form.precision) not in MOST:
        return None
    small, large = MOST[form.method, form.precision]
    return small if size.batch == min(REQUIRED_BATCHES) else large


def compare(
    sizes: Iterable[Size],
    chosen: Callable[[Form], bool],
    device: devices.Device,
    folder: Path,
    *,
    progress: bool,
    rounds: tuple[int, int, float] = (LEAST_ROUNDS, MOST_ROUNDS, SECONDS),
) -> list[dict[str, Any]]:
    """Measure the chosen forms at some sizes, and return the results. Finished ones in the folder are kept."""
    cells = [(size, form) for size in sizes for form in forms(device, size.family) if chosen(form)]
    results = []
    for size, form in tqdm(cells, unit="form", disable=not progress):
        path = folder / f"{size.name}-{form.name.replace(', ', '-').replace(' ', '-')}.json"
        found = runs.read_json(path)
        if found is None:
            found = measure(size, form, device, rounds)
            runs.write_json(path, found)
        else:
            device.computed(found.get("computed"), path)
        results.append(found)
    return results


def measure(size: Size, form: Form, device: devices.Device, rounds: tuple[int, int, float]) -> dict[str, Any]:
    """Measure one form in turn with the form with which it is compared."""
    result: dict[str, Any] = {
        "family": size.family, "width": size.width, "layers": size.layers, "batch": size.batch,
        "form": form.name, "method": form.method, "required": required(form, size),
        "computed": device.beginning(),
    }  # fmt: skip
    base = base_of(form, size.family)
    steps: dict[str, Callable[[], Any]] = {}
    peaks: dict[str, int | None] = {}
    try:
        with precise(form.precision):
            for name, one in (("base", base), ("step", form)):
                steps[name], peaks[name] = _made(one, size, device)
            seconds = interleave({name: partial(_timed, step, device) for name, step in steps.items()}, *rounds)
    except torch.cuda.OutOfMemoryError:
        return {**result, "failed": "it does not fit into the memory"}
    finally:
        steps.clear()
        _free(device)
    pairs = list(zip(seconds["step"], seconds["base"], strict=True))
    return {
        **result,
        "base": base.name,
        "seconds": median(mine["step"] for mine, _ in pairs),
        "ratio": median(mine["step"] / theirs["step"] for mine, theirs in pairs),
        "rounds": len(pairs),
        "peak": peaks["step"],
        "base_peak": peaks["base"],
    }


def _made(form: Form, size: Size, device: devices.Device) -> tuple[Callable[[], Any], int | None]:
    """Return a step, of which one was taken, and the memory that it took on a GPU."""
    steps: list[Callable[[], Any]] = []

    def take_one() -> None:
        steps.append(step_of(form, size, device))
        steps[0]()

    _free(device)
    peak = peak_of(take_one, device)
    return steps[0], peak if device.is_gpu else None  # here, the resident memory holds what earlier forms left


def _timed(step: Callable[[], Any], device: devices.Device) -> dict[str, float]:
    device.wait()
    start = perf_counter()
    step()
    device.wait()
    return {"step": perf_counter() - start}


def _free(device: devices.Device) -> None:
    torch.compiler.reset()
    gc.collect()
    if device.is_gpu:
        torch.cuda.empty_cache()


def show(results: Sequence[Mapping[str, Any]]) -> None:
    """Print the results, one line a form."""
    print(
        f"\n{'batch':>6}{'layers':>7}{'width':>7}  {'form':<40}{'ms/step':>10}{'/ BP':>7}{'at most':>9}{'memory':>10}"
    )
    for r in results:
        print(f"{r['batch']:>6}{r['layers']:>7}{r['width']:>7}  {r['form']:<40}", end="")
        if "failed" in r:
            print(f"  {r['failed']}")
            continue
        bound = "" if r["required"] is None else f"{r['required']:.2f}{' !' if r['ratio'] > r['required'] else ''}"
        memory = "" if r["peak"] is None else readable(r["peak"])
        print(f"{1e3 * r['seconds']:>10.3f}{r['ratio']:>7.2f}{bound:>9}{memory:>10}")
    print("\n'/ BP' compares with backpropagation by hand at its best in the same precision (bfloat16 for autocast),")
    print("or with autograd's at its best for Transformers: the median over rounds that both took in turn.")


def missed(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the results miss of what is required, in words."""
    found = []
    for r in results:
        if r["required"] is None:
            continue
        where = f"{r['form']}, batch {r['batch']}"
        if "failed" in r:
            found.append(f"{where}: {r['failed']}")
            continue
        if r["ratio"] > r["required"]:
            found.append(f"{where}: {r['ratio']:.2f} of backpropagation's time, but at most {r['required']:.2f}")
        if r["peak"] is not None and r["peak"] > MOST_MEMORY * r["base_peak"]:
            share = r["peak"] / r["base_peak"]
            found.append(f"{where}: {share:.2f} of backpropagation's memory, but at most {MOST_MEMORY:.2f}")
    return found
