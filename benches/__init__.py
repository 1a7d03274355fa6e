"""Benchmarks of opuproj: `make bench` for the table, `asv run` in this folder for the history."""
