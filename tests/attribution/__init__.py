"""opuproj.attribution: projections of gradients of whole models."""
