"""`OperatorLayer`, the base class of the layers: the specification, its state, and dtype casts."""

from __future__ import annotations

import dataclasses
import json
import zlib
from typing import Any, ClassVar

import numpy as np
import torch

from .. import _check
from .._check import Ensemble, Mode
from .._spec import Spec
from ..camera import Camera
from . import _dtypes, _state
from .ternarize import Ternarize


class OperatorLayer(torch.nn.Module):
    """A layer without parameters that applies rows of a random matrix. It stores a few integers.

    Subclasses define ``forward``.
    """

    n_inputs: int
    n_outputs: int
    mode: Mode
    ensemble: Ensemble
    n_anchor: int
    camera: Camera | None

    # Setting one of these changes the results.
    _settings: ClassVar[frozenset[str]] = frozenset(
        ("_seed_tensor", "mode", "ensemble", "n_anchor", "camera", "rows", "threads")
    )

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        rows: tuple[int, int] | slice | range | None,
        ternarize: Ternarize | None,
        dtype: Any,
        threads: int | None,
        **fields: Any,
    ) -> None:
        super().__init__()
        if ternarize is not None and not isinstance(ternarize, Ternarize):
            raise TypeError(f"ternarize is {ternarize!r}, but must be an opuproj.torch.Ternarize, or None")
        half = _dtypes.half_of(dtype, fields["mode"])
        spec = Spec.checked(n_inputs, n_outputs, dtype=dtype if half is None else torch.float32, **fields)
        if spec.dtype.name not in _dtypes.BY_NAME:
            raise ValueError(f"dtype is {spec.dtype.name}, but a {type(self).__name__} gives floating-point numbers")
        self.n_inputs, self.n_outputs = spec.n_inputs, spec.n_outputs
        self.rows = (0, spec.n_outputs) if rows is None else _check.row_range(rows, spec.n_outputs)
        self.ternarize, self.threads = ternarize, _check.threads(threads)
        self._real = half or _dtypes.real_of(_dtypes.BY_NAME[spec.dtype.name])
        self.register_buffer("_seed_tensor", None, persistent=False)
        self._set(spec.rows(*self.rows), torch.device("cpu"))

    def _set(self, spec: Spec, device: torch.device) -> None:
        """Set the specification of the layer's rows. Its dtype is replaced by the dtype of the layer's precision."""
        dtype = np.dtype(_dtypes.name_of(_dtypes.computed(self._real, spec.mode)))
        self._spec = spec.changed(dtype=dtype)
        # Plain values, which torch.compile and torch.export treat as constants. Not by __setattr__, which calls this.
        names = ("mode", "ensemble", "n_anchor", "camera")
        self.__dict__.update({name: getattr(spec, name) for name in names})
        self.dtype = _dtypes.result(self._real, self.mode)
        self._write_seed_tensor(device)

    def _write_seed_tensor(self, device: torch.device) -> None:
        """Store the seed, the dtype and the device in the buffer ``_seed_tensor``.

        The layer itself does not read it. But torch.func.stack_module_state stacks it, and functional_call replaces it
        by that of another layer, which `forward` detects. Also, a module's casts and moves reach only tensors.
        """
        self._fingerprint = zlib.crc32(json.dumps(self._shared_settings()).encode())
        self._own_seed_tensor = _state.seed_tensor(self.seed, self._fingerprint, self._real, device)
        # A new dict, because copy.copy() shares the old one.
        self.__dict__["_buffers"] = {**self._buffers, "_seed_tensor": self._own_seed_tensor}

    def _shared_settings(self) -> list[Any]:
        """Return the settings that layers of a stack must share: all but the seed."""
        rule = self.ternarize and self.ternarize.rule
        shown = repr(rule) if dataclasses.is_dataclass(rule) else type(rule).__qualname__
        spec = self._spec.changed(seed=0, dtype=np.dtype(np.float32))
        return [spec.encode(), self.rows, shown, self.ternarize and self.ternarize.norm]

    @property
    def seed(self) -> int:
        """The seed that selects the medium."""
        return self._spec.seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._set(self._spec.changed(seed=_check.seed(seed)), self._own_seed_tensor.device)

    def __setattr__(self, name: str, value: Any) -> None:
        if "_own_seed_tensor" not in self.__dict__ or name not in self._settings:
            super().__setattr__(name, value)
        elif name != "_seed_tensor":
            self._change(name, value)
        elif isinstance(value, torch.Tensor) and not value.is_meta:
            # transformers fills buffers that are in no file with arbitrary values, but on the right device.
            self._write_seed_tensor(value.device)

    def _change(self, name: str, value: Any) -> None:
        """Set an attribute that decides the results, checked as in the constructor."""
        spec = self._spec
        changed: dict[str, Any] = {}
        if name == "rows":
            changed["rows"] = (0, self.n_outputs) if value is None else _check.row_range(value, self.n_outputs)
        elif name == "threads":
            changed["threads"] = _check.threads(value)
        else:
            spec = self._whole(**{name: value})
        start, stop = changed.get("rows", self.rows)
        spec = spec.changed(row_start=start, n_outputs=stop - start)
        self._check_spec(spec)
        self.__dict__.update(changed)
        self._set(spec, self._own_seed_tensor.device)

    def _whole(self, **changes: Any) -> Spec:
        """Return the specification of all rows of the layer's matrix, or of a changed one, checked."""
        spec = self._spec
        fields: dict[str, Any] = {
            "seed": spec.seed,
            "mode": spec.mode,
            "ensemble": spec.ensemble,
            "n_anchor": spec.n_anchor,
        }
        fields |= {"camera": spec.camera, "dtype": _dtypes.computed(self._real, "linear"), **changes}
        return Spec.checked(self.n_inputs, self.n_outputs, **fields)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_spec" not in self.__dict__:  # pickled by a version that stored the fields one by one
            old = self.__dict__
            old["seed"] = old.pop("_signed", old.get("seed", 0)) % 2**64
            if "_real" not in old:
                old["_real"] = _dtypes.real_of(old["dtype"])
            fields = {name: old.pop(name) for name in ("seed", "mode", "n_anchor", "camera") if name in old}
            whole = Spec.checked(self.n_inputs, self.n_outputs, ensemble=old.get("ensemble", "gaussian"), **fields)
            self._buffers.pop("_member", None)  # the old name of "_seed_tensor"
            self._non_persistent_buffers_set.discard("_member")
            self._non_persistent_buffers_set.add("_seed_tensor")
            own = old.pop("_own", None)  # the old name of "_own_seed_tensor"
            self._set(whole.rows(*self.rows), torch.device("cpu") if own is None else own.device)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        device = self._own_seed_tensor.device
        self._write_seed_tensor(device)  # restores this layer's dtype, even if the buffer was changed
        super()._apply(fn, recurse)
        applied = self._seed_tensor
        if applied.is_floating_point() or applied.is_complex():
            self._real = _dtypes.real_of(applied.dtype)
        self._set(self._spec, device if applied.is_meta else applied.device)
        return self

    def _scale(self, factors: torch.Tensor) -> torch.Tensor:
        """Return what the results for t are multiplied by, for the factors a of x ≈ a t."""
        a = factors.to(torch.float64 if self._real == torch.float64 else torch.float32)
        return a * a if self.mode == "intensity" else a

    # State

    def get_extra_state(self) -> torch.Tensor:
        """Return the identity of the matrix for ``state_dict``, as a tensor of small numbers.

        Files of tensors can store it. Averages of equal states, and casts to any floating-point dtype, keep it
        readable.
        """
        return _state.tensor_of(self._spec, self.n_outputs, self._own_seed_tensor.device)

    def set_extra_state(self, state: torch.Tensor | dict[str, Any]) -> None:
        """Set the matrix from a ``state_dict``. Its shape and rows must equal those of this layer.

        Raises
        ------
        ValueError, TypeError
            If the state has another shape or rows, or belongs to no matrix, such as a mean of different states.
        """
        found = _state.read(state)
        expected = {"version": _state.VERSION, "shape": (self.n_outputs, self.n_inputs), "rows": self.rows}
        for name, value in expected.items():
            if found[name] != value:
                raise ValueError(f"the state's {name} is {found[name]}, but this {type(self).__name__}'s is {value}")
        spec = self._whole(**{name: found[name] for name in ("seed", "mode", "ensemble", "n_anchor")})
        self._check_spec(spec)
        self._set(spec.rows(*self.rows), self._own_seed_tensor.device)

    def _check_spec(self, spec: Spec) -> None:
        """Raise ValueError if the layer does not support a specification."""

    def extra_repr(self) -> str:
        """Return the text that ``print`` shows between the parentheses."""
        text = f"{self.n_inputs}, {self.n_outputs}, seed={self.seed}, mode={self.mode!r}"
        if self.ensemble != "gaussian":
            text += f", ensemble={self.ensemble!r}"
        if self.rows != (0, self.n_outputs):
            text += f", rows={self.rows}"
        if self.camera is not None:
            text += f", camera={self.camera}"
        return text if self.ternarize is None else f"{text}, ternarize={self.ternarize}"
