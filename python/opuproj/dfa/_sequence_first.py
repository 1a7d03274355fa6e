"""Modules whose axis 0 counts the steps of a sequence unless they have batch_first=True."""

from __future__ import annotations

import torch

# nn.Transformer and its parts contain nn.MultiheadAttention.
_KINDS = (torch.nn.RNNBase, torch.nn.MultiheadAttention)


def refuse_states(blocks: dict[str, torch.nn.Module], feed_all: frozenset[str]) -> None:
    """Raise ValueError if a recurrent block with batch_first=True has feed='all'.

    Axis 0 of its states counts layers.
    """
    for name in feed_all:
        block = blocks[name]
        if isinstance(block, torch.nn.RNNBase) and block.batch_first:
            raise ValueError(
                f"feed is 'all' for block {name!r}, a {type(block).__name__} with batch_first=True: axis 0 of its "
                "output counts examples, but axis 1 of its states does. Pass feed='first', or name a module around it "
                "that returns the states with examples first"
            )


def outside_blocks(model: torch.nn.Module, blocks: dict[str, torch.nn.Module]) -> dict[str, torch.nn.Module]:
    """Return the modules of this kind that lie in no block; raise ValueError if one lies in a block.

    Only a forward pass shows whether feedback reaches a module outside the blocks.
    """
    for name, block in blocks.items():
        for inner, module in block.named_modules():
            if _counts_steps_first(module):
                kind = type(module).__name__
                what = f"is a {kind}" if module is block else f"holds {inner!r}, a {kind}"
                raise ValueError(
                    f"block {name!r} {what} with batch_first=False, whose axis 0 counts steps: pass batch_dim=1 if "
                    "axis 1 of its output counts examples (or batch_dim=0, batch_axes=2, or use batch_first=True)"
                )
    inside = {id(module) for block in blocks.values() for module in block.modules()}
    return {
        name: module
        for name, module in model.named_modules()
        if _counts_steps_first(module) and id(module) not in inside
    }


def _counts_steps_first(module: torch.nn.Module) -> bool:
    return isinstance(module, _KINDS) and not module.batch_first
