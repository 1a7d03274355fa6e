"""project, Projector and the adjoint: results, arguments, mistakes."""
