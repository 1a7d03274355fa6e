"""Command lines and damaged files for `fuzz_cli.py`: valid files of all kinds, and what may be done to them."""

from __future__ import annotations

import io
import json
import random
import struct
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import opuproj

# Around the limits of signed and unsigned numbers of 8 to 64 bits, and far beyond.
EDGES = [
    0,
    1,
    -1,
    2,
    3,
    7,
    8,
    9,
    63,
    64,
    65,
    127,
    255,
    256,
    4096,
    65535,
    *(2**k + d for k in (31, 32, 62, 63, 64) for d in (-1, 0, 1)),
    10**30,
]
SHAPES = [(37, 70), (5,), (1, 64), (3, 5, 7), (0, 9), (2, 65), (4, 1), (16, 129), (2, 1, 3, 4), (130, 33)]
DTYPES = ["i1", "?", "u1", "<i2", "<f2", "<f4", "<f8", ">f4", ">i8", "g", "<u8", "<c8", "U2", "<M8[s]", "V4", "S3", "O"]
TEXTS = [
    "",
    "-",
    "--",
    "x",
    "nan",
    "inf",
    "1e3",
    "1.5",
    "1_000",
    "１２",
    "9" * 5000,
    "0x10",
    " 7 ",
    "None",
    "\udcff",
    "a\nb",
    "a\x1b[2Jb",
    "é" * 300,
    "%s%d{0}",
    "-h",
]
NAMES = [
    "y.npy",
    "y.zarr",
    "-",
    "y.txt",
    "",
    ".",
    "..",
    "x",
    "no/y.npy",
    "folder.npy",
    "folder.zarr",
    "file.zarr",
    "y" * 300 + ".npy",
    "a\nb.npy",
    "\udcff.npy",
    "sub/../y.npy",
    "link.npy",
    "dangling.npy",
    "loop.npy",
    "queue.npy",
    "y.npy/",
    "precious.zarr",
    "-y.npy",
    "é.zarr",
]


@dataclass
class Case:
    """A folder and a command to run in it."""

    arguments: list[str]
    files: dict[str, bytes]
    stdin: bytes = b""
    # Names of module attributes that decide about pieces, with smaller values.
    sizes: dict[str, int] = field(default_factory=dict)
    # At which call of the step that makes the same command's earlier run stop, and what is then done to what it left.
    stopped: int | None = None
    damage: int | None = None


class Maker:
    """Makes the case of each number."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.corpus = corpus()

    def case(self, number: int) -> Case:
        """Return a case, the same one for the same seed and number."""
        draw = random.Random(f"{self._seed} {number}")
        kind = draw.choices(["npy", "npz", "packed", "zarr", "other"], [6, 3, 3, 4, 0.2])[0]
        files = self._input(draw, kind)
        command = draw.choices(["project", "pack", "info"], [6, 3, 2])[0]
        arguments = ARGUMENTS[command](draw, kind)
        stdin = b""
        if arguments[1:] and draw.random() < 0.08 and "x" in files:
            stdin = files["x"]
            arguments = ["-" if argument == "x" else argument for argument in arguments]
        if draw.random() < 0.07:
            arguments = spoiled(draw, arguments)
        made = Case(arguments, files, stdin)
        if draw.random() < 0.5:
            made.sizes = {"cli._plan.TILE_BYTES": 5 * 64 * 4, "_memory.PIECE_BYTES": draw.choice([1, 1000])}
        if command == "project" and draw.random() < 0.15:
            made.stopped = draw.choice([1, 1, 2, 3])
            made.damage = draw.randrange(10**6) if draw.random() < 0.6 else None
        return made

    def _input(self, draw: random.Random, kind: str) -> dict[str, bytes]:
        """Return the files that "x" consists of: x, or those below x/."""
        if kind == "zarr":
            files = dict(draw.choice(self.corpus["zarr"]))
            for _ in range(draw.choice([0, 0, 1, 1, 2])):
                spoil_zarr(draw, files)
            return {f"x/{name}": content for name, content in files.items()}
        content: bytes = draw.choice(self.corpus[kind])
        for _ in range(draw.choice([0, 0, 0, 1, 1, 2])):
            if kind == "npy" and draw.random() < 0.7:
                content = other_header(draw, content)
            elif kind == "npz" and draw.random() < 0.6:
                content = other_archive(draw, content)
            else:
                content = spoiled_bytes(draw, content, draw.choice(self.corpus[draw.choice(["npy", "npz", "packed"])]))
        return {"x": content}


# Valid files


def corpus() -> dict[str, list[Any]]:
    """Return valid files by kind, and some that are none."""
    found: dict[str, list[Any]] = {"npy": [], "npz": [], "packed": [], "zarr": [], "other": []}
    generator = np.random.default_rng(0)
    arrays = []
    for shape in SHAPES:
        ternary = generator.integers(-1, 2, shape)
        for code in DTYPES[:11]:
            dtype = np.dtype(code)
            whole = abs(ternary) if dtype.kind in "bu" else ternary
            arrays.append(whole.astype(dtype))
        arrays.append(generator.standard_normal(shape).astype(np.float32))
        opuproj.pack(ternary).save(path := Path(tempfile.mkstemp()[1]))
        found["packed"].append(path.read_bytes())
        path.unlink()
    for array in arrays:
        for order, version in (("C", (1, 0)), ("F", (1, 0)), ("C", (2, 0))):
            file = io.BytesIO()
            np.lib.format.write_array(file, np.asarray(array, order=order), version)  # type: ignore[call-overload]
            found["npy"].append(file.getvalue())
    for save in (np.savez, np.savez_compressed):
        for k in range(0, len(arrays), 7):
            for members in ({"a": arrays[k]}, {"a": arrays[k], "b": arrays[k - 1], "c": np.asfortranarray(arrays[k])}):
                file = io.BytesIO()
                save(file, **members)
                found["npz"].append(file.getvalue())
    found["zarr"] = zarr_folders(arrays)
    found["other"] = [b"", b"hello", bytes(1000), b"\x89PNG\r\n\x1a\n" + bytes(50), b"\x80\x04K\x01."]
    return found


def zarr_folders(arrays: list[Any]) -> list[dict[str, bytes]]:
    """Return Zarr arrays of both formats, with and without compression and shards, as the files they consist of."""
    try:
        import zarr
    except ImportError:
        return [{"zarr.json": b"{}"}]
    made = []
    for k, array in enumerate(array for array in arrays if 1 <= array.ndim <= 3 and array.dtype.char != "g"):
        chunks = tuple(max(1, size // (1 + k % 3)) for size in array.shape)
        more: dict[str, Any] = [{}, {"compressors": None}, {"zarr_format": 2}][k % 3]
        if k % 4 == 1 and "zarr_format" not in more and array.size:
            more["shards"] = tuple(2 * size for size in chunks)
        with tempfile.TemporaryDirectory() as folder:
            stored = zarr.create_array(folder, shape=array.shape, chunks=chunks, dtype=array.dtype, **more)
            if array.size:
                stored[...] = array
            paths = [path for path in Path(folder).rglob("*") if path.is_file()]
            made.append({str(path.relative_to(folder)): path.read_bytes() for path in paths})
    return made


# What is done to bytes


def spoiled_bytes(draw: random.Random, content: bytes, other: bytes) -> bytes:
    """Cut, extend, flip, splice or overwrite."""
    data = bytearray(content)
    place = draw.randrange(len(data) + 1)
    if draw.random() < 0.5:
        place = min(place, draw.randrange(200))
    length = draw.choice([1, 2, 8, 64, len(data) // 2])
    way = draw.randrange(8)
    if way == 0:
        del data[place:]
    elif way == 1:
        data += draw.choice([bytes(length), draw.randbytes(length), other])
    elif way == 2 and data:
        for _ in range(draw.choice([1, 1, 3, 8])):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif way == 3:
        data[place:] = other[place:]
    elif way == 4:
        del data[place : place + length]
    elif way == 5:
        data[place:place] = data[place : place + length]
    elif way == 6:
        number = draw.choice(EDGES) % 2**64
        place = place // 8 * 8
        data[place : place + 8] = number.to_bytes(8, "little")
    else:
        data[place : place + 2] = draw.choice(EDGES).to_bytes(16, "little", signed=True)[: draw.choice([1, 2, 4])]
    return bytes(data)


# .npy


def other_header(draw: random.Random, content: bytes) -> bytes:
    """Write another dictionary, or another frame around it, and mostly as much data as it promises."""
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except Exception:
        return spoiled_bytes(draw, content, content)
    data = file.read()
    header: dict[Any, Any] = {"descr": dtype.str, "fortran_order": fortran, "shape": shape}
    way = draw.randrange(7)
    if way == 0:
        header["descr"] = draw.choice(
            [
                *DTYPES,
                "<f16",
                "<f3",
                "|b1",
                "=i4",
                "f4",
                "",
                "<f4,<f4",
                ("<f4", (2,)),
                [("a", "<f4")],
                [("a", "|O")],
                [],
                None,
                5,
                "(2,)f4",
                "i0",
                "U0",
                "V0",
                "i1" * 50,
            ]
        )
    elif way == 1:
        header["fortran_order"] = draw.choice([True, False, not fortran, 1, None, "no"])
    elif way == 2:
        header["shape"] = other_shape(draw, shape)
    elif way == 3:
        header["shape"] = tuple(draw.choice([shape[::-1], (1, *shape), (*shape, 1), (*shape[:-1], 1, *shape[-1:])]))
    elif way == 4:
        header[draw.choice(["more", 1, "descr ", None])] = 1
    elif way == 5:
        header.pop(draw.choice(["descr", "fortran_order", "shape"]))
    text = repr(header)
    if draw.random() < 0.15:
        text = draw.choice(
            [
                text + "\x00",
                text.replace("'", '"'),
                text + "#",
                "[" * 200,
                text.replace("(", "((", 1),
                f"dict({text})",
                text.replace(")", "L)"),
                "{" + "'a':1," * 3000 + "}",
                " " * 9000 + text,
                "\t" + text,
            ]
        )
    if draw.random() < 0.7:
        data = fitting(draw, header, data)
    return framed(draw, text, version) + data


def other_shape(draw: random.Random, shape: tuple[int, ...]) -> Any:
    sizes: list[Any] = list(shape)
    if sizes and draw.random() < 0.7:
        sizes[draw.randrange(len(sizes))] = draw.choice([*EDGES, -5, 1.0, True, "3", None, draw.randrange(100)])
        return tuple(sizes)
    return draw.choice(
        [(), 5, [2, 3], None, (1,) * 33, (2,) * 64, (0,) * 5, tuple(draw.choices(EDGES, k=3)), (0, 2**40)]
    )


def fitting(draw: random.Random, header: dict[Any, Any], data: bytes) -> bytes:
    """Return as much data as a header promises, if that is little."""
    try:
        dtype = np.dtype(header["descr"])
        needed = dtype.itemsize * int(np.prod([int(size) for size in header["shape"]], dtype=object))
    except Exception:
        return data
    if not 0 <= needed <= 200_000:
        return data
    if dtype.kind in "iuf" and draw.random() < 0.7:
        return np.array([draw.choice([0, 1, 1]) for _ in range(needed // max(1, dtype.itemsize))], dtype).tobytes()
    return (data * (needed // max(1, len(data)) + 1))[:needed] if data else bytes(needed)


def framed(draw: random.Random, text: str, version: tuple[int, int]) -> bytes:
    """Put magic, version and length before a header."""
    version = draw.choice([version] * 8 + [(1, 0), (2, 0), (3, 0), (4, 0), (1, 1), (0, 0)])
    code = "<H" if version[0] == 1 else "<I"
    raw = text.encode("latin1" if version[0] < 3 else "utf8", "replace")
    raw += b" " * (draw.choice([0, -(len(raw) + 11) % 64, 1])) + b"\n"
    length = len(raw) if draw.random() < 0.93 else draw.choice([0, 1, 10**9, len(raw) - 2, len(raw) + 70])
    return b"\x93NUMPY" + bytes(version) + struct.pack(code, length % 2 ** (8 * struct.calcsize(code))) + raw


# .npz


def other_archive(draw: random.Random, content: bytes) -> bytes:
    """Write the members again, some of them changed, with other names or by other methods."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:
        return spoiled_bytes(draw, content, content)
    file = io.BytesIO()
    methods = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    with zipfile.ZipFile(file, "w", draw.choice(methods)) as archive:
        for name, data in members:
            if draw.random() < 0.1:
                continue
            changed = other_header(draw, data) if draw.random() < 0.4 else data
            renamed = draw.choice(
                ["../a.npy", "/a.npy", ".npy", "a.txt", "a/b.npy", "é.npy", "a\nb.npy", "a" * 300 + ".npy", "folder/"]
            )
            archive.writestr(zipfile.ZipInfo(renamed if draw.random() < 0.2 else name), changed)
        if draw.random() < 0.1:
            archive.comment = draw.randbytes(20)
    return file.getvalue()


# Zarr


def spoil_zarr(draw: random.Random, files: dict[str, bytes]) -> None:
    """Change metadata, a chunk, or which files there are."""
    documents = [name for name in files if name.endswith((".json", ".zarray", ".zattrs", ".zgroup"))]
    chunks = sorted(set(files) - set(documents))
    way = draw.random()
    if way < 0.65 and documents:
        name = draw.choice(sorted(documents))
        try:
            files[name] = json.dumps(other_json(draw, json.loads(files[name]))).encode()
        except (ValueError, RecursionError):
            files[name] = spoiled_bytes(draw, files[name], b"{}")
    elif way < 0.7 and documents:
        name = draw.choice(sorted(documents))
        files[name] = draw.choice(
            [
                b"",
                b"[",
                b"null",
                b"[]",
                b"[" * 100_000,
                b"\xff\xfe",
                b'{"a":' + b"9" * 5000 + b"}",
                spoiled_bytes(draw, files[name], b"{}"),
            ]
        )
    elif way < 0.95 and chunks:
        name = draw.choice(chunks)
        files[name] = spoiled_bytes(draw, files[name], files[draw.choice(chunks)])
    elif chunks:
        name = draw.choice(chunks)
        files[f"{name}/inside"] = files.pop(name)  # a folder in the place of a chunk
    else:
        files["zarr.json"] = b"{}"


def other_json(draw: random.Random, document: Any) -> Any:
    """Change one value of a document, wherever it stands."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    if not isinstance(document, dict | list):
        return {}
    walk(document)
    if not places:
        return draw.choice([[], {"zarr_format": 3}, {"zarr_format": 3, "node_type": "array"}])
    node, key = draw.choice(places)
    old = node[key]
    # No arrays of many absent chunks: they are valid, and as slow as they are large.
    numbers = [0, 1, -1, 2, 3, 5, 64, 100, 2**62, 2**63, 2**64, 10**30, 1.5, True, "1", None]
    other = [
        "bytes",
        "zstd",
        "gzip",
        "blosc",
        "crc32c",
        "transpose",
        "sharding_indexed",
        "vlen-utf8",
        "little",
        "big",
        "NaN",
        "Infinity",
        "int8",
        "uint8",
        "float32",
        "float64",
        "int64",
        "bool",
        "complex64",
        "string",
        "|O",
        "<f4",
        "|b1",
        "C",
        "F",
        "regular",
        "rectangular",
        "default",
        "v2",
        ".",
        "/",
        "array",
        "group",
        "",
        "r16",
        "../x",
        0,
        -1,
        1,
        2,
        3,
        None,
        True,
        {},
        [],
    ]
    if draw.random() < 0.15:
        del node[key]
    elif isinstance(old, int | float) and draw.random() < 0.8:
        node[key] = draw.choice(numbers)
    elif isinstance(old, list) and draw.random() < 0.6:
        node[key] = draw.choice([[], old[::-1], old + old, old[:1], [*old, 1], [*old, 0]])
    else:
        node[key] = draw.choice(other)
    return document


# Command lines

ROWS = ["0:1", "1:", ":", ":3", "0:0", "0:1"]
CAMERAS = ["lighton", "ideal", "bits=8", "bits=10,photons=300", "lighton,bits=10", "read_noise=0.1", "frames=2"]
DTYPES_OF = {
    "complex": ["complex64", "complex128"],
    "intensity": ["float32", "float64"],
    "linear": ["float64"],
    "real": ["float64"],
}
# What is refused, or should be.
HOSTILE = {
    "--rows": ["5:2", "-3:-1", ":-1", "1:999999999999", "a:b", "1", "1:2:3", "１:２", "2:5"],
    "--camera": [
        *("bits=99", "photons=-1", "photons=inf", "photons=nan", "bits=", "=", ",", "ideal,bits=3", "bits=8,bits=9"),
        *("photons=1e400", "bits=1_0", "photons=1e-300", "read_noise=1e300", "full_scale=1e-300,bits=8", "a=b"),
        *("lighton,photons=none", "exposure=1e300", "exposure=-1", "dark_floor=1", "anchors=0", "frames=0"),
    ],
    "--mode": ["phase", "linear", "complex", "real"],
    "--dtype": ["float32", "float64", "complex64", "complex128", "uint8", "uint16", "int8"],
    "--checkpoint": ["1e-300", "-1", "nan"],
    "--threshold": ["0", "1", "-1", "nan", "inf", "1e-320", "1e400", "1e-400"],
    "--relative": ["0", "1", "-1", "nan", "inf", "1e-320", "1e400", "1.5"],
    "--scale": ["row", "global", "all"],
    "--member": ["a", "b", *TEXTS],
}


def option(draw: random.Random, share: float, name: str, usual: list[Any]) -> list[str]:
    """Return an option in this share of cases, now and then with a value that makes no sense."""
    if draw.random() >= share:
        return []
    if draw.random() < 0.95:
        return [name, str(draw.choice(usual))]
    return [name, str(draw.choice(HOSTILE.get(name, [*EDGES, *TEXTS])))]


def out_name(draw: random.Random, usual: list[str]) -> str:
    return draw.choice(usual if draw.random() < 0.9 else NAMES)


def project(draw: random.Random, kind: str) -> list[str]:
    made = ["project", "x", out_name(draw, ["y.npy", "y.npy", "y.zarr", "-"])]
    made += option(draw, 1, "--outputs", [1, 5, 63, 64, 65, 150, 300])
    made += option(draw, 0.4, "--seed", [0, 1, 7, 2**64 - 1])
    mode = option(draw, 0.6, "--mode", ["intensity", "linear", "complex", "real"])
    made += mode + option(draw, 0.2, "--rows", ROWS)
    made += option(draw, 0.02 if kind == "packed" else 0.5, "--digits", [1, 2, 3, 5, 20])
    made += option(draw, 0.2, "--n-anchor", [1, 16, 64, 1000])
    if not {"complex", "real"} & {*mode} and "--digits" not in made:
        camera = option(draw, 0.3, "--camera", CAMERAS)
        made += camera
        made += (
            option(draw, 0.5, "--noise-seed", [0, 1, 2**64 - 1]) if {"lighton", "read_noise=0.1"} & {*camera} else []
        )
    made += option(draw, 0.35, "--dtype", DTYPES_OF.get(mode[-1] if mode else "intensity", ["uint8"]))
    made += option(draw, 0.8 if kind == "npz" else 0.02, "--member", ["a"])
    made += option(draw, 0.1, "--threads", [1, 2, 3])
    made += option(draw, 0.4, "--batch-rows", [1, 5, 7, 100])
    made += option(draw, 0.4, "--checkpoint", [0, 0, 1, "inf"])
    return made + (["--restart"] if draw.random() < 0.1 else [])


def pack(draw: random.Random, kind: str) -> list[str]:
    made = ["pack", "x", out_name(draw, ["y"])]
    rule = option(draw, 0.02 if kind == "packed" else 0.7, draw.choice(["--threshold", "--relative"]), [0.5, 0.25])
    made += [*rule, *option(draw, 0.5 if "--relative" in rule else 0.02, "--scale", ["row", "global"])]
    return made + option(draw, 0.8 if kind == "npz" else 0.02, "--member", ["a"])


def info(draw: random.Random, kind: str) -> list[str]:
    made = ["info"] if draw.random() < 0.03 else ["info", "x"]
    made += ["--json"] if draw.random() < 0.7 else []
    return made + option(draw, 0.8 if kind == "npz" else 0.02, "--member", ["a"])


ARGUMENTS: dict[str, Callable[[random.Random, str], list[str]]] = {"project": project, "pack": pack, "info": info}


def spoiled(draw: random.Random, arguments: list[str]) -> list[str]:
    """Leave out, repeat, exchange or put in an argument."""
    made = list(arguments)
    place = draw.randrange(1, len(made)) if len(made) > 1 else 0
    way = draw.randrange(4)
    if way == 0:
        del made[place]
    elif way == 1:
        made.insert(place, draw.choice(made))
    elif way == 2:
        made.insert(place, draw.choice([*TEXTS, *NAMES[:9]]))
    else:
        made[place] = draw.choice([*TEXTS, *NAMES[:9]])
    return made


def spoiled_state(draw: random.Random, state: bytes) -> bytes:
    """Change what an unfinished run says of itself."""
    if draw.random() < 0.3:
        return spoiled_bytes(draw, state, b"{}")
    document = json.loads(state)
    if draw.random() < 0.6:
        document[draw.choice(["tiles", "rows", "columns", "noise", "complete", "request"])] = draw.choice(
            [*EDGES, 1.5, None, "1", [], {}, True]
        )
        return json.dumps(document).encode()
    return json.dumps(other_json(draw, document)).encode()
