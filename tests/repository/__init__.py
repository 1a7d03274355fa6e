"""What lies around the package: pages, docstrings, examples, benchmarks."""
