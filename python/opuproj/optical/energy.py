"""The energy of a Transformer's forward pass on an optical accelerator: light, converters, memory, weights.

    from opuproj.optical import energy
    model = energy.Transformer(width=12_288, layers=96, context=2048)
    cost = energy.forward(model, photons=1000.0)
    print(cost.advantage)

The accelerator holds every weight of the linear layers and shows activations at a fixed rate, after [1]_. The text of
that paper was not available: the constants are those of published devices, and none is taken from it except 300 fJ for
a digital multiply-accumulate. Products of attention between activations and everything else (norms, activation
functions) run on digital electronics or are not counted, as :func:`forward` says.

References
----------
.. [1] M. Anderson, S.-Y. Ma, T. Wang, L. Wright, P. McMahon, "Optical Transformers", Transactions on Machine Learning
   Research, 2024. arXiv:2302.10360.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from .._check import integer, real, size

__all__ = ["SOURCES", "Constants", "Cost", "Transformer", "forward"]

_PLANCK = 6.62607015e-34
_LIGHT_SPEED = 299_792_458.0

SOURCES = {
    "wavelength": "532 nm, our choice: visible light, for which silicon detectors exist",
    "efficiency": "1, our choice: every photon that is sent is counted, and light costs no more than it carries",
    "rate": "10 GHz, the rate of the analog-to-digital converter",
    "dac": "50 mW at 14 GS/s and 8 bits, in the simulator of Lightening-Transformer (arXiv:2305.19533)",
    "adc": "10 GS/s, 8 bits, 37.2 dB, 24.8 fJ a conversion step: abstract of paper 16, ISSCC 2022; × 2^5.89 steps "
    "(the simulator of the line above has 14.8 mW at 10 GS/s and 8 bits, which is 1.48 pJ)",
    "memory": "100 pJ for 64 bits of a 1 MB SRAM in 45 nm (32 KB: 20 pJ; 8 KB: 10 pJ): Horowitz, Computing's energy "
    "problem, ISSCC 2014, as others quote its table",
    "hold": "0.045 W for 640 × 360 mirrors: nominal electrical power in the datasheet of TI's DLP2000, as TI's forum "
    "quotes it; a mirror counts as a weight, though it shows one bit at a time",
    "bits": "8, the paper's abstract speaks of 4 as a future improvement",
    "passes": "4, the products of positive and negative parts, as in OpticalLinear",
    "digital": "300 fJ, the paper's abstract",
}
"""The source of each constant of :class:`Constants`."""


@dataclass(frozen=True)
class Constants:
    """The constants of the accelerator; :data:`SOURCES` has the source of each.

    Parameters
    ----------
    wavelength : float
        Of the light (m).
    efficiency : float
        Detected photons times their energy, as a part of the electrical energy for light; from 0 to 1.
    rate : float
        Vectors shown a second, for one product of parts (Hz).
    dac, adc : float
        A conversion of 8 bits (J). With fewer bits they cost in proportion to the number of levels, 2^bits.
    memory : float
        Reading or writing one bit (J).
    hold : float
        Power that holds one weight in the modulator (W). Zero stands for non-volatile weights.
    bits : int
        Of activations and results.
    passes : int
        Products of non-negative parts for each product.
    digital : float
        A multiply-accumulate of the digital processor to compare with (J).

    Raises
    ------
    ValueError, TypeError
        If a field is out of range or of the wrong type. The message names it.
    """

    wavelength: float = 532e-9
    efficiency: float = 1.0
    rate: float = 10e9
    dac: float = 50e-3 / 14e9
    adc: float = 24.8e-15 * 2 ** ((37.2 - 1.76) / 6.02)
    memory: float = 100e-12 / 64
    hold: float = 0.045 / (640 * 360)
    bits: int = 8
    passes: int = 4
    digital: float = 300e-15

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("bits", "passes"):
                integer(field.name, value, 1, 64)
            elif field.name == "efficiency":
                if real("efficiency", value, above=0.0) > 1:
                    raise ValueError(f"efficiency is {value}, but must be at most 1")
            elif field.name in ("dac", "adc", "memory", "hold"):
                real(field.name, value)
            else:
                real(field.name, value, above=0.0)

    def improved(self) -> Constants:
        """Return the improvements of the paper's abstract: memory 5 times cheaper, converters twice as good, 4 bits."""
        return replace(self, memory=self.memory / 5, dac=self.dac / 2, adc=self.adc / 2, bits=4)

    @property
    def photon(self) -> float:
        """The energy of a photon (J)."""
        return _PLANCK * _LIGHT_SPEED / self.wavelength


@dataclass(frozen=True)
class Transformer:
    """The sizes of a Transformer whose perceptrons have four times its width.

    Parameters
    ----------
    width, layers, context : int
        Size of the embedding, layers, and tokens of a forward pass.

    Raises
    ------
    ValueError, TypeError
        If a size is out of range or not an integer.
    """

    width: int
    layers: int
    context: int = 2048

    def __post_init__(self) -> None:
        for field in fields(self):
            size(field.name, getattr(self, field.name))

    @property
    def parameters(self) -> int:
        """Weights of the linear layers: 12 width² a layer."""
        return 12 * self.width**2 * self.layers

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the linear layers in a forward pass of `context` tokens."""
        return self.parameters * self.context

    @property
    def inputs(self) -> int:
        """Numbers shown to linear layers in a forward pass: 7 width a layer and token."""
        return 7 * self.width * self.layers * self.context

    @property
    def outputs(self) -> int:
        """Dot products of a forward pass: 9 width a layer and token."""
        return 9 * self.width * self.layers * self.context

    @property
    def attention_macs(self) -> int:
        """Multiply-accumulates between activations: 2 context width a layer and token."""
        return 2 * self.context**2 * self.width * self.layers


@dataclass(frozen=True)
class Cost:
    """The energy of one forward pass (J).

    Attributes
    ----------
    light, dac, adc, memory, hold : float
        The parts of the linear layers on the accelerator (J).
    attention : float
        Products between activations, on digital electronics (J); 0 if they are not counted.
    digital : float
        The same multiply-accumulates on the digital processor (J).
    """

    light: float
    dac: float
    adc: float
    memory: float
    hold: float
    attention: float
    digital: float

    @property
    def total(self) -> float:
        """The energy of the whole system (J)."""
        return self.light + self.dac + self.adc + self.memory + self.hold + self.attention

    @property
    def advantage(self) -> float:
        """How many times more energy the digital processor needs."""
        return self.digital / self.total


def forward(model: Transformer, photons: float, constants: Constants | None = None, *, attention: bool = False) -> Cost:
    """Return the energy of one forward pass.

    With P passes, B bits, conversions of c₈ at 8 bits, and V numbers shown and M dot products of the linear layers:

    - light: M · photons · (h c/λ) / efficiency, because a dot product takes a number of photons, whatever its length;
    - converters: P V and P M conversions of c₈ 2^(B - 8);
    - memory: (V + M) B bits, each input read once and each result written once;
    - weights: each is held for P / rate seconds a token, so P hold / rate a multiply-accumulate;
    - attention, if it is counted: its multiply-accumulates at the price of the digital processor.

    Parameters
    ----------
    model : Transformer
        The sizes.
    photons : float
        Photons detected for a dot product, as in :class:`opuproj.optical.OpticalLinear`.
    constants : Constants, optional
        By default ``Constants()``.
    attention : bool, default False
        Whether the products between activations count, on both sides, as digital work.

    Returns
    -------
    Cost

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type. The message names it.
    """
    if not isinstance(model, Transformer):
        raise TypeError(f"model is {model!r}, but must be an opuproj.optical.energy.Transformer")
    constants = Constants() if constants is None else constants
    if not isinstance(constants, Constants):
        raise TypeError(f"constants is {constants!r}, but must be an opuproj.optical.energy.Constants")
    photons = real("photons", photons)
    conversion = constants.passes * 2.0 ** (constants.bits - 8)
    digital_attention = model.attention_macs * constants.digital if attention else 0.0
    return Cost(
        light=model.outputs * photons * constants.photon / constants.efficiency,
        dac=model.inputs * conversion * constants.dac,
        adc=model.outputs * conversion * constants.adc,
        memory=(model.inputs + model.outputs) * constants.bits * constants.memory,
        hold=model.macs * constants.passes * constants.hold / constants.rate,
        attention=digital_attention,
        digital=model.macs * constants.digital + digital_attention,
    )
