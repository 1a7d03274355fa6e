"""The examples in the docstrings run, and everything public has a docstring that says what it needs to."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import opuproj
import pytest

MODULES = [module.name for module in pkgutil.iter_modules(opuproj.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(f"opuproj.{name}"))
    assert failed == 0


@pytest.mark.parametrize("name", [name for name in opuproj.__all__ if name != "__version__"])
def test_everything_public_is_explained(name: str) -> None:
    public = getattr(opuproj, name)
    text = inspect.getdoc(public)
    assert text
    assert "Examples\n--------" in text
    if inspect.isclass(public):
        for attribute, member in vars(public).items():
            if not attribute.startswith("_") and (callable(member) or isinstance(member, (property, staticmethod))):
                assert inspect.getdoc(member), f"{name}.{attribute}"


def test_all_names_exist() -> None:
    assert set(opuproj.__all__) <= set(dir(opuproj))
    assert {"project", "Projector", "pack", "ternarize", "TernaryBatch", "show_config"} <= set(opuproj.__all__)
