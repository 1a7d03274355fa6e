"""What belongs to scaling.py: the steps that are timed, the same with optics, figures."""
