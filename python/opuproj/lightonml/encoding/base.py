"""All encoders and decoders of lightonml 1.4, and one of 1.3 that programs still use.

Encoders convert NumPy arrays or torch tensors to binary ones of dtype uint8. Decoders combine the results for binary
vectors into results for the data that these represent.
"""

from ._base import BaseTransformer, NoDecoding, NoEncoding, preserve_type
from ._bits import ConcatenatedBitPlanEncoder, ConcatenatedFloat32Encoder, Float32Encoder, SequentialBaseTwoEncoder
from ._planes import (
    ConcatenatingBitPlanDecoder,
    MixingBitPlanDecoder,
    SeparatedBitPlanDecoder,
    SeparatedBitPlanEncoder,
)
from ._thresholds import BinaryThresholdEncoder, MultiThresholdEncoder

__all__ = [
    "BaseTransformer",
    "BinaryThresholdEncoder",
    "ConcatenatedBitPlanEncoder",
    "ConcatenatedFloat32Encoder",
    "ConcatenatingBitPlanDecoder",
    "Float32Encoder",
    "MixingBitPlanDecoder",
    "MultiThresholdEncoder",
    "NoDecoding",
    "NoEncoding",
    "SeparatedBitPlanDecoder",
    "SeparatedBitPlanEncoder",
    "SequentialBaseTwoEncoder",
    "preserve_type",
]
