"""Models whose linear layers run on the simulated accelerator: convert, calibrate, change the light."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._check import real
from .linear import OpticalLinear

__all__ = ["calibrate", "convert", "set_photons"]


def convert(
    model: nn.Module,
    *,
    layers: Collection[str] | None = None,
    weight_bits: int | None = 8,
    activation_bits: int | None = 8,
    output_bits: int | None = 8,
    photons: float | None = None,
    levels: Sequence[float] | None = None,
) -> list[str]:
    """Replace linear layers of a model by :class:`OpticalLinear`, in place. Parameters stay the same objects.

    A layer that several modules share stays shared. Subclasses of ``nn.Linear`` are not replaced: their owners (such as
    ``nn.MultiheadAttention``) use the weights without calling the layer.

    Parameters
    ----------
    model : nn.Module
        A model that contains layers of type ``nn.Linear``.
    layers : collection of str, optional
        Names of the layers to convert, as in ``model.named_modules()``; by default all.
    weight_bits, activation_bits, output_bits, photons, levels
        As in :class:`OpticalLinear`.

    Returns
    -------
    list of str
        The first name of each converted layer.

    Raises
    ------
    ValueError
        If a name is no linear layer of the model, nothing is left to convert, or an argument is out of range. The model
        is then unchanged.
    TypeError
        If an argument is of the wrong type, or the model itself is a linear layer, which has no owner.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {type(model).__name__}, but must be an nn.Module")
    if isinstance(model, nn.Linear):
        raise TypeError("model is a linear layer itself, but must contain it: make an OpticalLinear instead")
    if isinstance(layers, str):
        raise TypeError(f"layers is {layers!r}, but must be a collection of names: pass [{layers!r}]")
    every = {name: module for name, module in model.named_modules(remove_duplicate=False) if type(module) is nn.Linear}
    unknown = sorted(set(layers or ()) - every.keys())
    if unknown:
        raise ValueError(f"layers names {unknown[0]!r}, but must name linear layers of the model: {', '.join(every)}")
    chosen = {id(module) for name, module in every.items() if layers is None or name in layers}
    if not chosen:
        raise ValueError("the model has no layer of type nn.Linear to convert")
    made: dict[int, tuple[str, OpticalLinear]] = {}
    for name, module in every.items():
        if id(module) in chosen and id(module) not in made:
            # The small layer only checks and stores the settings; its parameters are replaced.
            optical = OpticalLinear(
                1,
                1,
                bias=module.bias is not None,
                weight_bits=weight_bits,
                activation_bits=activation_bits,
                output_bits=output_bits,
                photons=photons,
                levels=levels,
            ).to(module.weight.device)
            optical.in_features, optical.out_features = module.in_features, module.out_features
            optical.weight, optical.bias = module.weight, module.bias
            made[id(module)] = (name, optical.train(module.training))
    for name, module in every.items():
        if id(module) in made:
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, made[id(module)][1])
    return [name for name, _ in made.values()]


def set_photons(model: nn.Module, photons: float | None) -> int:
    """Set the photons of a dot product in every :class:`OpticalLinear` of a model, and return how many there are.

    Parameters
    ----------
    model : nn.Module
        A converted model.
    photons : float or None
        As in :class:`OpticalLinear`.

    Returns
    -------
    int

    Raises
    ------
    ValueError, TypeError
        If the model has no such layer, or `photons` is not None and not above 0.
    """
    found = _converted(model)
    for layer in found.values():
        layer.photons = photons
    return len(found)


@torch.no_grad()
def calibrate(model: nn.Module, batches: Iterable[Any], *, percentile: float = 100.0) -> None:
    """Fix the ranges of activations and of readings from batches of data.

    The model runs once on each batch in evaluation mode, with each vector's own ranges and without shot noise. A
    layer's range of activations becomes the given percentile of their magnitudes, the largest over the batches. The
    range of readings becomes that of the readings. Converters clip what lies above.

    Parameters
    ----------
    model : nn.Module
        A converted model.
    batches : iterable
        Arguments of the model: a tuple or list holds several, anything else is one.
    percentile : float, default 100
        From 0 to 100.

    Raises
    ------
    ValueError, TypeError
        If there is no batch, the model has no converted layer, or `percentile` is out of range.
    """
    percentile = real("percentile", percentile, high=100.0)
    found = _converted(model)
    ranges = {name: [torch.zeros(()), torch.zeros(())] for name in found}
    before = {
        name: (layer.photons, layer.input_range.clone(), layer.reading_range.clone()) for name, layer in found.items()
    }
    modes = {module: module.training for module in model.modules()}
    handles = []
    finished = False

    def watch(name: str, layer: OpticalLinear) -> Any:
        def record(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            for place, values in enumerate((arguments[0].abs(), layer.readings(arguments[0]))):
                if values.numel():
                    highest = _percentile(values, percentile)
                    ranges[name][place] = torch.maximum(ranges[name][place].to(highest.device), highest)

        return layer.register_forward_pre_hook(record)

    try:
        model.eval()
        for name, layer in found.items():
            layer.photons = None
            layer.input_range.zero_()
            layer.reading_range.zero_()
            handles.append(watch(name, layer))
        n = 0
        for n, batch in enumerate(batches, 1):  # noqa: B007  # the count is used below
            model(*batch) if isinstance(batch, (tuple, list)) else model(batch)
        if n == 0:
            raise ValueError("batches is empty, but must hold at least one")
        finished = True
    finally:
        for handle in handles:
            handle.remove()
        for name, layer in found.items():
            photons, *old = before[name]
            layer.photons = photons
            for buffer, value in zip(
                (layer.input_range, layer.reading_range), ranges[name] if finished else old, strict=True
            ):
                buffer.copy_(value)
        for module, training in modes.items():
            module.training = training


def _percentile(values: Tensor, percentile: float) -> Tensor:
    flat = values.detach().float().flatten()
    # torch.quantile refuses large tensors.
    return flat.kthvalue(max(1, round(percentile / 100 * flat.numel()))).values


def _converted(model: nn.Module) -> dict[str, OpticalLinear]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {type(model).__name__}, but must be an nn.Module")
    found = {name: module for name, module in model.named_modules() if isinstance(module, OpticalLinear)}
    if not found:
        raise ValueError("the model has no OpticalLinear: call opuproj.optical.convert first")
    return found
