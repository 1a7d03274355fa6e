"""Numbers the passes of a model on a GPU, also those that a CUDA graph runs again without Python."""

from __future__ import annotations

import torch


class PassNumbers:
    """The number of each pass, from which the ternary rule gets its places.

    The host numbers the passes that Python runs. Passes of a replayed graph are counted on the GPU, and the number of a
    pass is the sum of both counts. So the GPU holds two counts: of passes that were replayed, and of those of the host.
    """

    def __init__(self) -> None:
        self._counts: dict[torch.device, torch.Tensor] = {}

    def of(self, number: int, device: torch.device, *, captured: bool) -> torch.Tensor:
        """Return the number of a pass on a GPU: the host's `number`, and the passes that were replayed before.

        Raises
        ------
        RuntimeError
            If the pass is captured and none was run before, so that there are no counts.
        """
        counts = self._counts.get(device)
        if captured:
            if counts is None:
                raise RuntimeError(
                    "the first training step of a model with feedback is captured into a CUDA graph, but the graph "
                    "needs the counts of passes that a step makes: run one step before the capture"
                )
            counts[0].add_(1)
            return counts.sum() - 1
        if counts is None:
            counts = self._counts[device] = torch.zeros(2, dtype=torch.int64, device=device)
        counts[1].fill_(number + 1)
        return counts[0] + number

    def replayed(self) -> int:
        """Return the number of passes that were replayed, for which this waits for the GPUs."""
        return sum(int(counts[0]) for counts in self._counts.values())

    def restart(self, passes: int) -> None:
        """Continue as after this number of passes."""
        for counts in self._counts.values():
            counts[0].zero_()
            counts[1].fill_(passes)
