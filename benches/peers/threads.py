"""How many threads the libraries under the peers compute with."""

from __future__ import annotations

from importlib.util import find_spec


def torch_threads(threads: int) -> None:
    """Let PyTorch use this many threads."""
    import torch

    torch.set_num_threads(threads)


def use(threads: int) -> None:
    """Let PyTorch and the BLAS of NumPy and SciPy use this many threads, as far as they are installed.

    That of BLAS is set by threadpoolctl, which scikit-learn brings; without it, BLAS chooses.
    """
    if find_spec("torch") is not None:
        torch_threads(threads)
    if find_spec("threadpoolctl") is not None:
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads, user_api="blas")
