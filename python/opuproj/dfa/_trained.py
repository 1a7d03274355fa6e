"""What each block trains, as the graph of the first pass shows it, and what nothing trains."""

from __future__ import annotations

import warnings

import torch

from ._graph import leaves
from ._pass import Pass

_MAX_LISTED = 5


class TrainedParameters:
    """The parameters behind the ends of the blocks, by names that copies of the model share.

    Attributes
    ----------
    names : dict of str to frozenset of str
        The parameters that each block trains: not only what its module holds.
    unlisted : frozenset of str
        Blocks that train parameters which the model does not list, as ``fully_shard`` replaces its parameters.
    unfed : tuple of str
        Parameters that are reached only through outputs of blocks that are cut and not fed.
    """

    def __init__(self) -> None:
        self.names: dict[str, frozenset[str]] = {}
        self.unlisted: frozenset[str] = frozenset()
        self.unfed: tuple[str, ...] = ()
        self._n_trained = -1
        self._warned: tuple[str, ...] = ()

    def update(self, model: torch.nn.Module, current: Pass, output: torch.Tensor | None) -> bool:
        """Look at the first pass that has a graph, and again when the number of trained parameters changes.

        Return whether it is the first. `output` is where the error is taken, if that is on this rank.
        """
        ends = [tensor for end in current.blocks.values() for tensor in end.tensors]
        n_trained = sum(p.requires_grad for p in model.parameters())  # frozen ones may be freed later
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
        """Warn once of parameters that no feedback and no gradient reaches."""
        if self.unfed in ((), self._warned):
            return
        self._warned = self.unfed
        more = len(self.unfed) - _MAX_LISTED
        shown = ", ".join(map(repr, self.unfed[:_MAX_LISTED])) + (f" and {more} more" if more > 0 else "")
        warnings.warn(
            f"parameters {shown} train nowhere: they are reached only through outputs of a block after its first "
            "floating-point one, which are cut and not fed. Pass feed='all' to feed all outputs of the blocks",
            stacklevel=2,
        )


def nothing_above(model: torch.nn.Module, current: Pass, output: torch.Tensor) -> bool:
    """Whether no parameter lies between the ends of the blocks and the output."""
    listed = {id(p) for p in model.parameters()}
    ends = [tensor for end in current.blocks.values() for tensor in end.tensors]
    return not any(id(p) in listed or _is_parameter(p) for p in leaves(output, ends))


def _is_parameter(leaf: torch.Tensor) -> bool:
    return isinstance(leaf, torch.nn.Parameter)
