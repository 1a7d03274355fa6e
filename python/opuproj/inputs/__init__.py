"""What users pass as vectors: arrays of every library, sparse matrices, packed batches, and how their rows are read."""
