"""Build what is published, check it, and check that a second build is equal; `make help` lists the targets."""
