"""The examples in the docstrings run, and everything public has a docstring that says what it needs to."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from typing import Any

import opuproj
import pytest

NEED_TORCH = ("opuproj.torch", "opuproj.dfa")
PACKAGES = ("opuproj", *NEED_TORCH)
# Found by their files, so that torch need not be there.
MODULES = [
    f"{package}.{module.name}"
    for package in PACKAGES
    for module in pkgutil.iter_modules([f"{opuproj.__path__[0]}{package.removeprefix('opuproj').replace('.', '/')}"])
]
EXAMPLES = (*(f"opuproj.{n}" for n in opuproj.__all__), "opuproj.torch.Projection", "opuproj.torch.Ternarize")


def imported(name: str) -> Any:
    if name.startswith(NEED_TORCH):
        pytest.importorskip("torch")
    return importlib.import_module(name)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    failed, _ = doctest.testmod(imported(name))
    assert failed == 0


@pytest.mark.parametrize("package", PACKAGES)
def test_everything_public_is_explained(package: str) -> None:
    module = imported(package)
    for name in module.__all__:
        if name not in ("__version__", "Method"):
            explained(name, getattr(module, name), f"{package}.{name}" in EXAMPLES)


def explained(name: str, public: Any, with_examples: bool) -> None:
    text = inspect.getdoc(public)
    assert text, name
    assert not with_examples or "Examples\n--------" in text, name
    if inspect.isclass(public):
        for attribute, member in vars(public).items():
            if not attribute.startswith("_") and (callable(member) or isinstance(member, (property, staticmethod))):
                assert inspect.getdoc(member), f"{name}.{attribute}"


def test_all_names_exist() -> None:
    assert set(opuproj.__all__) <= set(dir(opuproj))
    assert {"project", "Projector", "pack", "ternarize", "TernaryBatch", "show_config"} <= set(opuproj.__all__)
