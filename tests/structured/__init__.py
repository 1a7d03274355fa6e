"""The ensemble of fast transforms."""
