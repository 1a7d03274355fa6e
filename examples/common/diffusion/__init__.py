"""A small diffusion model on images of clothes: examples/diffusion.py."""
