"""The base class of all encoders and decoders, and those that change nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._input import to_numpy


def preserve_type(transform: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a method of NumPy arrays so that it also accepts torch tensors, and then returns a tensor."""

    @functools.wraps(transform)
    def wrapper(instance: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
        array, is_tensor = to_numpy(X)
        result = transform(instance, array, *args, **kwargs)
        if not is_tensor:
            return result
        import torch

        return torch.from_numpy(np.ascontiguousarray(result))

    return wrapper


class BaseTransformer:
    """Base class of encoders and decoders. A derived class defines ``transform``.

    It works as a step of scikit-learn's pipelines, and can be cloned.
    """

    _arguments: tuple[tuple[Any, ...], dict[str, Any]] = (), {}

    def __new__(cls, *args: Any, **kwargs: Any) -> BaseTransformer:
        self = super().__new__(cls)
        self._arguments = args, kwargs
        return self

    def fit(self, X: Any, y: Any = None) -> Any:
        """Return self, because most transformers learn nothing from data."""
        return self

    def transform(self, X: Any) -> Any:
        """Encode or decode X. Derived classes define this method."""
        raise NotImplementedError(f"{type(self).__name__} does not define transform")

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Fit to X, and transform it."""
        return self.fit(X, y).transform(X)

    def __sklearn_clone__(self) -> BaseTransformer:
        # A clone gets the original arguments, because fitted thresholds belong to their data.
        args, kwargs = self._arguments
        return type(self)(*args, **kwargs)

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(),
            input_tags=InputTags(),
            requires_fit=False,
        )

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __repr__(self) -> str:
        args, kwargs = self._arguments
        given = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
        return f"{type(self).__name__}({', '.join(given)})"


class NoEncoding(BaseTransformer):
    """The encoder that returns its input unchanged."""

    def transform(self, X: Any) -> Any:
        """Return X."""
        return X


class NoDecoding(BaseTransformer):
    """The decoder that returns its input unchanged, for any encoder."""

    def __init__(self, **_: Any) -> None:
        pass

    def transform(self, X: Any) -> Any:
        """Return X."""
        return X


def refuse_nan(X: NDArray[Any]) -> None:
    """Raise ValueError if X holds NaN, which no threshold can classify."""
    if X.dtype.kind == "f" and np.isnan(X).any():
        raise ValueError("X holds NaN, but must hold numbers")


def matrix(X: NDArray[Any]) -> tuple[int, int]:
    """Return the shape of X. Raise ValueError unless it has two axes."""
    if X.ndim != 2:
        raise ValueError(f"X has shape {X.shape}, but must have shape (n_samples, n_features)")
    return X.shape[0], X.shape[1]
