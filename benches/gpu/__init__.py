"""The speed of the CUDA backend against its requirements, on the GPU at hand.

`cases.py` holds the cases, each of which is measured once, for `make gpu-check`, `make bench` and asv. `__main__.py`
prints them, and `picture.py` draws what it saved.
"""
