"""Finds steps of an optimizer that would change blocks before any error reached them."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import torch

from ._trained import TrainedParameters


class StepGuard:
    """Counts forward passes and errors since the last step of an optimizer.

    Attributes
    ----------
    n_passes, n_errors : int
        Passes that need an error, and errors that came.
    """

    def __init__(self, model: torch.nn.Module, blocks: dict[str, torch.nn.Module]) -> None:
        self._model, self._blocks = model, blocks
        self.n_passes, self.n_errors = 0, 0
        self._hooks_ran = False
        self._lock = threading.Lock()
        # Gradients from before the feedback was attached: backpropagation's, rightly.
        self._old_gradients = [p.grad for p in model.parameters() if p.grad is not None]
        # Parameters by id, as optimizers have them: fully_shard removes them from the model during a forward pass.
        self._names_by_id: dict[int, tuple[weakref.ref[torch.Tensor], str]] = {}

    def note_hooks_ran(self) -> None:
        """Note that the model runs its hooks."""
        self._hooks_ran, self._old_gradients = True, []

    def count_pass(self) -> None:
        """Count a pass."""
        with self._lock:
            self.n_passes += 1

    def count_error(self) -> None:
        """Count an error."""
        with self._lock:
            self.n_errors += 1

    def blocks_without_error(
        self, optimizer: torch.optim.Optimizer, trained: TrainedParameters, *, feeding: bool
    ) -> tuple[list[str], str]:
        """Return the blocks that a step would change without feedback, and the reason if known; reset the counts.

        `feeding` says whether the blocks need an error at all.
        """
        parameters = {id(p) for group in optimizer.param_groups for p in group["params"]}
        with self._lock:
            seen, passes, errors = self._hooks_ran, self.n_passes, self.n_errors
            if passes == 0:
                self.n_errors = 0  # errors of a pass whose step was refused do not count for the next one
                if seen or not feeding:
                    return [], ""
        if passes == 0:
            return (list(self._blocks) if self._has_new_gradients(parameters) else []), (
                "the model has not run its hooks since feedback was attached, so the gradients are those of "
                "backpropagation. A model that was traced or exported before has no hooks: attach first"
            )
        stepped = self._stepped(parameters, trained)
        if not stepped:
            return [], ""
        with self._lock:
            self.n_passes = self.n_errors = 0
        return ([] if errors or not feeding else stepped), ""

    def _stepped(self, parameters: set[int], trained: TrainedParameters) -> list[str]:
        """Return the blocks that train any of the parameters with these ids."""
        named = set()
        for name, p in self._model.named_parameters():
            if id(p) in parameters:
                named.add(name)
                if id(p) not in self._names_by_id:
                    self._names_by_id[id(p)] = weakref.ref(p), name
        for number in parameters & self._names_by_id.keys():
            reference, name = self._names_by_id[number]
            if reference() is None:
                del self._names_by_id[number]
            else:
                named.add(name)
        return [
            name
            for name, block in self._blocks.items()
            if not named.isdisjoint(trained.names.get(name, ()))
            or any(id(p) in parameters for p in block.parameters())
            or (name in trained.unlisted and named)
        ]

    def _has_new_gradients(self, parameters: set[int]) -> bool:
        """Whether parameters of modules up to the last block have gradients that are new since the attachment."""
        modules = list(self._model.modules())
        inside = {id(module) for block in self._blocks.values() for module in block.modules()}
        last = max(i for i, module in enumerate(modules) if id(module) in inside)
        before = {id(gradient) for gradient in self._old_gradients}
        return any(
            id(p) in parameters and p.grad is not None and id(p.grad) not in before and bool(p.grad.any())
            for module in modules[: last + 1]
            for p in module.parameters(recurse=False)
        )

    # Each copy of a model has its own counts.

    def __getstate__(self) -> dict[str, Any]:
        return {"_model": self._model, "_blocks": self._blocks}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Most copies never run with gradients. Steps are checked only for those that have done so.
        self.n_passes, self.n_errors, self._hooks_ran, self._old_gradients, self._names_by_id = 0, 0, True, [], {}
        self._lock = threading.Lock()
