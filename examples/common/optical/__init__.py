"""Parts of optical_transformers.py: models of several widths, and their losses over photons."""
