"""Parts of plan.py: the model of a cluster, and the measurement of its parameters."""
