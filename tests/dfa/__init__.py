"""opuproj.dfa: direct feedback alignment."""
