"""A model in parts on several ranks: they agree on the rows of T once, then share one packed error for each pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from .. import _core
from ..camera import Camera
from ..ternary import TernaryBatch
from ..torch._dtypes import BY_NAME, name_of
from ..torch._ranks import Ranks
from ._error import Error, FloatError, TernaryError, float_error


class Pipeline:
    """The ranks of a model that is divided over them, in the order of its blocks. The last one takes the error."""

    def __init__(self, group: Any) -> None:
        self.ranks = Ranks(group)
        self.last = self.ranks.size - 1
        self.agreed = False

    @property
    def is_last(self) -> bool:
        """Whether this rank takes the error."""
        return bool(self.ranks.rank == self.last)

    @property
    def rank_text(self) -> str:
        """The number of this rank, for messages."""
        return f"rank {self.ranks.rank} of {self.ranks.size}"

    def agree(self, mine: Mapping[str, Any]) -> dict[str, Any]:
        """Exchange what each rank knows of the model; return all of it. If ranks disagree, all raise the same error.

        `mine` has this rank's block shapes, gains and axes of vectors by block names, the shape of the error and the
        module where it is taken (on the last rank), and `alike`: values that must be the same on all ranks.
        """
        all_ranks = self.ranks.all_gather_objects(dict(mine), "agreeing on the blocks' rows of T")
        self.agreed = True
        for rank, theirs in enumerate(all_ranks):
            for name, value in theirs["alike"].items():
                expected = all_ranks[0]["alike"][name]
                if value != expected:
                    raise ValueError(f"{name} is {value!r} on rank {rank}, but {expected!r} on rank 0")
        shapes: dict[str, Any] = {}
        gains: dict[str, float] = {}
        dims: dict[str, int] = {}
        for rank, theirs in enumerate(all_ranks):
            twice = next((name for name in theirs["shapes"] if name in shapes), None)
            if twice is not None:
                raise ValueError(
                    f"block {twice!r} of rank {rank} has the same name as a block of another rank: use the names in "
                    "the whole model, as in blocks={'layers.7': module}"
                )
            shapes.update(theirs["shapes"])
            gains.update(theirs["gains"])
            dims.update(theirs["batch_dims"])
        if not shapes:
            raise ValueError("no rank has a block to train")
        end = all_ranks[self.last]
        return {
            "shapes": shapes,
            "gains": gains,
            "batch_dims": dims,
            "error": end["error"],
            "output": end["output"],
        }

    def send(self, error: Error) -> None:
        """Send an error from the last rank to all others: a ternary error as bits, another as floats."""
        content = error.content
        bits = content.batch.to("cpu")._packed.to_bytes() if isinstance(content, TernaryError) else b""
        if isinstance(content, TernaryError):
            numbers = content.factors
        else:
            numbers = torch.where(content.finite, content.numbers, torch.nan)
        meta = {
            "number": error.number,
            "shape": error.shape,
            "scale": error.scale,
            "camera": None if error.camera is None else asdict(error.camera),
            "noise": content.noise_seed if isinstance(content, TernaryError) else None,
            "encoded": isinstance(content, FloatError) and bool(content.encoded),
            "ternary": isinstance(content, TernaryError),
            "bits": len(bits),
            "numbers": tuple(numbers.shape),
            "dtype": name_of(numbers.dtype),
        }
        data = bits + numbers.cpu().contiguous().numpy().tobytes()
        self.ranks.broadcast(self.last, "the broadcast of the error", meta, data)

    def send_failure(self, reason: BaseException) -> None:
        """Send the reason why this pass has no error to all other ranks."""
        self.ranks.broadcast(
            self.last, "the broadcast of the error", {"refused": f"{type(reason).__name__}: {reason}"}, b""
        )

    def receive(self) -> Error:
        """Return the error that the last rank sends."""
        meta, data = self.ranks.broadcast(self.last, "the broadcast of the error", None, b"")
        if "refused" in meta:
            raise RuntimeError(f"rank {self.last}, where the error is taken, sent none: {meta['refused']}")
        numbers = torch.empty(meta["numbers"], dtype=BY_NAME[meta["dtype"]])
        rest = np.frombuffer(data[meta["bits"] :], numbers.numpy().dtype)
        numbers.numpy()[...] = rest.reshape(numbers.shape)
        content: TernaryError | FloatError
        if meta["ternary"]:
            packed = _core.Packed.from_bytes(bytes(data[: meta["bits"]]))
            batch = TernaryBatch._of(packed, (packed.n_rows, packed.n_inputs))
            content = TernaryError(batch, numbers, meta["noise"])
        else:
            content = float_error(numbers, encoded=meta["encoded"])
        camera = None if meta["camera"] is None else Camera(**meta["camera"])
        return Error(meta["number"], tuple(meta["shape"]), meta["scale"], content, camera)
