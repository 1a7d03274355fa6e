"""Linear layers of PyTorch models on a simulated optical accelerator, with low precision and shot noise.

names = opuproj.optical.convert(model, photons=1000.0)    # nn.Linear becomes OpticalLinear, in place
opuproj.optical.calibrate(model, batches)                 # fixed ranges instead of each vector's own
opuproj.optical.set_photons(model, 100.0)                 # less light, in all converted layers
cost = opuproj.optical.energy.forward(opuproj.optical.energy.Transformer(12_288, 96), photons=1000.0)
"""

from . import energy
from .conversion import calibrate, convert, set_photons
from .linear import OpticalLinear

__all__ = ["OpticalLinear", "calibrate", "convert", "energy", "set_photons"]
