"""Compare opuproj with each peer: the same x, in one run, with one peer's matrix in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from benches import inputs, machine
from benches.call import Call
from benches.peers import threads
from benches.peers.base import Peer
from benches.result import duration, size
from benches.setting import Setting
from benches.timing import alternate, seconds, timed

N_INPUTS, N_OUTPUTS = 10_000, 10_000
BATCHES = (1, 256)


@dataclass(frozen=True)
class Standing:
    """The times of a peer and of opuproj for one product, and the peer's memory and building time."""

    peer: str
    mode: str
    stored_bytes: int
    build_seconds: float
    batch: int
    peer_seconds: float
    opuproj_seconds: float
    ratio: float  # the peer's time divided by opuproj's
    part: float = 1.0  # the share of outputs that the peer computed; its seconds are for all outputs

    def cells(self) -> tuple[str, ...]:
        """Return a row of the table whose header is `HEAD`."""
        note = "" if self.part == 1 else f" (from {self.part:.2g} of the outputs)"
        return (
            self.peer,
            size(self.stored_bytes) if self.stored_bytes else "nothing",
            duration(self.build_seconds),
            f"{self.batch}",
            duration(self.peer_seconds) + note,
            f"{duration(self.opuproj_seconds)} {self.mode}",
            f"{self.ratio:.3g}",
        )


HEAD = ("peer", "stores", "to build", "batch", "peer", "opuproj", "peer / opuproj")


def against(
    peer: type[Peer],
    at: Setting,
    n_inputs: int = N_INPUTS,
    n_outputs: int = N_OUTPUTS,
    batches: tuple[int, ...] = BATCHES,
) -> Iterator[Standing]:
    """Compare with one peer, batch by batch; raises UnavailableError if it cannot run."""
    peer.check(n_inputs, n_outputs)
    threads.use(at.threads)
    with machine.forced(at.isa):
        built, build_seconds = timed(partial(peer.build, n_inputs, n_outputs))
        for batch in batches:
            x = inputs.dense(batch, n_inputs)
            call = Call(at, x, n_outputs, peer.mode)
            measured, part = _affordable(built, x, n_outputs, at)
            rounds = alternate({"peer": measured.multiply(x), "opuproj": call.run}, budget=at.budget / 2)
            yield Standing(
                peer=peer.name,
                mode=peer.mode,
                stored_bytes=peer.stored_bytes(n_inputs, n_outputs),
                build_seconds=build_seconds,
                batch=batch,
                peer_seconds=rounds.median("peer") / part,
                opuproj_seconds=rounds.median("opuproj") * call.scale,
                ratio=rounds.ratio("peer", "opuproj") / part / call.scale,
                part=part,
            )


def _affordable(built: Peer, x: inputs.Ternary, n_outputs: int, at: Setting) -> tuple[Peer, float]:
    """Return the peer, or one that generates a part of the outputs if all would take too long."""
    if not built.generates:
        return built, 1.0
    n_inputs = x.shape[1]
    trial = max(1, n_outputs // 16)
    few = type(built).build(n_inputs, trial)
    took = seconds(few.multiply(x))
    affordable = int(trial * at.call_seconds / took)
    if affordable >= n_outputs:
        return built, 1.0
    affordable = max(trial, affordable)
    return type(built).build(n_inputs, affordable), affordable / n_outputs
