"""Compare opuproj with each peer: the same x, in one run, with one peer's matrix in memory at a time.

A peer with a real matrix is compared with both modes that give a real projection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from benches import inputs, machine
from benches.call import Call
from benches.peers import threads
from benches.peers.base import Peer
from benches.peers.part import affordable, note
from benches.result import duration, size
from benches.setting import Setting
from benches.timing import Work, alternate, timed

N_INPUTS, N_OUTPUTS = 10_000, 10_000
BATCHES = (1, 256)


@dataclass(frozen=True)
class Standing:
    """The times of a peer and of opuproj's modes for one product, and the peer's memory and building time."""

    peer: str
    stored_bytes: int
    build_seconds: float
    batch: int
    peer_seconds: float
    opuproj_seconds: Mapping[str, float]  # of each mode
    ratios: Mapping[str, float]  # the peer's time divided by opuproj's, for each mode
    part: float = 1.0  # the share of outputs that the peer computed; its seconds are for all outputs

    def cells(self) -> tuple[str, ...]:
        """Return a row of the table whose header is `HEAD`."""
        return (
            self.peer,
            size(self.stored_bytes) if self.stored_bytes else "nothing",
            duration(self.build_seconds),
            f"{self.batch}",
            duration(self.peer_seconds) + note(self.part),
            ", ".join(f"{duration(took)} {mode}" for mode, took in self.opuproj_seconds.items()),
            ", ".join(f"{ratio:.3g}" for ratio in self.ratios.values()),
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
            calls = {mode: Call(at, x, n_outputs, mode) for mode in peer.modes}
            measured, part = affordable(built, x, n_outputs, at)
            works: dict[str, Work] = {"peer": measured.multiply(x)} | {mode: call.run for mode, call in calls.items()}
            rounds = alternate(works, budget=at.budget / 2)
            yield Standing(
                peer=peer.name,
                stored_bytes=peer.stored_bytes(n_inputs, n_outputs),
                build_seconds=build_seconds,
                batch=batch,
                peer_seconds=rounds.median("peer") / part,
                opuproj_seconds={mode: rounds.median(mode) * call.scale for mode, call in calls.items()},
                ratios={mode: rounds.ratio("peer", mode) / part / call.scale for mode, call in calls.items()},
                part=part,
            )
