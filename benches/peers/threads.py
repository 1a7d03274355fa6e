"""The number of threads of the peers' libraries."""

from __future__ import annotations

from importlib.util import find_spec


def torch_threads(threads: int) -> None:
    """Let PyTorch use this many threads."""
    import torch

    torch.set_num_threads(threads)


def use(threads: int) -> None:
    """Let PyTorch and the BLAS of NumPy and SciPy use this many threads, as far as they are installed.

    threadpoolctl, which scikit-learn installs, sets that of BLAS; without it, BLAS chooses.
    """
    if find_spec("torch") is not None:
        torch_threads(threads)
    if find_spec("threadpoolctl") is not None:
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads, user_api="blas")
