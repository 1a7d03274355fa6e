"""The optical device: what its camera does, and what projections would have cost on it."""
