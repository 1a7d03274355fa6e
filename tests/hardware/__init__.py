"""The optical device: its camera, and the cost of projections on it."""
