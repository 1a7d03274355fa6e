"""Parts of private_training.py: the mechanism and its bound, the network, the checks."""
