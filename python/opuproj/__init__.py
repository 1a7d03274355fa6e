"""Optical random projections on a processor: a transmission matrix of any size, never stored, exact and reproducible.

    y = opuproj.project(x, 1_000_000, seed=0)             # |Tx|², what the camera of an optical processing unit sees
    op = opuproj.Projector(n_inputs, n_outputs, seed=0)   # the operator: op(x), op[a:b], op.matrix(rows, columns)
    x = op.H @ y                                          # its adjoint, of real or complex numbers
    batch = opuproj.ternarize(e, relative=0.1)            # real numbers to -1, 0 and 1, in 2 bits each
    batch = opuproj.encode(x, digits=5)                   # real numbers in five ternary digits
    batch = opuproj.pack(x)                               # the same of what is ternary already

Arrays are of shape (..., n), vectors along the last axis: NumPy, torch, scipy.sparse, and what keeps
to the array API standard.
"""

from . import hardware
from ._config import show_config
from ._core import __version__
from .backends import cpu as _cpu  # noqa: F401  # it registers itself
from .camera import Camera
from .encoded import EncodedBatch
from .packing import encode, pack, ternarize
from .projection import project
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
    "ternarize",
]
