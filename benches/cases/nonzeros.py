"""Vectors with few nonzeros: against dense ones, and against filling their result."""

from __future__ import annotations

from functools import partial

import numpy as np

from benches import inputs
from benches.call import Call
from benches.result import Result, duration
from benches.setting import Setting
from benches.timing import alternate


def vector(at: Setting) -> Result:
    """One vector with 1 % nonzeros, against a dense one."""
    dense = Call(at, inputs.dense(1, 1_000_000), 100_000, "complex")
    sparse = Call(at, inputs.sparse(1, 1_000_000, 0.01), 100_000, "complex", whole=True)
    return _against_dense(sparse, dense)


def batch(at: Setting) -> Result:
    """256 vectors with 10 % nonzeros, against dense ones."""
    dense = Call(at, inputs.dense(256, 10_000), 20_000, "complex")
    sparse = Call(at, inputs.sparse(256, 10_000, 0.1), 20_000, "complex", whole=True)
    return _against_dense(sparse, dense)


def errors_against_dense(at: Setting) -> Result:
    """256 token errors, against dense vectors."""
    dense = Call(at, inputs.dense(256, 50_257), 100_000, "linear")
    errors = Call(at, inputs.token_errors(256, 50_257), 100_000, "linear", whole=True)
    return _against_dense(errors, dense)


def errors_against_fill(at: Setting) -> Result:
    """256 token errors, against NumPy filling the result."""
    errors = Call(at, inputs.token_errors(256, 50_257), 100_000, "linear", whole=True)
    filled = np.empty((256, 100_000), dtype=np.float32)
    rounds = alternate({"fill": partial(filled.fill, 1.0), "errors": errors.run}, budget=at.budget)
    return Result(
        figure=duration(rounds.median("errors")),
        against=f"{duration(rounds.median('fill'))} to fill",
        ratio=rounds.ratio("errors", "fill"),
    )


def _against_dense(sparse: Call, dense: Call) -> Result:
    rounds = alternate({"dense": dense.run, "sparse": sparse.run}, budget=dense.at.budget)
    return Result(
        figure=duration(rounds.median("sparse")),
        against=f"{duration(rounds.median('dense') * dense.scale)} dense{dense.note}",
        ratio=rounds.ratio("dense", "sparse") * dense.scale,
    )
