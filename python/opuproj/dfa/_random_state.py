"""The states of the random number generators that a model may use."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch


class RandomState:
    """The states of Python's and NumPy's generators and, if wanted, PyTorch's at this moment.

    Parameters
    ----------
    devices : iterable of torch.device, optional
        The GPUs whose generators belong to it, besides PyTorch's on the CPU. By default PyTorch's are left out.
    """

    def __init__(self, devices: Iterable[torch.device] | None = None) -> None:
        self._python, self._numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (what models use)
        self._torch = None if devices is None else torch.get_rng_state()
        self._gpus = {device: torch.cuda.get_rng_state(device) for device in devices or ()}

    def restore(self) -> None:
        """Set all these generators back to their states."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)  # noqa: NPY002
        if self._torch is not None:
            torch.set_rng_state(self._torch)
        for device, state in self._gpus.items():
            torch.cuda.set_rng_state(state, device)


@contextmanager
def random_state_restored() -> Iterator[None]:
    """Restore Python's and NumPy's generators at the end."""
    state = RandomState()
    try:
        yield
    finally:
        state.restore()
