"""What is published, how it is checked, and whether it comes out the same twice; `make help` lists the targets."""
