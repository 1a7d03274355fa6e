"""Parts of tuning.py: three tasks, each with its data and its network."""
