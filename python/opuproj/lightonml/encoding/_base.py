"""What all encoders and decoders have in common, and those that do nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._input import to_numpy


def preserve_type(transform: Callable[..., Any]) -> Callable[..., Any]:
    """Make a method of NumPy arrays one that also takes torch tensors, and then returns one."""

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
    """An encoder or decoder: derive from it to write one's own, with a method ``transform``.

    It works as a step of scikit-learn's pipelines, and can be cloned there.
    """

    _arguments: tuple[tuple[Any, ...], dict[str, Any]] = (), {}

    def __new__(cls, *args: Any, **kwargs: Any) -> BaseTransformer:
        self = super().__new__(cls)
        self._arguments = args, kwargs
        return self

    def fit(self, X: Any, y: Any = None) -> Any:
        """Return self: most transformers learn nothing from data."""
        return self

    def transform(self, X: Any) -> Any:
        """Encode or decode X: derived classes say how."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to transform")

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Fit to X, and transform it."""
        return self.fit(X, y).transform(X)

    def __sklearn_clone__(self) -> BaseTransformer:
        # As it was made: fitted thresholds belong to the data that they were fitted to.
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
    """The encoder that returns what it gets."""

    def transform(self, X: Any) -> Any:
        """Return X."""
        return X


class NoDecoding(BaseTransformer):
    """The decoder that returns what it gets, whatever the encoder was."""

    def __init__(self, **_: Any) -> None:
        pass

    def transform(self, X: Any) -> Any:
        """Return X."""
        return X


def refuse_nan(X: NDArray[Any]) -> None:
    """Raise ValueError if X holds NaN, which is on no side of any threshold."""
    if X.dtype.kind == "f" and np.isnan(X).any():
        raise ValueError("X holds NaN, but must hold numbers")


def matrix(X: NDArray[Any]) -> tuple[int, int]:
    """Return the shape of X, which must have two axes."""
    if X.ndim != 2:
        raise ValueError(f"X has shape {X.shape}, but must have shape (n_samples, n_features)")
    return X.shape[0], X.shape[1]
