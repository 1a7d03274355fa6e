"""Measure a part of a peer's outputs, where all would take too long."""

from __future__ import annotations

from benches.inputs import Ternary
from benches.peers.base import Peer
from benches.setting import Setting
from benches.timing import seconds

MOST_HALVINGS = 8  # the smallest share of the outputs is 1 / 2⁸; an int8 product may be that slow


def affordable(peer: Peer, x: Ternary, n_outputs: int, at: Setting) -> tuple[Peer, float]:
    """Return the peer of a share of the outputs whose call is short enough, and that share."""
    for halvings in range(MOST_HALVINGS, 0, -1):
        outputs = max(1, n_outputs >> halvings)
        part = peer.first(x.shape[1], outputs)
        if part is None:
            break
        if 2 * seconds(part.multiply(x)) > at.call_seconds:
            return part, outputs / n_outputs
    return peer, 1.0


def note(part: float) -> str:
    """Return what a table says of a time that was measured on this share of the outputs."""
    return "" if part == 1 else f" (from {part:.2g} of the outputs)"
