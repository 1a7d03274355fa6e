"""The matrix T: its definition, its laws, and the same bits however it is computed."""
