"""What programs import from ``lightonml.internal``: the simulated device, and types of its settings."""
