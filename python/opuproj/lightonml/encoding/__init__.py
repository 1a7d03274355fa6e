"""Transformers that make data binary for an OPU, and results of binary data into those of the data."""
