"""Measure the cost of a training step by direct feedback alignment and by backpropagation, over width and depth.

The same network takes steps on the same data by backpropagation (BP), direct feedback alignment (DFA) and DFA with a
ternary error (ODFA) in turn, round after round in one run, so that a change of load affects all methods equally. Widths
are 100 to 3080 and layers 1 to 96, as in figure 4 of arXiv:2409.12965. The program reports the median time per example,
divided into forward pass, backward pass (with the projection's share) and optimizer, the ratio to BP, and the memory of
two steps, measured in a separate process for each method.

--forms compares forms of the same step, each in turn with backpropagation written by hand: eager and at best (compiled,
with a fused optimizer and, on a GPU, as one CUDA graph), in float32 or TF32 and in bfloat16, with both random matrices,
and as a ready step for stacks of equal layers (opuproj.dfa.StackStep). --deepest finds the deepest network that each
method trains within a given memory. --offloaded keeps the weights in the host's memory and moves them layer by layer:
it compares backpropagation, which brings each weight twice a step, with direct feedback, which brings it once.

--hardware adds the time of the same steps if LightOn's device computed the projections of ODFA, from its published
frame rates (opuproj.hardware). This is the paper's comparison with this machine as the host.

--cost measures the ratio for two networks that other examples train. --large measures the feedback for a million hidden
units and compares it with a stored matrix.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, get_args

import numpy as np
import opuproj
import torch
from common import devices, runs
from common.memory import readable
from common.scaling import comparison, deepest, offload_times
from common.scaling import figures as scaling_figures
from common.scaling import optics as optical_time
from common.scaling.forms import Form, Precision
from common.scaling.offload import STATES, Stack
from common.scaling.steps import (
    PARTS,
    Size,
    Trainee,
    interleave,
    medians,
    peak_memory,
)
from opuproj import dfa
from tqdm import tqdm

WIDTHS = {"mlp": (100, 256, 512, 1024, 2048, 3080), "gpt": (64, 128, 256, 512, 1024)}
LAYERS = {"mlp": (1, 4, 24, 96), "gpt": (2, 6, 12)}
BATCH = {"mlp": 64, "gpt": 16}
# Inputs and classes of the networks whose forms are compared.
PAPER_SIDES = (784, 1016)
PAPER_WIDTH = comparison.REQUIRED_WIDTH
# What --quick takes in place of --deepest's memory and of the width.
QUICK_GIBIBYTES, QUICK_WIDTH = 0.2, 256
# Networks whose weights lie in the host's memory: on a GPU up to 2.7 billion parameters.
OFFLOADED_LAYERS = {True: (12, 48, 96, 192, 288), False: (4, 16, 64)}
METHODS: tuple[dfa.Method, ...] = ("bp", "dfa", "odfa", "shallow")
# Parameters and gradients, and some memory for activations and feedback.
BYTES_A_PARAMETER = 10


def scaling(arguments: Namespace, device: devices.Device) -> None:
    """Measure all sizes that fit into memory, small ones first, and draw the figures."""
    family = arguments.network
    widths, layers = WIDTHS[family], LAYERS[family]
    if arguments.quick:
        widths, layers = widths[:3:2], layers[:2]
    sizes = [
        Size(family, width, depth, arguments.batch or BATCH[family])
        for depth in arguments.layers or layers
        for width in arguments.widths or widths
    ]
    sizes.sort(key=lambda size: size.parameters)
    for size in tqdm(sizes, unit="size", disable=arguments.no_progress):
        path = arguments.out / f"{size.name}.json"
        needed = BYTES_A_PARAMETER * size.parameters
        if stored := runs.read_json(path):
            device.computed(stored.get("computed"), path)
            continue
        if needed > device.available():
            tqdm.write(
                f"{size.name} left out: it needs about {readable(needed)}, {readable(device.available())} are available"
            )
            continue
        runs.write_json(path, measure(size, arguments, device))
    report(arguments)


def measure(size: Size, arguments: Namespace, device: devices.Device) -> dict[str, Any]:
    """Time one size and measure its memory."""
    memory = {}
    if not arguments.quick or size.layers > 1:
        memory = {method: peak_memory(size, method, arguments.threads, device) for method in arguments.methods}
    trainee = Trainee(size, device=device)
    steps = {method: partial(trainee.step, method) for method in arguments.methods}
    least, most, budget = (3, 5, 2.0) if arguments.quick else (5, 25, 30.0)
    measured = interleave(steps, least, most, budget)
    return {
        "family": size.family,
        "width": size.width,
        "layers": size.layers,
        "batch": size.batch,
        "parameters": size.parameters,
        "methods": medians(measured),
        "memory": memory,
        "computed": device.beginning(),
    }


def report(arguments: Namespace) -> None:
    """Print the measurements so far, collect them in one file, draw them."""
    found = [runs.read_json(path) for path in arguments.out.glob(f"{arguments.network}-width*.json")]
    results = sorted((r for r in found if r), key=lambda r: (r["layers"], r["width"]))
    if not results:
        raise SystemExit(f"nothing measured in {arguments.out}")
    print(f"\n{'layers':>6}{'width':>7}{'parameters':>13}  {'':<6}{'ms/example':>11}{'/ BP':>7}", end="")
    print(f"{'forward':>9}{'backward':>9}{'projection':>12}{'optimizer':>10}{'memory':>10}")
    for r in results:
        for method, m in r["methods"].items():
            shares = [f"{m[part] / m['step']:.0%}" for part in PARTS]
            memory = readable(r["memory"][method]) if r["memory"].get(method) is not None else ""
            print(f"{r['layers']:>6}{r['width']:>7}{r['parameters']:>13,}  {method:<6}", end="")
            print(f"{1e3 * m['step'] / r['batch']:>11.3f}{m.get('ratio', float('nan')):>7.2f}", end="")
            print(f"{shares[0]:>9}{shares[1]:>9}{shares[2]:>12}{shares[3]:>10}{memory:>10}")
    devices.tell_mixture(results)
    print("\nThe projection is part of the backward pass. Memory is beyond that of an idle process.")
    runs.write_json(arguments.out / f"{arguments.network}.json", {"results": results})
    scaling_figures.draw(arguments.out, arguments.network, results)
    if arguments.hardware:
        hardware(arguments, results)


def hardware(arguments: Namespace, results: list[dict[str, Any]]) -> None:
    """Print, save and draw the times of steps with the projection on LightOn's device."""
    found = [optical_time.with_optics(r) for r in results if {"bp", "odfa"} <= set(r["methods"])]
    if not found:
        raise SystemExit("--hardware compares BP and ODFA: measure both, with --methods bp,odfa among others")
    columns = ("BP", "ODFA", "projection", "on the device", "ODFA with it")
    print(
        "\nMilliseconds per example:\n"
        + f"{'layers':>6}{'width':>7}"
        + "".join(f"{c:>14}" for c in columns)
        + f"{'/ BP':>8}"
    )
    faster = {"bp": 0, "odfa": 0}
    for r in found:
        bp, odfa, optical = (r["methods"][m] for m in ("bp", "odfa", optical_time.OPTICAL))
        times = [bp["step"], odfa["step"], odfa["projection"], optical["projection"], optical["step"]]
        print(f"{r['layers']:>6}{r['width']:>7}" + "".join(f"{1e3 * t / r['batch']:>14.3f}" for t in times), end="")
        print(f"{optical['step'] / bp['step']:>8.2f}")
        for method in faster:
            faster[method] += optical["step"] < r["methods"][method]["step"]
    print(f"\nWith the device, ODFA is faster than BP in {faster['bp']} of these {len(found)} sizes, and faster than")
    print(
        f"ODFA here in {faster['odfa']}. The device takes four frames an error, at its published rates; moving data to"
    )
    print("it and back is not counted.")
    runs.write_json(arguments.out / f"{arguments.network}-hardware.json", {"results": found})
    scaling_figures.draw_optics(arguments.out, arguments.network, found)


def cost(arguments: Namespace, device: devices.Device) -> None:
    """Time a step of two networks that other examples train: a fully connected one and the dialogue's Transformer."""
    rows = {
        "MLP 784 → 4 × 1024 → 10, batch 128": Size("mlp", 1024, 4, 128, n_inputs=784, n_outputs=10),
        "Transformer of gpt_dialogue.py, 4 × 128, batch 64 × 24": Size("gpt", 128, 4, 64),
    }
    least, most = (10, 10) if arguments.quick else (30, 100)
    results = {}
    print(f"{'':<56}{'':<8}{'ms/step':>9}{'/ BP':>7}{'projection':>12}{'rounds':>8}")
    for name, size in rows.items():
        trainee = Trainee(size, torch.optim.Adam, device=device)
        bare = Trainee(size, torch.optim.Adam, attached=False, device=device)
        steps = {"plain": partial(bare.step, "bp")}
        steps |= {method: partial(trainee.step, method) for method in METHODS}
        summary = medians(interleave(steps, least, most, 60.0))
        for method, m in summary.items():
            print(f"{name:<56}{method:<8}{1e3 * m['step']:>9.1f}{m['ratio']:>7.3f}", end="")
            print(f"{m['projection'] / m['step']:>12.1%}{m['rounds']:>8.0f}")
            name = ""
        results[size.name] = summary
    print("\n'plain' is PyTorch without feedback attached; ratios are medians over rounds of all methods in turn.")
    runs.write_json(arguments.out / "cost.json", {"results": results})


def compare_forms(arguments: Namespace, device: devices.Device) -> None:
    """Measure the forms of a step, print and draw them; with --requirements, fail if one takes too long."""
    family = arguments.network
    requirements = arguments.requirements and not arguments.quick
    if requirements:
        if not device.is_gpu:
            raise SystemExit("the requirements are for an H100 or an H200: pass --device cuda on such a machine")
        sizes = [paper_size(batch) for batch in comparison.REQUIRED_BATCHES]
    else:
        default = (
            ((256,), (8,), BATCH[family]) if arguments.quick or not device.is_gpu else ((PAPER_WIDTH,), (96,), 1024)
        )
        widths, layers, batch = default
        if family == "gpt" and not arguments.quick:
            widths, layers = (512,), (6,)
        sizes = [
            Size(family, width, depth, arguments.batch or batch, *PAPER_SIDES)
            for depth in arguments.layers or layers
            for width in arguments.widths or widths
        ]

    def chosen(form: Form) -> bool:
        method = form.method.removesuffix(" by hand").removesuffix(" stack")
        asked = method in arguments.methods and form.precision in (arguments.precisions or [form.precision])
        return comparison.required(form, sizes[0]) is not None if requirements else asked

    rounds = (2, 2, 0.0) if arguments.quick else (comparison.LEAST_ROUNDS, comparison.MOST_ROUNDS, comparison.SECONDS)
    folder = arguments.out / "forms"
    results = comparison.compare(sizes, chosen, device, folder, progress=not arguments.no_progress, rounds=rounds)
    comparison.show(results)
    devices.tell_mixture(results)
    runs.write_json(arguments.out / f"{family}-forms.json", {"results": results})
    scaling_figures.draw_forms(arguments.out / f"{family}-forms.png", family, results)
    if requirements and (missed := comparison.missed(results)):
        raise SystemExit("\nMissed:\n" + "\n".join(missed))


def paper_size(batch: int) -> Size:
    """Return the paper's largest network."""
    return Size("mlp", comparison.REQUIRED_WIDTH, comparison.REQUIRED_LAYERS, batch, *PAPER_SIDES)


def find_deepest(arguments: Namespace, device: devices.Device) -> None:
    """Find the deepest network of each way of training within a memory; keep each result."""
    gibibytes = QUICK_GIBIBYTES if arguments.quick else arguments.deepest
    limit = int(gibibytes * 2**30)
    width = QUICK_WIDTH if arguments.quick else (arguments.widths or (1024,))[0]
    batch = arguments.batch or 256
    kept = arguments.out / f"deepest-{gibibytes:g}GiB-width{width}-batch{batch}.json"
    found: dict[Any, Any] = (runs.read_json(kept) or {}).get("found", {})

    def size(layers: int) -> Size:
        return Size("mlp", width, layers, batch, *PAPER_SIDES)

    def peak(one: Size, way: deepest.Way) -> int | None:
        return deepest.peak(one, way, arguments.threads, device)

    for way in tqdm(deepest.WAYS, unit="way", disable=arguments.no_progress):
        if way in found:
            device.computed(found[way].get("computed"), kept)
            continue
        layers, used, tried = deepest.deepest(size, way, limit, peak)
        parameters = size(layers).parameters if layers else 0
        found[way] = {
            "layers": layers,
            "parameters": parameters,
            "bytes": used,
            "tried": tried,
            "computed": device.beginning(),
        }
        runs.write_json(kept, {"limit": limit, "width": width, "batch": batch, "found": found})
    deepest.show(found, readable(limit))
    devices.tell_mixture(list(found.values()))


def compare_offloaded(arguments: Namespace, device: devices.Device) -> None:
    """Time steps with the weights in the host's memory and on the device, over the depth."""
    width, batch = (QUICK_WIDTH, 64) if arguments.quick or not device.is_gpu else (PAPER_WIDTH, 1024)
    depths = arguments.layers or OFFLOADED_LAYERS[device.is_gpu and not arguments.quick]
    stacks = [
        Stack(width, layers, arguments.batch or batch, optimizer=arguments.optimizer)
        for width in arguments.widths or [width]
        for layers in depths[: 2 if arguments.quick else None]
    ]
    rounds = (2, 2, 0.0) if arguments.quick else offload_times.ROUNDS
    folder = arguments.out / "offloaded"
    results = offload_times.compare(stacks, device, folder, progress=not arguments.no_progress, rounds=rounds)
    if not results:
        raise SystemExit("no size fits into the memory")
    print(offload_times.show(results))
    devices.tell_mixture(results)
    runs.write_json(arguments.out / f"offloaded-{arguments.optimizer}.json", {"results": results})


def large(arguments: Namespace, device: devices.Device) -> None:
    """Time the feedback of a million hidden units from errors of 10,000 elements, batch 64, against a stored matrix."""
    n_inputs, n_outputs, n = (10_000, 100_000, 64) if arguments.quick else (10_000, 1_000_000, 64)
    part = n_outputs // 10
    random = np.random.default_rng(0)
    operator = opuproj.Projector(n_inputs, n_outputs, seed=0, mode="linear")
    errors = {
        "two thirds nonzero": random.integers(-1, 2, size=(n, n_inputs), dtype=np.int8),
        "one tenth nonzero": random.choice(
            np.array([-1, 0, 1], dtype=np.int8), size=(n, n_inputs), p=(0.05, 0.9, 0.05)
        ),
    }
    stored_bytes, slice_bytes = 2 * n_inputs * n_outputs, 2 * n_inputs * part
    print(
        f"{n_outputs:,} hidden units, errors of {n_inputs:,} elements, batch {n}, {torch.get_num_threads()} threads\n"
    )
    if slice_bytes > 0.8 * device.available():
        raise SystemExit(
            f"even a tenth of the matrix needs {readable(slice_bytes)}, {readable(device.available())} are available"
        )
    matrix = torch.empty(part, n_inputs, dtype=torch.bfloat16, device=device.name)
    for rows in matrix.split(1000):  # normal_ in bfloat16 is slow, and float32 would be twice as large
        rows.copy_(torch.randn(rows.shape))
    vectors: dict[str, Any] = errors
    if device.is_gpu:
        vectors = {name: torch.from_numpy(error).to(device.name) for name, error in errors.items()}
    dense = torch.from_numpy(errors["two thirds nonzero"]).to(device.name, torch.bfloat16)
    works = {f"generated, {name}": partial(operator, error) for name, error in vectors.items()}
    works["stored in bfloat16, a tenth of the rows"] = partial(torch.mm, dense, matrix.T)
    seconds = time_in_turn(works, 1 if arguments.quick else 3, device)
    for name, value in seconds.items():
        scaled = f", so {10 * value:.2f} s for all" if name.startswith("stored") else ""
        print(f"  {name:<42}{value:>8.2f} s{scaled}")
    fits = device.available() + slice_bytes > stored_bytes
    print(f"\nStored, the whole matrix needs {readable(stored_bytes)} in bfloat16, twice as much in float32;")
    there = readable(device.available() + slice_bytes)
    print(f"{there} are available here: it {'would fit' if fits else 'does not fit'}.")
    print(f"Generated, it needs none; the result takes {readable(4 * n * n_outputs)} either way.")
    runs.write_json(
        arguments.out / "large.json",
        {
            "shape": [n, n_inputs, n_outputs],
            "seconds": seconds,
            "stored bytes": stored_bytes,
            "available": device.available(),
        },
    )


def time_in_turn(works: dict[str, Any], n_rounds: int, device: devices.Device) -> dict[str, float]:
    """Return the median seconds of each work, measured in turn after one round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for done in range(n_rounds + 1):
        for name, work in works.items():
            device.wait()
            start = perf_counter()
            work()
            device.wait()
            if done:
                taken[name].append(perf_counter() - start)
    return {name: median(values) for name, values in taken.items()}


def parser() -> ArgumentParser:
    """Return the parser of the command line."""
    made = runs.parser(__doc__ or "", EXAMPLES)
    made.set_defaults(methods=list(METHODS))
    made.add_argument(
        "--network", choices=["mlp", "gpt"], default="mlp", help="fully connected (default) or Transformer"
    )
    made.add_argument("--widths", type=numbers, metavar="N,N,…", help="hidden units")
    made.add_argument("--layers", type=numbers, metavar="N,N,…", help="hidden layers")
    made.add_argument("--batch", type=int, metavar="N", help="examples per step (for gpt: windows of 24 tokens)")
    made.add_argument(
        "--cost", action="store_true", help="measure the ratio to BP for two networks that other examples train"
    )
    made.add_argument("--large", action="store_true", help="compare a million hidden units with a stored matrix")
    made.add_argument(
        "--hardware", action="store_true", help="add the time of ODFA with its projections on LightOn's device"
    )
    made.add_argument(
        "--forms", action="store_true", help="compare forms of a step: eager, at best, precisions, matrices"
    )
    made.add_argument(
        "--precisions",
        nargs="+",
        choices=get_args(Precision),
        help="those whose forms are compared (default: all of the device)",
    )
    made.add_argument(
        "--requirements", action="store_true", help="measure what is required of a GPU; fail if a step takes too long"
    )
    made.add_argument(
        "--deepest",
        type=runs.positive_number,
        metavar="GIB",
        help="find the deepest network that each method trains within this memory",
    )
    made.add_argument(
        "--offloaded", action="store_true", help="keep the weights in the host's memory, and move them layer by layer"
    )
    made.add_argument(
        "--optimizer",
        choices=list(STATES),
        default="sgd",
        help="that of --offloaded; what adam keeps moves with the weights (default: %(default)s)",
    )
    made.add_argument("--figures-only", action="store_true", help="print and draw the results in --out")
    return made


def numbers(text: str) -> tuple[int, ...]:
    """Read numbers separated by commas."""
    return tuple(map(int, text.split(",")))


EXAMPLES = """examples:
  python examples/scaling.py --quick            two widths, two depths
  python examples/scaling.py                    all widths and depths that fit in memory
  python examples/scaling.py --network gpt      the same of Transformers
  python examples/scaling.py --hardware         with the time that LightOn's device would take for the projections
  python examples/scaling.py --cost             step time of DFA and ODFA relative to BP
  python examples/scaling.py --large            a million hidden units (5 GB of memory)
  python examples/scaling.py --forms            eager and at best, precisions, both matrices
  python examples/scaling.py --requirements     96 layers of 3080 units on an H100 or H200, and what they must reach
  python examples/scaling.py --deepest 1        the deepest network in 1 GiB
  python examples/scaling.py --offloaded        weights in the host's memory, BP and ODFA over the depth
"""


def main() -> None:
    """Run the part that the command line selects."""
    arguments = parser().parse_args()
    device = runs.begin(arguments)
    if arguments.quick:
        arguments.out = arguments.out / "quick"  # so that the full measurement does not use these results
    if arguments.figures_only:
        report(arguments)
    elif arguments.cost:
        cost(arguments, device)
    elif arguments.large:
        large(arguments, device)
    elif arguments.deepest:
        find_deepest(arguments, device)
    elif arguments.offloaded:
        compare_offloaded(arguments, device)
    elif arguments.forms or arguments.requirements:
        compare_forms(arguments, device)
    else:
        scaling(arguments, device)


if __name__ == "__main__":
    main()
