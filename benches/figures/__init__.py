"""The pictures of speed, one file each, which measures and draws. `make figures` runs both."""
