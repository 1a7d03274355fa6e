"""Parts of scaling.py: the timed steps, the same with optics, figures."""
