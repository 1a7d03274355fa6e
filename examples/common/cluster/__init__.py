"""What belongs to plan.py: the model of a cluster, and what it is made of, measured."""
