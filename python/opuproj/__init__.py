"""Optical random projections on a CPU: a matrix T of any size that is computed from a seed and never stored.

    y = opuproj.project(x, 1_000_000, seed=0)             # |Tx|², the intensities behind a scattering medium
    op = opuproj.Projector(n_inputs, n_outputs, seed=0)   # the operator: op(x), op[a:b], op.matrix(rows, columns)
    op = opuproj.Projector(n_inputs, n_outputs, mode="real")  # a real Gaussian matrix at half the price
    x = op.H @ y                                          # its adjoint, for real or complex numbers
    batch = opuproj.ternarize(e, relative=0.1)            # rounds real numbers to -1, 0 and 1; 2 bits an element
    batch = opuproj.encode(x, digits=5)                   # rounds real numbers to five ternary digits
    batch = opuproj.pack(x)                               # packs values that are -1, 0 and 1 already

Results are exact and reproducible. Arrays have shape (..., n), with vectors along the last axis. They may come from
NumPy, torch, scipy.sparse or any library that follows the array API standard.
"""

from . import hardware
from ._config import show_config
from ._core import __version__
from .backends import cpu as _cpu  # noqa: F401  # importing a backend registers it
from .backends import cuda as _cuda  # noqa: F401
from .camera import Camera
from .encoded import EncodedBatch
from .packing import encode, pack, ternarize
from .projection import project, synchronize
from .projector import Adjoint, Projector
from .ternary import TernaryBatch

__all__ = [
    "Adjoint",
    "Camera",
    "EncodedBatch",
    "Projector",
    "TernaryBatch",
    "__version__",
    "encode",
    "hardware",
    "pack",
    "project",
    "show_config",
    "synchronize",
    "ternarize",
]
