"""A convolutional network and a deep Transformer, on which direct feedback by random matrices is weak."""
