"""Code that the example programs share: command lines, checkpoints, results, figures and data."""
