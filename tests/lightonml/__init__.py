"""opuproj.lightonml: the API of lightonml 1.4."""
