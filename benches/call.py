"""The timed call of opuproj: it includes packing x and writes into an existing result."""

from __future__ import annotations

import numpy as np
import opuproj
from numpy.typing import NDArray

from benches.setting import Mode, Setting
from benches.timing import Work, seconds


class Call:
    """One call of `opuproj.project`, on the instruction set that is forced or chosen when it runs.

    If the call would last longer than the setting allows, it computes fewer outputs; with dense input the time is
    proportional to their number. `scale` is the omitted factor, and `note` says so.
    """

    def __init__(
        self,
        at: Setting,
        x: NDArray[np.int8] | NDArray[np.float32],
        n_outputs: int,
        mode: Mode,
        *,
        whole: bool = False,
        camera: opuproj.Camera | None = None,
        digits: int | None = None,
    ):
        self.at = at
        self.camera, self.digits = camera, digits
        self.x = x
        self.mode = mode
        self.n_outputs = n_outputs
        if not whole:
            self.n_outputs = self._affordable(n_outputs)
        self.scale = n_outputs / self.n_outputs
        self.note = "" if self.scale == 1 else f" (from {self.n_outputs:,} of the outputs)"
        self.run = self.with_threads(at.threads)

    @property
    def components(self) -> int:
        """Real components of T in x's columns, one byte of keystream each."""
        return (1 if self.mode == "real" else 2) * int(self.x.shape[-1]) * self.n_outputs

    @property
    def multiply_adds(self) -> int:
        """Real multiply-adds of one call, one per component and vector."""
        return self.components * len(self.x)

    def with_threads(self, threads: int) -> Work:
        """Return the call on this many threads."""
        return self._work(self.n_outputs, threads)

    def _work(self, n_outputs: int, threads: int) -> Work:
        out = np.zeros((len(self.x), n_outputs), dtype=np.complex64 if self.mode == "complex" else np.float32)

        def run() -> None:
            opuproj.project(
                self.x, n_outputs, mode=self.mode, digits=self.digits, camera=self.camera, out=out, threads=threads
            )

        return run

    def _affordable(self, n_outputs: int) -> int:
        trial = min(n_outputs, max(1024, n_outputs // 64))
        took = seconds(self._work(trial, self.at.threads))
        affordable = int(trial * self.at.call_seconds / took)
        return n_outputs if affordable >= n_outputs else max(trial, affordable // 1000 * 1000)
