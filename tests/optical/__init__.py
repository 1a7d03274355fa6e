"""Linear layers on a simulated optical accelerator: precision, shot noise, conversion of models."""
