"""Damaged files and hostile arguments for project, pack and info: each is refused in one line, or has the right result.

    python tests/programs/fuzz_cli.py [--seconds 60] [--seed 0]
    python tests/programs/fuzz_cli.py --replay FOLDER

It ends with exit code 1 at the first finding, and keeps the command and its files, to be run again. Linux only.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import hashlib
import io
import json
import math
import mmap
import os
import random
import re
import resource
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import opuproj
from cli_mutations import Case, Maker, spoiled_state
from opuproj import _memory
from opuproj.cli import _partial, _plan, main, parser

SECONDS = 10  # of one command, most of which take milliseconds
ROOM = 512 << 20  # bytes of memory beyond what is mapped at the start
LARGEST = 16 << 20  # bytes of a file
# Multiply-adds up to which the result is compared with that of the API.
COMPARED = 1e8
MODULES = {"cli._plan": _plan, "_memory": _memory}
LEFT = re.compile(r"\.(partial|partial\.json|partial\.json\.new)$")


class Finding(Exception):  # noqa: N818 - it is what is looked for
    """A command did what no command may."""


class Late(BaseException):
    """A command takes too long."""


class Crash(BaseException):
    """The machine stops: nothing is tidied up."""


def run(case: Case) -> str:
    """Run a case in the current folder, which is empty; return its outcome or raise Finding."""
    lay_out(case)
    np.save("given.npy", np.zeros(1))
    left = stopped_before(case) if case.stopped is not None else {}
    before = contents(Path())
    with attributes(case.sizes):
        code, out, err = called(case.arguments, case.stdin)
    told = err.decode()
    if code not in (0, 1, 2):
        raise Finding(f"exit code {code}: {told}")
    check_messages(code, told)
    asked = namespace(case.arguments) if code != 2 else None
    check_folder(code, before, contents(Path()), getattr(asked, "output", None), told)
    if code:
        return ["", "refused", "not understood"][code]
    if asked is None:
        return "help"
    if case.damage is not None and left:
        return "done after a damaged start"
    return check_result(asked, case, out, told, left.get("noise")) + (", after a stop" if left else "")


def lay_out(case: Case) -> None:
    """Make the folder: the input, and what names of outputs may collide with."""
    for name, content in case.files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for folder in ("folder.npy", "folder.zarr", "precious.zarr", "sub"):
        Path(folder).mkdir()
    for name in ("folder.zarr/precious", "precious.zarr/precious", "file.zarr"):
        Path(name).write_bytes(b"precious")
    Path("precious.zarr/zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    os.symlink("file.zarr", "link.npy")
    os.symlink("nowhere", "dangling.npy")
    os.symlink("loop.npy", "loop.npy")
    os.mkfifo("queue.npy")


def stopped_before(case: Case) -> dict[str, Any]:
    """Stop a first run of the same command, and damage the state that it left; return the state as it was."""
    calls = 0
    original = _partial.write_json

    def stopping(path: Path, content: dict[str, Any]) -> None:
        nonlocal calls
        original(path, content)
        calls += 1
        if calls == case.stopped:
            raise Crash

    with attributes(case.sizes):
        _partial.write_json = stopping
        try:
            called(case.arguments, case.stdin)
        except Crash:
            gc.collect()  # the lock on what is left
        finally:
            _partial.write_json = original
    states = sorted(Path().glob("*.partial.json"))
    left: dict[str, Any] = json.loads(states[0].read_bytes()) if states else {}
    if states and case.damage is not None:
        draw = random.Random(case.damage)
        if draw.random() < 0.8:
            states[0].write_bytes(spoiled_state(draw, states[0].read_bytes()))
        else:
            partial = states[0].with_suffix("")
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink()
    return left


@contextmanager
def attributes(sizes: dict[str, int]) -> Iterator[None]:
    """Set sizes in modules for a while."""
    before = []
    for name, size in sizes.items():
        module, _, attribute = name.rpartition(".")
        before.append((MODULES[module], attribute, getattr(MODULES[module], attribute)))
        setattr(MODULES[module], attribute, size)
    try:
        yield
    finally:
        for place, attribute, size in before:
            setattr(place, attribute, size)


def called(arguments: list[str], stdin: bytes) -> tuple[int, bytes, bytes]:
    """Run the command line within its time; return its exit code and what it wrote."""

    def late(number: int, frame: FrameType | None) -> None:
        raise Late("".join(traceback.format_stack(frame, 12)))

    kept = sys.stdin, sys.stdout, sys.stderr
    err = io.BytesIO()
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin))
    out = open(os.memfd_create("out"), "wb+")  # noqa: SIM115 - a file, so that its size is limited
    sys.stdout = written = io.TextIOWrapper(out, encoding="utf-8", errors="strict")
    sys.stderr = io.TextIOWrapper(err, encoding="utf-8", errors="backslashreplace", write_through=True)
    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    faulthandler.dump_traceback_later(6 * SECONDS, exit=True, file=kept[2])  # where no signal is looked at
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", DeprecationWarning)
            code = main(arguments)
        with suppress(OSError):
            sys.stdout.flush()
        return code, os.pread(out.fileno(), LARGEST, 0), err.getvalue()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        sys.stdin, sys.stdout, sys.stderr = kept
        with suppress(OSError):
            written.close()


def namespace(arguments: list[str]) -> argparse.Namespace | None:
    """Return what the arguments say, or None if they ask for help."""
    try:
        with open(os.devnull, "w") as nowhere:
            kept, sys.stdout = sys.stdout, nowhere
            try:
                return parser().parse_args(arguments)
            finally:
                sys.stdout = kept
    except SystemExit:
        return None


# What must hold


def check_messages(code: int, told: str) -> None:
    """Look at standard error: one line, or nothing, or how a command is used."""
    if "Traceback" in told or "Warning" in told:
        raise Finding(f"more than a message: {told}")
    lines = [line for line in told.splitlines() if not line.startswith("opuproj: the camera's noise is that of")]
    if code == 0 and lines:
        raise Finding(f"exit code 0, but it says: {told}")
    if code == 1 and (len(lines) != 1 or not re.match(r"opuproj: error: .*\w", lines[0])):
        raise Finding(f"not one line of an error: {told!r}")
    if code == 1 and re.search(r"Unable to allocate|error: MemoryError|error: [A-Z]\w+Error$", told):
        raise Finding(f"memory was asked for before it was looked for, or an error without a text: {told}")
    if code == 2 and not told.startswith("usage: opuproj"):
        raise Finding(f"exit code 2, but it says: {told}")


def contents(folder: Path) -> dict[str, str]:
    """Return what is there, by name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[str(path)] = stat.filemode(status.st_mode)[0]
    return found


def check_folder(code: int, before: dict[str, str], after: dict[str, str], output: str | None, told: str) -> None:
    """Look at what is there: only OUT may have changed, and only where the command succeeded."""
    out = os.path.normpath(output) if output not in (None, "-") else None
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    # An unfinished run may go on, or be thrown away; another may be left where the message says so.
    kept = " is kept in " in told
    changed = {name for name in changed if not (of_partial(name) and (kept or of_partial_in(before, name)))}
    if code == 0 and out is not None:
        changed = {name for name in changed if name != out and not name.startswith(f"{out}/")}
        if not os.path.exists(out):
            raise Finding(f"exit code 0, but there is no {out}")
        if before.get(out, "-") in ("p", "c", "b", "s"):
            raise Finding(f"exit code 0, but {out} was no file and is replaced")
    if changed:
        raise Finding(f"exit code {code}, and changed: {', '.join(sorted(changed))}; it says: {told!r}")
    if code == 0 and out is not None and any(name.startswith(f"{out}.") and of_partial(name) for name in after):
        raise Finding(f"exit code 0, but something unfinished is left: {sorted(after)}")


def of_partial(name: str) -> bool:
    return any(LEFT.search(part) for part in Path(name).parts)


def of_partial_in(before: dict[str, str], name: str) -> bool:
    """Whether there was an unfinished run already."""
    return any(LEFT.search(other) for other in before)


def check_result(asked: argparse.Namespace, case: Case, out: bytes, told: str, drawn: int | None) -> str:
    """Compare with what the API makes of the same input."""
    if asked.run.__module__.endswith("info"):
        return check_info(asked, case, out)
    given = parsed(asked.input, asked.member, case.stdin)
    if asked.run.__module__.endswith("pack"):
        expected = packed(given, asked)
        expected.save("expected")
        if Path(asked.output).read_bytes() != Path("expected").read_bytes():
            raise Finding("pack: not the bytes of TernaryBatch.save")
        return "packed"
    if math.prod(given.shape) * asked.outputs > COMPARED:
        return "projected, not compared"
    noise = re.search(r"--noise-seed (\d+)", told)
    rows = None if asked.rows is None else slice(*asked.rows)
    expected = opuproj.project(
        given,
        asked.outputs,
        seed=asked.seed,
        mode=asked.mode,
        rows=rows,
        digits=asked.digits,
        n_anchor=asked.n_anchor,
        camera=asked.camera,
        noise_seed=int(noise.group(1)) if noise else drawn if asked.noise_seed is None else asked.noise_seed,
        dtype=asked.dtype,
    )
    if Path(asked.output).suffix == ".zarr":
        import zarr

        found = zarr.open_array(asked.output, mode="r")[...]
        same = (found.dtype, found.shape) == (expected.dtype, expected.shape) and found.tobytes() == expected.tobytes()
    else:
        file = io.BytesIO()
        np.save(file, expected)
        same = file.getvalue() == (out if asked.output == "-" else Path(asked.output).read_bytes())
    if not same:
        raise Finding("project: not the result of opuproj.project")
    return "projected"


def check_info(asked: argparse.Namespace, case: Case, out: bytes) -> str:
    """Compare the shape that is told with the array's."""
    if asked.file is None:
        return "told of the machine"
    if not asked.json:
        if out.decode().count("\n") not in (6, 7, 8):
            raise Finding(f"info: not a line an entry: {out!r}")
        return "told of a file"
    told = json.loads(out)
    if told["kind"] == "a .npy file":
        shape = parsed(asked.file, asked.member, case.stdin).shape
        if tuple(told["shape"]) != tuple(shape):
            raise Finding(f"info: shape {told['shape']}, but it is {shape}")
    return "told of a file"


def parsed(path: str, member: str | None, stdin: bytes) -> Any:
    """Read the input without the command line's readers."""
    try:
        if path == "-":
            return np.load(io.BytesIO(stdin), allow_pickle=False)
        if os.path.isdir(path):
            import zarr

            array = zarr.open_array(path, mode="r")
            return array[...] if np.prod(array.shape, dtype=float) < 1e7 else np.broadcast_to(0, array.shape)
        if Path(path).read_bytes()[:8] in (b"OPUTERN1", b"OPUTERN2"):
            return opuproj.TernaryBatch.load(path)
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            with found:
                names = [name for name in found.zip.namelist() if name.endswith(".npy")]  # type: ignore[union-attr]
                return found[f"{member}.npy" if member is not None else names[0]]
        return found
    except Exception as error:
        raise Finding(f"it is taken, but another reader says: {error!r}") from error


def packed(given: Any, asked: argparse.Namespace) -> opuproj.TernaryBatch:
    if isinstance(given, opuproj.TernaryBatch):
        return given
    if asked.threshold is None and asked.relative is None:
        return opuproj.pack(given)
    if asked.threshold is not None:
        return opuproj.ternarize(given, asked.threshold)
    return opuproj.ternarize(given, relative=asked.relative, scale=asked.scale or "row")


# Many cases


def attempt(case: Case) -> str:
    """Run a case in a folder of its own, whose surroundings stay as they are."""
    home = os.getcwd()
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=shared) as outside:
        inside = Path(outside, "inside")
        inside.mkdir()
        os.chdir(inside)
        try:
            outcome = run(case)
        except Late as late:
            if is_long(case):
                return "long work, stopped"
            raise Finding(f"longer than {SECONDS} seconds:\n{late}") from late
        except Crash as crash:
            raise Finding("stopped, though nobody stopped it") from crash
        except Finding:
            raise
        except Exception as error:
            raise Finding(f"{error!r} came out of it:\n{traceback.format_exc()}") from error
        finally:
            os.chdir(home)
        if os.listdir(outside) != ["inside"]:
            raise Finding(f"outside of its folder it made {os.listdir(outside)}")
    return outcome


def is_long(case: Case) -> bool:
    """Whether a command has so much to write to small files that no time limit can be set."""
    asked = namespace(case.arguments)
    many = 10_000 if case.sizes else 10**8  # those of a case make a file of some columns
    return asked is not None and asked.output.endswith(".zarr") and asked.outputs > many


def limit() -> None:
    """Limit memory and the size of files."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    room = pages * mmap.PAGESIZE + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, LARGEST))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def fuzz(seed: int, seconds: float, current: mmap.mmap) -> int:
    """Run one case after the other until the time is over; return the exit code."""
    maker = Maker(seed)
    outcomes: Counter[str] = Counter()
    attempt(
        Case(["project", "x", "y.npy", "--outputs", "3"], maker.corpus["zarr"][0] and {"x": maker.corpus["npy"][0]})
    )
    limit()
    end, number, files = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        number += 1
        current[:8] = number.to_bytes(8, "little")
        case = maker.case(number)
        try:
            outcome = attempt(case)
            outcomes[f"{case.arguments[0] if case.arguments else '-'}: {outcome}"] += 1
            if number % 200 == 100:
                gc.collect()
                now = len(os.listdir("/proc/self/fd"))
                files = files or now
                if now > files + 8:
                    raise Finding(f"{now} files are open, at first {files}")
        except Finding as finding:
            print(f"finding at number {number} of seed {seed}: {case.arguments}\n{finding}")
            print(f"again: python tests/programs/fuzz_cli.py --replay {save(case, seed, number)}")
            return 1
    report(outcomes, number)
    return 0


def report(outcomes: Counter[str], total: int) -> None:
    """Print how many cases ended how."""
    done = sum(count for name, count in outcomes.items() if not name.endswith(("refused", "not understood")))
    print(f"{total:,} inputs; {done / max(1, total):.0%} with exit code 0")
    for name, count in sorted(outcomes.items()):
        print(f"{count:9,}  {name}")


def save(case: Case, seed: int, number: int) -> Path:
    """Keep a case in a folder."""
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-cli-{seed}-{number}-"))
    content = asdict(case) | {
        "files": {name: content.hex() for name, content in case.files.items()},
        "stdin": case.stdin.hex(),
    }
    (folder / "case.json").write_text(json.dumps(content, indent=1))
    return folder


def load(folder: Path) -> Case:
    """Return a case that was kept."""
    content = json.loads((folder / "case.json").read_text())
    content["files"] = {name: bytes.fromhex(text) for name, text in content["files"].items()}
    return Case(**{**content, "stdin": bytes.fromhex(content["stdin"])})


def main_program() -> int:
    """Fuzz in a child, so that its death is a finding, too."""
    asked = argparse.ArgumentParser(description="Damaged files and hostile arguments for the command line.")
    asked.add_argument("--seconds", type=float, default=60.0)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--replay", type=Path, metavar="FOLDER", help="run a case that was kept")
    options = asked.parse_args()
    os.environ["OPUPROJ_NUM_THREADS"] = "1"
    warnings.simplefilter("ignore")  # of what makes and reads the files here; those of the commands count
    if options.replay is not None:
        case = load(options.replay)
        print(case.arguments, attempt(case))
        return 0
    current = mmap.mmap(-1, 8)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = fuzz(options.seed, options.seconds, current)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        code = os.WEXITSTATUS(status)
        if code in (0, 1):
            return code
    number = int.from_bytes(current[:8], "little")
    case = Maker(options.seed).case(number)
    print(f"the process ended with {status} at number {number} of seed {options.seed}: {case.arguments}")
    print(f"again: python tests/programs/fuzz_cli.py --replay {save(case, options.seed, number)}")
    return 1


if __name__ == "__main__":
    sys.exit(main_program())
