"""Seconds of one `opuproj.project` call, with packing and a new result, over one argument at a time."""

import numpy as np
import opuproj
from opuproj import _core

from benches import inputs, machine
from benches.setting import Mode as Readout

# With more entries times vectors a call takes long and shows nothing new.
MOST_WORK = 1.5e11
# For an asv history one process and about ten calls per combination are enough.
ROUNDS, REPEAT = 1, (1, 10, 5.0)


class Size:
    """n inputs to n outputs, for one vector and for batches."""

    params = ([1_000, 10_000, 100_000], [1, 32, 256, 1024])
    param_names = ("n", "batch")
    rounds, repeat = ROUNDS, REPEAT

    def setup(self, n: int, batch: int) -> None:
        if n * n * batch > MOST_WORK:
            raise NotImplementedError  # asv then skips the combination
        self.x = inputs.dense(batch, n)

    def time_project(self, n: int, batch: int) -> None:
        opuproj.project(self.x, n, mode="linear")


class Inputs:
    """Up to 10⁶ inputs, a thousand outputs."""

    params = ([1_000, 10_000, 100_000, 1_000_000], [1, 32, 256, 1024])
    param_names = ("n_inputs", "batch")
    rounds, repeat = ROUNDS, REPEAT

    def setup(self, n_inputs: int, batch: int) -> None:
        if 1_000 * n_inputs * batch > MOST_WORK:
            raise NotImplementedError  # asv then skips the combination
        self.x = inputs.dense(batch, n_inputs)

    def time_project(self, n_inputs: int, batch: int) -> None:
        opuproj.project(self.x, 1_000, mode="linear")


class Outputs:
    """Up to 10⁶ outputs, a thousand inputs."""

    params = ([1_000, 10_000, 100_000, 1_000_000], [1, 32, 256, 1024])
    param_names = ("n_outputs", "batch")
    rounds, repeat = ROUNDS, REPEAT

    def setup(self, n_outputs: int, batch: int) -> None:
        if 1_000 * n_outputs * batch > MOST_WORK:
            raise NotImplementedError  # asv then skips the combination
        self.x = inputs.dense(batch, 1_000)

    def time_project(self, n_outputs: int, batch: int) -> None:
        opuproj.project(self.x, n_outputs, mode="linear")


class Mode:
    """The mode."""

    params = (["intensity", "linear", "complex", "real"], [1, 256])
    param_names = ("mode", "batch")
    rounds, repeat = ROUNDS, REPEAT

    def setup(self, mode: str, batch: int) -> None:
        self.x = inputs.dense(batch, 10_000)

    def time_project(self, mode: Readout, batch: int) -> None:
        opuproj.project(self.x, 20_000, mode=mode)


class Density:
    """The share of nonzeros in a vector of 10⁶ and in a batch of vocabulary errors."""

    params = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    param_names = ("density",)
    rounds, repeat = ROUNDS, REPEAT

    def setup(self, density: float) -> None:
        self.vector = inputs.sparse(1, 1_000_000, density)
        self.batch = inputs.sparse(256, 50_000, density)

    def time_vector(self, density: float) -> None:
        opuproj.project(self.vector, 20_000)

    def time_batch(self, density: float) -> None:
        opuproj.project(self.batch, 5_000)


class Threads:
    """The number of threads."""

    params = ([1, 2, 4, 8, 16, 32], [1, 256])
    param_names = ("threads", "batch")
    rounds, repeat = ROUNDS, REPEAT

    def setup(self, threads: int, batch: int) -> None:
        if threads > machine.cores():
            raise NotImplementedError  # asv then skips the combination
        self.x = inputs.dense(batch, 20_000)

    def time_project(self, threads: int, batch: int) -> None:
        opuproj.project(self.x, 20_000, threads=threads)


class InstructionSet:
    """The same call on every kernel of this CPU; the portable one computes a hundredth of the outputs."""

    params = (["amx", "avx512", "avx2", "portable"], [1, 256])
    param_names = ("isa", "batch")
    rounds, repeat = ROUNDS, REPEAT

    def setup(self, isa: str, batch: int) -> None:
        if not dict(_core.instruction_sets()).get(isa, False):
            raise NotImplementedError  # asv then skips the combination
        self.x = inputs.dense(batch, 5_000)
        self.n_outputs = 100 if isa == "portable" else 10_000

    def time_project(self, isa: str, batch: int) -> None:
        with machine.forced(isa):
            opuproj.project(self.x, self.n_outputs)


class Overhead:
    """The smallest calls, with almost nothing to compute."""

    def setup(self) -> None:
        self.x = inputs.dense(1, 16)[0]
        self.operator = opuproj.Projector(16, 16)

    def time_project(self) -> None:
        opuproj.project(self.x, 16)

    def time_operator(self) -> None:
        self.operator(self.x)


class Packing:
    """Packing to two bits per element: 64 MiB of int8, 256 MiB of float32."""

    rounds, repeat = ROUNDS, REPEAT

    def setup(self) -> None:
        self.ternary = inputs.dense(64, 1 << 20)
        self.errors = np.random.default_rng(0).standard_normal((64, 1 << 20), dtype=np.float32)

    def time_pack(self) -> None:
        opuproj.pack(self.ternary)

    def time_ternarize(self) -> None:
        opuproj.ternarize(self.errors, threshold=0.5)

    def time_ternarize_relative(self) -> None:
        opuproj.ternarize(self.errors, relative=0.25)
