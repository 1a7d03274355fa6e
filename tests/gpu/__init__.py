"""The kernels of the CUDA backend."""
