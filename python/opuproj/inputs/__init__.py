"""Reads the vectors that users pass, from any array library, as `Rows`, which backends accept.

- `arrays.py`: `vectors` returns a projection's x as rows: ternary, in digits, or as float32. Projections start here.
  `array_rows` finds the library of an array and checks its dtype and shape. It reads no value.
- `rows.py`: the classes of rows. `ArrayRows` (NumPy and its subclasses for other libraries) gives numbers in pieces.
  `PackedRows` holds a packed batch. `DigitRows` and `FloatRows` wrap rows of real numbers.
- `tensors.py` and `sparse.py`: the rows of torch tensors and of scipy.sparse matrices. `foreign.py`: those of arrays of
  other libraries, in the CPU's memory or on a GPU.
- `devices.py` sends rows to the device that a user names.

A `Rows` object has a shape, a device and the argument's name for error messages. Its `wrap` returns a result in the
library and on the device of the input. This package allocates no result and computes no projection.
"""
