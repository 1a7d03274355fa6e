"""The former place of :class:`opuproj.Adjoint`, which pickles and imports may still name."""

from .projector import Adjoint as Adjoint
