"""Times of steps with the weights in the host's memory and on the device, over the depth, and where methods cross."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from tqdm import tqdm

from common import devices, memory, runs
from common.memory import readable
from common.scaling.forms import precise
from common.scaling.offload import METHODS, SLOTS, STATES, Network, Stack
from common.scaling.steps import interleave
from common.tables import markdown

PLACES = ("device", "host")
# At least and at most so many rounds, and none begins after so many seconds.
ROUNDS = (5, 25, 30.0)
COLUMNS = ("layers", "parameters", "weights in", "BP, ms", "ODFA, ms", "ODFA / BP", "BP moves", "ODFA moves")
# Parts of the available memory that the weights may take: activations and feedback need the rest.
PART = 0.8


def compare(
    stacks: Iterable[Stack],
    device: devices.Device,
    folder: Path,
    *,
    progress: bool,
    rounds: tuple[int, int, float] = ROUNDS,
) -> list[dict[str, Any]]:
    """Measure all sizes that fit, and return the results. Finished ones in the folder are kept."""
    cells = [(stack, place) for stack in stacks for place in PLACES]
    results = []
    for stack, place in tqdm(cells, unit="size", disable=not progress):
        path = folder / f"{name_of(stack)}-{place}.json"
        found = runs.read_json(path)
        if found is not None:
            device.computed(found.get("computed"), path)
        elif why := refusal(stack, place, device):
            tqdm.write(f"{name_of(stack)} with its weights in the {place}'s memory is left out: {why}")
            continue
        else:
            found = measure(stack, place, device, rounds)
            runs.write_json(path, found)
        results.append(found)
    return results


def name_of(stack: Stack) -> str:
    """Return the name of a size's results."""
    return f"width{stack.width}-layers{stack.layers}-batch{stack.batch}-{stack.optimizer}"


def refusal(stack: Stack, place: str, device: devices.Device) -> str | None:
    """Return why a size cannot be measured, or None: both methods have their own weights, in both memories."""
    both = len(METHODS) * stack.host_bytes
    there = both if place == "device" else both * SLOTS // max(SLOTS, stack.layers)
    needed = {"host": both, "device": there} if device.is_gpu else {"host": both + there}
    for where, n_bytes in needed.items():
        available = memory.available() if where == "host" else device.available()
        if n_bytes > PART * available:
            return f"it needs {readable(n_bytes)} of the {where}'s memory, {readable(available)} are available"
    return None


def measure(stack: Stack, place: str, device: devices.Device, rounds: tuple[int, int, float]) -> dict[str, Any]:
    """Measure a step of each method in turn, with the weights in one place."""
    runs.free_memory(device)
    networks: dict[str, Network] = {
        method: make(stack, device, resident=place == "device") for method, make in METHODS.items()
    }
    steps: dict[str, Callable[[], dict[str, float]]] = {m: partial(step, network) for m, network in networks.items()}
    with precise("TF32" if device.is_gpu else "float32"):
        measured = interleave(steps, *rounds)
    return {
        "width": stack.width,
        "layers": stack.layers,
        "batch": stack.batch,
        "optimizer": stack.optimizer,
        "parameters": stack.parameters,
        "weights": place,
        "rounds": len(measured["bp"]),
        "seconds": {method: median(one["step"] for one in of) for method, of in measured.items()},
        "moved": {method: {way: of[-1][way] for way in ("up", "down")} for method, of in measured.items()},
        "ratio": median(odfa["step"] / bp["step"] for odfa, bp in zip(measured["odfa"], measured["bp"], strict=True)),
        "computed": device.beginning(),
    }


def step(network: Network) -> dict[str, float]:
    """Take a step; return its seconds, and the bytes that it brought to the device and back."""
    before = network.moved()
    network.device.wait()
    start = perf_counter()
    network.step()
    network.device.wait()
    seconds = perf_counter() - start
    count = {key: value - before[key] for key, value in network.moved().items()}
    one = 4 * network.stack.width**2
    states = STATES[network.stack.optimizer]
    ways = {way: one * (count[f"weights {way}"] + states * count[f"states {way}"]) for way in ("up", "down")}
    return {"step": seconds, **ways}


def crossing(results: Sequence[Mapping[str, Any]], place: str) -> int | None:
    """Return the parameters of the smallest size from which on ODFA is faster than BP, or None."""
    found = None
    for result in sorted(results, key=lambda result: -int(result["parameters"])):
        if result["weights"] == place:
            if result["ratio"] >= 1:
                break
            found = int(result["parameters"])
    return found


def show(results: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of all sizes, and where the methods cross."""
    rows = []
    for result in sorted(results, key=lambda result: (result["parameters"], result["weights"])):
        moved = [" + ".join(readable(result["moved"][m][way]) for way in ("up", "down")) for m in METHODS]
        times = [f"{1e3 * result['seconds'][method]:.1f}" for method in METHODS]
        size = [str(result["layers"]), f"{result['parameters']:,}", f"the {result['weights']}"]
        rows.append([*size, *times, f"{result['ratio']:.2f}", *moved])
    lines = [markdown(COLUMNS, rows), ""]
    for place in PLACES:
        least = crossing(results, place)
        where = "at no measured size" if least is None else f"from {least:,} parameters on"
        lines.append(f"With the weights in the {place}'s memory, ODFA is faster than BP {where}.")
    return "\n".join(lines)
