"""The contract of a backend: every backend and instruction set gives the bits of the scalar definition."""
