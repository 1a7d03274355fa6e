"""Which parameters each block trains, by the graph of the first pass, and which parameters nothing trains."""

from __future__ import annotations

import warnings

import torch

from ._graph import leaves
from ._pass import Pass

_MAX_LISTED = 5


class TrainedParameters:
    """The parameters that the blocks train, by name. Copies of the model have the same names.

    Attributes
    ----------
    names : dict of str to frozenset of str
        The parameters that each block trains, which may lie outside its module.
    unlisted : frozenset of str
        Blocks that train parameters which the model does not list, because ``fully_shard`` replaced them.
    unfed : tuple of str
        Parameters that only outputs without feedback depend on.
    """

    def __init__(self) -> None:
        self.names: dict[str, frozenset[str]] = {}
        self.unlisted: frozenset[str] = frozenset()
        self.unfed: tuple[str, ...] = ()
        self._n_trained = -1
        self._warned: tuple[str, ...] = ()

    def update(self, model: torch.nn.Module, current: Pass, output: torch.Tensor | None) -> bool:
        """Read the graph of the first pass that has one, and again when the number of trained parameters changes.

        Return whether it was the first. `output` is the tensor where the error is taken, if this rank takes it.
        """
        ends = [tensor for end in current.blocks.values() for tensor in end.tensors]
        n_trained = sum(p.requires_grad for p in model.parameters())  # parameters may be unfrozen later
        if n_trained == self._n_trained or not ends:
            return False
        first, self._n_trained = self._n_trained < 0, n_trained
        names = {id(p): name for name, p in model.named_parameters()}
        behind = {
            name: {leaf for tensor in current.blocks[name].before_hooks for leaf in leaves(tensor)}
            for name in current.trainable
        }
        self.unlisted = frozenset(
            name for name, found in behind.items() if any(_is_parameter(p) and id(p) not in names for p in found)
        )
        above = [] if output is None else leaves(output, ends)
        reached = {id(p) for found in (*behind.values(), above) for p in found}
        unfed = [p for end in current.blocks.values() for tensor in end.unfed for p in leaves(tensor)]
        self.unfed = tuple(dict.fromkeys(names[id(p)] for p in unfed if id(p) in names and id(p) not in reached))
        self.names = {name: frozenset(names[id(p)] for p in found if id(p) in names) for name, found in behind.items()}
        return first

    def warn_of_unfed(self) -> None:
        """Warn once of parameters that get neither feedback nor a gradient."""
        if self.unfed in ((), self._warned):
            return
        self._warned = self.unfed
        more = len(self.unfed) - _MAX_LISTED
        shown = ", ".join(map(repr, self.unfed[:_MAX_LISTED])) + (f" and {more} more" if more > 0 else "")
        warnings.warn(
            f"parameters {shown} are not trained: only outputs of a block after its first floating-point one depend on "
            "them, and these get no feedback. Pass feed='all' to give feedback to all outputs of the blocks",
            stacklevel=2,
        )


def nothing_above(model: torch.nn.Module, current: Pass, output: torch.Tensor) -> bool:
    """Whether no parameter lies between the blocks' outputs and the model's output."""
    listed = {id(p) for p in model.parameters()}
    ends = [tensor for end in current.blocks.values() for tensor in end.tensors]
    return not any(id(p) in listed or _is_parameter(p) for p in leaves(output, ends))


def _is_parameter(leaf: torch.Tensor) -> bool:
    return isinstance(leaf, torch.nn.Parameter)
