"""The examples in the docstrings run, and everything public has a docstring that says what it needs to."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from typing import Any

import opuproj
import pytest

NEED = {
    "opuproj.dask": "dask",
    "opuproj.torch": "torch",
    "opuproj.dfa.huggingface": "transformers",
    "opuproj.dfa.lightning": "lightning",
    "opuproj.dfa": "torch",
    "opuproj.sklearn": "sklearn",
    "opuproj.lightonml.projections.torch": "torch",
    "opuproj.lightonml.encoding.models": "torch",
    "opuproj.lightonml.projections.sklearn": "sklearn",
}
LIGHTONML = [f"opuproj.lightonml{part}" for part in ("", ".encoding", ".internal", ".projections")]
PACKAGES = ("opuproj", "opuproj.torch", "opuproj.dfa", "opuproj.sklearn", *LIGHTONML)
PUBLIC = (
    "opuproj",
    "opuproj.hardware",
    "opuproj.dask",
    "opuproj.torch",
    "opuproj.dfa",
    "opuproj.sklearn",
    "opuproj.lightonml",
    "opuproj.lightonml.encoding.base",
)
# Found by their files, so that torch need not be there.
MODULES = [
    f"{package}.{module.name}"
    for package in PACKAGES
    for module in pkgutil.iter_modules([opuproj.__path__[0] + package.removeprefix("opuproj").replace(".", "/")])
]
EXAMPLES = (
    *(f"opuproj.{n}" for n in opuproj.__all__),
    "opuproj.hardware.frames",
    "opuproj.hardware.rate",
    "opuproj.hardware.cost",
    "opuproj.dask.project",
    "opuproj.torch.Projection",
    "opuproj.torch.ShardedProjection",
    "opuproj.torch.Ternarize",
    "opuproj.sklearn.OpticalRandomFeatures",
    "opuproj.sklearn.OpticalRandomProjection",
    "opuproj.lightonml.OPU",
)


def imported(name: str) -> Any:
    for start, library in NEED.items():
        if name.startswith(start):
            pytest.importorskip(library)
    return importlib.import_module(name)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    failed, _ = doctest.testmod(imported(name))
    assert failed == 0


@pytest.mark.parametrize("package", PUBLIC)
def test_everything_public_is_explained(package: str) -> None:
    module = imported(package)
    for name in module.__all__:
        if name not in ("__version__", "LIGHTON", "Method"):
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
