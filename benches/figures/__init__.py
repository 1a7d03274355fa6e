"""The pictures of speed, a file each: what is measured, and how it is drawn. `make figures` does both."""
