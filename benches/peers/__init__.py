"""What one would use instead of opuproj, one file each; `benches.comparison` measures them.

RandBLAS is not included: neither Debian nor PyPI has it, so one command cannot rerun it.
"""

from benches.peers.base import Peer
from benches.peers.cuda_generated import CudaGenerated
from benches.peers.cuda_int8 import CudaInt8
from benches.peers.cuda_stored import CudaBfloat16, CudaFloat16, CudaFloat32
from benches.peers.lightonml_simulated import LightonmlSimulated
from benches.peers.numpy_generated import NumpyGenerated
from benches.peers.sklearn_gaussian import SklearnGaussian
from benches.peers.sklearn_sparse import SklearnSparse
from benches.peers.torch_complex import TorchComplex64
from benches.peers.torch_generated import TorchGenerated
from benches.peers.torch_int8 import TorchInt8
from benches.peers.torch_stored import TorchBfloat16, TorchFloat32

PEERS: tuple[type[Peer], ...] = (
    TorchFloat32,
    TorchBfloat16,
    TorchInt8,
    TorchComplex64,
    TorchGenerated,
    NumpyGenerated,
    SklearnGaussian,
    SklearnSparse,
    LightonmlSimulated,
    CudaFloat32,
    CudaBfloat16,
    CudaFloat16,
    CudaInt8,
    CudaGenerated,
)
