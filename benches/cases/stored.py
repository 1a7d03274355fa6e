"""Projections against PyTorch with a stored real matrix."""

from __future__ import annotations

from functools import lru_cache, partial

from benches import inputs
from benches.call import Call
from benches.peers.base import Peer
from benches.peers.part import affordable, note
from benches.peers.threads import torch_threads
from benches.peers.threads import use as use_threads
from benches.peers.torch_int8 import TorchInt8
from benches.peers.torch_stored import TorchBfloat16, TorchFloat32
from benches.result import Result, duration
from benches.setting import Mode, Setting
from benches.timing import alternate

DTYPES: dict[str, type[Peer]] = {"float32": TorchFloat32, "bfloat16": TorchBfloat16, "int8": TorchInt8}


def stored(at: Setting, batch: int, mode: Mode, dtypes: tuple[str, ...]) -> Result:
    """10⁴ → 2·10⁴: the time of the fastest of the stored dtypes over that of opuproj."""
    x = inputs.dense(batch, 10_000)
    call = Call(at, x, 20_000, mode)
    peers = {dtype: affordable(_built(dtype, 10_000, 20_000, at.threads), x, 20_000, at) for dtype in dtypes}
    rounds = alternate(
        {"opuproj": call.run} | {dtype: peer.multiply(x) for dtype, (peer, _) in peers.items()}, budget=at.budget
    )

    def whole(dtype: str) -> float:
        return rounds.median(dtype) / peers[dtype][1]

    fastest = min(peers, key=whole)
    part = peers[fastest][1]
    return Result(
        figure=duration(rounds.median("opuproj") * call.scale) + call.note,
        against=f"{duration(whole(fastest))} torch {fastest}{note(part)}",
        ratio=rounds.ratio(fastest, "opuproj") / part / call.scale,
    )


def small_matrix(at: Setting) -> Result:
    """10³ → 10³ "linear", batch 1: the time of opuproj over that of float32 on PyTorch's faster number of threads."""
    x = inputs.dense(1, 1000)
    call = Call(at, x, 1000, "linear")
    multiply = _built("float32", 1000, 1000, at.threads).multiply(x)

    def on_threads(threads: int) -> None:
        torch_threads(threads)
        multiply()

    on = {f"torch float32, threads: {n}": partial(on_threads, n) for n in sorted({1, at.threads})}
    rounds = alternate({"opuproj": call.run} | on, budget=at.budget)
    fastest = min(on, key=rounds.median)
    return Result(
        figure=duration(rounds.median("opuproj")),
        against=f"{duration(rounds.median(fastest))} {fastest}",
        ratio=rounds.ratio("opuproj", fastest),
    )


def _built(dtype: str, n_inputs: int, n_outputs: int, threads: int) -> Peer:
    """Return a stored matrix for PyTorch on this many threads; cached, because building it takes seconds."""
    use_threads(threads)
    return _kept(DTYPES[dtype], n_inputs, n_outputs)


@lru_cache(maxsize=len(DTYPES))
def _kept(peer: type[Peer], n_inputs: int, n_outputs: int) -> Peer:
    peer.check(n_inputs, n_outputs)
    return peer.build(n_inputs, n_outputs)
