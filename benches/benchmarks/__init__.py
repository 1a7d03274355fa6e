"""The asv suite: how time and memory depend on each argument, and the ratios of the speed table over the history."""

import sys
from pathlib import Path

# asv imports this folder directly; the code shared with the table is in the package `benches` above it.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
