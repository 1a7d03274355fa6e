"""`ShardedProjection`, the operator as a module that the ranks of a process group compute together."""

from __future__ import annotations

import json
import math
import zlib
from typing import Any, Literal

import numpy as np
import torch

from .. import _core
from .._check import Mode, integer
from .._device_batch import DeviceBatch, moved
from .._spec import Spec
from ..backends import Backend, Packed, Request, backend, backend_for
from ..camera import Camera
from ..inputs.arrays import array_rows
from ..inputs.rows import PackedRows
from ..projection import apply
from . import _dtypes, _state
from ._autograd import refuse_tangent, transformed
from ._layer import OperatorLayer
from ._mesh import DistributedInput, distributed_input, dtensors, group_of
from ._message import Vectors, as_bytes, described, from_bytes
from ._ops import ADVICE
from ._ranks import Ranks
from .ternarize import Ternarize

ShardBy = Literal["rows", "columns"]

# The bytes of integer fields that a rank holds at a time, in the CPU's memory and on a GPU; the number of vectors for
# which T is generated once.
_FIELD_BYTES, _GPU_FIELD_BYTES = 32 << 20, 256 << 20
_VECTORS = 1024


class ShardedProjection(OperatorLayer):
    r"""A random projection that the ranks of a process group compute together, without sending any part of its matrix.

    Each entry of T is a function of the seed, its row and its column, so each rank generates the entries that it needs.
    Results have the bits of :func:`opuproj.project`, for any number of ranks and either `shard`:

    - ``"rows"``: each rank computes its share of the outputs. Rank `src` packs the vectors and broadcasts their bits, 2
      per element. With ``replicated=True`` every rank has the vectors already, and nothing is sent.
    - ``"columns"``: each rank has its share of the elements of every vector, and computes their contribution to the
      fields of all outputs. A reduce-scatter adds these 32-bit integers exactly and gives each rank the sums of its
      share of the outputs, from which the rank computes them.

    The share of rank r of k is as in :func:`torch.chunk` and DTensor's ``Shard``: ⌈n/k⌉ elements, fewer for the last
    ranks.

    Parameters
    ----------
    n_inputs, n_outputs, seed, mode, rows, n_anchor, dtype, threads
        As in :class:`Projection`, for the whole matrix. `rows` is the range that the ranks divide. If several ranks run
        on one machine, divide its cores among them with `threads`.
    shard : {"rows", "columns"}, default "rows"
        What the ranks divide: the rows or the columns of the matrix.
    mesh : DeviceMesh, optional
        The ranks of a mesh with one dimension, or of its dimension `mesh_dim`.
    mesh_dim : str or int, optional
        A dimension of `mesh`.
    group : ProcessGroup, optional
        The ranks, instead of `mesh`. By default, all processes.
    src : int, default 0
        For ``"rows"``: the rank in the group that has the vectors.
    replicated : bool, default False
        For ``"rows"``: every rank receives the same vectors as its argument. They are not compared.
    gather : bool, default False
        Whether to return all outputs on every rank.
    ternarize : Ternarize, optional
        As in :class:`Projection`, only for ``"rows"``, because rules need whole vectors.
    camera : Camera, optional
        As in :class:`Projection`, only for ``"rows"``. Rank `src` draws the seed of its noise.

    Attributes
    ----------
    shard_rows : (start, stop)
        The rows of the matrix that this rank returns.
    shard_columns : (start, stop)
        The elements of the vectors that this rank receives.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or unsuitable. The message names it.
    RuntimeError
        If there is no process group.

    Notes
    -----
    All ranks must construct the layer with equal arguments, and call it together. An error in the vectors of one rank
    is raised on all ranks. The exception is ``"rows"`` with the same vectors on every rank: then nothing is sent, and
    each rank finds the error itself. If a rank has ended or does not join, the others raise RuntimeError, at once or
    within the timeout of the process group.

    The ``state_dict`` equals that of a :class:`Projection`, for any number of ranks. Results that are DTensors need
    torch 2.5 or later.

    A rank that has its vectors on a GPU computes there, as :class:`Projection` does, and its results stay there. With
    NCCL, so does a rank that receives vectors, and the sums over columns go from GPU to GPU. With gloo, they go through
    the host. For ``"columns"``, and on rank `src`, a call waits until the GPU has checked the values. This is untested
    on hardware. The layer has no gradient, and raises an error within the transforms of ``torch.func``.

    Examples
    --------
    >>> import torch
    >>> import torch.distributed as dist
    >>> from opuproj.torch import Projection, ShardedProjection
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> x = torch.randint(-1, 2, (8, 1000))
    >>> y = ShardedProjection(1000, 200, seed=1)(x)
    >>> y.shape, y.placements
    (torch.Size([8, 200]), (Shard(dim=1),))
    >>> torch.equal(y.full_tensor(), Projection(1000, 200, seed=1)(x))
    True
    >>> dist.destroy_process_group()
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        seed: int = 0,
        mode: Mode = "linear",
        rows: tuple[int, int] | slice | range | None = None,
        shard: ShardBy = "rows",
        mesh: Any = None,
        mesh_dim: str | int | None = None,
        group: Any = None,
        src: int = 0,
        replicated: bool = False,
        gather: bool = False,
        ternarize: Ternarize | None = None,
        n_anchor: int = 64,
        camera: Camera | None = None,
        dtype: Any = torch.float32,
        threads: int | None = None,
    ) -> None:
        super().__init__(
            n_inputs,
            n_outputs,
            seed=seed,
            mode=mode,
            ensemble="gaussian",
            rows=rows,
            ternarize=ternarize,
            n_anchor=n_anchor,
            camera=camera,
            dtype=dtype,
            threads=threads,
        )
        if shard not in ("rows", "columns"):
            raise ValueError(f"shard is {shard!r}, but must be 'rows' or 'columns'")
        if shard == "columns":
            given = {"ternarize": ternarize, "camera": camera, "src": src or None, "replicated": replicated or None}
            for name, value in given.items():
                if value is not None:
                    raise ValueError(f"{name} is {value!r}, but with shard 'columns' no rank has whole vectors")
        self._ranks = Ranks(group_of(mesh, mesh_dim, group))
        self.shard, self.replicated, self.gather = shard, bool(replicated), bool(gather)
        self.src = integer("src", src, 0, self._ranks.size - 1)
        # The mesh of the results. If None, it is created at first use.
        self._mesh = mesh if mesh is not None and mesh.ndim == 1 else None
        if isinstance(mesh_dim, str):
            self._mesh = mesh[mesh_dim]

    @property
    def shard_rows(self) -> tuple[int, int]:
        """The rows of the matrix that this rank returns."""
        start, stop = self.rows
        first, last = _share(stop - start, self._ranks.rank, self._ranks.size)
        return start + first, start + last

    @property
    def shard_columns(self) -> tuple[int, int]:
        """The elements of the vectors that this rank receives."""
        if self.shard == "rows":
            return 0, self.n_inputs
        return _share(self.n_inputs, self._ranks.rank, self._ranks.size)

    @torch._disable_dynamo
    def forward(self, x: torch.Tensor | None = None) -> torch.Tensor:
        """Project vectors, on all ranks together.

        Parameters
        ----------
        x : Tensor or DTensor, of shape (..., n_inputs)
            As for :class:`Projection`. For ``"rows"``: pass it on rank `src` only, and None on the others; or the same
            on every rank, with ``replicated=True`` or as a DTensor. For ``"columns"``: pass the elements of
            :attr:`shard_columns`, or a DTensor that is sharded on its last dimension. Other dimensions of a DTensor's
            mesh may divide the vectors of a batch.

        Returns
        -------
        DTensor of shape (..., n_rows), sharded on its last dimension
            With ``gather=True``, a Tensor of that shape on every rank (a replicated DTensor, if x is a DTensor).

        Raises
        ------
        ValueError, TypeError
            If `x` has another shape, or holds other values and `ternarize` is not set.
        RuntimeError
            If another rank raised such an error, has ended or does not join.
        """
        self._refuse_transforms()
        distributed = distributed_input(x, self._ranks.group, self.shard, self.n_inputs)
        local = x if distributed is None else distributed.local
        if self.shard == "columns":
            leading, y = self._by_columns(local)
        else:
            leading, y = self._by_rows(local, self.replicated or distributed is not None)
        if self.gather:
            y = self._gathered(y)
        y = y.reshape(*leading, y.shape[-1]).to(self._ranks.device if local is None else local.device, self.dtype)
        return self._result(y, distributed)

    def _refuse_transforms(self) -> None:
        if transformed():
            raise NotImplementedError(
                "a ShardedProjection does not support the transforms of torch.func (vmap, grad): its ranks make one "
                "call together, whose result has no gradient"
            )
        if (
            self._seed_tensor is not self._own_seed_tensor
            and _state.seed_of(self._seed_tensor, self._fingerprint) != self.seed
        ):
            raise NotImplementedError(
                "a ShardedProjection cannot run with another layer's buffers (torch.func.functional_call): its ranks "
                "use its own seed"
            )

    def _check_spec(self, spec: Spec) -> None:
        if spec.ensemble != "gaussian":
            raise ValueError(
                f"the state's ensemble is {spec.ensemble!r}, but a ShardedProjection supports 'gaussian' only"
            )

    def extra_repr(self) -> str:
        """Return the text that ``print`` shows between the parentheses."""
        return f"{super().extra_repr()}, shard={self.shard!r}, rank {self._ranks.rank} of {self._ranks.size}"

    # The two kinds of sharding

    def _by_rows(self, x: torch.Tensor | None, replicated: bool) -> tuple[tuple[int, ...], torch.Tensor]:
        """Return the leading axes, and this rank's outputs; `replicated` if every rank has the same vectors."""
        ranks, noisy = self._ranks, self._spec.noisy
        vectors: Vectors | None = None
        error: Exception | None = None
        message: dict[str, Any] = {"noise": None}
        payload, data = b"", memoryview(b"")
        if replicated or ranks.rank == self.src:
            try:
                vectors = self._vectors(x, self.n_inputs)
                noise = int(_state.noise_for(self.camera) or 0) if noisy else None
                message = {**described(vectors), "noise": noise}
                payload = b"" if replicated else as_bytes(vectors)
            except Exception as caught:  # any error: the other ranks wait for the broadcast
                error, message = caught, {"error": f"{type(caught).__name__}: {caught}"}
        elif x is not None:  # raised only after the broadcast, which the other ranks need
            error = ValueError(
                f"x is given on rank {ranks.rank}, but rank {self.src} sends it: pass None here, or replicated=True"
            )
        if not replicated or noisy:
            message, data = ranks.broadcast(self.src, "the broadcast of x", message, payload)
        if error is not None:
            raise error
        if "error" in message:
            raise RuntimeError(f"rank {self.src} refused x: {message['error']}")
        leading, packed, factors = vectors if vectors is not None else from_bytes(message, data)
        assert packed is not None, "a layer has an input"
        if vectors is None:
            packed = _received(packed, ranks.device.type)
        start, stop = self.shard_rows
        rows = PackedRows("x", packed, (packed.n_rows, self.n_inputs))
        spec = self._spec.rows(start - self.rows[0], stop - self.rows[0])
        found = apply(spec, rows, threads=self.threads, noise_seed=message["noise"])
        y = found if isinstance(found, torch.Tensor) else torch.from_numpy(found)
        return leading, y if factors is None else y.mul_(self._scale(factors.reshape(-1, 1)).to(y.device))

    def _by_columns(self, x: torch.Tensor | None) -> tuple[tuple[int, ...], torch.Tensor]:
        """Return the leading axes, and this rank's outputs of all vectors, summed over the columns of all ranks."""
        ranks, (start, stop) = self._ranks, self.shard_columns
        vectors: Vectors = ((), None, None)
        error: Exception | None = None
        try:
            vectors = self._vectors(x, stop - start)
            packed: Packed = vectors[1]
            on_gpu = isinstance(packed, DeviceBatch)
            if on_gpu:
                packed.row_nnz()  # waits for the GPU, and raises an error about its values
        except Exception as caught:  # any error: the other ranks wait for the reduction
            error = caught
        leading, packed, _ = vectors
        checksum = zlib.crc32(json.dumps([leading, self.n_outputs, self._spec.encode()]).encode())
        computing, device = _place(packed, x) if error is None else (backend("cpu"), torch.device("cpu"))
        on_host = int(computing is backend("cpu"))
        failed, high, low, on_host = ranks.largest(
            [-1 if error is None else ranks.rank, checksum, -checksum, on_host], "agreeing on x"
        )
        if error is not None:
            raise error
        if failed >= 0:
            raise RuntimeError(f"rank {failed} refused its part of x")
        if high != -low:
            raise ValueError(
                f"x has leading axes {leading} on rank {ranks.rank}, but the ranks have different axes or layers"
            )
        n = math.prod(leading)
        dtype = torch.int64 if self._most_nonzeros(packed, n) > _core.INT32_NONZEROS else torch.int32
        first, last = self.shard_rows
        y = torch.empty(n, last - first, dtype=_dtypes.computed(self._real, self.mode), device=device)
        for vector in range(0, n, _VECTORS):
            some = range(vector, min(vector + _VECTORS, n))
            part = packed if packed is None or len(some) == n else packed.take(np.arange(some.start, some.stop))
            self._add_up(computing, part, start, y[some.start : some.stop], dtype, on_gpus=not on_host)
        return leading, y

    def _add_up(
        self,
        computing: Backend,
        packed: Packed | None,
        column_start: int,
        y: torch.Tensor,
        dtype: torch.dtype,
        *,
        on_gpus: bool,
    ) -> None:
        """Fill y with this rank's outputs of some vectors, one tile of the rows of every rank at a time.

        The sums over columns have this dtype. `on_gpus` says whether all ranks compute on GPUs, so all ranks have tiles
        of the same size.
        """
        ranks, spec, request = self._ranks, self._spec, Request(self.threads)
        shares = [_share(spec.n_outputs, rank, ranks.size) for rank in range(ranks.size)]
        widest, mine = shares[0][1], shares[ranks.rank]
        block_bytes = dtype.itemsize * _core.BLOCK_COMPONENTS * len(y) * ranks.size
        tile = max(1, (_GPU_FIELD_BYTES if on_gpus else _FIELD_BYTES) // block_bytes) * spec.block_rows
        where = y.device if on_gpus and ranks.nccl else None
        for at in range(0, widest, tile):
            width = spec.components * min(tile, widest - at)
            sums = torch.zeros(ranks.size, len(y), width, dtype=dtype, device=y.device)
            for share, part in zip(shares, sums, strict=True):
                rows = _tile(share, at, tile)
                if packed is not None and len(rows):
                    window = spec.rows(rows.start, rows.stop)
                    out = _array(part[:, : spec.components * len(rows)], computing)
                    computing.fields(window, packed, column_start, out, request)
            rows = _tile(mine, at, tile)
            whole = ranks.reduce_scatter(sums, "the sums over columns", where=where)
            if len(rows):
                out = _array(y[:, rows.start - mine[0] : rows.stop - mine[0]], computing)
                fields = _array(whole[:, : spec.components * len(rows)], computing)
                computing.read_fields(spec.rows(rows.start, rows.stop), fields, out, request)

    def _most_nonzeros(self, packed: Packed | None, n: int) -> int:
        """Return the most nonzeros that a vector has over all ranks, or an upper bound if 32 bits hold any sums."""
        if self.n_inputs <= _core.INT32_NONZEROS or n == 0:
            return self.n_inputs
        counts = torch.zeros(n, dtype=torch.int64) if packed is None else torch.from_numpy(packed.row_nnz())
        return int(self._ranks.total(counts, "counting nonzeros").max())

    # Inputs and results

    def _vectors(self, x: torch.Tensor | None, width: int) -> Vectors:
        """Check and pack x, of shape (..., width)."""
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"x is a {type(x).__name__}, but must be a torch.Tensor on rank {self._ranks.rank}")
        if x.ndim == 0 or x.shape[-1] != width:
            columns = (
                f": elements {self.shard_columns[0]} to {self.shard_columns[1]}" if self.shard == "columns" else ""
            )
            raise ValueError(f"x has shape {tuple(x.shape)}, but must have shape (..., {width}){columns}")
        refuse_tangent(x)
        leading = tuple(x.shape[:-1])
        if width == 0:
            return leading, None, None
        if self.ternarize is not None and x.is_floating_point():
            packed, factors = self.ternarize.pack(x.reshape(-1, width))
            return leading, packed, factors.reshape(-1, 1)
        if x.requires_grad and torch.is_grad_enabled():
            raise NotImplementedError(
                "a ShardedProjection has no gradient with respect to its input: pass x.detach(), or use a Projection"
            )
        rows = array_rows("x", x)
        rows.advice = ADVICE
        return leading, backend_for(rows).pack(rows), None

    def _gathered(self, y: torch.Tensor) -> torch.Tensor:
        """Return all outputs, from the shares of all ranks."""
        start, stop = self.rows
        widest = _share(stop - start, 0, self._ranks.size)[1]
        padded = y.new_zeros(len(y), widest)
        padded[:, : y.shape[1]] = y
        parts = self._ranks.all_gather(padded, "gathering the outputs").to(y.device)
        return parts.transpose(0, 1).flatten(1)[:, : stop - start].contiguous()

    def _result(self, y: torch.Tensor, distributed: DistributedInput | None) -> torch.Tensor:
        """Return a rank's outputs, as a DTensor if they are part of one."""
        if distributed is None and self.gather:
            return y
        from torch.distributed.device_mesh import DeviceMesh

        module = dtensors()
        start, stop = self.rows
        placement = module.Replicate() if self.gather else module.Shard(y.ndim - 1)
        if distributed is None:
            if self._mesh is None:
                self._mesh = DeviceMesh.from_group(self._ranks.group, self._ranks.device.type)
            mesh, placements, leading = self._mesh, [placement], y.shape[:-1]
        else:
            mesh, placements, leading = distributed.mesh, list(distributed.placements), distributed.leading
            placements[distributed.dim] = placement
        shape = torch.Size((*leading, stop - start))
        stride = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        result: torch.Tensor = module.DTensor.from_local(
            y, mesh, placements, run_check=False, shape=shape, stride=stride
        )
        return result


def _share(n: int, rank: int, size: int) -> tuple[int, int]:
    """Return the range of n elements that belongs to a rank, as in torch.chunk and DTensor."""
    share = -(-n // size)
    return min(rank * share, n), min((rank + 1) * share, n)


def _tile(share: tuple[int, int], at: int, width: int) -> range:
    start, stop = share
    return range(min(start + at, stop), min(start + at + width, stop))


def _received(packed: Packed, device_type: str) -> Packed:
    """Return vectors from another rank on the current device of a type, if it has a backend."""
    return packed if backend(device_type) is backend("cpu") else moved(packed, device_type)


def _place(packed: Packed | None, x: torch.Tensor | None) -> tuple[Backend, torch.device]:
    """Return the backend that computes with packed vectors, or with those of x, which have no elements; and where."""
    if isinstance(packed, DeviceBatch):
        return backend(packed.device_type), torch.device(packed.device)
    if packed is None and x is not None and backend(x.device.type) is not backend("cpu"):
        return backend(x.device.type), x.device
    return backend("cpu"), torch.device("cpu")


def _array(part: torch.Tensor, computing: Backend) -> Any:
    """Return a tensor as an array of the library of a backend, with the same memory."""
    return part.numpy() if computing is backend("cpu") else part
